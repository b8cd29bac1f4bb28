//! Each fault really happens when it is asked for, and nothing else happens.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;

const BLOCK: u64 = 4096;

struct Bench {
    disk: Disk,
    prng: Prng,
    log: Log,
    now_ns: u64,
    next_id: u64,
}

impl Bench {
    fn new(seed: u64, options: DiskOptions) -> Self {
        let (prng, log) = (Prng::new(seed), Log::new(seed, false));
        Self {
            disk: Disk::new("d", options),
            prng,
            log,
            now_ns: 0,
            next_id: 0,
        }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut Disk, &mut Cx<'_>) -> R) -> R {
        let mut cx = Cx {
            now_ns: self.now_ns,
            prng: &mut self.prng,
            log: &mut self.log,
        };
        f(&mut self.disk, &mut cx)
    }

    fn begin(&mut self, op: DiskOp) -> Result<(u64, u64), i32> {
        self.next_id += 1;
        let id = self.next_id;
        self.with(|disk, cx| disk.begin(id, 0, op, cx))
            .map(|at_ns| (id, at_ns))
    }

    fn finish(&mut self, id: u64) -> DiskDone {
        self.with(|disk, cx| disk.finish(id, cx))
            .expect("in flight")
    }

    fn run(&mut self, op: DiskOp) -> DiskDone {
        match self.begin(op) {
            Ok((id, at_ns)) => {
                self.now_ns = at_ns;
                self.finish(id)
            }
            Err(errno) => DiskDone {
                result: Err(errno),
                data: Vec::new(),
            },
        }
    }

    fn write(&mut self, block: u64, byte: u8, blocks: u64) -> Result<usize, i32> {
        let data = vec![byte; (blocks * BLOCK) as usize];
        self.run(DiskOp::Write {
            offset: block * BLOCK,
            data,
        })
        .result
    }

    fn read(&mut self, block: u64) -> Result<u8, i32> {
        let done = self.run(DiskOp::Read {
            offset: block * BLOCK,
            len: BLOCK as usize,
        });
        done.result.map(|_| {
            let first = done.data[0];
            assert!(done.data.iter().all(|b| *b == first), "a torn block");
            first
        })
    }

    fn sync(&mut self) -> Result<usize, i32> {
        self.run(DiskOp::Sync).result
    }

    fn kinds(&self) -> BTreeMap<FaultKind, usize> {
        let mut kinds = BTreeMap::new();
        for fault in self.log.faults() {
            *kinds.entry(fault.kind).or_insert(0) += 1;
        }
        kinds
    }

    fn only(&self, kind: FaultKind) {
        let kinds = self.kinds();
        assert!(
            kinds.contains_key(&kind),
            "{kind:?} never happened: {kinds:?}"
        );
        assert_eq!(kinds.len(), 1, "other faults leaked in: {kinds:?}");
    }
}

fn small() -> DiskOptions {
    DiskOptions {
        len_bytes: 64 * BLOCK,
        ..DiskOptions::default()
    }
}

fn with_faults(change: impl FnOnce(&mut DiskFaults)) -> DiskOptions {
    let mut options = small();
    change(&mut options.faults);
    options
}

/// Writes and reads every block a few times. Returns the blocks that gave wrong data and those
/// that failed to write or read.
fn churn(bench: &mut Bench) -> (Vec<u64>, Vec<u64>) {
    let (mut wrong, mut failed) = (Vec::new(), Vec::new());
    for round in 1..=20u8 {
        failed.extend((0..64).filter(|block| bench.write(*block, round, 1).is_err()));
        bench.sync().unwrap();
        for block in 0..64 {
            let done = bench.run(DiskOp::Read {
                offset: block * BLOCK,
                len: BLOCK as usize,
            });
            match done.result {
                Ok(_) if done.data.iter().all(|b| *b == round) => {}
                Ok(_) => wrong.push(block),
                Err(_) => failed.push(block),
            }
        }
    }
    (wrong, failed)
}

