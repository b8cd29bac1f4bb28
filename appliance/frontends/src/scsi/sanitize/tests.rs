//! A unit while it is sanitized, and when that failed.

use std::rc::Rc;
use std::time::Duration;

use volume::testing::numbered_volume;
use wire::scsi::sense::KeySpecific;
use wire::scsi::{Sense, SenseKey};

use super::RATE_BYTES_PER_S;
use crate::reservation::{Access, Identity, Reservations};
use crate::scsi::tests::{BLOCKS, End, LUN, Stage, attach, code, pattern, run, run_with, rw16};
use crate::scsi::{Function, LogicalUnit, Nexus, Outcome};

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const BLOCK_ERASE: [u8; 10] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
const IN_PROGRESS: (u8, u16) = (0x2, 0x041b);
const FAILED: (u8, u16) = (0x3, 0x3103);
const INVALID_CDB: (u8, u16) = (0x5, 0x2400);
const INVALID_LIST: (u8, u16) = (0x5, 0x2600);
/// IMMED and AUSE.
const IMMEDIATE: u8 = 0x80;
const MAY_EXIT: u8 = 0x20;

/// OVERWRITE with its parameter list: `passes`, with 80h for INVERT.
fn overwrite(flags: u8, passes: u8, pattern: &[u8]) -> ([u8; 10], Vec<u8>) {
    let mut list = vec![passes, 0];
    list.extend((pattern.len() as u16).to_be_bytes());
    list.extend(pattern);
    let mut cdb = [0x48, 0x01 | flags, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb[7..9].copy_from_slice(&(list.len() as u16).to_be_bytes());
    (cdb, list)
}

fn start(end: &End, (cdb, list): ([u8; 10], Vec<u8>)) -> reactor::JoinHandle<Outcome> {
    let end = end.clone();
    reactor::spawn(async move { end.send(&cdb, &list).await })
}

async fn a_little_later() {
    reactor::time::sleep(Duration::from_millis(20)).await;
}

async fn write(end: &End, lba: u64, data: &[u8]) {
    let count = data.len() as u32 / end.nexus.unit().info().block_bytes;
    end.good_out(&rw16(0x8a, 0, lba, count), data).await;
}

async fn block(end: &End, lba: u64) -> Vec<u8> {
    end.good(&rw16(0x88, 0, lba, 1)).await
}

/// Until commands are taken again.
async fn finished(end: &End) {
    for _ in 0..1000 {
        let outcome = end.command(&TEST_UNIT_READY).await;
        match outcome.sense.map(code) {
            None => return,
            Some(sense) => assert!(sense == IN_PROGRESS || sense.0 == 0x6, "{outcome:?}"),
        }
        a_little_later().await;
    }
    panic!("it does not end");
}

fn progress(sense: Sense) -> u16 {
    match sense.specific {
        KeySpecific::Progress(progress) => progress,
        other => panic!("no progress: {other:?}"),
    }
}

#[test]
fn a_block_erase_leaves_nothing() {
    run(|stage| async move {
        for lba in [0, 777, BLOCKS - 1] {
            write(&stage.a, lba, &pattern(1, 512, 9)).await;
        }
        stage.a.good(&BLOCK_ERASE).await;
        let status = stage.unit.volume().block_status(0).await;
        let status = status.expect("the block is there");
        assert_eq!((status.is_mapped, status.block_count), (false, BLOCKS));
        assert!(block(&stage.a, 777).await == [0; 512]);
    });
}

#[test]
fn an_overwrite_leaves_the_pattern_everywhere() {
    for block_bytes in [512, 4096] {
        run_with(block_bytes, move |stage| async move {
            let whole = pattern(1, block_bytes as usize, 9);
            for (passes, given) in [
                (1, &whole[..]),
                (3, &whole[..100]),
                (0x82, &[1, 2, 3, 4]),
                (0x83, &[0xff]),
            ] {
                write(&stage.a, 5, &pattern(1, block_bytes as usize, 1)).await;
                let (cdb, list) = overwrite(0, passes, given);
                stage.a.good_out(&cdb, &list).await;
                let bytes = given.iter().copied().cycle();
                let expected: Vec<u8> = bytes.take(block_bytes as usize).collect();
                for lba in [0, 5, 50_001, BLOCKS - 1] {
                    assert!(block(&stage.a, lba).await == expected, "block {lba}");
                }
            }
        });
    }
}

#[test]
fn meanwhile_nothing_else_is_done() {
    run(|stage| async move {
        let begin = reactor::now();
        let running = start(&stage.a, overwrite(0, 1, &[7]));
        a_little_later().await;
        let first = progress(stage.b.refused(&TEST_UNIT_READY).await);
        for cdb in [
            &TEST_UNIT_READY[..],
            &[0x1b, 0, 0, 0, 1, 0],
            &rw16(0x88, 0, 0, 1),
            &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &BLOCK_ERASE,
            &EXIT,
        ] {
            assert_eq!(code(stage.b.refused(cdb).await), IN_PROGRESS, "{cdb:02x?}");
        }
        // What only says how things are goes on.
        for cdb in [
            &[0x12, 0, 0, 0, 36, 0][..],
            &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0],
            &[0x1a, 0, 0x3f, 0, 255, 0],
            &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        ] {
            stage.b.good(cdb).await;
        }
        let sense = stage.b.good(&[0x03, 0, 0, 0, 18, 0]).await;
        let sense = Sense::decode(&sense).expect("it is sense data");
        assert_eq!(code(sense), IN_PROGRESS);
        a_little_later().await;
        let later = progress(stage.b.refused(&TEST_UNIT_READY).await);
        assert!(later > first, "{first} then {later}");
        assert!(running.await.is_good());
        let paced = stage.unit.info().len_bytes() as f64 / RATE_BYTES_PER_S as f64;
        let elapsed = reactor::now().saturating_duration_since(begin);
        assert!(elapsed.as_secs_f64() > 0.95 * paced, "{elapsed:?}");
        stage.b.good(&TEST_UNIT_READY).await;
    });
}

