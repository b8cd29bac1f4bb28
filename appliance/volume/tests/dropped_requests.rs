//! Hosts that go away: a request whose future is dropped, at any moment of its way. Later writes
//! win over it, and neither space nor memory is lost.

mod common;

use std::path::Path;
use std::time::Duration;

use common::broken::*;
use common::*;
use reactor::sim::World;
use volume::{Command, Engine, Request, Volume};

const ONE: &[(&str, u64, u32)] = &[("a", 16 << 20, 4096)];
const POOL: u64 = 48 << 20;
/// A large write takes about 300 µs in the simulated world; each step is dropped somewhere.
const STEPS: u64 = 50;
const STEP: Duration = Duration::from_micros(9);

/// Starts a write of a whole cluster and drops it after `delay`; true when it was too late.
async fn dropped(volume: &Volume, cluster: u64, fill: u8, delay: Duration) -> bool {
    let lba = cluster * PAGES;
    let data = filled(CLUSTER, fill).await;
    let request = Request::new(Command::Write { lba, data });
    let ended = reactor::time::timeout(delay, volume.execute(request)).await;
    ended.is_ok()
}

/// What a cluster must be after a write of 2 that was dropped: all old or all new.
fn check_fills(found: &[Option<u8>], old: u8, except: Option<usize>) {
    let others = found
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != except);
    let fills: std::collections::BTreeSet<_> = others.map(|(_, fill)| fill).collect();
    let is_whole = fills.len() == 1;
    let known = [Some(old), Some(2)];
    assert!(
        is_whole && fills.iter().all(|fill| known.contains(fill)),
        "{found:?}"
    );
}

/// Buffers of both pools in use.
fn memory() -> [usize; 2] {
    [
        reactor::buf::pool().in_use_bytes(),
        reactor::buf::engine_pool().in_use_bytes(),
    ]
}

/// Waits until nothing is dirty and compares with what the pool had before.
async fn assert_nothing_lost(engine: &Engine, a: &Volume, free: u32, used: [usize; 2]) {
    settled(a).await;
    reactor::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(engine.space().free, free, "clusters");
    assert_eq!(memory(), used, "bytes of buffers");
    assert_eq!(a.metrics().in_flight, 0);
}

fn reopened(world: &mut World, check: impl Fn(u64, Vec<Option<u8>>) + Clone + 'static) {
    assert_clean(world);
    life(world, move |_| {
        let check = check.clone();
        async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let a = engine.volume("a").expect("served");
            for cluster in 0..STEPS {
                check(cluster, read_fills(&a, cluster * PAGES, PAGES).await);
            }
            engine.shutdown().await.expect("shutdown");
        }
    });
    assert_clean(world);
}

/// Every cluster: written, settled, overwritten by a write that is dropped, and that by `then`.
fn over_old_data(seed: u64, then: impl AsyncFn(&Volume, u64) + Copy + 'static, small: bool) {
    let mut world = pool_of(seed, POOL, ONE);
    let undone = life(&mut world, move |_| async move {
        let (engine, _) = open(Path::new(DISK)).await;
        let a = engine.volume("a").expect("served");
        for cluster in 0..STEPS {
            write(&a, cluster * PAGES, CLUSTER, 1).await;
        }
        settled(&a).await;
        reactor::time::sleep(Duration::from_secs(15)).await;
        let (free, used) = (engine.space().free, memory());
        let mut undone = 0;
        for cluster in 0..STEPS {
            dropped(&a, cluster, 2, STEP * cluster as u32).await;
            then(&a, cluster).await;
            let found = read_fills(&a, cluster * PAGES, PAGES).await;
            undone += u64::from(found[6] == Some(1));
            if small {
                assert_eq!(found[5], Some(3), "the later write wins");
                check_fills(&found, 1, Some(5));
            } else {
                assert_eq!(found, [Some(4); 32], "the later write wins");
            }
        }
        assert_nothing_lost(&engine, &a, free, used).await;
        undone
    });
    if small {
        assert!(
            (5..STEPS - 5).contains(&undone),
            "{undone} of {STEPS}: dropped at all stages"
        );
    }
    reopened(&mut world, move |_, found| {
        if small {
            assert_eq!(found[5], Some(3));
            check_fills(&found, 1, Some(5));
        } else {
            assert_eq!(found, [Some(4); 32]);
        }
    });
}

#[test]
fn a_later_small_write_wins_over_a_dropped_large_one() {
    let then = async |a: &Volume, cluster: u64| write(a, cluster * PAGES + 5, 4096, 3).await;
    (0..4).for_each(|seed| over_old_data(seed, then, true));
}

#[test]
fn a_later_large_write_wins_over_a_dropped_large_one() {
    let then = async |a: &Volume, cluster: u64| write(a, cluster * PAGES, CLUSTER, 4).await;
    (0..4).for_each(|seed| over_old_data(seed, then, false));
}