#[test]
fn a_disk_without_faults_is_perfect() {
    let mut bench = Bench::new(1, small());
    assert_eq!(churn(&mut bench), (vec![], vec![]));
    assert!(bench.kinds().is_empty());
}

#[test]
fn every_atlas_fault_stays_away_without_an_atlas() {
    let options = with_faults(|f| {
        f.bit_rot.read_ppm = 500_000;
        f.latent.read_ppm = 500_000;
        f.misdirect = Misdirect {
            read_ppm: 500_000,
            write_ppm: 500_000,
        };
        f.lost_write.ppm = 500_000;
    });
    let mut bench = Bench::new(1, options);
    assert_eq!(churn(&mut bench), (vec![], vec![]));
    assert!(bench.kinds().is_empty());
}

#[test]
fn damage_stays_inside_the_atlas() {
    let allowed = 8 * BLOCK..16 * BLOCK;
    for atlas in [
        FaultAtlas::Ranges(vec![allowed.clone()]),
        FaultAtlas::Predicate(Rc::new(|r| r.start >= 8 * BLOCK && r.end <= 16 * BLOCK)),
    ] {
        let mut options = with_faults(|f| {
            f.bit_rot.read_ppm = 200_000;
            f.latent.read_ppm = 50_000;
            f.misdirect = Misdirect {
                read_ppm: 100_000,
                write_ppm: 100_000,
            };
            f.lost_write.ppm = 100_000;
        });
        options.atlas = atlas;
        let mut bench = Bench::new(3, options);
        let (wrong, failed) = churn(&mut bench);
        assert!(!wrong.is_empty() && !failed.is_empty());
        let outside = |block: &u64| !(8..16).contains(block);
        assert!(!wrong.iter().any(outside), "wrong data outside: {wrong:?}");
        assert!(!failed.iter().any(outside), "errors outside: {failed:?}");
        let log = bench.log.faults();
        assert!(
            log.iter().all(|f| allowed.contains(&f.offset)),
            "damage outside: {log:?}"
        );
        for kind in [
            FaultKind::BitRot,
            FaultKind::LatentError,
            FaultKind::LostWrite,
        ] {
            assert!(bench.kinds().contains_key(&kind), "{kind:?}");
        }
    }
}

fn everywhere(change: impl FnOnce(&mut DiskFaults)) -> Bench {
    let mut options = with_faults(change);
    options.atlas = FaultAtlas::Everywhere;
    Bench::new(11, options)
}

#[test]
fn bit_rot_changes_one_bit_and_stays() {
    let mut bench = everywhere(|f| f.bit_rot.read_ppm = 1_000_000);
    bench.write(3, 0, 1).unwrap();
    bench.sync().unwrap();
    let done = bench.run(DiskOp::Read {
        offset: 3 * BLOCK,
        len: BLOCK as usize,
    });
    let flipped: u32 = done.data.iter().map(|b| b.count_ones()).sum();
    assert_eq!(flipped, 1);
    bench.disk.options.faults = DiskFaults::default();
    let again = bench.run(DiskOp::Read {
        offset: 3 * BLOCK,
        len: BLOCK as usize,
    });
    assert_eq!(again.data, done.data);
    bench.only(FaultKind::BitRot);
}

#[test]
fn bit_rot_leaves_unsynced_data_alone() {
    let mut bench = everywhere(|f| f.bit_rot.read_ppm = 1_000_000);
    bench.write(3, 9, 1).unwrap();
    assert_eq!(bench.read(3), Ok(9));
    assert!(bench.kinds().is_empty());
}

#[test]
fn latent_errors_are_sticky_until_rewritten() {
    let mut bench = everywhere(|f| f.latent.read_ppm = 1_000_000);
    bench.write(5, 1, 1).unwrap();
    bench.sync().unwrap();
    assert_eq!(bench.read(5), Err(libc::EIO));
    bench.disk.options.faults = DiskFaults::default();
    assert_eq!(bench.read(5), Err(libc::EIO));
    assert_eq!(bench.read(6), Ok(0));
    bench.write(5, 2, 1).unwrap();
    assert_eq!(bench.read(5), Ok(2));
    bench.only(FaultKind::LatentError);
}

