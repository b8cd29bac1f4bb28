//! Copies between two units of one core, in the name of host `a`.

mod far;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::JoinHandle;
use volume::testing::numbered_volume;
use wire::scsi::SenseCode;
use wire::scsi::sense::KeySpecific;

use crate::options::HostAccess;
use crate::reservation::{Access, Listener, Reservations};
use crate::scsi::identity;
use crate::scsi::tests::{BLOCKS, End, LUN, Stage, attach, code, pattern, run, rw16};
use crate::scsi::{LogicalUnit, Outcome, UnitDirectory, Units};

/// COPY ABORTED.
const ABORTED: u8 = 0xa;

/// The stage's unit, and a second one with blocks of `block_bytes`, on one core.
struct Pair {
    stage: Stage,
    other: Rc<LogicalUnit>,
    /// Host `a` at the second unit.
    there: End,
    _units: Rc<Units>,
}

async fn pair(stage: Stage, block_bytes: u32) -> Pair {
    let volume = numbered_volume(2, BLOCKS, block_bytes, 4000);
    let reservations = Reservations::load(volume.clone()).await;
    let other = LogicalUnit::new(volume, reservations);
    let units = Units::new(&UnitDirectory::default());
    stage.unit.join(&units, HostAccess::Any);
    other.join(&units, HostAccess::Any);
    let there = attach(&other, "a", 1);
    assert!(there.command(&[0; 6]).await.sense.is_some());
    Pair {
        stage,
        other,
        there,
        _units: units,
    }
}

/// An identification descriptor with the unit's NAA.
fn target(unit: &LogicalUnit) -> Vec<u8> {
    let mut bytes = vec![0xe4, 0, 0, 0, 1, 3, 0, 16];
    bytes.extend(identity::naa(unit.info()));
    bytes.resize(28, 0);
    bytes.extend(unit.info().block_bytes.to_be_bytes());
    bytes
}

/// Blocks of the source, to the same count of bytes in the destination.
fn blocks(ends: (u16, u16), count: u16, lbas: (u64, u64)) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0x18];
    bytes.extend([ends.0.to_be_bytes(), ends.1.to_be_bytes()].concat());
    bytes.extend([0, 0]);
    bytes.extend(count.to_be_bytes());
    bytes.extend([lbas.0.to_be_bytes(), lbas.1.to_be_bytes()].concat());
    bytes
}

/// Bytes from (block, offset) to (block, offset), from target 0 to target 1.
fn bytes(len_bytes: u32, source: (u64, u16), destination: (u64, u16)) -> Vec<u8> {
    let mut bytes = vec![0x0a, 0, 0, 0x1c, 0, 0, 0, 1];
    bytes.extend(len_bytes.to_be_bytes());
    bytes.extend([source.0.to_be_bytes(), destination.0.to_be_bytes()].concat());
    bytes.extend([source.1.to_be_bytes(), destination.1.to_be_bytes()].concat());
    bytes
}

fn list(header: (u8, u8), targets: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (targets, segments) = (targets.concat(), segments.concat());
    let mut list = vec![header.0, header.1 << 3];
    list.extend((targets.len() as u16).to_be_bytes());
    list.extend([0; 4]);
    list.extend((segments.len() as u32).to_be_bytes());
    list.extend([0; 4]);
    [list, targets, segments].concat()
}

fn extended_copy(list_bytes: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    cdb[10..14].copy_from_slice(&(list_bytes as u32).to_be_bytes());
    cdb
}

fn results(action: u8, list_identifier: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[12]) = (0x84, action, list_identifier, 4);
    cdb
}

/// Who may log in: not host `a`.
fn others() -> HostAccess {
    HostAccess::Listed(vec!["iqn.2026-11.example:b".to_owned()])
}

/// Who may log in: only host `a`.
fn host_a() -> HostAccess {
    HostAccess::Listed(vec!["iqn.2026-11.example:a".to_owned()])
}

impl Pair {
    fn targets(&self) -> [Vec<u8>; 2] {
        [target(&self.stage.unit), target(&self.other)]
    }

    async fn copy(&self, segments: &[Vec<u8>]) {
        let list = list((1, 0), &self.targets(), segments);
        self.stage
            .a
            .good_out(&extended_copy(list.len()), &list)
            .await;
    }

    async fn refused(&self, list: &[u8]) -> wire::scsi::Sense {
        let cdb = extended_copy(list.len());
        self.stage.a.refused_out(&cdb, list).await
    }
}

