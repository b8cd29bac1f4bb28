//! Copies between units of two cores, in the name of host `a`, whose nexus is on the first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use reactor::sim::{World, WorldOptions};
use reactor::time::sleep;

use super::*;
use crate::scsi::Function;
use crate::scsi::tests::sense_of;

/// Blocks of a long copy: eight pieces.
const LONG: u16 = 8192;
const GONE: (u8, u16) = (ABORTED, SenseCode::COPY_TARGET_NOT_REACHABLE.0);
const UNKNOWN: (u8, u16) = (ABORTED, SenseCode::UNREACHABLE_COPY_TARGET.0);
/// A little of virtual time: less than a piece takes.
const MOMENT: Duration = Duration::from_micros(1);

/// Long enough for all that is under way to end.
const LATER: Duration = Duration::from_millis(5);

type Job = Box<dyn FnOnce(Rc<There>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What is on the second core.
struct There {
    unit: Rc<LogicalUnit>,
    units: RefCell<Option<Rc<Units>>>,
    a: RefCell<Option<End>>,
    b: End,
}

impl There {
    async fn new(directory: &UnitDirectory, block_bytes: u32) -> Rc<Self> {
        let volume = numbered_volume(2, BLOCKS, block_bytes, u64::MAX);
        let reservations = Reservations::load(volume.clone()).await;
        let unit = LogicalUnit::new(volume, reservations);
        let units = Units::new(directory);
        unit.join(&units, HostAccess::Any);
        let [a, b] = ["a", "b"].map(|name| attach(&unit, name, 1));
        for end in [&a, &b] {
            assert!(end.command(&[0; 6]).await.sense.is_some());
        }
        Rc::new(Self {
            unit,
            units: RefCell::new(Some(units)),
            a: RefCell::new(Some(a)),
            b,
        })
    }

    fn a(&self) -> End {
        self.a.borrow().clone().expect("it was not dropped")
    }
}

/// The stage on the first core, and a way to have things done on the second.
struct Cores {
    stage: Stage,
    units: Rc<Units>,
    targets: [Vec<u8>; 2],
    jobs: Rc<RefCell<VecDeque<Job>>>,
}

impl Cores {
    /// The output of `job` on the other core.
    async fn there<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        job: impl FnOnce(Rc<There>) -> F + 'static,
    ) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.jobs.borrow_mut().push_back(Box::new(|there| {
            Box::pin(async move {
                let output = job(there).await;
                slot.replace(Some(output));
            })
        }));
        loop {
            if let Some(output) = result.take() {
                return output;
            }
            sleep(MOMENT).await;
        }
    }

    async fn write_there(&self, lba: u64, data: &[u8]) {
        let data = data.to_vec();
        self.there(move |there| async move { write(&there.a(), lba, &data).await })
            .await;
    }

    async fn read_there(&self, lba: u64, count: u32) -> Vec<u8> {
        self.there(move |there| async move { read(&there.a(), lba, count).await })
            .await
    }

    fn list(&self, segments: &[Vec<u8>]) -> Vec<u8> {
        list((9, 0), &self.targets, segments)
    }

    async fn copy(&self, segments: &[Vec<u8>]) {
        let list = self.list(segments);
        let cdb = extended_copy(list.len());
        self.stage.a.good_out(&cdb, &list).await;
    }

    async fn refused(&self, segments: &[Vec<u8>]) -> wire::scsi::Sense {
        let list = self.list(segments);
        let cdb = extended_copy(list.len());
        self.stage.a.refused_out(&cdb, &list).await
    }

    /// Begins a copy of `LONG` blocks, that `is_aborted` ends.
    fn begin(&self, ends: (u16, u16), is_aborted: &Rc<Cell<bool>>) -> JoinHandle<Outcome> {
        let list = self.list(&[blocks(ends, LONG, (0, 0))]);
        begin(&self.stage.a, list, is_aborted)
    }

    /// Returns when the copy has written its first piece.
    async fn first_piece(&self) {
        loop {
            sleep(MOMENT).await;
            let status = self.stage.a.command(&results(0, 9)).await;
            if status.data.is_some_and(|status| status[8..12] != [0; 4]) {
                return;
            }
        }
    }

    /// The outcome of a copy that `job` on the other core ends in the middle.
    async fn cut<F: Future<Output = ()> + 'static>(
        &self,
        ends: (u16, u16),
        job: impl FnOnce(Rc<There>) -> F + 'static,
    ) -> wire::scsi::Sense {
        let copying = self.begin(ends, &Rc::default());
        self.first_piece().await;
        self.there(job).await;
        let sense = sense_of(&copying.await);
        let left = sense.information.expect("a part was copied");
        assert!(left > 0 && left < LONG.into(), "{left} blocks are left");
        assert_eq!(left % 1024, 0, "whole pieces");
        assert_eq!(sense.command_specific, Some(0));
        sense
    }
}

