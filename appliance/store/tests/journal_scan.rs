//! Where a log ends, and how that is told from damage: rings of batches written by hand, each with
//! one thing wrong.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{device, life, world};
use reactor::sim::World;
use store::journal::batch::{encode, guess_clusters, header_len};
use store::journal::{
    Failure, Header, Identity, LogEnd, Record, RecordKind, Ring, ScanStart, Scanner, Verdict,
    for_each_named_cluster,
};
use store::{CLUSTER_BYTES, Cluster, ClusterRun, crc32c};

const BLOCK: u64 = 4096;
const IDENTITY: Identity = Identity {
    volume_uuid: [7; 16],
    salt: 0x1234_5678_9abc_def0,
};
/// The log of every test begins here, in the life of epoch 3 that began with sequence 100.
const START: ScanStart = ScanStart {
    epoch: 3,
    open_sequence: 100,
    settled: true,
    position: 40 * BLOCK,
    sequence: 100,
    first_lsn: 1000,
};
const RUN_BYTES: u64 = 16 * CLUSTER_BYTES;
/// The most pages of one batch here.
const MOST: u64 = 256;

/// Two runs, in the order of the ring.
fn ring() -> Ring {
    let runs = [(100, 16), (20, 16)].map(|(first, count)| ClusterRun {
        first: Cluster(first),
        count,
    });
    Ring::new(&runs).expect("long enough")
}

/// Writes a log as the engine does.
struct Log {
    world: World,
    identity: Identity,
    start: ScanStart,
    /// The header of the next batch; a test may make any field wrong.
    next: Header,
}

/// A batch on the disk.
#[derive(Clone, Copy, Debug)]
struct Placed {
    position: u64,
    first_lsn: u64,
    sequence: u64,
    end: u64,
}

impl Log {
    fn new(start: ScanStart) -> Log {
        let next = Header {
            epoch: start.epoch,
            sequence: start.sequence,
            position: start.position,
            previous_end: start.position,
            first_lsn: start.first_lsn,
            durable_lsn: 0,
        };
        Log {
            world: world(1),
            identity: IDENTITY,
            start,
            next,
        }
    }

    /// A log of three batches of two pages each, the last of which says `durable_lsn`.
    fn of_three(durable_lsn: u64) -> (Log, [Placed; 3]) {
        let mut log = Log::new(START);
        let (first, second) = (log.append(2), log.append(2));
        log.next.durable_lsn = durable_lsn;
        let third = log.append(2);
        (log, [first, second, third])
    }

    /// Writes the next batch: one record with this many pages.
    fn append(&mut self, pages: u64) -> Placed {
        let record = Record {
            kind: RecordKind::Write,
            first_page: 5,
            page_count: pages as u32,
            payload_block: 0,
            cluster: Cluster(0),
            page_in_cluster: 0,
        };
        self.append_record(record)
    }

    fn append_record(&mut self, record: Record) -> Placed {
        let header_bytes = header_len(record.encoded_len()) as u64;
        let is_write = record.kind == RecordKind::Write;
        let pages = if is_write { record.page_count } else { 0 };
        let payload: Vec<u8> = (0..pages)
            .flat_map(|page| [page as u8 ^ 0x5a; 4096])
            .collect();
        let crcs: Vec<u32> = match record.kind {
            RecordKind::Direct => vec![1; record.page_count as usize],
            _ => payload.chunks(4096).map(crc32c).collect(),
        };
        let len_bytes = header_bytes + payload.len() as u64;
        self.next.position = ring().place(self.next.position, len_bytes);
        let mut bytes = vec![0; header_bytes as usize];
        encode(&mut bytes, &self.identity, &self.next, &[record], &crcs);
        bytes.extend(payload);
        let offset = ring().locate(self.next.position).device_offset;
        self.world.disk("pool").corrupt(offset, &bytes);
        let placed = Placed {
            position: self.next.position,
            first_lsn: self.next.first_lsn,
            sequence: self.next.sequence,
            end: self.next.position + len_bytes,
        };
        self.next.position = placed.end;
        self.next.previous_end = placed.end;
        self.next.sequence += 1;
        self.next.first_lsn += 1;
        placed
    }