#[test]
fn a_misdirected_write_hits_another_block_and_misses_its_own() {
    let mut bench = everywhere(|f| f.misdirect.write_ppm = 1_000_000);
    bench.write(7, 8, 1).unwrap();
    bench.disk.options.faults = DiskFaults::default();
    assert_eq!(bench.read(7), Ok(0));
    let hit: Vec<u64> = (0..64)
        .filter(|block| bench.read(*block) == Ok(8))
        .collect();
    assert_eq!(hit.len(), 1);
    bench.only(FaultKind::MisdirectedWrite);
}

#[test]
fn a_misdirected_read_returns_another_block() {
    let mut bench = Bench::new(4, small());
    for block in 0..64 {
        bench.write(block, block as u8, 1).unwrap();
    }
    bench.disk.options.atlas = FaultAtlas::Everywhere;
    bench.disk.options.faults.misdirect.read_ppm = 1_000_000;
    let wrong = (0..64)
        .filter(|block| bench.read(*block) != Ok(*block as u8))
        .count();
    assert!(wrong > 50, "{wrong}");
    bench.only(FaultKind::MisdirectedRead);
}

#[test]
fn a_lost_write_is_acknowledged_and_absent() {
    let mut bench = everywhere(|f| f.lost_write.ppm = 1_000_000);
    assert_eq!(bench.write(1, 5, 2), Ok(8192));
    assert_eq!(bench.read(1), Ok(0));
    bench.only(FaultKind::LostWrite);
}

#[test]
fn one_shots_hit_the_next_write_only() {
    let mut bench = Bench::new(5, small());
    bench.disk.misdirect_next_write(9 * BLOCK);
    bench.write(1, 1, 1).unwrap();
    assert_eq!((bench.read(1), bench.read(9)), (Ok(0), Ok(1)));
    bench.disk.lose_next_write();
    bench.write(2, 2, 1).unwrap();
    bench.write(3, 3, 1).unwrap();
    assert_eq!((bench.read(2), bench.read(3)), (Ok(0), Ok(3)));
    bench.disk.fail_next_write();
    assert_eq!(bench.write(4, 4, 1), Err(libc::EIO));
    assert!(matches!(bench.read(4), Ok(0 | 4)));
    bench.disk.fail_next_read();
    assert_eq!((bench.read(3), bench.read(3)), (Err(libc::EIO), Ok(3)));
    bench.disk.fail_next_sync(true);
    assert_eq!(bench.sync(), Err(libc::EIO));
    assert_eq!(bench.sync(), Ok(0));
}

#[test]
fn transient_errors_hit_their_own_operation() {
    for which in 0..3 {
        let options = with_faults(|f| match which {
            0 => f.transient.read_ppm = 1_000_000,
            1 => f.transient.write_ppm = 1_000_000,
            _ => f.transient.sync_ppm = 1_000_000,
        });
        let mut bench = Bench::new(6, options);
        let results = [
            bench.read(0).is_err(),
            bench.write(0, 1, 1).is_err(),
            bench.sync().is_err(),
        ];
        let expected: Vec<bool> = (0..3).map(|n| n == which).collect();
        assert_eq!(results.to_vec(), expected);
        bench.only(FaultKind::TransientError);
    }
}

#[test]
fn a_failed_write_is_applied_whole_torn_or_not_at_all() {
    let mut seen = [false; 3];
    for seed in 0..60 {
        let mut bench = Bench::new(seed, with_faults(|f| f.transient.write_ppm = 1_000_000));
        assert_eq!(bench.write(0, 1, 8), Err(libc::EIO));
        bench.disk.options.faults = DiskFaults::default();
        let there = (0..8).filter(|block| bench.read(*block) == Ok(1)).count();
        seen[match there {
            0 => 0,
            8 => 1,
            _ => 2,
        }] = true;
    }
    assert_eq!(seen, [true; 3], "none, all, some");
}