async fn write(end: &End, lba: u64, data: &[u8]) {
    let count = data.len() as u32 / end.nexus.unit().info().block_bytes;
    end.good_out(&rw16(0x8a, 0, lba, count), data).await;
}

async fn read(end: &End, lba: u64, count: u32) -> Vec<u8> {
    end.good(&rw16(0x88, 0, lba, count)).await
}

#[test]
fn blocks_are_copied_from_unit_to_unit() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        // More than a piece, and not at the start of one.
        let data = pattern(1500, 512, 7);
        write(&pair.stage.a, 3, &data).await;
        let before = pattern(1, 512, 9);
        write(&pair.there, 4, &before).await;
        write(&pair.there, 1505, &before).await;
        pair.copy(&[blocks((0, 1), 1500, (3, 5))]).await;
        assert!(read(&pair.there, 5, 1500).await == data);
        assert!(read(&pair.there, 4, 1).await == before, "the block before");
        assert!(
            read(&pair.there, 1505, 1).await == before,
            "the block behind"
        );
        pair.copy(&[blocks((0, 1), 0, (3, 5))]).await;
    });
}

#[test]
fn segments_follow_each_other() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let data = pattern(8, 512, 1);
        write(&pair.stage.a, 0, &data).await;
        let there_and_back = [blocks((0, 1), 8, (0, 100)), blocks((1, 0), 8, (100, 50))];
        pair.copy(&there_and_back).await;
        assert!(read(&pair.stage.a, 50, 8).await == data);
    });
}

#[test]
fn sizes_of_blocks_may_differ() {
    run(|stage| async move {
        let pair = pair(stage, 4096).await;
        let data = pattern(24, 512, 3);
        write(&pair.stage.a, 7, &data).await;
        let mut by_destination = blocks((0, 1), 1, (7, 9));
        by_destination[1] = 0x02;
        pair.copy(&[by_destination, blocks((0, 1), 16, (15, 10))])
            .await;
        assert!(read(&pair.there, 9, 3).await == data);
        let list = list((0, 3), &pair.targets(), &[blocks((0, 1), 9, (0, 0))]);
        let sense = pair.refused(&list).await;
        assert_eq!(code(sense), (ABORTED, SenseCode::INEXACT_SEGMENT.0));
    });
}

#[test]
fn parts_of_blocks_are_copied_and_the_rest_of_them_stays() {
    run(|stage| async move {
        let pair = pair(stage, 4096).await;
        let data = pattern(64, 512, 3);
        write(&pair.stage.a, 0, &data).await;
        let before = pattern(6, 4096, 200);
        for (len, source, destination) in [
            (1, (0, 511), (1, 4095)),
            (100, (2, 500), (0, 0)),
            (4096, (0, 0), (2, 0)),
            (10_000, (1, 13), (1, 4000)),
            (8192 + 4, (0, 3), (1, 4092)),
        ] {
            write(&pair.there, 0, &before).await;
            pair.copy(&[bytes(len, source, destination)]).await;
            let from = (source.0 * 512) as usize + usize::from(source.1);
            let to = (destination.0 * 4096) as usize + usize::from(destination.1);
            let mut expected = before.clone();
            let len = len as usize;
            expected[to..to + len].copy_from_slice(&data[from..from + len]);
            assert!(read(&pair.there, 0, 6).await == expected, "{len} bytes");
        }
    });
}

#[test]
fn ranges_of_one_unit_may_overlap() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        for (from, to) in [(10, 11), (11, 10), (10, 1400), (1400, 10), (5, 5)] {
            let data = pattern(1600, 512, 5);
            write(&pair.stage.a, from, &data).await;
            let targets = [target(&pair.stage.unit)];
            let list = list((0, 3), &targets, &[blocks((0, 0), 1600, (from, to))]);
            let cdb = extended_copy(list.len());
            pair.stage.a.good_out(&cdb, &list).await;
            assert!(
                read(&pair.stage.a, to, 1600).await == data,
                "{from} to {to}"
            );
        }
    });
}

#[test]
fn zeros_take_no_space() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        write(&pair.there, 0, &pattern(8, 512, 1)).await;
        pair.copy(&[blocks((0, 1), 8, (0, 0))]).await;
        assert!(read(&pair.there, 0, 8).await == vec![0; 4096]);
        let status = pair.other.volume().block_status(0).await;
        let status = status.expect("the block is there");
        assert!(!status.is_mapped);
    });
}

