//! READ, WRITE and what compares, in all their lengths.

use super::*;

/// READ and WRITE of every length, at the same block.
fn forms(read: bool, lba: u32, count: u8) -> Vec<Vec<u8>> {
    let [_, b1, b2, b3] = lba.to_be_bytes();
    let code = |read_code: u8, write_code: u8| if read { read_code } else { write_code };
    vec![
        vec![code(0x08, 0x0a), b1, b2, b3, count, 0],
        vec![code(0x28, 0x2a), 0, 0, b1, b2, b3, 0, 0, count, 0],
        vec![code(0xa8, 0xaa), 0, 0, b1, b2, b3, 0, 0, 0, count, 0, 0],
        rw16(code(0x88, 0x8a), 0, lba.into(), count.into()).to_vec(),
    ]
}

#[test]
fn what_is_written_is_read_by_commands_of_every_length() {
    run(|stage| async move {
        for (seed, write) in forms(false, 1000, 3).into_iter().enumerate() {
            let data = pattern(3, 512, seed as u8);
            stage.a.good_out(&write, &data).await;
            for read in forms(true, 1000, 3) {
                assert_eq!(stage.b.good(&read).await, data, "{write:02x?} {read:02x?}");
            }
        }
    });
}

#[test]
fn a_length_of_0_is_256_blocks_in_6_bytes_and_nothing_else() {
    run(|stage| async move {
        let data = pattern(256, 512, 9);
        stage.a.good_out(&[0x0a, 0, 0, 5, 0, 0], &data).await;
        assert_eq!(stage.a.good(&[0x08, 0, 0, 5, 0, 0]).await, data);
        for read in &forms(true, 5, 0)[1..] {
            assert_eq!(stage.a.good(read).await, Vec::new());
        }
    });
}

#[test]
fn ranges_end_with_the_unit_and_do_not_wrap() {
    run(|stage| async move {
        let last = BLOCKS - 1;
        for opcode in [0x88, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93] {
            for (lba, count) in [
                (last, 2),
                (BLOCKS + 1, 0),
                (BLOCKS, 1),
                (1 << 63, 1),
                (u64::MAX, 1),
                (u64::MAX / 512, 2),
            ] {
                let cdb = rw16(opcode, 0, lba, count);
                let sense = stage.a.refused_out(&cdb, &[0; 1024]).await;
                assert_eq!(code(sense), OUT_OF_RANGE, "{cdb:02x?}");
            }
            // 0 blocks are none, but for WRITE SAME.
            if opcode != 0x93 {
                stage.a.good(&rw16(opcode, 0, 0, 0)).await;
            }
        }
        stage.a.good_out(&rw16(0x8a, 0, last, 1), &[7; 512]).await;
        assert_eq!(stage.a.good(&rw16(0x88, 0, last, 1)).await, [7; 512]);
    });
}

#[test]
fn a_transfer_is_as_long_as_announced_and_no_longer() {
    for block_bytes in [512, 4096] {
        run_with(block_bytes, move |stage| async move {
            let block = block_bytes as usize;
            let most = ((1 << 20) + 8192) / block_bytes;
            // One request of the volume, a block more, and all that a buffer holds.
            for (seed, count) in [
                most - 8192 / block_bytes,
                most + 1 - 8192 / block_bytes,
                most,
            ]
            .into_iter()
            .enumerate()
            {
                let data = pattern(count as usize, block, seed as u8);
                stage.a.good_out(&rw16(0x8a, 0, 3, count), &data).await;
                assert!(stage.a.good(&rw16(0x88, 0, 3, count)).await == data);
                stage.a.good_out(&rw16(0x8f, 2, 3, count), &data).await;
                let other = pattern(count as usize, block, seed as u8 + 10);
                stage.a.good_out(&rw16(0x8e, 2, 3, count), &other).await;
                assert!(stage.a.good(&rw16(0x88, 0, 3, count)).await == other);
                let sense = stage.a.refused_out(&rw16(0x8f, 2, 3, count), &data).await;
                assert_eq!(code(sense), (0xe, 0x1d00));
            }
            for opcode in [0x88, 0x8a, 0x8b, 0x8e] {
                let sense = stage.a.refused(&rw16(opcode, 0, 0, most + 1)).await;
                assert_eq!(code(sense), INVALID_CDB, "{opcode:#x}");
            }
            // What must be atomic is one request.
            let sense = stage.a.refused(&rw16(0x8b, 0, 0, most)).await;
            assert_eq!(code(sense), INVALID_CDB);
            // A compare by the medium moves no data: it has no such limit.
            stage.a.good(&rw16(0x8f, 0, 0, 50_000)).await;
        });
    }
}