#[test]
fn neither_aborts_nor_resets_nor_the_end_of_the_session_stop_it() {
    run(|stage| async move {
        let running = start(&stage.a, overwrite(0, 1, &[7]));
        a_little_later().await;
        for function in [
            Function::AbortTaskSet,
            Function::ClearTaskSet,
            Function::LogicalUnitReset,
            Function::TargetWarmReset,
            Function::TargetColdReset,
        ] {
            stage.b.nexus.manage(LUN, function).await;
        }
        running.abort();
        let Stage { unit, a, b } = stage;
        drop((a, b));
        let new = attach(&unit, "c", 1);
        assert_eq!(
            new.refused(&TEST_UNIT_READY).await.key,
            SenseKey::UNIT_ATTENTION
        );
        assert_eq!(code(new.refused(&TEST_UNIT_READY).await), IN_PROGRESS);
        finished(&new).await;
        assert!(block(&new, BLOCKS - 1).await == [7; 512]);
    });
}

#[test]
fn an_immediate_one_answers_at_once() {
    run(|stage| async move {
        let (cdb, list) = overwrite(IMMEDIATE, 2, &[7, 8]);
        stage.a.good_out(&cdb, &list).await;
        assert_eq!(code(stage.a.refused(&TEST_UNIT_READY).await), IN_PROGRESS);
        finished(&stage.a).await;
        assert!(block(&stage.a, BLOCKS - 1).await[..2] == [7, 8]);
        let mut erase = BLOCK_ERASE;
        erase[1] |= IMMEDIATE;
        stage.a.good(&erase).await;
        finished(&stage.a).await;
        assert!(block(&stage.a, BLOCKS - 1).await == [0; 512]);
    });
}

#[test]
fn it_waits_for_what_is_under_way() {
    run(|stage| async move {
        write(&stage.a, 0, &[1; 512]).await;
        let pass = stage.unit.gate.enter().expect("the unit is there");
        let running = start(&stage.a, (BLOCK_ERASE, vec![]));
        reactor::time::sleep(Duration::from_secs(5)).await;
        let status = stage.unit.volume().block_status(0).await;
        assert!(status.expect("the block is there").is_mapped);
        drop(pass);
        assert!(running.await.is_good());
        assert!(block(&stage.a, 0).await == [0; 512]);
    });
}

#[test]
fn nvme_hosts_wait_outside() {
    run(|stage| async move {
        let host_id = [3; 16];
        let nobody = std::rc::Weak::<Nexus>::new();
        let reservations = stage.unit.reservations().clone();
        let host = reservations.attach(Identity::Nvme { host_id }, nobody);
        assert!(host.check(Access::Write).is_ok());
        let running = start(&stage.a, overwrite(0, 1, &[7]));
        a_little_later().await;
        for (access, allowed) in [
            (Access::Read, false),
            (Access::Write, false),
            (Access::Other, true),
        ] {
            assert_eq!(host.check(access).is_ok(), allowed, "{access:?}");
        }
        assert!(running.await.is_good());
        assert!(host.check(Access::Write).is_ok());
    });
}