#[test]
fn a_dropped_write_to_empty_space_leaves_it_empty_or_is_whole() {
    for seed in 0..4 {
        let mut world = pool_of(seed, POOL, ONE);
        life(&mut world, |_| async {
            let (engine, _) = open(Path::new(DISK)).await;
            let a = engine.volume("a").expect("served");
            // Once round, so that everything that is kept for reuse is there.
            write(&a, 0, CLUSTER, 1).await;
            trim_all(&a).await;
            settled(&a).await;
            reactor::time::sleep(Duration::from_secs(15)).await;
            let (free, used) = (engine.space().free, memory());
            for cluster in 0..STEPS {
                dropped(&a, cluster, 2, STEP * cluster as u32).await;
            }
            reactor::time::sleep(Duration::from_secs(15)).await;
            for cluster in 0..STEPS {
                let found = read_fills(&a, cluster * PAGES, PAGES).await;
                check_fills(&found, 0, None);
            }
            trim_all(&a).await;
            assert_nothing_lost(&engine, &a, free, used).await;
            for cluster in 0..STEPS {
                dropped(&a, cluster, 2, STEP * cluster as u32).await;
            }
        });
        reopened(&mut world, |_, found| check_fills(&found, 0, None));
    }
}

async fn trim_all(a: &Volume) {
    let zeroes = Command::WriteZeroes {
        lba: 0,
        block_count: a.info().block_count,
        deallocate: true,
    };
    run(a, zeroes).await.expect("trim");
}

#[test]
fn dropped_reads_and_small_writes_give_their_memory_back() {
    let mut world = pool_of(3, POOL, &[("a", 16 << 20, 512)]);
    life(&mut world, |_| async {
        // Without payload memory, reads go to the device.
        let (engine, _) = open_with(Path::new(DISK), 0).await;
        let a = engine.volume("a").expect("served");
        for cluster in 0..8 {
            write(&a, cluster * 512, CLUSTER, 1).await;
        }
        write(&a, 100, 512, 1).await;
        settled(&a).await;
        reactor::time::sleep(Duration::from_secs(15)).await;
        let (free, used) = (engine.space().free, memory());
        for step in 0..STEPS {
            let delay = STEP * step as u32;
            // Misaligned: a page is read, changed and written.
            let data = filled(3 * 512, 2).await;
            let lba = 100 + step;
            let write = Request::new(Command::Write { lba, data });
            let read = Request::new(Command::Read {
                lba: 3,
                block_count: 2048,
            });
            let both = async {
                let other = a.clone();
                let reading = reactor::spawn(async move { other.execute(read).await });
                a.execute(write).await.expect("write");
                reading.await.expect("read");
            };
            let _ = reactor::time::timeout(delay, both).await;
            let lone = a.execute(Request::new(Command::Verify {
                lba: 0,
                block_count: 4096,
            }));
            let _ = reactor::time::timeout(delay, lone).await;
        }
        assert_nothing_lost(&engine, &a, free, used).await;
        assert!(a.metrics().dropped > STEPS / 2);
    });
    assert_clean(&mut world);
}

#[test]
fn closing_waits_for_the_write_of_a_dropped_request() {
    let mut world = pool_of(5, POOL, ONE);
    life(&mut world, |disk| async move {
        let (engine, _) = open(Path::new(DISK)).await;
        let a = engine.volume("a").expect("served");
        write(&a, 0, CLUSTER, 1).await;
        settled(&a).await;
        disk.set_slow(Duration::from_millis(300));
        let late = dropped(&a, 0, 2, Duration::from_millis(1)).await;
        assert!(!late && disk.in_flight() > 0);
        disk.set_slow(Duration::ZERO);
        engine.shutdown().await.expect("shutdown");
        assert_eq!(disk.in_flight(), 0);
    });
    assert_clean(&mut world);
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        assert!(report.clean);
        let a = engine.volume("a").expect("served");
        check_fills(&read_fills(&a, 0, PAGES).await, 1, None);
    });
}

#[test]
fn a_later_write_waits_until_the_disk_is_done_with_a_dropped_one() {
    for old in [0, 1] {
        let mut world = pool_of(7, POOL, ONE);
        life(&mut world, move |disk| async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let a = engine.volume("a").expect("served");
            if old != 0 {
                write(&a, 0, CLUSTER, old).await;
                settled(&a).await;
            }
            // Longer than it takes the flusher to bring the later write to its cluster.
            disk.set_slow(Duration::from_secs(20));
            dropped(&a, 0, 2, Duration::from_millis(1)).await;
            disk.set_slow(Duration::ZERO);
            assert_eq!(disk.in_flight(), 1);
            write(&a, 5, 4096, 3).await;
            settled(&a).await;
            while disk.in_flight() > 0 {
                reactor::time::sleep(Duration::from_secs(1)).await;
            }
            let found = read_fills(&a, 0, PAGES).await;
            assert_eq!(found[5], Some(3), "the later write wins");
            check_fills(&found, old, Some(5));
            engine.shutdown().await.expect("shutdown");
        });
        reopened(&mut world, move |cluster, found| {
            let is_first = cluster == 0;
            assert!(!is_first || found[5] == Some(3), "{found:?}");
            check_fills(
                &found,
                if is_first { old } else { 0 },
                is_first.then_some(5),
            );
        });
    }
}
