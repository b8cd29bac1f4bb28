//! UNMAP, WRITE SAME, GET LBA STATUS: what takes no space.

use wire::scsi::Writer;
use wire::scsi::data::provisioning::{UnmapRange, write_unmap};

use super::*;

fn unmap_cdb(list_bytes: usize) -> [u8; 10] {
    let [high, low] = (list_bytes as u16).to_be_bytes();
    [0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let range = |&(lba, block_count): &(u64, u32)| UnmapRange { lba, block_count };
    let ranges: Vec<_> = ranges.iter().map(range).collect();
    let mut list = vec![0; 8 + 16 * ranges.len()];
    write_unmap(&ranges, &mut Writer::new(&mut list));
    list
}

async fn unmap(end: &End, ranges: &[(u64, u32)]) -> Outcome {
    let list = unmap_list(ranges);
    end.send(&unmap_cdb(list.len()), &list).await
}

#[test]
fn unmapped_blocks_read_as_zeros() {
    run(|stage| async move {
        stage
            .a
            .good_out(&rw16(0x8a, 0, 0, 64), &[5; 64 * 512])
            .await;
        let ranges = [(8, 8), (30, 4), (32, 8), (BLOCKS, 0), (0, 0)];
        assert!(unmap(&stage.a, &ranges).await.is_good());
        let found = stage.a.good(&rw16(0x88, 0, 0, 64)).await;
        for (lba, block) in found.chunks(512).enumerate() {
            let is_gone = (8..16).contains(&lba) || (30..40).contains(&lba);
            assert_eq!(block, [if is_gone { 0 } else { 5 }; 512], "block {lba}");
        }
    });
}

#[test]
fn unmap_lists_have_limits_and_change_nothing_when_they_are_wrong() {
    run(|stage| async move {
        stage.a.good_out(&rw16(0x8a, 0, 0, 2), &[5; 1024]).await;
        assert!(unmap(&stage.a, &[]).await.is_good());
        stage.a.good(&unmap_cdb(0)).await;
        assert!(unmap(&stage.a, &[(10, 1); 256]).await.is_good());
        let too_many = unmap(&stage.a, &[(0, 1); 257]).await;
        assert_eq!(too_many.sense.map(code), Some(INVALID_LIST));
        for beyond in [(BLOCKS, 1), (BLOCKS + 1, 0), (u64::MAX, 1), (1, u32::MAX)] {
            let outcome = unmap(&stage.a, &[(0, 1), beyond]).await;
            assert_eq!(outcome.sense.map(code), Some(OUT_OF_RANGE), "{beyond:?}");
        }
        let list = unmap_list(&[(0, 1)]);
        for len in 1..list.len() {
            let sense = stage.a.refused_out(&unmap_cdb(len), &list[..len]).await;
            assert_eq!(code(sense), LIST_LENGTH, "{len} bytes");
        }
        let mut anchor = unmap_cdb(list.len());
        anchor[1] = 1;
        assert_eq!(code(stage.a.refused_out(&anchor, &list).await), INVALID_CDB);
        assert_eq!(stage.a.good(&rw16(0x88, 0, 0, 2)).await, [5; 1024]);
    });
}

#[test]
fn write_same_repeats_a_block() {
    run(|stage| async move {
        let block = pattern(1, 512, 77);
        stage.a.good_out(&rw16(0x93, 0, 3, 1000), &block).await;
        let found = stage.a.good(&rw16(0x88, 0, 2, 1002)).await;
        for (index, found) in found.chunks(512).enumerate() {
            let is_inside = (1..1001).contains(&index);
            assert_eq!(found == block, is_inside, "block {index}");
        }
        // Data that is not zeros is written, unmapping or not.
        let other = pattern(1, 512, 78);
        stage
            .a
            .good_out(&[0x41, 0x08, 0, 0, 0, 5, 0, 0, 2, 0], &other)
            .await;
        let found = stage.a.good(&rw16(0x88, 0, 5, 3)).await;
        assert_eq!(found, [other.clone(), other, block].concat());
    });
}

#[test]
fn write_same_of_zeros_takes_no_space() {
    run(|stage| async move {
        let is_mapped = |stage: &Stage| stage.unit.volume().clone();
        for cdb in [
            rw16(0x93, 0x00, 8, 8).to_vec(),
            rw16(0x93, 0x08, 8, 8).to_vec(),
            rw16(0x93, 0x09, 8, 8).to_vec(),
            vec![0x41, 0x08, 0, 0, 0, 8, 0, 0, 8, 0],
        ] {
            stage
                .a
                .good_out(&rw16(0x8a, 0, 0, 24), &[5; 24 * 512])
                .await;
            let zeros = if cdb[1] & 1 == 0 { &[0; 512][..] } else { &[] };
            stage.a.good_out(&cdb, zeros).await;
            let status = is_mapped(&stage).block_status(8).await.expect("a status");
            assert_eq!(
                (status.is_mapped, status.block_count),
                (false, 8),
                "{cdb:02x?}"
            );
            let found = stage.a.good(&rw16(0x88, 0, 0, 24)).await;
            let expected = [[5; 4096], [0; 4096], [5; 4096]].concat();
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn write_same_has_limits() {
    run(|stage| async move {
        let same = |flags, lba, count| rw16(0x93, flags, lba, count);
        // 0 is up to the end; from here that is as much as one command takes.
        let first = BLOCKS - 32_768;
        stage.a.good_out(&same(0, first, 0), &[1; 512]).await;
        assert_eq!(stage.a.good(&rw16(0x88, 0, BLOCKS - 1, 1)).await, [1; 512]);
        assert_eq!(stage.a.good(&rw16(0x88, 0, first - 1, 1)).await, [0; 512]);
        stage.a.good_out(&same(0, 0, 32_768), &[0; 512]).await;
        for (lba, count) in [(0, 32_769), (first - 1, 0), (0, 0)] {
            let sense = stage.a.refused_out(&same(0, lba, count), &[0; 512]).await;
            assert_eq!(code(sense), INVALID_CDB, "{lba} {count}");
        }
        let sense = stage.a.refused_out(&same(0x10, 0, 1), &[0; 512]).await;
        assert_eq!(code(sense), INVALID_CDB, "ANCHOR");
        for bytes in [0, 256, 1024] {
            let sense = stage.a.refused_out(&same(0, 0, 1), &vec![0; bytes]).await;
            assert_eq!(code(sense), (ILLEGAL, 0x0e03), "{bytes} bytes");
        }
    });
}

/// GET LBA STATUS: (LBA, count, deallocated) of each range.
async fn status(end: &End, lba: u64, room: u32) -> Vec<(u64, u32, bool)> {
    let mut cdb = rw16(0x9e, 0x12, lba, room);
    cdb[14] = 0;
    let data = end.good(&cdb).await;
    let len = u32::from_be_bytes(data[..4].try_into().expect("4 bytes"));
    assert!(data.len() <= room as usize && data.len() <= len as usize + 4);
    let ranges = data.get(8..).unwrap_or_default().chunks_exact(16);
    let range = |bytes: &[u8]| {
        let lba = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
        let count = u32::from_be_bytes(bytes[8..12].try_into().expect("4 bytes"));
        (lba, count, bytes[12] == 1)
    };
    ranges.map(range).collect()
}

#[test]
fn lba_status_tells_mapped_from_deallocated() {
    run(|stage| async move {
        let all = BLOCKS as u32;
        assert_eq!(status(&stage.a, 0, 256).await, [(0, all, true)]);
        stage.a.good_out(&rw16(0x8a, 0, 16, 8), &[1; 4096]).await;
        stage.a.good_out(&rw16(0x8a, 0, 24, 8), &[1; 4096]).await;
        let expected = [(0, 16, true), (16, 16, false), (32, all - 32, true)];
        assert_eq!(status(&stage.a, 0, 256).await, expected);
        assert_eq!(status(&stage.a, 0, 24).await, expected[..1]);
        assert_eq!(status(&stage.a, 20, 40).await[0], (20, 12, false));
        assert_eq!(
            status(&stage.a, BLOCKS - 1, 24).await,
            [(BLOCKS - 1, 1, true)]
        );
        assert_eq!(status(&stage.a, 0, 8).await, []);
        for lba in [BLOCKS, BLOCKS + 1, 1 << 63, u64::MAX] {
            let sense = stage.a.refused(&rw16(0x9e, 0x12, lba, 24)).await;
            assert_eq!(code(sense), OUT_OF_RANGE);
        }
    });
}