#[test]
fn faults_of_form_are_refused_before_anything_is_copied() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        write(&pair.stage.a, 0, &pattern(8, 512, 1)).await;
        let [here, there] = pair.targets();
        let good = blocks((0, 1), 8, (0, 0));
        let changed = |bytes: &[u8], at: usize, value: u8| {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            bytes
        };
        let of = |target: Vec<u8>, segment: Vec<u8>| {
            list((1, 0), &[here.clone(), target], &[good.clone(), segment])
        };
        let whole = of(there.clone(), good.clone());
        let many_targets: Vec<_> = (0..9).map(|_| here.clone()).collect();
        let many_segments: Vec<_> = (0..65).map(|_| good.clone()).collect();
        for (list, expected) in [
            (whole[..15].to_vec(), 0x1a00),
            (whole[..whole.len() - 1].to_vec(), 0x1a00),
            (changed(&whole, 3, 63), 0x2600),
            (changed(&whole, 1, 1 << 3), 0x2600),
            (changed(&whole, 1, 3 << 3), 0x2600),
            (changed(&whole, 15, 1), 0x2600),
            (list((1, 0), &many_targets, &[]), 0x2606),
            (list((1, 0), &[], &many_segments), 0x2608),
            (of(changed(&there, 0, 0xe0), good.clone()), 0x2607),
            (of(changed(&there, 1, 0x20), good.clone()), 0x2600),
            (of(changed(&there, 1, 0x01), good.clone()), 0x2600),
            (of(changed(&there, 5, 0x13), good.clone()), 0x2600),
            (of(changed(&there, 7, 21), good.clone()), 0x2600),
            (of(changed(&there, 30, 3), good.clone()), 0x2600),
            (of(there.clone(), changed(&good, 0, 0x00)), 0x2609),
            (of(there.clone(), changed(&good, 3, 0x17)), 0x2600),
            (of(there.clone(), good[..27].to_vec()), 0x1a00),
        ] {
            assert_eq!(
                code(pair.refused(&list).await),
                (0x5, expected),
                "{list:02x?}"
            );
        }
        let outcome = pair.stage.a.command(&extended_copy(16 + 2561)).await;
        assert_eq!(outcome.sense.map(code), Some((0x5, 0x1a00)));
        assert!(read(&pair.there, 0, 8).await == vec![0; 4096]);
        pair.stage.a.good(&extended_copy(0)).await;
        assert_eq!(
            code(pair.stage.a.refused(&results(0, 1)).await),
            (0x5, 0x2400),
            "a refused list leaves no results"
        );
    });
}

#[test]
fn a_segment_that_fails_is_named_and_those_before_it_are_done() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let data = pattern(8, 512, 1);
        write(&pair.stage.a, 0, &data).await;
        let mut nobody = target(&pair.other);
        nobody[23] ^= 1;
        let [here, there] = pair.targets();
        let targets = [here, there, nobody];
        for (wrong, expected, byte) in [
            (blocks((0, 3), 1, (0, 0)), 0x0804, 6),
            (blocks((3, 0), 1, (0, 0)), 0x0804, 4),
            (blocks((0, 2), 1, (0, 0)), 0x0804, 6),
            (blocks((0, 1), 1, (0, BLOCKS)), 0x0d02, 20),
            (blocks((0, 1), 2, (BLOCKS - 1, 0)), 0x0d02, 12),
            (blocks((0, 1), 1, (u64::MAX, 0)), 0x0d02, 12),
        ] {
            write(&pair.there, 0, &vec![1; 8 * 512]).await;
            let list = list((4, 0), &targets, &[blocks((0, 1), 8, (0, 0)), wrong]);
            let sense = pair.refused(&list).await;
            assert_eq!(code(sense), (ABORTED, expected));
            assert_eq!(sense.command_specific, Some(1));
            let in_segment = true;
            assert_eq!(sense.specific, KeySpecific::Segment { in_segment, byte });
            assert!(read(&pair.there, 0, 8).await == data);
            let status = pair.stage.a.good(&results(0, 4)).await;
            assert_eq!(status[4..7], [2, 0, 1], "with errors, one segment");
            let details = pair.stage.a.good(&results(4, 4)).await;
            assert_eq!(details[56..60], [0x02, 0, 0, 18]);
            assert_eq!(details[60..], sense.fixed());
        }
    });
}