#[test]
fn a_failed_sync_may_drop_data_that_a_later_sync_does_not_bring_back() {
    let options = with_faults(|f| {
        f.transient.sync_ppm = 1_000_000;
        f.sync_failure.drop_percent = 100;
    });
    let mut bench = Bench::new(8, options);
    bench.write(0, 1, 1).unwrap();
    assert_eq!(bench.sync(), Err(libc::EIO));
    bench.disk.options.faults = DiskFaults::default();
    assert_eq!(bench.sync(), Ok(0));
    bench.with(|disk, cx| disk.power_loss(0, cx));
    assert_eq!(bench.read(0), Ok(0));
    assert!(bench.kinds().contains_key(&FaultKind::SyncDropped));
}

#[test]
fn a_sync_in_flight_fails_when_another_drops_its_data() {
    let mut bench = Bench::new(8, small());
    bench.write(0, 1, 1).unwrap();
    let (first, _) = bench.begin(DiskOp::Sync).unwrap();
    let (second, _) = bench.begin(DiskOp::Sync).unwrap();
    bench.disk.fail_next_sync(true);
    assert_eq!(bench.finish(first).result, Err(libc::EIO));
    assert_eq!(bench.finish(second).result, Err(libc::EIO));
    assert_eq!(bench.sync(), Ok(0));
}

#[test]
fn short_io_moves_whole_blocks_and_never_nothing() {
    let options = with_faults(|f| {
        f.short_io = ShortIo {
            read_ppm: 1_000_000,
            write_ppm: 1_000_000,
        }
    });
    let mut bench = Bench::new(9, options);
    for _ in 0..50 {
        let wrote = bench.write(0, 1, 8).unwrap() as u64;
        assert!(wrote.is_multiple_of(BLOCK) && (1..8).contains(&(wrote / BLOCK)));
        let read = bench.run(DiskOp::Read {
            offset: 0,
            len: 32_768,
        });
        assert_eq!(read.result, Ok(read.data.len()));
        assert!((1..8).contains(&(read.data.len() as u64 / BLOCK)));
    }
    assert_eq!(bench.write(0, 1, 1), Ok(4096));
    bench.only(FaultKind::ShortIo);
}

#[test]
fn stall_and_slow_take_time() {
    let mut bench = Bench::new(
        10,
        with_faults(|f| {
            f.stall = Stall {
                ppm: 1_000_000,
                stall_ns: 7_000_000_000,
            }
        }),
    );
    bench.write(0, 1, 1).unwrap();
    assert!(bench.now_ns >= 7_000_000_000);
    bench.only(FaultKind::Stall);
    let mut bench = Bench::new(10, small());
    bench.disk.set_extra_ns(3_000_000_000);
    bench.sync().unwrap();
    assert!(bench.now_ns >= 3_000_000_000);
}

#[test]
fn a_full_disk_takes_rewrites_only() {
    let mut bench = Bench::new(12, small());
    bench.write(0, 1, 1).unwrap();
    bench.disk.set_full(true);
    assert_eq!(bench.write(0, 2, 1), Ok(4096));
    assert_eq!(bench.write(1, 2, 1), Err(libc::ENOSPC));
    assert_eq!((bench.read(0), bench.read(1)), (Ok(2), Ok(0)));
    bench.only(FaultKind::Full);
    bench.disk.set_full(false);
    assert_eq!(bench.write(1, 2, 1), Ok(4096));
}

#[test]
fn a_gone_disk_fails_everything_even_what_was_in_flight() {
    let mut bench = Bench::new(13, small());
    let (id, _) = bench
        .begin(DiskOp::Write {
            offset: 0,
            data: vec![1; 4096],
        })
        .unwrap();
    bench.disk.set_gone(true);
    assert_eq!(bench.finish(id).result, Err(libc::ENODEV));
    assert_eq!(bench.read(0), Err(libc::ENODEV));
    assert_eq!(bench.write(0, 1, 1), Err(libc::ENODEV));
    assert_eq!(bench.sync(), Err(libc::ENODEV));
    bench.only(FaultKind::Gone);
    bench.disk.set_gone(false);
    assert_eq!(bench.read(0), Ok(0));
}