    fn offset(&self, position: u64) -> u64 {
        ring().locate(position).device_offset
    }

    fn flip(&self, position: u64) {
        self.world.disk("pool").flip_bit(self.offset(position));
    }

    fn erase(&self, batch: Placed) {
        let bytes = vec![0; (batch.end - batch.position) as usize];
        let offset = self.offset(batch.position);
        self.world.disk("pool").corrupt(offset, &bytes);
    }

    fn make_unreadable(&self, position: u64) {
        let offset = self.offset(position);
        self.world.disk("pool").latent_error(offset..offset + BLOCK);
    }

    /// Reads the log: the sequences found, and the end.
    fn scan(&mut self) -> (Vec<u64>, LogEnd) {
        let start = self.start;
        let result = life(&mut self.world, move || async move {
            let (device, ring) = (device().expect("open"), ring());
            let mut scanner = Scanner::new(&device, &ring, IDENTITY, start).await;
            let mut found = Vec::new();
            while scanner.next().await {
                let view = scanner.batch().expect("next found one");
                assert_eq!(view.records().count(), 1);
                found.push(view.header.sequence);
            }
            (found, scanner.finish().await)
        });
        result.expect("no crash")
    }

    /// Asserts that the log is whole up to `next`, which is missing without being damage.
    fn ends_before(&mut self, next: Placed, torn: bool) -> LogEnd {
        let (found, end) = self.scan();
        let whole: Vec<u64> = (self.start.sequence..next.sequence).collect();
        assert_eq!(found, whole);
        assert_eq!(end.verdict, Verdict::EndOfLog, "{end:?}");
        assert_eq!(
            (end.sequence, end.next_lsn),
            (next.sequence, next.first_lsn)
        );
        assert_eq!(end.batches, whole.len() as u64);
        assert_eq!(end.torn, torn, "{end:?}");
        end
    }

    fn is_refused(&mut self, at: Placed, verdict: Verdict, failure: Failure) {
        let (_, end) = self.scan();
        assert_eq!((end.verdict, end.failure), (verdict, failure), "{end:?}");
        assert_eq!((end.position, end.sequence), (at.position, at.sequence));
    }

    /// What the next batch would be.
    fn head(&self) -> Placed {
        Placed {
            position: self.next.position,
            first_lsn: self.next.first_lsn,
            sequence: self.next.sequence,
            end: self.next.position,
        }
    }
}

#[test]
fn a_new_ring_is_an_empty_log() {
    let mut log = Log::new(START);
    let end = log.ends_before(log.head(), false);
    assert_eq!((end.position, end.epoch), (START.position, START.epoch));
    assert_eq!((end.durable_lsn, end.unreadable_blocks), (0, 0));
}

#[test]
fn a_whole_log_ends_behind_its_last_batch() {
    let (mut log, [.., last]) = Log::of_three(1001);
    let end = log.ends_before(log.head(), false);
    assert_eq!((end.position, end.durable_lsn), (last.end, 1001));
    assert_eq!(end.failure, Failure::Header);
}

#[test]
fn a_torn_tail_ends_the_log() {
    // A field of the header, its checksum, its last byte; either page of the payload.
    for at in [40, 5, 4095, 4096, 3 * 4096 - 1] {
        let (mut log, [.., last]) = Log::of_three(1001);
        log.flip(last.position + at);
        let end = log.ends_before(last, true);
        let is_payload = end.failure == Failure::Payload;
        assert_eq!(is_payload, at >= 4096, "{end:?}");
    }
    // Nothing of it arrived.
    let (mut log, [.., last]) = Log::of_three(1001);
    log.erase(last);
    log.ends_before(last, false);
}

#[test]
fn a_hole_is_damage_only_below_what_was_durable() {
    for (durable_lsn, is_damage) in [(0, false), (1000, false), (1001, true), (1002, true)] {
        for how in 0..3 {
            let (mut log, [_, hole, _]) = Log::of_three(durable_lsn);
            match how {
                0 => log.erase(hole),
                1 => log.flip(hole.position + 50),
                _ => log.flip(hole.position + BLOCK + 50),
            }
            let failure = [Failure::Header, Failure::Header, Failure::Payload][how];
            if is_damage {
                log.is_refused(hole, Verdict::Corruption, failure);
            } else {
                log.ends_before(hole, how > 0);
            }
        }
    }
}

