//! Small answers: capacity, units, defects, diagnostics, task management, removal.

use wire::scsi::data::capacity::Capacity;

use super::*;

#[test]
fn capacity_is_told_in_both_lengths() {
    for (block_bytes, exponent) in [(512, 3), (4096, 0)] {
        run_with(block_bytes, move |stage| async move {
            let short = stage.a.good(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
            let last = (BLOCKS as u32 - 1).to_be_bytes();
            assert_eq!(short, [last, block_bytes.to_be_bytes()].concat());
            let mut cdb = [0; 16];
            (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
            let long = stage.a.good(&cdb).await;
            let expected = Capacity {
                block_count: BLOCKS,
                block_bytes,
                physical_exponent: exponent,
            };
            assert_eq!(Capacity::decode(&long), Some(expected));
            assert_eq!((long.len(), long[12], long[14]), (32, 0, 0xc0));
            for allocation in 0..16 {
                cdb[13] = allocation;
                assert_eq!(stage.a.good(&cdb).await.len(), usize::from(allocation));
            }
        });
    }
}

#[test]
fn there_is_one_unit() {
    run(|stage| async move {
        let luns = |select: u8, room: u8| [0xa0, 0, select, 0, 0, 0, 0, 0, 0, room, 0, 0];
        for (select, expected) in [(0, 16), (1, 8), (2, 16), (0x10, 8), (0x11, 8), (0x12, 8)] {
            let list = stage.a.good(&luns(select, 255)).await;
            assert_eq!(list.len(), expected, "select {select:#x}");
            assert_eq!(usize::from(list[3]) + 8, expected);
        }
        for (select, room) in [(3, 255), (0xff, 255), (0, 15), (0, 0)] {
            assert_eq!(
                code(stage.a.refused(&luns(select, room)).await),
                INVALID_CDB
            );
        }
    });
}

#[test]
fn there_are_no_defects() {
    run(|stage| async move {
        let short = stage.a.good(&[0x37, 0, 0x1d, 0, 0, 0, 0, 0, 32, 0]).await;
        assert_eq!(short, [0, 0x1d, 0, 0]);
        let long = stage
            .a
            .good(&[0xb7, 0x15, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])
            .await;
        assert_eq!(long, [0, 0x15, 0, 0, 0, 0, 0, 0]);
    });
}

#[test]
fn the_default_self_test_passes_and_there_is_no_other() {
    run(|stage| async move {
        stage.a.good(&[0x1d, 0x04, 0, 0, 0, 0]).await;
        stage.a.good(&[0x1d, 0x10, 0, 0, 0, 0]).await;
        for cdb in [[0x1d, 0x20, 0, 0, 0, 0], [0x1d, 0x10, 0, 0, 4, 0]] {
            assert_eq!(code(stage.a.refused(&cdb).await), INVALID_CDB);
        }
        let pages = stage.a.good(&[0x1c, 0x01, 0, 0, 255, 0]).await;
        assert_eq!(pages, [0, 0, 0, 1, 0]);
        for cdb in [[0x1c, 0x01, 1, 0, 255, 0], [0x1c, 0, 0, 0, 255, 0]] {
            assert_eq!(code(stage.a.refused(&cdb).await), INVALID_CDB);
        }
    });
}

#[test]
fn task_management_functions_are_told() {
    run(|stage| async move {
        let cdb = |extended: u8| [0xa3, 0x0d, extended, 0, 0, 0, 0, 0, 0, 64, 0, 0];
        assert_eq!(stage.a.good(&cdb(0)).await, [0xda, 0, 0, 0]);
        let extended = stage.a.good(&cdb(0x80)).await;
        assert_eq!((extended.len(), extended[0], extended[3]), (16, 0xda, 12));
    });
}

#[test]
fn removal_is_prevented_by_nexus() {
    run(|stage| async move {
        stage.a.good(&[0x1e, 0, 0, 0, 1, 0]).await;
        assert!(stage.a.nexus.prevents_removal.get());
        assert!(!stage.b.nexus.prevents_removal.get());
        stage.a.good(&[0x1e, 0, 0, 0, 0, 0]).await;
        assert!(!stage.a.nexus.prevents_removal.get());
        assert_eq!(
            code(stage.a.refused(&[0x1e, 0, 0, 0, 2, 0]).await),
            INVALID_CDB
        );
    });
}
