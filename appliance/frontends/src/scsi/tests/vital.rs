//! INQUIRY: standard data, pages, and that limits are those that commands have.

use wire::scsi::data::inquiry::{Association, Designator, DesignatorType};

use super::super::identity;
use super::*;

async fn page(end: &End, page: u8) -> Vec<u8> {
    let data = end.good(&[0x12, 1, page, 2, 0, 0]).await;
    assert_eq!(data[..2], [0, page]);
    let len = u16::from_be_bytes([data[2], data[3]]);
    assert_eq!(usize::from(len), data.len() - 4);
    data
}

#[test]
fn standard_data_says_what_the_unit_is() {
    run(|stage| async move {
        let data = stage.a.good(&[0x12, 0, 0, 2, 0, 0]).await;
        assert_eq!(data.len(), 96);
        assert_eq!(data[..8], [0, 0, 6, 2, 91, 0x38, 0x10, 0x02]);
        assert_eq!(&data[8..32], b"BEDPLATEVolume          ");
        assert_eq!(
            data[58..66],
            [0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0, 0x09, 0x60]
        );
        for room in 0..=96 {
            let cut = stage.a.good(&[0x12, 0, 0, 0, room, 0]).await;
            assert_eq!(cut, data[..usize::from(room)]);
        }
        assert_eq!(
            code(stage.a.refused(&[0x12, 0, 0x80, 0, 96, 0]).await),
            INVALID_CDB
        );
    });
}

#[test]
fn each_page_in_the_list_is_there_and_no_other() {
    run(|stage| async move {
        let list = page(&stage.a, 0).await[4..].to_vec();
        assert!(list.is_sorted());
        for number in 0..=u8::MAX {
            if list.contains(&number) {
                assert!(
                    page(&stage.a, number).await.len() <= 255,
                    "page {number:#x}"
                );
            } else {
                let sense = stage.a.refused(&[0x12, 1, number, 0, 255, 0]).await;
                assert_eq!(code(sense), INVALID_CDB, "page {number:#x}");
            }
        }
    });
}

#[test]
fn the_unit_has_the_names_of_its_volume() {
    run(|stage| async move {
        let info = stage.unit.info().clone();
        let data = page(&stage.a, 0x83).await;
        let mut rest = &data[4..];
        let mut found = Vec::new();
        while let Some((designator, after)) = Designator::decode(rest) {
            found.push(designator);
            rest = after;
        }
        assert!(rest.is_empty());
        let naa = identity::naa(&info);
        assert_eq!(
            (found[0].kind, found[0].bytes),
            (DesignatorType::NAA, &naa[..])
        );
        for designator in &found {
            let is_unit = designator.association == Association::Unit;
            let named = identity::is_named_by(&info, designator.kind.0, designator.bytes);
            assert_eq!(named, is_unit, "{designator:?}");
            assert!(designator.kind.0 > 3 || is_unit);
        }
        let name = |kind, association| {
            let mut all = found.iter();
            let one = all.find(|one| one.kind == kind && one.association == association);
            one.map(|one| one.bytes.to_vec())
        };
        let port = name(DesignatorType::SCSI_NAME, Association::Port).expect("a name");
        let expected = b"iqn.2026-11.io.bedplate:memory,t,0x0001\0";
        assert_eq!(port, expected);
        let group = name(DesignatorType::TARGET_PORT_GROUP, Association::Port);
        assert_eq!(group, Some(vec![0, 0, 0, 1]));
        assert_eq!(page(&stage.a, 0x80).await[4..], info.serial);
    });
}

/// Offsets of SBC-3 table 206.
#[test]
fn limits_are_those_of_the_commands() {
    for block_bytes in [512, 4096] {
        run_with(block_bytes, move |stage| async move {
            let data = page(&stage.a, 0xb0).await;
            let word = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("4"));
            assert_eq!((data.len(), data[4]), (64, 0));
            let page_blocks = u16::from_be_bytes([data[6], data[7]]);
            assert_eq!(u32::from(page_blocks), 4096 / block_bytes);
            let block = block_bytes as usize;
            let transfer = word(8);
            let zeros = vec![0; transfer as usize * block];
            stage.a.good_out(&rw16(0x8a, 0, 0, transfer), &zeros).await;
            let sense = stage.a.refused(&rw16(0x8a, 0, 0, transfer + 1)).await;
            assert_eq!(code(sense), INVALID_CDB);
            assert_eq!((word(20), word(24)), (u32::MAX, 256));
            let same = u64::from_be_bytes(data[36..44].try_into().expect("8")) as u32;
            stage
                .a
                .good_out(&rw16(0x93, 0, 0, same), &zeros[..block])
                .await;
            let sense = stage
                .a
                .refused_out(&rw16(0x93, 0, 0, same + 1), &zeros[..block])
                .await;
            assert_eq!(code(sense), INVALID_CDB);
            let mut atomic = rw16(0x9c, 0, 0, word(44));
            stage
                .a
                .good_out(&atomic, &zeros[..word(44) as usize * block])
                .await;
            assert!(word(44) <= transfer);
            atomic[10..14].copy_from_slice(&(word(44) + 1).to_be_bytes());
            assert_eq!(code(stage.a.refused(&atomic).await), INVALID_CDB);
            let mut swap = rw16(0x89, 0, 0, data[5].into());
            let both = 2 * usize::from(data[5]) * block;
            stage.a.good_out(&swap, &zeros[..both]).await;
            swap[13] += 1;
            assert_eq!(code(stage.a.refused(&swap).await), INVALID_CDB);
        });
    }
}

#[test]
fn the_medium_is_thin_and_does_not_rotate() {
    run(|stage| async move {
        assert_eq!(page(&stage.a, 0xb1).await[4..8], [0, 1, 0, 0x40]);
        assert_eq!(page(&stage.a, 0xb1).await.len(), 64);
        assert_eq!(page(&stage.a, 0xb2).await[4..], [0, 0xe4, 2, 0]);
        let extended = page(&stage.a, 0x86).await;
        assert_eq!((extended.len(), extended[5], extended[6]), (64, 0x07, 1));
    });
}

#[test]
fn copy_commands_are_listed() {
    run(|stage| async move {
        let copy = page(&stage.a, 0x8f).await;
        let expected = [0, 1, 0, 12, 8, 0x83, 1, 0, 0x84, 3, 0, 3, 4, 0, 0, 0];
        assert_eq!(copy[4..], expected);
    });
}