#[test]
fn a_batch_far_behind_the_hole_proves_it() {
    let mut log = Log::new(START);
    log.append(1);
    let hole = log.append(1);
    for _ in 0..3 {
        log.append(200);
    }
    log.next.durable_lsn = hole.first_lsn;
    let witness = log.append(1);
    assert!(
        witness.position > hole.position + RUN_BYTES,
        "in the other run"
    );
    log.erase(hole);
    log.is_refused(hole, Verdict::Corruption, Failure::Header);
}

#[test]
fn epochs_never_go_down_and_a_life_that_was_cut_off_stays_so() {
    let with_epochs = |start: ScanStart, epochs: [u64; 3]| {
        let mut log = Log::new(start);
        let batches = epochs.map(|epoch| {
            log.next.epoch = epoch;
            log.next.durable_lsn = 2000;
            log.append(1)
        });
        (log, batches)
    };
    // All of the log was written by this life and later ones.
    let (mut log, _) = with_epochs(START, [3, 3, 4]);
    assert_eq!(log.ends_before(log.head(), false).epoch, 4);
    // The log began in earlier lives, and this one goes on from sequence 102.
    let before = ScanStart {
        open_sequence: 102,
        ..START
    };
    let (mut log, _) = with_epochs(before, [1, 2, 3]);
    log.ends_before(log.head(), false);
    // Where this life began there is a batch of the one that was cut off. It proves nothing.
    let (mut log, [.., stale]) = with_epochs(before, [1, 2, 2]);
    log.ends_before(stale, false);
    let (mut log, [stale, ..]) = with_epochs(START, [2, 2, 2]);
    log.ends_before(stale, false);
    // Down again.
    let (mut log, [_, _, stale]) = with_epochs(before, [1, 3, 2]);
    log.ends_before(stale, false);
    let late = ScanStart {
        open_sequence: 200,
        ..START
    };
    let (mut log, [_, stale, _]) = with_epochs(late, [2, 1, 1]);
    log.is_refused(stale, Verdict::Corruption, Failure::Header);
}

#[test]
fn a_log_that_ends_before_the_volume_record_says_is_damage() {
    let known = ScanStart {
        open_sequence: 102,
        ..START
    };
    // The opening that published the record had read 100 and 101; nothing came behind them.
    for (spoil, failure) in [(0, Failure::Header), (BLOCK + 9, Failure::Payload)] {
        let mut log = Log::new(known);
        log.append(1);
        let second = log.append(1);
        log.ends_before(log.head(), false);
        log.flip(second.position + spoil);
        log.is_refused(second, Verdict::Corruption, failure);
        // What came later may be torn.
        log.flip(second.position + spoil);
        let third = log.append(1);
        log.flip(third.position + spoil);
        log.ends_before(third, spoil > 0);
    }
    let nothing = Log::new(known).head();
    Log::new(known).is_refused(nothing, Verdict::Corruption, Failure::Header);
}

#[test]
fn settled_batches_prove_their_data_durable() {
    for (settled, durable_lsn) in [(true, 1001), (false, 0)] {
        let mut log = Log::new(ScanStart {
            open_sequence: 102,
            settled,
            ..START
        });
        (0..4).for_each(|_| {
            log.append(1);
        });
        let end = log.ends_before(log.head(), false);
        assert_eq!(end.durable_lsn, durable_lsn, "settled: {settled}");
    }
}

#[test]
fn an_intact_batch_that_is_not_the_next_one_ends_the_log() {
    type Spoil = fn(&mut Header);
    let wrongs: [(&str, Spoil); 5] = [
        ("sequence too high", |header| header.sequence += 1),
        ("sequence of the one before", |header| header.sequence -= 1),
        ("LSN", |header| header.first_lsn += 1),
        ("previous end", |header| header.previous_end -= BLOCK),
        ("another lap", |header| header.position += 2 * RUN_BYTES),
    ];
    for (what, spoil) in wrongs {
        println!("{what}");
        let (mut log, _) = Log::of_three(0);
        let next = log.head();
        spoil(&mut log.next);
        log.append(2);
        log.ends_before(next, false);
    }
}

