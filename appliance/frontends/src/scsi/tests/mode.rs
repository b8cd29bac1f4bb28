//! MODE SENSE and MODE SELECT.

use super::*;

/// The control page in effect.
pub(super) async fn control(end: &End) -> Vec<u8> {
    end.good(&[0x1a, 0x08, 0x0a, 0, 255, 0]).await[4..].to_vec()
}

/// Sets a page; GOOD is expected.
pub(super) async fn select(end: &End, page: &[u8]) {
    let outcome = try_select(end, &[&[0; 4], page].concat()).await;
    assert!(outcome.is_good(), "{outcome:?}");
}

async fn try_select(end: &End, list: &[u8]) -> Outcome {
    end.send(&[0x15, 0x10, 0, 0, list.len() as u8, 0], list)
        .await
}

#[test]
fn pages_are_the_same_alone_and_together_in_both_lengths() {
    run(|stage| async move {
        let all = stage.a.good(&[0x1a, 0, 0x3f, 0, 255, 0]).await;
        assert_eq!(usize::from(all[0]), all.len() - 1);
        assert_eq!(all[..4], [all[0], 0, 0x10, 8]);
        assert_eq!(all[4..8], (BLOCKS as u32).to_be_bytes());
        assert_eq!(all[8..12], [0, 0, 2, 0]);
        let mut pages = Vec::new();
        for (page, len) in [(0x08, 20), (0x0a, 12), (0x1c, 12)] {
            let one = stage.a.good(&[0x1a, 0x08, page, 0, 255, 0]).await;
            assert_eq!((one[4], one.len()), (page, 4 + len));
            pages.extend_from_slice(&one[4..]);
        }
        assert_eq!(all[12..], pages);
        let long = stage
            .a
            .good(&[0x5a, 0x18, 0x3f, 0, 0, 0, 0, 0, 255, 0])
            .await;
        assert_eq!(long[..8], [0, long.len() as u8 - 2, 0, 0x10, 1, 0, 0, 0]);
        assert_eq!(long[8..], pages);
        let long = stage
            .a
            .good(&[0x5a, 0x10, 0x3f, 0xff, 0, 0, 0, 0, 255, 0])
            .await;
        assert_eq!((long[4], long[7]), (1, 16));
        assert_eq!(long[8..16], BLOCKS.to_be_bytes());
        assert_eq!(long[24..], pages);
        assert_eq!(stage.a.good(&[0x1a, 0, 0x3f, 0, 4, 0]).await.len(), 4);
    });
}

#[test]
fn pages_that_are_not_there_are_refused() {
    run(|stage| async move {
        for (page, subpage) in [(0x01, 0), (0x3e, 0), (0x0a, 1), (0x3f, 1)] {
            let sense = stage.a.refused(&[0x1a, 0, page, subpage, 255, 0]).await;
            assert_eq!(code(sense), INVALID_CDB, "{page:#x} {subpage:#x}");
        }
        let sense = stage.a.refused(&[0x1a, 0, 0xff, 0, 255, 0]).await;
        assert_eq!(code(sense), (ILLEGAL, 0x3900));
    });
}

#[test]
fn what_can_be_changed_is_what_the_mask_says() {
    run(|stage| async move {
        for page in [0x08, 0x0a, 0x1c] {
            let current = stage.a.good(&[0x1a, 0x08, page, 0, 255, 0]).await[4..].to_vec();
            let mask = stage.a.good(&[0x1a, 0x08, page | 0x40, 0, 255, 0]).await[4..].to_vec();
            for bit in 16..8 * current.len() {
                let (byte, bit) = (bit / 8, 1 << (bit % 8));
                let mut wanted = current.clone();
                wanted[byte] ^= bit;
                let outcome = try_select(&stage.a, &[&[0; 4], &wanted[..]].concat()).await;
                let is_changeable = mask[byte] & bit != 0;
                assert_eq!(
                    outcome.is_good(),
                    is_changeable,
                    "{page:#x} {byte} {bit:#x}"
                );
                let now = stage.a.good(&[0x1a, 0x08, page, 0, 255, 0]).await[4..].to_vec();
                assert_eq!(
                    now,
                    if is_changeable {
                        wanted
                    } else {
                        current.clone()
                    }
                );
                select(&stage.a, &current).await;
                let _ = stage.b.command(&[0; 6]).await;
            }
        }
    });
}

