//! The device fails under a running engine: what hosts see, what stops, and that nothing that was
//! acknowledged is missing afterwards.

mod common;

use std::path::Path;
use std::time::Duration;

use common::broken::*;
use common::*;
use reactor::sim::{DiskHandle, World};
use volume::{Command, Engine, ErrorKind, Volume, VolumeState};

const TWO: &[(&str, u64, u32)] = &[("a", 16 << 20, 4096), ("b", 16 << 20, 4096)];
const POOL: u64 = 48 << 20;
/// How often the engine tries a write before it gives up.
const TRIES: usize = 4;

fn fail_writes(disk: &DiskHandle, count: usize) {
    (0..count).for_each(|_| disk.fail_next_write());
}

/// Opens the pool again: every listed block of `a` is as it should be, and so is the pool.
fn assert_kept(world: &mut World, expected: &'static [(u64, u32, u8)]) {
    assert_clean(world);
    life(world, move |_| async move {
        let (engine, report) = open(Path::new(DISK)).await;
        let damaged = replay_of(&report).damaged_pages;
        assert_eq!(damaged, 0, "{report:?}");
        let (a, _) = both(&engine);
        for &(lba, count, fill) in expected {
            expect(&a, lba, count, fill).await;
        }
        write(&a, 3000, 4096, 77).await;
        expect(&a, 3000, 1, 77).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(world);
}

/// Everything a host can see of volumes that stopped with the pool.
async fn assert_pool_stopped(engine: &Engine, volumes: &[&Volume]) {
    let why = engine.failure().expect("the pool says why it stopped");
    assert!(why.contains("pool"), "names the device: {why}");
    for volume in volumes {
        assert_stopped(volume).await;
        let state = volume.state();
        let is_told = matches!(&state, VolumeState::Failed { why } if why.contains("pool"));
        assert!(
            is_told,
            "hosts and operators see it without a write: {state:?}"
        );
    }
    let refused = engine.create_volume(spec("c", 1 << 20, 4096)).await;
    assert_eq!(refused.expect_err("stopped").kind(), ErrorKind::Device);
    engine
        .shutdown()
        .await
        .expect_err("nothing can be brought up to date");
}

fn a_failed_flush(seed: u64, drop_data: bool) {
    let mut world = pool_of(seed, POOL, TWO);
    life(&mut world, move |disk| async move {
        // No payload memory: what is read comes off the device.
        let (engine, _) = open_with(Path::new(DISK), 0).await;
        let (a, b) = both(&engine);
        write_fua(&a, 0, 4096, 1).await.expect("durable");
        write(&a, 1, 4096, 2).await;
        write(&a, 64, CLUSTER, 3).await;
        disk.fail_next_sync(drop_data);
        let error = run(&a, Command::Flush).await.expect_err("not durable");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        assert!(matches!(a.state(), VolumeState::Failed { .. }));
        let again = run(&a, Command::Flush).await;
        again.expect_err("a flush that failed once is never answered with success");
        write_fua(&b, 0, 4096, 9).await.expect_err("same device");
        expect(&a, 0, 1, 1).await;
        for (lba, fill) in [(1, 2), (64, 3), (95, 3)] {
            let found = read_fills(&a, lba, 1).await[0];
            let is_right = found == Some(fill) || (drop_data && found.is_none());
            assert!(is_right, "block {lba} reads {found:?}");
        }
        assert_pool_stopped(&engine, &[&a, &b]).await;
    });
    lose_power(&mut world);
    assert_clean(&mut world);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, _) = both(&engine);
        expect(&a, 0, 1, 1).await;
        for (lba, fill) in [(1, 2), (64, 3), (95, 3)] {
            let found = read_fills(&a, lba, 1).await[0].expect("readable");
            assert!(found == 0 || found == fill, "block {lba} reads {found}");
        }
        write_fua(&a, 1, 4096, 4).await.expect("works again");
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(&mut world);
}

#[test]
fn a_failed_flush_stops_the_pool_until_it_is_opened_again() {
    for seed in 0..4 {
        a_failed_flush(seed, false);
        a_failed_flush(seed, true);
    }
}

#[test]
fn a_journal_write_is_tried_again() {
    let mut world = pool_of(1, POOL, TWO);
    life(&mut world, |disk| async move {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, _) = both(&engine);
        fail_writes(&disk, TRIES - 1);
        write(&a, 0, 4096, 1).await;
        assert_eq!(a.state(), VolumeState::Live);
    });
    assert_kept(&mut world, &[(0, 1, 1)]);
}