#[test]
fn batches_of_others_are_neither_log_nor_proof() {
    let others = [
        Identity {
            volume_uuid: [8; 16],
            ..IDENTITY
        },
        // What a host of this volume could write into its own payload.
        Identity {
            salt: 1,
            ..IDENTITY
        },
    ];
    for other in others {
        let (mut log, _) = Log::of_three(0);
        let next = log.head();
        log.identity = other;
        log.next.durable_lsn = u64::MAX / 4;
        log.append(2);
        log.append(2);
        log.ends_before(next, other.volume_uuid == IDENTITY.volume_uuid);
    }
}

#[test]
fn a_log_goes_over_the_ends_of_runs_and_of_the_ring() {
    for slack in [0, 1, 2, 3, 100, 256] {
        // Ends `slack` blocks in front of the end of the second run, which is the ring's.
        let position = 6 * RUN_BYTES - slack * BLOCK - 3 * BLOCK;
        let mut log = Log::new(ScanStart { position, ..START });
        log.append(2);
        let over = log.append(MOST);
        let is_skip = slack > 0 && slack < MOST + 1;
        assert_eq!(
            over.position.is_multiple_of(RUN_BYTES),
            is_skip || slack == 0
        );
        log.append(100);
        log.next.durable_lsn = over.first_lsn;
        let last = log.append(1);
        let end = log.ends_before(log.head(), false);
        assert_eq!(end.position, last.end);
        log.flip(over.position + 2 * BLOCK);
        log.is_refused(
            Placed {
                position: position + 3 * BLOCK,
                ..over
            },
            Verdict::Corruption,
            Failure::Payload,
        );
    }
}

#[test]
fn a_log_of_a_whole_lap_ends_where_it_began() {
    let position = 2 * RUN_BYTES;
    let mut log = Log::new(ScanStart { position, ..START });
    // 257 blocks with the header; 255 fill the rest of each run of 512.
    for _ in 0..2 {
        log.append(MOST);
        log.append(MOST - 2);
    }
    assert_eq!(log.next.position, position + 2 * RUN_BYTES);
    let end = log.ends_before(log.head(), false);
    assert_eq!(end.position, position + 2 * RUN_BYTES);
}

#[test]
fn garbage_in_the_ring_is_not_a_log() {
    let mut random = reactor::sim::Prng::new(5);
    for round in 0..8 {
        let (mut log, [_, second, _]) = Log::of_three(0);
        let mut garbage = vec![0; (2 * RUN_BYTES) as usize];
        random.fill(&mut garbage);
        for block in garbage.chunks_mut(4096).filter(|block| block[0] < 128) {
            // As a header begins.
            block[..4].copy_from_slice(b"BPJB");
            let (header_blocks, record_count) = (1 + block[9] % 20, 1 + block[13] % 130);
            block[8..12].copy_from_slice(&[header_blocks, 0, 1, 0]);
            block[12..16].copy_from_slice(&[record_count, 0, 0, 0]);
            block[16..32].copy_from_slice(&IDENTITY.volume_uuid);
        }
        let disk = log.world.disk("pool");
        if round % 2 == 0 {
            let (run, rest) = garbage.split_at(RUN_BYTES as usize);
            disk.corrupt(log.offset(0), run);
            disk.corrupt(log.offset(RUN_BYTES), rest);
            let (found, end) = log.scan();
            assert_eq!((found.len(), end.verdict), (0, Verdict::EndOfLog));
            assert_eq!(
                (end.position, end.next_lsn),
                (START.position, START.first_lsn)
            );
        } else {
            let behind = log.offset(second.position);
            let len = RUN_BYTES - second.position;
            disk.corrupt(behind, &garbage[..len as usize]);
            let (found, end) = log.scan();
            assert_eq!((found, end.verdict), (vec![100], Verdict::EndOfLog));
        }
    }
}

