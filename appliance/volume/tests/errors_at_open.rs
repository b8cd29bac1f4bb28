//! One operation of the disk fails while a pool is opened, whichever it is: the pool or a volume
//! is refused, or nothing happens; the next open has everything.

mod common;

use std::path::Path;

use common::broken::*;
use common::*;
use reactor::sim::{DiskHandle, World};
use volume::{Engine, ErrorKind, Outcome, Volume};

const TWO: &[(&str, u64, u32)] = &[("a", 16 << 20, 4096), ("b", 16 << 20, 4096)];
const POOL: u64 = 48 << 20;

/// A pool that was killed with a part of both volumes in the map, and a part in the journals only.
fn killed(seed: u64) -> World {
    let mut world = pool_of(seed, POOL, TWO);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, b) = both(&engine);
        for volume in [&a, &b] {
            write(volume, 0, CLUSTER, 1).await;
            settled(volume).await;
            write(volume, 5, 4096, 2).await;
            write(volume, 640, CLUSTER, 3).await;
            write(volume, 64, CLUSTER / 2, 4).await;
            write_fua(volume, 1000, 8192, 5).await.expect("durable");
        }
    });
    world
}

async fn expect_data(volume: &Volume) {
    let all = [
        (0, 5, 1),
        (5, 1, 2),
        (6, 26, 1),
        (64, 16, 4),
        (96, 32, 0),
        (640, 32, 3),
        (1000, 2, 5),
    ];
    for (lba, count, fill) in all {
        expect(volume, lba, count, fill).await;
    }
}

/// Opens once; what is served is right. True when all of it was served.
async fn try_open() -> bool {
    let (engine, report) = match Engine::open(options(Path::new(DISK))).await {
        Ok(opened) => opened,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Device, "{error}");
            return false;
        }
    };
    let mut served = 0;
    for volume in &report.volumes {
        match &volume.outcome {
            Outcome::Opened(replay) => {
                assert_eq!(
                    (replay.damaged_pages, replay.undone_pages),
                    (0, 0),
                    "{volume:?}"
                );
                let volume = engine.volume(&volume.name).expect("served");
                expect_data(&volume).await;
                served += 1;
            }
            Outcome::Damaged(damage) => assert!(!damage.to_string().is_empty()),
            Outcome::Deleting => panic!("{volume:?}"),
        }
    }
    served == 2
}

/// Lets the `number`th operation from now fail; gives whether there was one, and whether the pool
/// opened in spite of it.
fn fail_one(
    world: &mut World,
    number: u64,
    kind: fn(&DiskHandle) -> u64,
    fault: fn(&DiskHandle),
) -> Option<bool> {
    let disk = world.disk(DISK);
    let before = kind(&disk);
    let opened = flag();
    let output = opened.clone();
    world.start(NODE, 1, move |_| {
        let output = output.clone();
        async move {
            let all = try_open().await;
            *output.borrow_mut() = all;
        }
    });
    world.run_until(LIMIT, |world| {
        !world.is_up(NODE) || kind(&disk) >= before + number
    });
    if !world.is_up(NODE) {
        return None;
    }
    fault(&disk);
    world.run_until(LIMIT, |world| !world.is_up(NODE));
    disk.heal();
    let all = *opened.borrow();
    Some(all)
}

/// Every operation of one kind fails in its own run. Gives how often the pool opened all the same.
fn fail_each(kind: fn(&DiskHandle) -> u64, fault: fn(&DiskHandle)) -> (u64, u64) {
    let (mut runs, mut opened) = (0, 0);
    for number in 0.. {
        let mut world = killed(number % 2);
        let Some(all) = fail_one(&mut world, number, kind, fault) else {
            break;
        };
        runs += 1;
        opened += u64::from(all);
        assert_clean(&mut world);
        life(&mut world, |_| async {
            assert!(try_open().await, "the next open has everything");
        });
        assert_clean(&mut world);
    }
    (runs, opened)
}

fn reads(disk: &DiskHandle) -> u64 {
    disk.operations().0
}

fn writes(disk: &DiskHandle) -> u64 {
    disk.operations().1
}

fn syncs(disk: &DiskHandle) -> u64 {
    disk.operations().2
}

#[test]
fn a_read_that_fails() {
    let (runs, opened) = fail_each(reads, DiskHandle::fail_next_read);
    assert!(runs > 20, "{runs} reads");
    assert!(
        opened > runs / 3,
        "journal and data are read again: {opened} of {runs}"
    );
}

#[test]
fn a_write_that_fails() {
    let (runs, opened) = fail_each(writes, DiskHandle::fail_next_write);
    // Two publishes, which are not tried again.
    assert!(runs >= 6 && opened < runs, "{opened} of {runs}");
}

#[test]
fn a_sync_that_fails() {
    for fault in [
        (|disk: &DiskHandle| disk.fail_next_sync(false)) as fn(&DiskHandle),
        |disk| disk.fail_next_sync(true),
    ] {
        let (runs, opened) = fail_each(syncs, fault);
        assert!(runs >= 5 && opened < runs, "{opened} of {runs}");
    }
}