/// Many writes at the same time, one batch of which fails: each is answered, and those that are
/// acknowledged are there.
fn a_failed_batch(seed: u64) {
    let mut world = pool_of(seed, POOL, TWO);
    let acknowledged = life(&mut world, |disk| async move {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, b) = both(&engine);
        write(&a, 0, 4096, 1).await;
        disk.set_slow(Duration::from_millis(1));
        let tasks: Vec<_> = (1..40u64)
            .map(|lba| {
                let (a, disk) = (a.clone(), disk.clone());
                reactor::spawn(async move {
                    reactor::time::sleep(Duration::from_micros(lba * 150)).await;
                    if lba == 15 {
                        disk.set_full(true);
                    }
                    (lba, try_write(&a, lba, 4096, lba as u8 + 1).await)
                })
            })
            .collect();
        let mut acknowledged = vec![0];
        for task in tasks {
            match task.await {
                (lba, Ok(())) => acknowledged.push(lba),
                (_, Err(error)) => assert!(
                    matches!(error.kind(), ErrorKind::Device | ErrorKind::Failed),
                    "{error}"
                ),
            }
        }
        disk.set_full(false);
        let why = stopped(&a).await;
        assert!(why.contains("journal write"), "{why}");
        assert_stopped(&a).await;
        assert_eq!(engine.failure(), None, "the pool goes on");
        write_fua(&b, 0, 4096, 9).await.expect("so does b");
        for &lba in &acknowledged {
            expect(&a, lba, 1, lba as u8 + 1).await;
        }
        engine.shutdown().await.expect_err("a is not up to date");
        acknowledged
    });
    assert!(acknowledged.len() < 40, "something failed");
    assert_clean(&mut world);
    life(&mut world, move |_| {
        let acknowledged = acknowledged.clone();
        async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let (a, b) = both(&engine);
            for lba in 0..40 {
                let found = read_fills(&a, lba, 1).await[0].expect("readable");
                let is_new = found == lba as u8 + 1;
                let must_be_new = acknowledged.contains(&lba);
                assert!(is_new || (found == 0 && !must_be_new), "{lba}: {found}");
            }
            expect(&b, 0, 1, 9).await;
            write(&a, 50, 4096, 5).await;
            engine.shutdown().await.expect("shutdown");
        }
    });
    assert_clean(&mut world);
}

#[test]
fn a_failed_journal_write_stops_its_volume_only() {
    (0..6).for_each(a_failed_batch);
}

#[test]
fn a_failed_large_write_fails_alone() {
    for seed in 0..4 {
        let mut world = pool_of(seed, POOL, TWO);
        life(&mut world, |disk| async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let (a, _) = both(&engine);
            write(&a, 64, CLUSTER, 1).await;
            settled(&a).await;
            let free = engine.space().free;
            fail_writes(&disk, TRIES);
            let error = try_write(&a, 64, CLUSTER, 2).await.expect_err("EIO");
            assert_eq!(error.kind(), ErrorKind::Device, "{error}");
            assert!(error.to_string().contains("direct write"), "{error}");
            assert_eq!(a.state(), VolumeState::Live);
            expect(&a, 64, 32, 1).await;
            // Where nothing is yet, it leaves nothing.
            fail_writes(&disk, TRIES);
            try_write(&a, 640, CLUSTER, 2).await.expect_err("EIO");
            expect(&a, 640, 32, 0).await;
            write(&a, 65, 4096, 3).await;
            settled(&a).await;
            reactor::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(engine.space().free, free, "no cluster is lost");
        });
        assert_kept(
            &mut world,
            &[(64, 1, 1), (65, 1, 3), (66, 30, 1), (640, 32, 0)],
        );
    }
}

#[test]
fn a_failed_write_of_the_flusher_stops_its_volume_only() {
    for seed in 0..4 {
        let mut world = pool_of(seed, POOL, TWO);
        life(&mut world, |disk| async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let (a, b) = both(&engine);
            write(&a, 0, 8192, 1).await;
            settled(&a).await;
            // In place of published pages: torn there, the journal has them.
            write(&a, 0, 8192, 2).await;
            fail_writes(&disk, TRIES);
            let why = stopped(&a).await;
            assert!(why.contains("flush: pool: write of 8192 bytes"), "{why}");
            assert_stopped(&a).await;
            expect(&a, 0, 2, 2).await;
            assert_eq!(engine.failure(), None);
            write(&b, 0, 4096, 9).await;
            settled(&b).await;
        });
        if seed % 2 == 1 {
            lose_power(&mut world);
        }
        assert_kept(&mut world, &[(0, 2, 2)]);
    }
}