/// What FCP-4 allows a target: to do the blocks that come, or to refuse.
#[test]
fn a_write_with_too_little_data_writes_whole_blocks() {
    run(|stage| async move {
        for (opcode, seed) in [(0x8a, 1), (0x8e, 2)] {
            let write = rw16(opcode, 0, 0, 2);
            stage.a.good_out(&write, &[]).await;
            let sense = stage.a.refused_out(&write, &[seed; 200]).await;
            assert_eq!(code(sense), (ILLEGAL, 0x0e03));
            let sense = stage.a.refused_out(&write, &[seed; 513]).await;
            assert_eq!(code(sense), (ILLEGAL, 0x0e03));
            let before = stage.a.good(&rw16(0x88, 0, 0, 1)).await;
            assert_eq!(before, [seed - 1; 512], "nothing was written yet");
            stage.a.good_out(&write, &[seed; 512]).await;
            let expected = [[seed; 512], [0; 512]].concat();
            assert_eq!(stage.a.good(&rw16(0x88, 0, 0, 2)).await, expected);
        }
        // More than enough: the rest is not taken.
        stage.a.good_out(&rw16(0x8a, 0, 0, 2), &[3; 2048]).await;
        let expected = [[3; 1024], [0; 1024]].concat();
        assert_eq!(stage.a.good(&rw16(0x88, 0, 0, 4)).await, expected);
        // Other commands want all of their data.
        for opcode in [0x8b, 0x93, 0x9c] {
            let mut cdb = rw16(opcode, 0, 0, 2);
            cdb[9] = 0;
            let sense = stage.a.refused_out(&cdb, &[9; 256]).await;
            assert_eq!(code(sense), (ILLEGAL, 0x0e03), "{opcode:#x}");
        }
    });
}

#[test]
fn verify_compares_when_it_is_asked_to() {
    run(|stage| async move {
        let data = pattern(4, 512, 3);
        stage.a.good_out(&rw16(0x8a, 0, 8, 4), &data).await;
        let mut other = data.clone();
        other[1024 + 17] ^= 1;
        let verifies = [
            rw16(0x8f, 0x02, 8, 4).to_vec(),
            vec![0x2f, 0x02, 0, 0, 0, 8, 0, 0, 4, 0],
            vec![0xaf, 0x02, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0],
        ];
        for verify in verifies {
            stage.a.good_out(&verify, &data).await;
            let sense = stage.a.refused_out(&verify, &other).await;
            assert_eq!(code(sense), (0xe, 0x1d00), "{verify:02x?}");
            assert_eq!(sense.information, Some(1024 + 17));
        }
        stage.a.good(&rw16(0x8f, 0, 8, 4)).await;
        let sense = stage.a.refused_out(&rw16(0x8f, 0x04, 8, 4), &data).await;
        assert_eq!(code(sense), INVALID_CDB);
    });
}

#[test]
fn verify_compares_one_block_with_many() {
    run(|stage| async move {
        let verify = rw16(0x8f, 0x06, 0, 2000);
        stage.a.good_out(&verify, &[0; 512]).await;
        stage.a.good_out(&rw16(0x8a, 0, 1500, 1), &[1; 512]).await;
        let sense = stage.a.refused_out(&verify, &[0; 512]).await;
        assert_eq!(code(sense), (0xe, 0x1d00));
        assert_eq!(sense.information, Some(1500 * 512));
    });
}

#[test]
fn write_and_verify_writes() {
    run(|stage| async move {
        let forms = |check: u8| {
            [
                rw16(0x8e, check, 20, 2).to_vec(),
                vec![0x2e, check, 0, 0, 0, 20, 0, 0, 2, 0],
                vec![0xae, check, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0],
            ]
        };
        let mut seed = 0;
        for check in [0x00, 0x02] {
            for cdb in forms(check) {
                seed += 1;
                let data = pattern(2, 512, seed);
                stage.a.good_out(&cdb, &data).await;
                assert_eq!(stage.a.good(&rw16(0x88, 0, 20, 2)).await, data);
            }
        }
        for check in [0x04, 0x06] {
            for cdb in forms(check) {
                let sense = stage.a.refused_out(&cdb, &[9; 1024]).await;
                assert_eq!(code(sense), INVALID_CDB, "{cdb:02x?}");
            }
        }
        let expected = pattern(2, 512, seed);
        assert_eq!(stage.a.good(&rw16(0x88, 0, 20, 2)).await, expected);
    });
}

/// COMPARE AND WRITE.
fn caw(lba: u64, count: u8) -> [u8; 16] {
    let mut cdb = rw16(0x89, 0, lba, 0);
    cdb[13] = count;
    cdb
}