#[test]
fn a_full_pool_ends_a_copy_and_the_rest_is_counted() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        for start in [0, 2048, 4096, 6144] {
            write(&pair.stage.a, start, &pattern(2048, 512, 1)).await;
        }
        let list = list((4, 2), &pair.targets(), &[blocks((0, 1), 8192, (0, 0))]);
        let sense = pair.refused(&list).await;
        assert_eq!(code(sense), (ABORTED, SenseCode::SPACE_ALLOCATION_FAILED.0));
        // There is room for 4,000 blocks: the piece that passes them is the last.
        assert_eq!(sense.information, Some(8192 - 4096));
        let status = pair.stage.a.good(&results(0, 4)).await;
        assert_eq!(
            status[4..],
            [[2, 0, 0, 0], 0x20_0000_u32.to_be_bytes()].concat()
        );
    });
}

#[test]
fn reservations_of_others_count_at_both_ends() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let segment = [blocks((0, 1), 8, (0, 0))];
        let list = list((0, 3), &pair.targets(), &segment);
        let b = attach(&pair.other, "b", 1);
        assert!(b.command(&[0; 6]).await.sense.is_some());
        let reserve = [0x16, 0, 0, 0, 0, 0];
        b.good(&reserve).await;
        assert_eq!(code(pair.refused(&list).await), (ABORTED, 0x0d02));
        b.good(&[0x17, 0, 0, 0, 0, 0]).await;
        // One of the same host's own is none of another's.
        pair.there.good(&reserve).await;
        pair.copy(&segment).await;
        // Without a nexus there, the host is a stranger.
        let Pair {
            stage,
            other,
            there,
            _units,
        } = pair;
        drop(there);
        b.good(&reserve).await;
        let cdb = extended_copy(list.len());
        assert_eq!(
            code(stage.a.refused_out(&cdb, &list).await),
            (ABORTED, 0x0d02)
        );
        drop(b);
        stage.a.good_out(&cdb, &list).await;
        assert!(stage.a.nexus.participant().check(Access::Write).is_ok());
        drop(other);
        assert_eq!(
            code(stage.a.refused_out(&cdb, &list).await),
            (ABORTED, 0x0804)
        );
    });
}

#[test]
fn units_that_the_host_may_not_log_in_to_are_unknown() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        pair.other.join(&pair._units, others());
        let list = list((0, 3), &pair.targets(), &[blocks((1, 0), 8, (0, 0))]);
        assert_eq!(code(pair.refused(&list).await), (ABORTED, 0x0804));
        pair.other.join(&pair._units, host_a());
        pair.copy(&[blocks((1, 0), 8, (0, 0))]).await;
    });
}

/// A copy computes and waits for the volumes, nothing else: as much as `sg_xcopy` asks for with one
/// command, and what it asks for with many small ones, in virtual time.
#[test]
fn a_copy_waits_for_nothing_but_the_volumes() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        write(&pair.stage.a, 0, &pattern(1024, 512, 1)).await;
        let whole = [blocks((0, 1), 1024, (0, 0))];
        let parts: Vec<_> = (0..8)
            .map(|part| blocks((0, 1), 128, (128 * part, 128 * part)))
            .collect();
        let began = reactor::now();
        pair.copy(&whole).await;
        pair.copy(&parts).await;
        for part in &parts {
            pair.copy(std::slice::from_ref(part)).await;
        }
        let took = reactor::now().saturating_duration_since(began);
        assert!(took < Duration::from_millis(1), "{took:?} for 17 segments");
    });
}

#[test]
fn what_the_destination_forbids_is_not_copied() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let segment = [blocks((0, 1), 8, (0, 0))];
        let list = list((0, 3), &pair.targets(), &segment);
        let mode = pair.other.mode.get();
        let protected = crate::scsi::mode::Mode {
            is_write_protected: true,
            ..mode
        };
        pair.other.mode.set(protected);
        assert_eq!(code(pair.refused(&list).await), (ABORTED, 0x2702));
        pair.other.mode.set(mode);
        pair.other.is_stopped.set(true);
        assert_eq!(code(pair.refused(&list).await), (ABORTED, 0x0d02));
        pair.other.is_stopped.set(false);
        pair.other
            .set_access_state(1, crate::scsi::AccessState::STANDBY);
        assert_eq!(code(pair.refused(&list).await), (ABORTED, 0x0d02));
        pair.other
            .set_access_state(1, crate::scsi::AccessState::OPTIMIZED);
        pair.copy(&segment).await;
    });
}

