//! The engine over a device in memory, where every operation completes at once: the journal, the
//! checksums, the map and the flusher work as they do on a disk.

mod common;

use block::Device;
use common::model::Model;
use common::work::{Mix, Worker, check_all, shared};
use common::*;
use volume::{BlockRange, Command, Engine, OpenReport, PoolSpec, Ranges};

async fn made(len_bytes: u64) -> Device {
    let device = Device::in_memory("main", len_bytes).expect("memory");
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes: None,
        overwrite: false,
    };
    let made = Engine::create_pool_on(device.clone(), &spec).await;
    made.expect("create a pool");
    device
}

async fn opened(device: &Device) -> (Engine, OpenReport) {
    let options = options(device.path());
    let opened = Engine::open_on(device.clone(), options).await;
    opened.expect("open a pool")
}

#[test]
fn written_data_is_read_back_and_lives_as_long_as_the_device() {
    on_reactor(|| async {
        let device = made(64 << 20).await;
        let (engine, _) = opened(&device).await;
        let new = engine.create_volume(spec("demo", 16 << 20, 4096)).await;
        let volume = new.expect("create");
        assert!(!volume.info().volatile_cache, "a flush adds nothing");
        write(&volume, 3, 4096, 7).await;
        write(&volume, 100, CLUSTER, 8).await;
        write(&volume, 1024, 1 << 20, 9).await;
        run(&volume, Command::Flush).await.expect("flush");
        expect(&volume, 2, 1, 0).await;
        expect(&volume, 3, 1, 7).await;
        let gauges = volume.metrics().gauges;
        let kept = (gauges.payload_bytes, gauges.payloads_refused);
        assert_eq!(kept, (0, 0), "none is kept, and none is missed");
        settled(&volume).await;
        expect(&volume, 100, 32, 8).await;
        expect(&volume, 1024, 256, 9).await;
        engine.shutdown().await.expect("shutdown");
        drop((engine, volume));

        let (engine, report) = opened(&device).await;
        assert!(report.clean);
        let volume = engine.volume("demo").expect("still there");
        expect(&volume, 3, 1, 7).await;
        expect(&volume, 1024, 256, 9).await;
        engine.shutdown().await.expect("shutdown");
        drop((engine, volume, device));

        let (engine, report) = opened(&made(64 << 20).await).await;
        assert!(report.volumes.is_empty(), "another device is empty");
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn the_journal_and_the_flusher_write_to_it() {
    on_reactor(|| async {
        let device = made(64 << 20).await;
        let (engine, _) = opened(&device).await;
        let new = engine.create_volume(spec("demo", 16 << 20, 4096)).await;
        let volume = new.expect("create");
        settled(&volume).await;
        let before = device.counters().snapshot().written_bytes;
        write(&volume, 0, 4096, 1).await;
        let journal = device.counters().snapshot().written_bytes - before;
        assert!(
            journal >= 8192,
            "a header and a payload, not {journal} bytes"
        );
        settled(&volume).await;
        let all = device.counters().snapshot().written_bytes - before;
        assert!(
            all >= journal + 4096,
            "the page in its cluster, not {all} bytes"
        );
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn trimmed_blocks_are_zero_and_their_space_is_free() {
    on_reactor(|| async {
        let (engine, _) = opened(&made(64 << 20).await).await;
        let new = engine.create_volume(spec("demo", 32 << 20, 4096)).await;
        let volume = new.expect("create");
        for piece in 0..16 {
            write(&volume, piece * 256, 1 << 20, 1).await;
        }
        settled(&volume).await;
        let full = engine.space().free;
        let mut ranges = Ranges::new(reactor::buf::alloc(Ranges::STORAGE_BYTES).await);
        assert!(ranges.push(BlockRange {
            lba: 0,
            block_count: 15 * 256
        }));
        let trim = Command::Deallocate { ranges };
        run(&volume, trim).await.expect("deallocate");
        expect(&volume, 0, 256, 0).await;
        expect(&volume, 15 * 256, 256, 1).await;
        settled(&volume).await;
        let free = engine.space().free;
        assert!(free >= full + 56, "free: {full}, then {free}");
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn a_full_pool_refuses_writes_and_keeps_what_it_has() {
    on_reactor(|| async {
        let (engine, _) = opened(&made(32 << 20).await).await;
        let new = engine.create_volume(spec("demo", 64 << 20, 4096)).await;
        let volume = new.expect("create");
        let written = fill_pool(&volume, 40).await;
        let zeroes = Command::WriteZeroes {
            lba: 64,
            block_count: 64 * 8,
            deallocate: true,
        };
        run(&volume, zeroes).await.expect("trim on a full pool");
        write(&volume, written * PAGES, 4096, 252).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn bursts_beyond_the_journal_let_other_tasks_through() {
    on_reactor(|| async {
        let device = made(64 << 20).await;
        let (engine, _) = opened(&device).await;
        let new = engine.create_volume(spec("demo", 16 << 20, 4096)).await;
        let volume = new.expect("create");
        // Three journals' worth.
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let volume = volume.clone();
                reactor::spawn(async move {
                    for step in 0..768 {
                        write(&volume, writer * 1024 + step, 4096, 1).await;
                    }
                })
            })
            .collect();
        let moved_bytes = || {
            let counters = device.counters().snapshot();
            counters.read_bytes + counters.written_bytes
        };
        let (mut last, mut most) = (moved_bytes(), 0);
        while volume.metrics().gauges.completed_lsn < 4 * 768
            || volume.metrics().gauges.dirty_pages > 0
        {
            reactor::yield_now().await;
            let now = moved_bytes();
            (last, most) = (now, most.max(now - last));
        }
        assert!(most <= 4 << 20, "{most} bytes moved while this task waited");
        for writer in writers {
            writer.await;
        }
        expect(&volume, 1024, 256, 1).await;
        engine.shutdown().await.expect("shutdown");
    });
}

/// In the simulated world, where the pauses between requests take no time.
#[test]
fn random_requests_agree_with_the_model() {
    for seed in 0..6 {
        world(seed, false).run_once("node", LIMIT, move || work_on_memory(seed));
    }
}

async fn work_on_memory(seed: u64) {
    let block_bytes = if seed.is_multiple_of(2) { 512 } else { 4096 };
    let device = made(64 << 20).await;
    let (mut engine, _) = opened(&device).await;
    let size = 8 << 20;
    let new = engine.create_volume(spec("demo", size, block_bytes)).await;
    drop(new.expect("create"));
    let model = shared(Model::new(size / u64::from(block_bytes)));
    for round in 0..3 {
        let volume = engine.volume("demo").expect("there");
        Worker::run_many(&volume, &model, 10 * seed + round, Mix::ALL, 8, 120).await;
        check_all(&volume, &model).await;
        engine.shutdown().await.expect("shutdown");
        drop((volume, engine));
        engine = opened(&device).await.0;
        check_all(&engine.volume("demo").expect("there"), &model).await;
    }
    engine.shutdown().await.expect("shutdown");
}
