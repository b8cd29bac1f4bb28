//! The engine over the real kernel and a file: what each request does, and that it stays.

mod common;

use common::*;
use std::sync::Arc;
use volume::{BlockRange, Command, Engine, ErrorKind, Ranges, Request};

#[test]
fn written_data_is_read_back_and_survives_reopening() {
    let file = TempPool::new("reopen");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 16 << 20, 4096))
            .await
            .expect("create");
        let info = volume.info().clone();
        write(&volume, 3, 4096, 7).await;
        write(&volume, 100, CLUSTER, 8).await;
        write(&volume, 1024, 1 << 20, 9).await;
        expect(&volume, 2, 1, 0).await;
        expect(&volume, 3, 1, 7).await;
        expect(&volume, 100, 32, 8).await;
        expect(&volume, 1024, 256, 9).await;
        engine.shutdown().await.expect("shutdown");
        drop((engine, volume));

        let (engine, report) = open(&path).await;
        assert!(report.clean);
        assert_eq!(
            replay_of(&report).batches,
            0,
            "a clean shutdown leaves an empty journal"
        );
        let volume = engine.volume("demo").expect("still there");
        assert_eq!(*volume.info(), info, "identity never changes");
        expect(&volume, 2, 1, 0).await;
        expect(&volume, 3, 1, 7).await;
        expect(&volume, 100, 32, 8).await;
        expect(&volume, 1024, 256, 9).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn blocks_of_512_bytes_share_pages() {
    let file = TempPool::new("small-blocks");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 4 << 20, 512))
            .await
            .expect("create");
        write(&volume, 0, 16 * 512, 1).await;
        write(&volume, 3, 512, 2).await;
        write(&volume, 7, 2 * 512, 3).await;
        for (lba, count, fill) in [
            (0, 3, 1),
            (3, 1, 2),
            (4, 3, 1),
            (7, 2, 3),
            (9, 7, 1),
            (16, 8, 0),
        ] {
            expect(&volume, lba, count, fill).await;
        }
        let command = Command::WriteZeroes {
            lba: 2,
            block_count: 12,
            deallocate: false,
        };
        run(&volume, command).await.expect("write zeroes");
        for (lba, count, fill) in [(0, 2, 1), (2, 12, 0), (14, 2, 1)] {
            expect(&volume, lba, count, fill).await;
        }
        write(&volume, 1001, 1 << 20, 5).await;
        expect(&volume, 1000, 1, 0).await;
        expect(&volume, 1001, 2048, 5).await;
        expect(&volume, 3049, 1, 0).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn requests_out_of_bounds_are_refused() {
    let file = TempPool::new("bounds");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 4 << 20, 4096))
            .await
            .expect("create");
        let end = volume.info().block_count;
        let kind = |result: volume::Completion| result.expect_err("must be refused").kind();
        let read = |lba, block_count| run(&volume, Command::Read { lba, block_count });
        assert_eq!(kind(read(end, 1).await), ErrorKind::OutOfRange);
        assert_eq!(kind(read(end - 1, 2).await), ErrorKind::OutOfRange);
        assert_eq!(kind(read(u64::MAX, 2).await), ErrorKind::OutOfRange);
        assert_eq!(kind(read(0, 0).await), ErrorKind::OutOfRange);
        assert_eq!(kind(read(0, 257).await), ErrorKind::TooLarge);
        let data = filled(100, 0).await;
        assert_eq!(
            kind(run(&volume, Command::Write { lba: 0, data }).await),
            ErrorKind::Invalid
        );
        let data = filled(8192, 0).await;
        assert_eq!(
            kind(run(&volume, Command::Write { lba: end - 1, data }).await),
            ErrorKind::OutOfRange
        );
        let zeroes = Command::WriteZeroes {
            lba: 1,
            block_count: end,
            deallocate: true,
        };
        assert_eq!(kind(run(&volume, zeroes).await), ErrorKind::OutOfRange);
        let (compare, write) = (filled(4096, 0).await, filled(8192, 0).await);
        let fused = Command::CompareAndWrite {
            lba: 0,
            compare,
            write,
        };
        assert_eq!(kind(run(&volume, fused).await), ErrorKind::Invalid);
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn compare_and_write_writes_only_what_matches() {
    let file = TempPool::new("compare");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 4 << 20, 512))
            .await
            .expect("create");
        write(&volume, 10, 4 * 512, 1).await;
        let data = filled(4 * 512, 1).await;
        run(&volume, Command::Compare { lba: 10, data })
            .await
            .expect("equal");
        let mut data = filled(4 * 512, 1).await;
        data.as_mut()[3 * 512] = 9;
        let error = run(&volume, Command::Compare { lba: 10, data })
            .await
            .expect_err("differs");
        assert!(
            matches!(error, volume::VolumeError::CompareMismatch { lba: 13, .. }),
            "{error}"
        );
        let (compare, write) = (filled(512, 2).await, filled(512, 3).await);
        let error = run(
            &volume,
            Command::CompareAndWrite {
                lba: 10,
                compare,
                write,
            },
        )
        .await;
        assert_eq!(
            error.expect_err("differs").kind(),
            ErrorKind::CompareMismatch
        );
        expect(&volume, 10, 4, 1).await;
        let (compare, write) = (filled(512, 1).await, filled(512, 3).await);
        run(
            &volume,
            Command::CompareAndWrite {
                lba: 10,
                compare,
                write,
            },
        )
        .await
        .expect("equal");
        expect(&volume, 10, 1, 3).await;
        expect(&volume, 11, 3, 1).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn deallocating_gives_space_back() {
    let file = TempPool::new("trim");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 32 << 20, 4096))
            .await
            .expect("create");
        let empty = engine.space().free;
        for cluster in 0..40 {
            write(&volume, cluster * PAGES, CLUSTER, 1).await;
        }
        settled(&volume).await;
        let full = engine.space().free;
        assert!(
            empty - full >= 40,
            "free: {empty} before, {full} after 40 clusters"
        );
        let mut ranges = Ranges::new(reactor::buf::alloc(Ranges::STORAGE_BYTES).await);
        assert!(ranges.push(BlockRange {
            lba: 0,
            block_count: 20 * PAGES as u32
        }));
        assert!(ranges.push(BlockRange {
            lba: 20 * PAGES + 1,
            block_count: 19 * PAGES as u32
        }));
        run(&volume, Command::Deallocate { ranges })
            .await
            .expect("deallocate");
        expect(&volume, 0, 256, 0).await;
        expect(&volume, 20 * PAGES, 1, 1).await;
        settled(&volume).await;
        // 20 and 18 whole clusters, and the map's own needs.
        assert!(
            engine.space().free >= full + 36,
            "free: {full}, then {}",
            engine.space().free
        );
        expect(&volume, 20 * PAGES, 1, 1).await;
        expect(&volume, 20 * PAGES + 1, 200, 0).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn a_full_pool_refuses_writes_and_keeps_what_it_has() {
    let file = TempPool::new("full");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(32 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 64 << 20, 4096))
            .await
            .expect("create");
        let written = fill_pool(&volume, 40).await;
        // Overwriting needs no space, and trimming makes some.
        write(&volume, 0, 4096, 251).await;
        let zeroes = Command::WriteZeroes {
            lba: 64,
            block_count: 64 * 8,
            deallocate: true,
        };
        run(&volume, zeroes).await.expect("trim on a full pool");
        write(&volume, written * PAGES, 4096, 252).await;
        engine.shutdown().await.expect("shutdown");
        drop((engine, volume));
        let (engine, _) = open(&path).await;
        let volume = engine.volume("demo").expect("still there");
        expect(&volume, 0, 1, 251).await;
        expect(&volume, written * PAGES, 1, 252).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn what_large_writes_replaced_is_room_when_others_need_it() {
    let file = TempPool::new("replaced");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(32 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 64 << 20, 4096))
            .await
            .expect("create");
        let mut written = 0;
        while engine.space().available() > 8 {
            write(&volume, written * PAGES, CLUSTER, 1).await;
            written += 1;
            if engine.space().available() <= 8 {
                settled(&volume).await;
            }
        }
        assert!(written > 40, "only {written} clusters fit");
        // Each of these takes two places until cycles have run: one for each of its writes.
        let first = written;
        while engine.space().available() > 1 {
            write(&volume, written * PAGES, CLUSTER, 2).await;
            write(&volume, written * PAGES, CLUSTER, 3).await;
            written += 1;
        }
        assert!(written >= first + 2, "{written} from {first} on");
        for _ in 0..2 {
            write(&volume, written * PAGES, 4096, 4).await;
            written += 1;
        }
        for cluster in first..written - 2 {
            expect(&volume, cluster * PAGES, 32, 3).await;
        }
        expect(&volume, (written - 1) * PAGES, 1, 4).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn volumes_come_and_go_while_others_are_used() {
    let file = TempPool::new("delete");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(96 << 20)).await;
        let (engine, _) = open(&path).await;
        let keep = engine
            .create_volume(spec("keep", 8 << 20, 4096))
            .await
            .expect("create");
        let before = engine.space().free;
        for round in 1..4u8 {
            let gone = engine
                .create_volume(spec("gone", 8 << 20, 4096))
                .await
                .expect("create");
            write(&gone, 0, 1 << 20, round).await;
            write(&keep, u64::from(round) * PAGES, CLUSTER, round).await;
            let busy = reactor::spawn({
                let gone = gone.clone();
                async move {
                    let data = filled(4096, 9).await;
                    gone.execute(Request::new(Command::Write { lba: 900, data }))
                        .await
                }
            });
            reactor::yield_now().await;
            engine.delete_volume("gone").await.expect("delete");
            let _either = busy.await;
            let error = run(&gone, Command::Flush).await.expect_err("deleted");
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(engine.volume("gone").is_none());
        }
        let error = engine.delete_volume("gone").await.expect_err("not there");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        for round in 1..4u8 {
            expect(&keep, u64::from(round) * PAGES, 32, round).await;
        }
        settled(&keep).await;
        let after = engine.space().free;
        assert!(
            after + 8 >= before,
            "deleting gives space back: {before}, then {after}"
        );
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn a_pool_is_opened_once() {
    let file = TempPool::new("lock");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let error = Engine::open(options(&path)).await.err().expect("locked");
        assert!(error.to_string().contains("in use"), "{error}");
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn metrics_count_what_happened() {
    let file = TempPool::new("metrics");
    let path = file.0.clone();
    on_reactor(move || async move {
        create(&path, Some(64 << 20)).await;
        let (engine, _) = open(&path).await;
        let volume = engine
            .create_volume(spec("demo", 4 << 20, 4096))
            .await
            .expect("create");
        write(&volume, 0, 4096, 1).await;
        write(&volume, 64, CLUSTER, 1).await;
        expect(&volume, 0, 1, 1).await;
        run(
            &volume,
            Command::Read {
                lba: 1 << 40,
                block_count: 1,
            },
        )
        .await
        .expect_err("outside");
        let snapshot = std::thread::scope(|scope| {
            // Plain data: another thread may have it.
            let snapshot = engine.snapshot_metrics();
            scope.spawn(move || snapshot).join().expect("a thread")
        });
        let (name, metrics) = &snapshot.volumes[0];
        assert_eq!(*name, Arc::from("demo"));
        assert_eq!(metrics.ops[0].count, 2);
        assert_eq!((metrics.ops[0].errors, metrics.ops[0].bytes), (1, 4096));
        assert_eq!(
            (metrics.ops[1].count, metrics.ops[1].bytes),
            (2, store::CLUSTER_BYTES + 4096)
        );
        assert_eq!(metrics.direct_bytes, store::CLUSTER_BYTES);
        assert!(metrics.journal_batches >= 2 && metrics.journal_bytes < 64 << 10);
        assert_eq!(metrics.in_flight, 0);
        engine.shutdown().await.expect("shutdown");
    });
}