#[test]
fn what_cannot_be_read_is_the_device_s_fault_where_the_log_needs_it() {
    // Header and payload of a batch; the place of the next one.
    for (batch, block) in [(0, 0), (1, 0), (1, 1), (2, 2), (3, 0)] {
        let (mut log, batches) = Log::of_three(1001);
        let head = log.head();
        let hurt = batches.get(batch).copied().unwrap_or(head);
        log.make_unreadable(hurt.position + block * BLOCK);
        log.is_refused(hurt, Verdict::DeviceError, Failure::Read);
    }
    // Free space behind the log.
    let (mut log, [.., last]) = Log::of_three(1001);
    log.make_unreadable(last.end + BLOCK);
    log.make_unreadable(last.end + 700 * BLOCK);
    let end = log.ends_before(log.head(), false);
    assert_eq!(end.unreadable_blocks, 2);
}

#[test]
fn an_unreadable_block_does_not_hide_the_proof_behind_it() {
    let (mut log, [_, hole, last]) = Log::of_three(1001);
    log.erase(hole);
    log.make_unreadable(last.position - BLOCK);
    log.is_refused(hole, Verdict::Corruption, Failure::Header);
}

#[test]
fn a_read_that_fails_once_is_tried_again() {
    let (mut log, _) = Log::of_three(1001);
    log.world.disk("pool").fail_next_read();
    log.ends_before(log.head(), false);
}

/// A direct record; only its cluster matters here.
fn direct(cluster: u32, page_count: u32) -> Record {
    Record {
        kind: RecordKind::Direct,
        first_page: 64,
        page_count,
        payload_block: 0,
        cluster: Cluster(cluster),
        page_in_cluster: 32 - page_count,
    }
}

/// The clusters that a ring names, and how many of its blocks cannot be read.
fn named(log: &mut Log) -> (Vec<u32>, u64) {
    let found = life(&mut log.world, || async {
        let (device, ring) = (device().expect("open"), ring());
        let named = Rc::new(RefCell::new(Vec::new()));
        let unreadable = for_each_named_cluster(&device, &ring, IDENTITY, |cluster| {
            named.borrow_mut().push(cluster.0);
        });
        let unreadable = unreadable.await;
        (named.take(), unreadable)
    });
    found.expect("no crash")
}

#[test]
fn a_flipped_bit_anywhere_in_a_header_hides_no_other_cluster() {
    let (mut log, _) = Log::of_three(0);
    let batch = log.append_record(direct(77, 32));
    log.append_record(direct(78, 16));
    assert_eq!(named(&mut log), (vec![77, 78], 0));
    // The header, the record, and some of its checksums.
    let cluster_field = 96 + 20..96 + 24;
    for at in (0..160).filter(|at| !cluster_field.contains(at)) {
        log.flip(batch.position + at);
        let (found, unreadable) = named(&mut log);
        assert!(
            found.contains(&77) && found.contains(&78),
            "byte {at}: {found:?}"
        );
        assert_eq!(unreadable, 0);
        log.flip(batch.position + at);
    }
    log.make_unreadable(batch.position);
    assert_eq!(named(&mut log), (vec![78], 1));
}

#[test]
fn guessing_takes_any_bytes() {
    let mut random = reactor::sim::Prng::new(9);
    for len in (0..200).chain([4095, 4096, 8192, 70_000]) {
        let mut bytes = vec![0; len];
        for round in 0..20 {
            random.fill(&mut bytes);
            if len >= 32 && round % 2 == 0 {
                bytes[..4].copy_from_slice(b"BPJB");
                bytes[16..32].copy_from_slice(&IDENTITY.volume_uuid);
            }
            let guesses = guess_clusters(&bytes, &IDENTITY).count();
            assert!(guesses <= len.min(16 * 4096) / 8);
        }
    }
    // A block of zeros, or of anybody else's, names nothing.
    assert_eq!(guess_clusters(&[0; 4096], &IDENTITY).count(), 0);
    let mut zeros_of_ours = [0; 4096];
    zeros_of_ours[..4].copy_from_slice(b"BPJB");
    assert_eq!(guess_clusters(&zeros_of_ours, &IDENTITY).count(), 0);
}