#[test]
fn changes_are_told_to_the_others_and_defaults_stay() {
    run(|stage| async move {
        let before = control(&stage.a).await;
        let mut wanted = before.clone();
        wanted[2] |= 0x04;
        select(&stage.a, &wanted).await;
        stage.a.good(&[0; 6]).await;
        assert_eq!(code(stage.b.refused(&[0; 6]).await), (0x6, 0x2a01));
        let default = stage.b.good(&[0x1a, 0x08, 0x8a, 0, 255, 0]).await;
        assert_eq!(default[4..], before);
        // The same again changes nothing.
        select(&stage.a, &wanted).await;
        stage.b.good(&[0; 6]).await;
    });
}

#[test]
fn sense_data_has_the_format_that_was_chosen() {
    run(|stage| async move {
        let sense = stage.a.refused(&[0xff; 16]).await;
        let mut out = [0; super::super::SENSE_BYTES_MAX];
        let len = stage.b.nexus.sense_bytes(&sense, &mut out);
        assert_eq!((len, out[0]), (18, 0x70));
        let mut wanted = control(&stage.a).await;
        wanted[2] |= 0x04;
        select(&stage.a, &wanted).await;
        let len = stage.b.nexus.sense_bytes(&sense, &mut out);
        assert_eq!(out[0], 0x72);
        assert_eq!(Sense::decode(&out[..len]), Some(sense));
    });
}

#[test]
fn a_write_protected_unit_is_read_only() {
    run(|stage| async move {
        let mut wanted = control(&stage.a).await;
        wanted[4] |= 0x08;
        select(&stage.a, &wanted).await;
        assert!(stage.b.command(&[0; 6]).await.sense.is_some());
        assert_eq!(stage.a.good(&[0x1a, 0, 0x3f, 0, 4, 0]).await[2], 0x90);
        // Also without the data that they would need.
        let mut unmap = [0; 10];
        (unmap[0], unmap[8]) = (0x42, 24);
        for opcode in [0x89, 0x8a, 0x8b, 0x8e, 0x93, 0x9c] {
            let sense = stage.b.refused(&rw16(opcode, 0, 0, 1)).await;
            assert_eq!(code(sense), (0x7, 0x2702), "{opcode:#x}");
        }
        assert_eq!(code(stage.b.refused(&unmap).await), (0x7, 0x2702));
        stage.b.good(&rw16(0x88, 0, 0, 1)).await;
        stage.b.good(&rw16(0x91, 0, 0, 0)).await;
        wanted[4] = 0;
        select(&stage.b, &wanted).await;
        assert!(stage.a.command(&[0; 6]).await.sense.is_some());
        stage.a.good_out(&rw16(0x8a, 0, 0, 1), &[1; 512]).await;
    });
}

#[test]
fn lists_that_are_wrong_change_nothing() {
    run(|stage| async move {
        let before = control(&stage.a).await;
        let mut wanted = before.clone();
        wanted[4] |= 0x08;
        let good = [&[0; 4], &wanted[..]].concat();
        for len in 1..good.len() {
            let outcome = try_select(&stage.a, &good[..len]).await;
            let expected = if len == 4 { None } else { Some(LIST_LENGTH) };
            assert_eq!(outcome.sense.map(code), expected, "{len} bytes");
        }
        let mut unknown = good.clone();
        unknown[4] = 0x01;
        let mut too_long = [&good[..], &[0, 0]].concat();
        too_long[5] += 2;
        let mut medium = good.clone();
        medium[1] = 1;
        let block = |count: u32, block_bytes: u32| {
            [
                &[0, 0, 0, 8][..],
                &count.to_be_bytes(),
                &block_bytes.to_be_bytes(),
                &wanted,
            ]
            .concat()
        };
        // A good page before a wrong one has no effect either.
        let second = [&good[..], &[0x3e, 0]].concat();
        for list in [
            unknown,
            too_long,
            medium,
            block(0, 4096),
            block(7, 512),
            second,
        ] {
            let outcome = try_select(&stage.a, &list).await;
            assert_eq!(outcome.sense.map(code), Some(INVALID_LIST), "{list:02x?}");
        }
        assert_eq!(control(&stage.a).await, before);
        let outcome = try_select(&stage.a, &block(BLOCKS as u32, 512)).await;
        assert!(outcome.is_good());
        assert_eq!(control(&stage.a).await, wanted);
        for flags in [0x00, 0x11] {
            let sense = stage.a.refused(&[0x15, flags, 0, 0, 0, 0]).await;
            assert_eq!(code(sense), INVALID_CDB);
        }
        stage.a.good(&[0x15, 0x10, 0, 0, 0, 0]).await;
    });
}