#[test]
fn compare_and_write_takes_blocks_that_are_equal() {
    run(|stage| async move {
        let (old, new) = (pattern(2, 512, 1), pattern(2, 512, 2));
        stage.a.good_out(&rw16(0x8a, 0, 4, 2), &old).await;
        let both = [old.clone(), new.clone()].concat();
        stage.a.good_out(&caw(4, 2), &both).await;
        assert_eq!(stage.a.good(&rw16(0x88, 0, 4, 2)).await, new);
        let sense = stage.a.refused_out(&caw(4, 2), &both).await;
        assert_eq!(code(sense), (0xe, 0x1d00));
        assert_eq!(sense.information, Some(0));
        assert_eq!(stage.a.good(&rw16(0x88, 0, 4, 2)).await, new);
    });
}

#[test]
fn compare_and_write_wants_exactly_its_data_and_at_most_its_limit() {
    run(|stage| async move {
        for bytes in [0, 512, 1023, 1025, 2048] {
            let sense = stage.a.refused_out(&caw(0, 1), &vec![0; bytes]).await;
            assert_eq!(code(sense), INVALID_CDB, "{bytes} bytes");
        }
        stage
            .a
            .good_out(&caw(0, 128), &vec![0; 2 * 128 * 512])
            .await;
        for count in [129, 255] {
            let sense = stage.a.refused(&caw(0, count)).await;
            assert_eq!(code(sense), INVALID_CDB);
        }
        stage.a.good(&caw(0, 0)).await;
        // A count of 256 is 0 in one byte: its data tells.
        let sense = stage.a.refused_out(&caw(0, 0), &[0; 512]).await;
        assert_eq!(code(sense), INVALID_CDB);
        let sense = stage.a.refused(&caw(BLOCKS, 1)).await;
        assert_eq!(code(sense), OUT_OF_RANGE);
    });
}

#[test]
fn orwrite_sets_bits() {
    run(|stage| async move {
        stage.a.good_out(&rw16(0x8a, 0, 6, 1), &[0x0f; 512]).await;
        stage.a.good_out(&rw16(0x8b, 0, 6, 2), &[0x31; 1024]).await;
        let expected = [[0x3f; 512], [0x31; 512]].concat();
        assert_eq!(stage.a.good(&rw16(0x88, 0, 6, 2)).await, expected);
    });
}

/// Memory that others hold, too, is not changed in its place.
#[test]
fn orwrite_leaves_shared_memory_as_it_is() {
    run(|stage| async move {
        stage.a.good_out(&rw16(0x8a, 0, 0, 1), &[0x0f; 512]).await;
        let plan = stage.a.nexus.plan(LUN, &rw16(0x8b, 0, 0, 1));
        let mut buf = reactor::buf::alloc(512).await;
        buf.as_mut().fill(0x30);
        let kept = buf.clone();
        let outcome = stage
            .a
            .nexus
            .execute(plan.expect("a plan"), Some(buf))
            .await;
        assert!(outcome.is_good());
        assert_eq!(kept[..], [0x30; 512]);
        assert_eq!(stage.a.good(&rw16(0x88, 0, 0, 1)).await, [0x3f; 512]);
    });
}

#[test]
fn write_atomic_has_its_own_limit() {
    run(|stage| async move {
        let atomic = |lba, count: u16, boundary: u16| {
            let mut cdb = rw16(0x9c, 0, lba, 0);
            cdb[10..12].copy_from_slice(&boundary.to_be_bytes());
            cdb[12..14].copy_from_slice(&count.to_be_bytes());
            cdb
        };
        let data = pattern(256, 512, 4);
        stage.a.good_out(&atomic(1, 256, 0), &data).await;
        assert_eq!(stage.a.good(&rw16(0x88, 0, 1, 256)).await, data);
        for (count, boundary) in [(257, 0), (1, 8)] {
            let sense = stage.a.refused(&atomic(0, count, boundary)).await;
            assert_eq!(code(sense), INVALID_CDB);
        }
        let sense = stage.a.refused(&atomic(BLOCKS - 1, 512, 0)).await;
        assert_eq!(code(sense), OUT_OF_RANGE);
        stage.a.good(&atomic(0, 0, 0)).await;
    });
}

/// The volume's metrics tell what reached it: WCE off makes every write a durable one, and
/// SYNCHRONIZE CACHE is a flush.
#[test]
fn the_cache_is_flushed_when_asked() {
    run(|stage| async move {
        let flushes = |stage: &Stage| {
            let metrics = stage.unit.volume().metrics();
            metrics.ops[volume::OpKind::Flush.index()].count
        };
        assert_eq!(flushes(&stage), 0);
        stage.a.good(&rw16(0x91, 0, 0, 0)).await;
        stage.a.good(&rw16(0x91, 2, 5, 10)).await;
        stage.a.good(&[0x35, 0, 0, 0, 0, 0, 0, 0, 1, 0]).await;
        assert_eq!(flushes(&stage), 3);
        stage.a.good(&rw16(0x90, 2, 5, 10)).await;
        stage.a.good(&[0x34, 0, 0, 0, 0, 0, 0, 0, 1, 0]).await;
        assert_eq!(flushes(&stage), 3);
    });
}