/// Lets a checkpoint fail at one of its steps.
fn a_failed_checkpoint(seed: u64, point: &str, fault: fn(&DiskHandle)) {
    let mut world = pool_of(seed, POOL, TWO);
    let ready = flag();
    let is_ready = ready.clone();
    world.start(NODE, 1, move |_| {
        let ready = is_ready.clone();
        async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let (a, b) = both(&engine);
            write(&a, 0, 4096, 1).await;
            write(&b, 0, 4096, 9).await;
            settled(&a).await;
            settled(&b).await;
            write(&a, 64, CLUSTER, 2).await;
            write(&a, 1, 4096, 3).await;
            *ready.borrow_mut() = true;
            let why = stopped(&a).await;
            assert!(why.contains("checkpoint"), "{why}");
            for (lba, count, fill) in [(0, 1, 1), (1, 1, 3), (64, 32, 2)] {
                expect(&a, lba, count, fill).await;
            }
            expect(&b, 0, 1, 9).await;
            assert_pool_stopped(&engine, &[&a, &b]).await;
        }
    });
    world.run_until(LIMIT, |_| *ready.borrow());
    run_to_point(&mut world, point);
    fault(&world.disk(DISK));
    world.run_until(LIMIT, |world| !world.is_up(NODE));
    if seed % 2 == 1 {
        // The checkpoint began with a device flush: all of it is durable.
        lose_power(&mut world);
    }
    assert_kept(&mut world, &[(0, 1, 1), (1, 1, 3), (64, 32, 2)]);
}

#[test]
fn a_checkpoint_that_fails_at_any_step_stops_the_pool_and_loses_nothing() {
    let write: fn(&DiskHandle) = DiskHandle::fail_next_write;
    let sync: fn(&DiskHandle) = |disk| disk.fail_next_sync(false);
    let sync_dropping: fn(&DiskHandle) = |disk| disk.fail_next_sync(true);
    // The fault hits what is in flight when the point is passed, or comes next.
    let steps = [
        ("flush::after_data", write),
        ("publish::after_nodes", write),
        ("publish::after_root", sync),
        ("publish::after_root", sync_dropping),
        ("publish::after_root", write),
        ("publish::after_flush", write),
        ("publish::after_superblock", sync),
        ("publish::after_superblock", sync_dropping),
        ("publish::after_superblock_flush", write),
    ];
    for (number, (point, fault)) in steps.into_iter().enumerate() {
        for seed in 0..4 {
            println!("step {number}, {point}, seed {seed}");
            a_failed_checkpoint(seed, point, fault);
        }
    }
}

#[test]
fn a_device_that_goes_away_fails_requests_and_comes_back_whole() {
    let mut world = pool_of(3, POOL, TWO);
    life(&mut world, |disk| async move {
        let (engine, _) = open_with(Path::new(DISK), 0).await;
        let (a, b) = both(&engine);
        write_fua(&a, 0, 4096, 1).await.expect("durable");
        write(&a, 64, CLUSTER, 2).await;
        disk.set_gone(true);
        let error = try_write(&a, 5, 4096, 3).await.expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        let read = Command::Read {
            lba: 64,
            block_count: 1,
        };
        let error = run(&a, read).await.expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        let large = try_write(&b, 64, CLUSTER, 4).await;
        assert_eq!(large.expect_err("gone").kind(), ErrorKind::Device);
        disk.set_gone(false);
        expect(&a, 0, 1, 1).await;
        expect(&a, 64, 32, 2).await;
        assert_stopped(&a).await;
        // Nothing of b's journal was lost: it never noticed.
        write(&b, 64, CLUSTER, 5).await;
        expect(&b, 64, 32, 5).await;
    });
    assert_kept(&mut world, &[(0, 1, 1), (5, 1, 0), (64, 32, 2)]);
}

#[test]
fn a_device_that_is_gone_at_open_is_an_error_and_nothing_changes() {
    let mut world = pool_of(3, POOL, TWO);
    let disk = world.disk(DISK);
    let before = disk.bytes(0..POOL);
    life(&mut world, |disk| async move {
        disk.set_gone(true);
        let error = Engine::open(options(Path::new(DISK))).await.err();
        let error = error.expect("gone");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        disk.set_gone(false);
    });
    assert!(disk.bytes(0..POOL) == before, "something was written");
    assert_kept(&mut world, &[(0, 32, 0)]);
}

