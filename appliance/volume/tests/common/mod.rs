//! A model of a volume, and seeded work that checks the real one against it.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod broken;
pub mod model;
pub mod story;
pub mod work;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{Buf, pool};
use reactor::sim::{DiskOptions, World, WorldOptions};
use volume::{
    Command, Completion, Engine, EngineOptions, ErrorKind, OpenReport, Outcome, PoolSpec,
    ReplayReport, Request, Volume, VolumeSpec,
};

pub const LIMIT: Duration = Duration::from_secs(3600);
pub const POOL_BYTES: u64 = 48 << 20;
pub const DISK: &str = "pool";
/// Bytes of a cluster.
pub const CLUSTER: usize = store::CLUSTER_BYTES as usize;
/// Pages of a cluster.
pub const PAGES: u64 = store::CLUSTER_BLOCKS as u64;

/// A world with one disk of `POOL_BYTES`.
pub fn world(seed: u64, volatile_cache: bool) -> World {
    let mut options = WorldOptions::default();
    options.core.io_pool_bytes = 16 << 20;
    options.core.engine_pool_bytes = 12 << 20;
    let mut world = World::new(seed, options);
    let logical_block = if seed.is_multiple_of(2) { 512 } else { 4096 };
    let len_bytes = POOL_BYTES;
    let disk = DiskOptions {
        len_bytes,
        volatile_cache,
        logical_block,
        ..DiskOptions::default()
    };
    world.add_disk(DISK, disk);
    world
}

/// Runs `main` on an executor over the real kernel.
pub fn on_reactor<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F) {
    let config = reactor::cores::CoreConfig {
        io_pool_bytes: 32 << 20,
        engine_pool_bytes: 16 << 20,
        ..Default::default()
    };
    reactor::cores::run(config, main).expect("an executor");
}

/// A path for a pool that is removed with the value.
pub struct TempPool(pub std::path::PathBuf);

impl TempPool {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("volume-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for TempPool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn options(path: &Path) -> EngineOptions {
    EngineOptions {
        journal_bytes: 4 << 20,
        ..EngineOptions::new(path)
    }
}

pub async fn create(path: &Path, file_bytes: Option<u64>) {
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes,
        overwrite: false,
    };
    Engine::create_pool(path, &spec)
        .await
        .expect("create a pool");
}

/// As `open`, with this much payload memory: with little of it, data is read from the journal.
pub async fn open_with(path: &Path, payload_bytes: usize) -> (Engine, OpenReport) {
    let options = EngineOptions {
        payload_bytes: Some(payload_bytes),
        ..options(path)
    };
    Engine::open(options).await.expect("open a pool")
}

pub async fn open(path: &Path) -> (Engine, OpenReport) {
    Engine::open(options(path)).await.expect("open a pool")
}

pub fn spec(name: &str, size_bytes: u64, block_bytes: u32) -> VolumeSpec {
    VolumeSpec {
        name: name.into(),
        size_bytes,
        block_bytes,
        journal_bytes: None,
    }
}

/// The replay of the only volume; panics when it is damaged.
pub fn replay_of(report: &OpenReport) -> ReplayReport {
    match &report.volumes[0].outcome {
        Outcome::Opened(replay) => *replay,
        other => panic!("{}: {other:?}", report.volumes[0].name),
    }
}

pub async fn filled(len: usize, fill: u8) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().fill(fill);
    buf
}

pub async fn run(volume: &Volume, command: Command) -> Completion {
    volume.execute(Request::new(command)).await
}

pub async fn write(volume: &Volume, lba: u64, len: usize, fill: u8) {
    let data = filled(len, fill).await;
    run(volume, Command::Write { lba, data })
        .await
        .expect("write");
}

pub async fn read(volume: &Volume, lba: u64, block_count: u32) -> Buf {
    let read = run(volume, Command::Read { lba, block_count }).await;
    read.expect("read").expect("a read gives data")
}

/// Asserts that every byte of the blocks is `fill`.
pub async fn expect(volume: &Volume, lba: u64, block_count: u32, fill: u8) {
    let data = read(volume, lba, block_count).await;
    let wrong = data.iter().position(|byte| *byte != fill);
    assert_eq!(
        wrong,
        None,
        "lba {lba}+{block_count}: expected {fill}, found {:?}",
        wrong.map(|at| data[at])
    );
}

/// Writes a page to one cluster after the other until the pool is full, which has to take more
/// than `least` clusters, and reads all of them back. Gives their number.
pub async fn fill_pool(volume: &Volume, least: u64) -> u64 {
    let fill = |cluster: u64| 1 + (cluster % 250) as u8;
    let mut written = 0;
    let error = loop {
        let data = filled(4096, fill(written)).await;
        let lba = written * PAGES;
        match run(volume, Command::Write { lba, data }).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PoolFull, "{error}");
    assert!(written > least, "only {written} clusters fit");
    for cluster in 0..written {
        expect(volume, cluster * PAGES, 1, fill(cluster)).await;
    }
    written
}

/// Waits until the published map has everything.
pub async fn settled(volume: &Volume) {
    for _ in 0..10_000 {
        let gauges = volume.metrics().gauges;
        if gauges.checkpoint_lsn == gauges.completed_lsn && gauges.dirty_pages == 0 {
            return;
        }
        reactor::time::sleep(Duration::from_millis(10)).await;
    }
    panic!(
        "the flusher does not come to an end: {:?}",
        volume.metrics().gauges
    );
}

pub type Shared<T> = Rc<std::cell::RefCell<T>>;
