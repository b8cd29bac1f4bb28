//! Or is atomic, and which blocks hold data is told truly before and after the flusher moved them.

mod common;

use common::broken::{life, pool_of};
use common::*;
use volume::{BlockRange, BlockStatus, Command, Ranges, Volume};

#[test]
fn bits_that_are_set_at_the_same_time_are_all_there() {
    for seed in 1..=8 {
        let mut world = pool_of(seed, 64 << 20, &[("demo", 4 << 20, 512)]);
        life(&mut world, |_| async {
            let (engine, _) = open(std::path::Path::new(DISK)).await;
            let volume = engine.volume("demo").expect("it is there");
            write(&volume, 4, 24 * 512, 0x80).await;
            let setters: Vec<_> = (0..7)
                .map(|bit| {
                    let volume = volume.clone();
                    reactor::spawn(async move {
                        let data = filled(20 * 512, 1 << bit).await;
                        run(&volume, Command::Or { lba: 6, data }).await
                    })
                })
                .collect();
            for setter in setters {
                setter.await.expect("a good device");
            }
            expect(&volume, 4, 2, 0x80).await;
            expect(&volume, 6, 20, 0xff).await;
            expect(&volume, 26, 2, 0x80).await;
            settled(&volume).await;
            expect(&volume, 6, 20, 0xff).await;
            engine.shutdown().await.expect("shutdown");
        });
    }
}

#[test]
fn an_or_behind_the_end_changes_nothing() {
    let file = TempPool::new("or");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let new = engine.create_volume(spec("demo", 4 << 20, 4096)).await;
        let volume = new.expect("create");
        let data = filled(8192, 1).await;
        let refused = run(&volume, Command::Or { lba: 1023, data }).await;
        let error = refused.expect_err("it does not fit");
        assert_eq!(error.kind(), volume::ErrorKind::OutOfRange);
        expect(&volume, 1023, 1, 0).await;
        engine.shutdown().await.expect("shutdown");
    });
}

async fn status(volume: &Volume, lba: u64) -> (bool, u64) {
    let BlockStatus {
        is_mapped,
        block_count,
    } = volume.block_status(lba).await.expect("a good device");
    (is_mapped, block_count)
}

async fn trim(volume: &Volume, lba: u64, block_count: u32) {
    let mut ranges = Ranges::new(filled(Ranges::STORAGE_BYTES, 0).await);
    assert!(ranges.push(BlockRange { lba, block_count }));
    let trimmed = run(volume, Command::Deallocate { ranges }).await;
    trimmed.expect("a good device");
}

/// Blocks of 512 bytes in a page.
const PAGE: u64 = 8;

async fn expect_statuses(volume: &Volume, when: &str) {
    assert_eq!(status(volume, 0).await, (false, 10 * PAGE), "{when}");
    assert_eq!(status(volume, 81).await, (true, 79), "{when}");
    assert_eq!(status(volume, 20 * PAGE).await, (false, 2 * PAGE), "{when}");
    assert_eq!(status(volume, 22 * PAGE).await, (true, 21 * PAGE), "{when}");
    assert!(!status(volume, 43 * PAGE).await.0, "{when}");
}

#[test]
fn blocks_that_hold_data_are_told_from_those_that_do_not() {
    let file = TempPool::new("status");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(256 << 20)).await;
        let (engine, _) = open(&path).await;
        let new = engine.create_volume(spec("demo", 128 << 20, 512)).await;
        let volume = new.expect("create");
        let end = 128 << 11;
        assert_eq!(status(&volume, 0).await, (false, 64 << 11), "a call's most");
        assert_eq!(status(&volume, end - 3).await, (false, 3));
        write(&volume, 10 * PAGE, 4096, 1).await;
        write(&volume, 11 * PAGE, CLUSTER, 2).await;
        trim(&volume, 20 * PAGE, 2 * PAGE as u32).await;
        expect_statuses(&volume, "dirty").await;
        settled(&volume).await;
        expect_statuses(&volume, "in the map").await;
        drop(volume);
        engine.shutdown().await.expect("shutdown");
        drop(engine);
        let (engine, _) = open(&path).await;
        let volume = engine.volume("demo").expect("still there");
        expect_statuses(&volume, "opened again").await;
        let behind = volume.block_status(end).await.expect_err("behind the end");
        assert_eq!(behind.kind(), volume::ErrorKind::OutOfRange);
        engine.shutdown().await.expect("shutdown");
        let closed = volume.block_status(0).await.expect_err("it is closed");
        assert_eq!(closed.kind(), volume::ErrorKind::Closed);
    });
}