/// Runs `main` on the first of two cores, for several orders of what happens.
fn on_two<F: Future<Output = ()> + 'static>(
    block_bytes: u32,
    main: impl Fn(Rc<Cores>) -> F + 'static,
) {
    let main = Rc::new(main);
    for seed in 1..=8 {
        let mut world = World::new(seed, WorldOptions::default());
        let (directory, jobs) = (UnitDirectory::default(), Rc::default());
        let (main, is_done) = (main.clone(), Rc::new(Cell::new(false)));
        let done = is_done.clone();
        world.start("target", 2, move |core| {
            let (main, directory) = (main.clone(), directory.clone());
            let (jobs, done) = (Rc::clone(&jobs), done.clone());
            async move {
                match core {
                    0 => main(first(jobs, &directory, block_bytes).await).await,
                    _ => return second(jobs, &directory, block_bytes).await,
                }
                done.set(true);
            }
        });
        world.run_until(Duration::from_secs(60), |_| is_done.get());
    }
}

async fn first(
    jobs: Rc<RefCell<VecDeque<Job>>>,
    directory: &UnitDirectory,
    block_bytes: u32,
) -> Rc<Cores> {
    let stage = Stage::settled(512).await;
    let units = Units::new(directory);
    stage.unit.join(&units, HostAccess::Any);
    let mut cores = Cores {
        targets: [target(&stage.unit), Vec::new()],
        stage,
        units,
        jobs,
    };
    cores.targets[1] = cores
        .there(|there| async move { target(&there.unit) })
        .await;
    assert_eq!(cores.targets[1][28..32], block_bytes.to_be_bytes());
    Rc::new(cores)
}

async fn second(jobs: Rc<RefCell<VecDeque<Job>>>, directory: &UnitDirectory, block_bytes: u32) {
    let there = There::new(directory, block_bytes).await;
    loop {
        let job = jobs.borrow_mut().pop_front();
        if let Some(job) = job {
            drop(reactor::spawn(job(there.clone())));
        }
        sleep(MOMENT).await;
    }
}

#[test]
fn blocks_are_copied_from_core_to_core() {
    on_two(512, |cores| async move {
        // More than a piece, and not at the start of one.
        let data = pattern(1500, 512, 7);
        write(&cores.stage.a, 3, &data).await;
        let before = pattern(1, 512, 9);
        cores.write_there(4, &before).await;
        cores.write_there(1505, &before).await;
        cores.copy(&[blocks((0, 1), 1500, (3, 5))]).await;
        assert!(cores.read_there(5, 1500).await == data);
        assert!(cores.read_there(4, 1).await == before, "the block before");
        assert!(
            cores.read_there(1505, 1).await == before,
            "the block behind"
        );
        let there = [
            blocks((1, 1), 1500, (5, 6)),
            blocks((1, 0), 1500, (6, 9000)),
        ];
        cores.copy(&there).await;
        assert!(cores.read_there(6, 1500).await == data, "within the unit");
        assert!(read(&cores.stage.a, 9000, 1500).await == data, "and back");
        cores.copy(&[blocks((0, 1), 0, (3, 5))]).await;
    });
}

#[test]
fn parts_of_blocks_are_copied_from_core_to_core() {
    on_two(4096, |cores| async move {
        let data = pattern(64, 512, 3);
        write(&cores.stage.a, 0, &data).await;
        let before = pattern(6, 4096, 200);
        cores.write_there(0, &before).await;
        cores.copy(&[bytes(10_000, (1, 13), (1, 4000))]).await;
        let mut expected = before;
        expected[8096..18_096].copy_from_slice(&data[525..10_525]);
        assert!(cores.read_there(0, 6).await == expected);
    });
}