#[test]
fn misaligned_and_out_of_range_io_is_refused() {
    let mut bench = Bench::new(14, small());
    let misaligned = [
        DiskOp::Read {
            offset: 512,
            len: 4096,
        },
        DiskOp::Read {
            offset: 0,
            len: 100,
        },
        DiskOp::Write {
            offset: 1,
            data: vec![0; 4096],
        },
        DiskOp::Discard { offset: 0, len: 17 },
    ];
    for op in misaligned {
        assert_eq!(bench.run(op).result, Err(libc::EINVAL));
    }
    assert_eq!(bench.write(64, 1, 1), Err(libc::ENOSPC));
    assert_eq!(bench.write(63, 1, 2), Err(libc::ENOSPC));
    let tail = bench.run(DiskOp::Read {
        offset: 63 * BLOCK,
        len: 8192,
    });
    assert_eq!((tail.result, tail.data.len()), (Ok(4096), 4096));
    assert_eq!(
        bench
            .run(DiskOp::Read {
                offset: 64 * BLOCK,
                len: 4096
            })
            .result,
        Ok(0)
    );
    assert_eq!(
        bench
            .run(DiskOp::Read {
                offset: 900 * BLOCK,
                len: 4096
            })
            .result,
        Ok(0)
    );
}

#[test]
fn a_kill_keeps_completed_writes_and_decides_over_those_in_flight() {
    let mut seen = BTreeMap::new();
    for seed in 0..60 {
        let mut bench = Bench::new(seed, small());
        bench.write(0, 1, 4).unwrap();
        bench
            .begin(DiskOp::Write {
                offset: 8 * BLOCK,
                data: vec![2; 4 * 4096],
            })
            .unwrap();
        bench.with(|disk, cx| disk.kill(0, cx));
        assert!((0..4).all(|block| bench.read(block) == Ok(1)));
        assert_eq!(bench.disk.in_flight_len(), 0);
        let there = (8..12).filter(|block| bench.read(*block) == Ok(2)).count();
        let kind = match there {
            0 => FaultKind::InFlightLost,
            4 => FaultKind::InFlightApplied,
            _ => FaultKind::InFlightTorn,
        };
        bench.only(kind);
        *seen.entry(kind).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn a_kill_of_another_node_changes_nothing() {
    let mut bench = Bench::new(1, small());
    let (id, _) = bench
        .begin(DiskOp::Write {
            offset: 0,
            data: vec![2; 4096],
        })
        .unwrap();
    bench.with(|disk, cx| disk.kill(1, cx));
    assert_eq!(bench.finish(id).result, Ok(4096));
    assert!(bench.kinds().is_empty());
}

#[test]
fn power_loss_keeps_what_was_synced_and_nothing_else_for_sure() {
    let mut lost = 0;
    for seed in 0..40 {
        let mut bench = Bench::new(seed, small());
        bench.write(0, 1, 4).unwrap();
        bench.sync().unwrap();
        bench.write(0, 2, 1).unwrap();
        bench.write(5, 2, 1).unwrap();
        bench.with(|disk, cx| disk.power_loss(0, cx));
        assert!(matches!(bench.read(0), Ok(1 | 2)));
        assert!((1..4).all(|block| bench.read(block) == Ok(1)));
        lost += usize::from(bench.read(5) == Ok(0));
    }
    assert!((5..35).contains(&lost), "{lost}");
}

#[test]
fn power_loss_without_a_volatile_cache_loses_nothing_completed() {
    for seed in 0..20 {
        let options = DiskOptions {
            volatile_cache: false,
            ..small()
        };
        let mut bench = Bench::new(seed, options);
        bench.write(0, 1, 8).unwrap();
        bench.with(|disk, cx| disk.power_loss(0, cx));
        assert!((0..8).all(|block| bench.read(block) == Ok(1)));
        assert!(bench.kinds().is_empty());
    }
}

#[test]
fn a_sync_does_not_cover_writes_that_complete_after_it_began() {
    let options = with_faults(|f| {
        f.unsynced = UnsyncedFate {
            kept_weight: 0,
            lost_weight: 1,
            torn_weight: 0,
            cut_bytes: None,
        };
    });
    let mut bench = Bench::new(2, options);
    bench.write(0, 1, 1).unwrap();
    let (write, _) = bench
        .begin(DiskOp::Write {
            offset: BLOCK,
            data: vec![2; 4096],
        })
        .unwrap();
    let (sync, _) = bench.begin(DiskOp::Sync).unwrap();
    assert!(bench.finish(write).result.is_ok());
    assert!(bench.finish(sync).result.is_ok());
    bench.with(|disk, cx| disk.power_loss(0, cx));
    assert_eq!((bench.read(0), bench.read(1)), (Ok(1), Ok(0)));
}

#[test]
fn a_logical_block_is_cut_only_when_the_options_say_so() {
    let mut cut = 0;
    for seed in 0..50 {
        let options = with_faults(|f| {
            f.unsynced = UnsyncedFate {
                kept_weight: 0,
                lost_weight: 0,
                torn_weight: 1,
                cut_bytes: Some(512),
            };
        });
        let mut bench = Bench::new(seed, options);
        bench.write(0, 1, 1).unwrap();
        bench.with(|disk, cx| disk.power_loss(0, cx));
        let done = bench.run(DiskOp::Read {
            offset: 0,
            len: 4096,
        });
        let there = done.data.iter().filter(|b| **b == 1).count();
        assert!(there.is_multiple_of(512) && there > 0 && there < 4096);
        cut += 1;
    }
    assert_eq!(cut, 50);
}

#[test]
fn early_visible_blocks_stay_visible() {
    let options = with_faults(|f| f.early_visible.ppm = 1_000_000);
    let mut bench = Bench::new(21, options);
    let (id, _) = bench
        .begin(DiskOp::Write {
            offset: 0,
            data: vec![7; 8 * 4096],
        })
        .unwrap();
    let seen: Vec<u64> = (0..8).filter(|block| bench.read(*block) == Ok(7)).collect();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|block| bench.read(*block) == Ok(7)));
    bench.only(FaultKind::EarlyVisible);
    assert!(bench.finish(id).result.is_ok());
}