#[test]
fn the_end_of_the_volume_ends_it() {
    run(|stage| async move {
        let running = start(&stage.a, overwrite(0, 31, &[7]));
        a_little_later().await;
        let begin = reactor::now();
        stage.unit.remove().await;
        let elapsed = reactor::now().saturating_duration_since(begin);
        assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
        assert_eq!(running.await.sense.map(code), Some(FAILED));
    });
}

/// A unit in a pool that is too small for an overwrite.
async fn small() -> (Rc<LogicalUnit>, End) {
    let volume = numbered_volume(2, BLOCKS, 512, 3000);
    let reservations = Reservations::load(volume.clone()).await;
    let unit = LogicalUnit::new(volume, reservations);
    let end = attach(&unit, "a", 1);
    assert!(end.command(&TEST_UNIT_READY).await.sense.is_some());
    (unit, end)
}

#[test]
fn a_failure_stays_until_another_try_succeeds() {
    run(|_stage| async move {
        let (_unit, end) = small().await;
        let (cdb, list) = overwrite(0, 1, &[7]);
        assert_eq!(code(end.refused_out(&cdb, &list).await), FAILED);
        for cdb in [&TEST_UNIT_READY[..], &rw16(0x88, 0, 0, 1)] {
            assert_eq!(code(end.refused(cdb).await), FAILED);
        }
        end.good(&[0x12, 0, 0, 0, 36, 0]).await;
        let sense = end.good(&[0x03, 0, 0, 0, 18, 0]).await;
        assert_eq!(Sense::decode(&sense).map(code), Some(FAILED));
        // There is no way out, and none can be opened.
        assert_eq!(code(end.refused(&EXIT).await), INVALID_CDB);
        let mut erase = BLOCK_ERASE;
        erase[1] |= MAY_EXIT;
        assert_eq!(code(end.refused(&erase).await), INVALID_CDB);
        assert_eq!(code(end.refused_out(&cdb, &list).await), FAILED);
        end.good(&BLOCK_ERASE).await;
        end.good(&TEST_UNIT_READY).await;
        assert!(block(&end, 0).await == [0; 512]);
    });
}

#[test]
fn a_failure_can_be_left_when_the_host_had_allowed_it() {
    run(|_stage| async move {
        let (_unit, end) = small().await;
        end.good(&EXIT).await;
        let (cdb, list) = overwrite(MAY_EXIT, 1, &[7]);
        assert_eq!(code(end.refused_out(&cdb, &list).await), FAILED);
        assert_eq!(code(end.refused(&TEST_UNIT_READY).await), FAILED);
        end.good(&EXIT).await;
        end.good(&TEST_UNIT_READY).await;
        // Nothing of the data is left all the same.
        assert!(block(&end, BLOCKS - 1).await == [0; 512]);
    });
}

#[test]
fn faults_of_form_are_refused_and_nothing_is_erased() {
    run(|stage| async move {
        let data = pattern(1, 512, 9);
        write(&stage.a, 0, &data).await;
        for action in (0..0x20).filter(|action| !matches!(action, 1 | 2 | 0x1f)) {
            let cdb = [0x48, action, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(
                code(stage.a.refused(&cdb).await),
                INVALID_CDB,
                "{action:#x}"
            );
        }
        for byte in 1..10 {
            for mut cdb in [BLOCK_ERASE, EXIT] {
                cdb[byte] |= if byte == 1 { 0x40 } else { 8 };
                // The control byte has bits that mean nothing here, too.
                assert_eq!(
                    code(stage.a.refused(&cdb).await),
                    INVALID_CDB,
                    "byte {byte}"
                );
            }
        }
        for list_bytes in [0_u16, 1, 4, 4 + 513] {
            let mut cdb = [0x48, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
            cdb[7..9].copy_from_slice(&list_bytes.to_be_bytes());
            assert_eq!(code(stage.a.refused(&cdb).await), INVALID_CDB);
        }
        let (cdb, list) = overwrite(0, 1, &[1, 2, 3, 4]);
        for (at, value) in [
            (0, 0),
            (0, 0x80),
            (0, 0x21),
            (1, 1),
            (3, 0),
            (3, 3),
            (3, 5),
            (2, 2),
        ] {
            let mut list = list.clone();
            list[at] = value;
            let sense = stage.a.refused_out(&cdb, &list).await;
            assert_eq!(code(sense), INVALID_LIST, "byte {at}");
        }
        assert!(block(&stage.a, 0).await == data);
    });
}