#[test]
fn a_device_without_space_fails_what_needs_some_and_nothing_else() {
    let mut world = pool_of(5, POOL, TWO);
    life(&mut world, |disk| async move {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, b) = both(&engine);
        write(&a, 0, 4096, 1).await;
        write(&a, 64, CLUSTER, 2).await;
        settled(&a).await;
        disk.set_full(true);
        let error = try_write(&b, 64, CLUSTER, 3).await.expect_err("ENOSPC");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        assert_eq!(b.state(), VolumeState::Live, "nothing is lost");
        let error = try_write(&a, 1, 4096, 3).await.expect_err("ENOSPC");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        assert_stopped(&a).await;
        expect(&a, 0, 1, 1).await;
        expect(&a, 64, 32, 2).await;
        engine.shutdown().await.expect_err("a has stopped");
        disk.set_full(false);
    });
    assert_kept(&mut world, &[(0, 1, 1), (1, 1, 0), (64, 32, 2)]);
}

/// All memory of the engine's pool, so that whoever needs some waits.
fn take_engine_memory() -> Vec<reactor::buf::Buf> {
    let pool = reactor::buf::engine_pool();
    let sizes = [pool.max_buf_bytes(), 64 << 10, 4096];
    let take = |len| std::iter::from_fn(move || reactor::buf::engine_pool().try_alloc(len));
    sizes.into_iter().flat_map(take).collect()
}

#[test]
fn a_batch_that_waits_for_memory_while_the_one_before_it_fails_fails_too() {
    let mut world = pool_of(7, POOL, TWO);
    life(&mut world, |disk| async move {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, _) = both(&engine);
        write(&a, 0, 4096, 1).await;
        let start = |lba: u64, fill: u8| {
            let a = a.clone();
            reactor::spawn(async move { try_write(&a, lba, 4096, fill).await })
        };
        disk.set_slow(Duration::from_millis(10));
        disk.set_full(true);
        let first = start(1, 2);
        reactor::time::sleep(Duration::from_millis(1)).await;
        let memory = take_engine_memory();
        let second = start(2, 3);
        first.await.expect_err("ENOSPC");
        disk.set_full(false);
        drop(memory);
        second.await.expect_err("behind a batch that failed");
        reactor::time::sleep(Duration::from_millis(50)).await;
        expect(&a, 0, 1, 1).await;
        expect(&a, 2, 1, 0).await;
    });
    assert_kept(&mut world, &[(0, 1, 1), (1, 2, 0)]);
}

#[test]
fn a_failed_flush_of_the_flusher_stops_the_pool() {
    for (seed, drop_data) in [(0, false), (1, true)] {
        let mut world = pool_of(seed, POOL, TWO);
        life(&mut world, move |disk| async move {
            let (engine, _) = open(Path::new(DISK)).await;
            let (a, b) = both(&engine);
            write_fua(&a, 0, 4096, 1).await.expect("durable");
            write(&a, 1, 4096, 2).await;
            disk.fail_next_sync(drop_data);
            let why = stopped(&a).await;
            assert!(why.contains("device flush"), "{why}");
            expect(&a, 1, 1, 2).await;
            assert_pool_stopped(&engine, &[&a, &b]).await;
        });
        assert_kept(&mut world, &[(0, 1, 1)]);
    }
}

#[test]
fn a_deletion_that_fails_goes_on_at_the_next_open() {
    for seed in 0..4 {
        let mut world = pool_of(seed, POOL, TWO);
        let started = flag();
        let is_started = started.clone();
        world.start(NODE, 1, move |_| {
            let started = is_started.clone();
            async move {
                let (engine, _) = open(Path::new(DISK)).await;
                let (a, b) = both(&engine);
                write(&a, 0, 4096, 1).await;
                write(&b, 64, CLUSTER, 2).await;
                settled(&a).await;
                settled(&b).await;
                *started.borrow_mut() = true;
                let error = engine.delete_volume("b").await.expect_err("EIO");
                assert_eq!(error.kind(), ErrorKind::Device, "{error}");
                assert_pool_stopped(&engine, &[&a]).await;
            }
        });
        world.run_until(LIMIT, |_| *started.borrow());
        // The publish that says so, the one that empties the map, the one without the record.
        (0..1 + seed % 3).for_each(|_| run_to_point(&mut world, "publish::after_flush"));
        world.disk(DISK).fail_next_write();
        world.run_until(LIMIT, |world| !world.is_up(NODE));
        assert_clean(&mut world);
        life(&mut world, |_| async {
            let (engine, _) = open(Path::new(DISK)).await;
            let is_deleting = |engine: &Engine| engine.listing().iter().any(|v| v.deleting);
            while is_deleting(&engine) {
                reactor::time::sleep(Duration::from_millis(10)).await;
            }
            if engine.volume("b").is_some() {
                // The first publish did not make it: nothing has happened.
                engine.delete_volume("b").await.expect("delete");
            }
            expect(&engine.volume("a").expect("served"), 0, 1, 1).await;
            assert_eq!(engine.listing().len(), 1);
            engine.shutdown().await.expect("shutdown");
        });
        assert_clean(&mut world);
    }
}