#[test]
fn what_is_wrong_is_told_as_on_one_core() {
    on_two(512, |cores| async move {
        let whole = blocks((0, 1), 8, (0, 0));
        for (wrong, expected, byte) in [
            (blocks((0, 1), 1, (0, BLOCKS)), 0x0d02, 20),
            (blocks((1, 0), 2, (BLOCKS - 1, 0)), 0x0d02, 12),
            (blocks((0, 2), 1, (0, 0)), 0x0804, 6),
        ] {
            let sense = cores.refused(&[whole.clone(), wrong]).await;
            assert_eq!(code(sense), (ABORTED, expected));
            assert_eq!(sense.command_specific, Some(1));
            let in_segment = true;
            assert_eq!(sense.specific, KeySpecific::Segment { in_segment, byte });
        }
    });
}

#[test]
fn the_other_core_decides_what_may_be_done_there() {
    on_two(512, |cores| async move {
        let data = pattern(8, 512, 1);
        write(&cores.stage.a, 0, &data).await;
        let to = [blocks((0, 1), 8, (0, 0))];
        let from = [blocks((1, 0), 8, (0, 50))];
        let reserve = [0x16, 0, 0, 0, 0, 0];
        let release = [0x17, 0, 0, 0, 0, 0];
        cores
            .there(move |there| async move { there.b.good(&reserve).await })
            .await;
        assert_eq!(code(cores.refused(&to).await), GONE);
        assert_eq!(code(cores.refused(&from).await), GONE);
        cores
            .there(move |there| async move { there.b.good(&release).await })
            .await;
        // One of the same host's own is none of another's.
        cores
            .there(move |there| async move { there.a().good(&reserve).await })
            .await;
        cores.copy(&to).await;
        assert!(cores.read_there(0, 8).await == data);
        cores
            .there(move |there| async move {
                // Without a nexus there, the host is a stranger.
                there.a.take();
                there.b.good(&reserve).await
            })
            .await;
        assert_eq!(code(cores.refused(&to).await), GONE);
        cores
            .there(move |there| async move {
                there.b.good(&release).await;
                let mut mode = there.unit.mode.get();
                mode.is_write_protected = true;
                there.unit.mode.set(mode);
            })
            .await;
        assert_eq!(code(cores.refused(&to).await), (ABORTED, 0x2702));
        cores.copy(&from).await;
        assert!(read(&cores.stage.a, 50, 8).await == data);
    });
}

#[test]
fn who_is_not_let_in_there_cannot_copy() {
    on_two(512, |cores| async move {
        let to = [blocks((0, 1), 8, (0, 0))];
        let join = |hosts: HostAccess| {
            cores.there(move |there| async move {
                let units = there.units.borrow().clone().expect("they are there");
                there.unit.join(&units, hosts);
            })
        };
        join(others()).await;
        assert_eq!(code(cores.refused(&to).await), UNKNOWN);
        join(host_a()).await;
        cores.copy(&to).await;
    });
}

#[test]
fn a_unit_that_goes_away_ends_the_copy() {
    for ends in [(0, 1), (1, 0)] {
        on_two(512, move |cores| async move {
            write(&cores.stage.a, 0, &pattern(1024, 512, 1)).await;
            let sense = cores
                .cut(ends, |there| async move {
                    let in_flight = || there.unit.volume().metrics().in_flight;
                    while in_flight() == 0 {
                        reactor::yield_now().await;
                    }
                    there.unit.remove().await;
                    assert_eq!(in_flight(), 0, "it waits for the piece under way");
                })
                .await;
            assert_eq!(code(sense), GONE);
            let again = cores.refused(&[blocks(ends, 8, (0, 0))]).await;
            assert_eq!(code(again), UNKNOWN);
            assert_eq!(cores.units.copies.available(), super::super::COPIES_MAX);
        });
    }
}

#[test]
fn a_core_that_goes_away_ends_the_copy() {
    for ends in [(0, 1), (1, 0)] {
        on_two(512, move |cores| async move {
            let sense = cores
                .cut(ends, |there| async move { drop(there.units.take()) })
                .await;
            assert_eq!(code(sense), GONE);
            let again = cores.refused(&[blocks(ends, 8, (0, 0))]).await;
            assert_eq!(code(again), UNKNOWN);
        });
    }
}