#[test]
fn discard_zeroes_files_and_may_be_ignored_by_devices() {
    let (mut zeroed, mut kept) = (0, 0);
    for seed in 0..40 {
        for block_device in [false, true] {
            let options = DiskOptions {
                block_device,
                ..small()
            };
            let mut bench = Bench::new(seed, options);
            bench.write(0, 1, 4).unwrap();
            bench
                .run(DiskOp::Discard {
                    offset: 0,
                    len: 2 * BLOCK,
                })
                .result
                .unwrap();
            assert_eq!(bench.read(2), Ok(1));
            match bench.read(0).unwrap() {
                0 => zeroed += 1,
                _ if block_device => kept += 1,
                _ => panic!("a punched hole still has data"),
            }
        }
    }
    assert!(zeroed > 40 && kept > 0);
    let mut bench = Bench::new(
        1,
        DiskOptions {
            supports_discard: false,
            ..small()
        },
    );
    let refused = bench
        .run(DiskOp::Discard {
            offset: 0,
            len: BLOCK,
        })
        .result;
    assert_eq!(refused, Err(libc::EOPNOTSUPP));
}

#[test]
fn an_unsynced_discard_may_come_undone() {
    let mut undone = 0;
    for seed in 0..40 {
        let mut bench = Bench::new(seed, small());
        bench.write(0, 1, 1).unwrap();
        bench.sync().unwrap();
        bench
            .run(DiskOp::Discard {
                offset: 0,
                len: BLOCK,
            })
            .result
            .unwrap();
        bench.with(|disk, cx| disk.power_loss(0, cx));
        undone += usize::from(bench.read(0) == Ok(1));
    }
    assert!((5..35).contains(&undone), "{undone}");
}