#[test]
fn an_aborted_copy_stops_and_its_identifier_is_free() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let data = pattern(2048, 512, 1);
        write(&pair.stage.a, 0, &data).await;
        let list = list((9, 0), &pair.targets(), &[blocks((0, 1), 2048, (0, 0))]);
        let cdb = extended_copy(list.len());
        let copying = {
            let (end, list) = (pair.stage.a.clone(), list.clone());
            reactor::spawn(async move { end.send(&cdb, &list).await })
        };
        let first = loop {
            reactor::yield_now().await;
            let status = pair.stage.a.command(&results(0, 9)).await;
            let Some(status) = status.data else { continue };
            assert_eq!(status[4], 0, "in progress");
            if status[8..12] != [0; 4] {
                break status[8..12].to_vec();
            }
        };
        assert_eq!(first, (512_u32 << 10).to_be_bytes());
        let again = pair.refused(&list).await;
        assert_eq!(code(again), (0x5, SenseCode::OPERATION_IN_PROGRESS.0));
        copying.abort();
        reactor::time::sleep(std::time::Duration::from_secs(1)).await;
        let copied = read(&pair.there, 0, 2048).await;
        assert!(copied[..512 << 10] == data[..512 << 10]);
        assert_eq!(copied[copied.len() - 512..], [0; 512], "the last piece");
        assert_eq!(
            code(pair.stage.a.refused(&results(0, 9)).await),
            (0x5, 0x2400)
        );
        assert_eq!(pair.other.gate.in_flight(), 0);
        pair.stage.a.good_out(&cdb, &list).await;
        assert!(read(&pair.there, 0, 2048).await == data);
    });
}

#[test]
fn copies_wait_for_their_turn_and_all_end() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let data = pattern(1024, 512, 1);
        write(&pair.stage.a, 0, &data).await;
        let all_turns = pair._units.copies.acquire(super::COPIES_MAX).await;
        let copies: Vec<_> = (0..8_u8)
            .map(|index| {
                let segment = blocks((0, 1), 400, (0, 400 * u64::from(index)));
                let list = list((index, 2), &pair.targets(), &[segment]);
                let end = pair.stage.a.clone();
                reactor::spawn(async move { end.send(&extended_copy(list.len()), &list).await })
            })
            .collect();
        for index in 0..8 {
            while !pair.stage.a.command(&results(0, index)).await.is_good() {
                reactor::yield_now().await;
            }
        }
        let ninth = list((8, 2), &pair.targets(), &[]);
        let ninth = pair.stage.a.send(&extended_copy(ninth.len()), &ninth).await;
        assert_eq!(
            ninth.status,
            wire::scsi::Status::BUSY,
            "eight are remembered"
        );
        assert!(read(&pair.there, 0, 400).await == vec![0; 400 * 512]);
        drop(all_turns);
        for copy in copies {
            assert!(copy.await.is_good());
        }
        for index in 0..8 {
            assert!(read(&pair.there, 400 * index, 400).await == data[..400 * 512]);
        }
    });
}

#[test]
fn results_are_kept_for_the_last_copies_of_each_nexus() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let copy = |list_identifier, usage| {
            let list = list(
                (list_identifier, usage),
                &pair.targets(),
                &[blocks((0, 1), 2, (0, 0))],
            );
            let end = &pair.stage.a;
            async move { end.good_out(&extended_copy(list.len()), &list).await }
        };
        for list_identifier in 0..9 {
            copy(list_identifier, 0).await;
        }
        copy(0, 3).await;
        let status = pair.stage.a.good(&results(0, 8)).await;
        assert_eq!(status, [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 4, 0]);
        assert_eq!(
            pair.stage.a.good(&results(4, 8)).await,
            [0; 4],
            "it did not fail"
        );
        for (end, list_identifier) in [(&pair.stage.a, 0), (&pair.stage.a, 9), (&pair.stage.b, 8)] {
            let unknown = code(end.refused(&results(0, list_identifier)).await);
            assert_eq!(unknown, (0x5, 0x2400));
        }
        assert_eq!(
            code(pair.stage.a.refused(&results(1, 8)).await),
            (0x5, 0x2400)
        );
        pair.stage
            .a
            .nexus
            .manage(LUN, crate::scsi::Function::LogicalUnitReset)
            .await;
        assert!(pair.stage.a.command(&[0; 6]).await.sense.is_some());
        assert_eq!(
            code(pair.stage.a.refused(&results(0, 8)).await),
            (0x5, 0x2400)
        );
    });
}