#[test]
fn a_reservation_that_comes_in_the_middle_ends_the_copy() {
    on_two(512, |cores| async move {
        let sense = cores
            .cut((0, 1), |there| async move {
                there.b.good(&[0x16, 0, 0, 0, 0, 0]).await;
            })
            .await;
        assert_eq!(code(sense), GONE);
    });
}

#[test]
fn an_aborted_copy_has_nothing_under_way_on_the_other_core() {
    on_two(512, |cores| async move {
        let data = pattern(2048, 512, 1);
        for part in 0..4 {
            write(&cores.stage.a, 2048 * part, &data).await;
        }
        let is_aborted = Rc::new(Cell::new(false));
        let copying = cores.begin((0, 1), &is_aborted);
        cores.first_piece().await;
        is_aborted.set(true);
        copying.await;
        let (in_flight, requests) = cores.there(under_way).await;
        assert_eq!(in_flight, 0);
        sleep(LATER).await;
        assert_eq!(cores.there(under_way).await.1, requests, "late pieces");
        assert!(cores.read_there(0, 1024).await == data[..512 << 10]);
        let last = cores.read_there(u64::from(LONG) - 1, 1).await;
        assert!(last == [0; 512], "the last piece was copied");
        assert_eq!(cores.units.copies.available(), super::super::COPIES_MAX);
    });
}

/// Pieces under way, and requests there were.
async fn under_way(there: Rc<There>) -> (usize, u64) {
    let metrics = there.unit.volume().metrics();
    let requests = metrics.ops.iter().map(|op| op.count).sum();
    (there.unit.gate.in_flight(), requests)
}

#[test]
fn a_copy_that_nobody_waits_for_ends_on_both_cores() {
    on_two(512, |cores| async move {
        for part in 0..4 {
            write(&cores.stage.a, 2048 * part, &pattern(2048, 512, 1)).await;
        }
        let copying = cores.begin((0, 1), &Rc::default());
        cores.first_piece().await;
        copying.abort();
        sleep(LATER).await;
        assert_eq!(cores.there(under_way).await.0, 0);
        let last = cores.read_there(u64::from(LONG) - 1, 1).await;
        assert!(last == [0; 512], "the last piece was copied");
        cores.copy(&[blocks((0, 1), 8, (0, 0))]).await;
    });
}

#[test]
fn who_shuts_the_host_out_there_waits_for_the_piece_under_way() {
    on_two(512, |cores| async move {
        write(&cores.stage.a, 0, &pattern(2048, 512, 1)).await;
        let watching = Rc::new(Cell::new(true));
        let watched = watching.clone();
        let seen = Rc::new(Cell::new(0));
        let count = seen.clone();
        let watch = cores.there(move |there| async move {
            drop(reactor::spawn(async move {
                while watched.get() {
                    let is_settled = Listener::is_settled(&*there.a().nexus);
                    count.set(count.get() + u32::from(!is_settled));
                    reactor::yield_now().await;
                }
                assert!(Listener::is_settled(&*there.a().nexus));
            }));
        });
        watch.await;
        cores.copy(&[blocks((0, 1), LONG, (0, 0))]).await;
        watching.set(false);
        sleep(Duration::from_millis(1)).await;
        assert!(seen.get() > 0, "it was never unsettled");
    });
}

#[test]
fn a_reset_there_does_not_end_the_copy() {
    on_two(512, |cores| async move {
        let copying = cores.begin((0, 1), &Rc::default());
        cores.first_piece().await;
        cores
            .there(|there| async move {
                let reset = Function::LogicalUnitReset;
                there.b.nexus.manage(LUN, reset).await;
            })
            .await;
        assert!(copying.await.is_good());
    });
}

/// What a hop costs is all that is between the pieces.
#[test]
fn a_copy_between_cores_waits_for_nothing_but_the_other_core() {
    on_two(512, |cores| async move {
        let began = reactor::now();
        cores.copy(&[blocks((0, 1), LONG, (0, 0))]).await;
        let took = reactor::now().saturating_duration_since(began);
        assert!(took < Duration::from_millis(1), "{took:?} for 8 pieces");
    });
}