#[test]
fn the_limits_are_those_that_are_told() {
    run(|stage| async move {
        let told = stage.a.good(&results(3, 0)).await;
        let expected = [
            &[0, 0, 0, 43, 1, 0, 0, 0, 0, 8, 0, 64][..],
            &[0, 0, 0x0a, 0, 0x0f, 0xff, 0xf0, 0],
            &[0; 14],
            &[0, 8, 8, 9, 0, 0, 0, 0, 0, 3, 0x02, 0x0a, 0xe4],
        ];
        assert_eq!(told, expected.concat());
    });
}

/// EXTENDED COPY of `count` blocks that `is_aborted` ends.
fn abortable(pair: &Pair, count: u16, is_aborted: &Rc<Cell<bool>>) -> JoinHandle<Outcome> {
    let list = list((9, 0), &pair.targets(), &[blocks((0, 1), count, (0, 0))]);
    begin(&pair.stage.a, list, is_aborted)
}

/// EXTENDED COPY with this list, that `is_aborted` ends.
fn begin(end: &End, list: Vec<u8>, is_aborted: &Rc<Cell<bool>>) -> JoinHandle<Outcome> {
    let (end, is_aborted) = (end.clone(), is_aborted.clone());
    reactor::spawn(async move {
        let plan = end.nexus.plan(LUN, &extended_copy(list.len()));
        let plan = plan.expect("the header is good");
        let mut data = reactor::buf::alloc(list.len()).await;
        data.as_mut().copy_from_slice(&list);
        let nexus = &end.nexus;
        nexus
            .execute_until(plan, Some(data), &|| is_aborted.get())
            .await
    })
}

#[test]
fn a_copy_ends_between_pieces_when_its_task_is_over() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        let data = pattern(2048, 512, 1);
        write(&pair.stage.a, 0, &data).await;
        write(&pair.stage.a, 2048, &data).await;
        let is_aborted = Rc::new(Cell::new(false));
        let copying = abortable(&pair, 4096, &is_aborted);
        loop {
            reactor::yield_now().await;
            let status = pair.stage.a.command(&results(0, 9)).await;
            if status.data.is_some_and(|status| status[8..12] != [0; 4]) {
                break;
            }
        }
        is_aborted.set(true);
        copying.await;
        assert!(read(&pair.there, 0, 1024).await == data[..512 << 10]);
        let last = read(&pair.there, 4095, 1).await;
        assert!(last == [0; 512], "the last piece was copied");
        let unknown = pair.stage.a.refused(&results(0, 9)).await;
        assert_eq!(code(unknown), (0x5, 0x2400));
    });
}

#[test]
fn a_copy_that_waits_for_its_turn_can_be_aborted() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        write(&pair.stage.a, 0, &pattern(8, 512, 1)).await;
        let all_turns = pair._units.copies.acquire(super::COPIES_MAX).await;
        let is_aborted = Rc::new(Cell::new(false));
        let copying = abortable(&pair, 8, &is_aborted);
        reactor::time::sleep(Duration::from_millis(50)).await;
        assert!(!copying.is_finished());
        is_aborted.set(true);
        reactor::time::sleep(Duration::from_millis(50)).await;
        assert!(copying.is_finished());
        drop(all_turns);
        assert!(read(&pair.there, 0, 8).await == [0; 4096]);
        assert_eq!(pair._units.copies.available(), super::COPIES_MAX);
    });
}

#[test]
fn who_shuts_the_host_out_waits_for_the_piece_under_way() {
    run(|stage| async move {
        let pair = pair(stage, 512).await;
        write(&pair.stage.a, 0, &pattern(2048, 512, 1)).await;
        let is_aborted = Rc::new(Cell::new(false));
        let copying = abortable(&pair, 2048, &is_aborted);
        let is_settled = || Listener::is_settled(&*pair.there.nexus);
        let mut writes = 0;
        while !copying.is_finished() {
            reactor::yield_now().await;
            writes += u32::from(!is_settled());
        }
        assert!(writes > 0, "it was never unsettled");
        assert!(is_settled());
        assert!(copying.await.is_good());
    });
}
