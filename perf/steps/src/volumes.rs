//! Requests to a volume whose pool is in memory, without a frontend.

use std::future::Future;
use std::time::Duration;

use block::Device;
use reactor::JoinHandle;
use reactor::time::sleep;
use volume::{Command, Engine, EngineOptions, PoolSpec, Request, Volume, VolumeSpec};

use crate::{DEPTH, in_world};

const PAGE_BYTES: u64 = 4096;
const LARGE_BYTES: u64 = 128 << 10;
/// Pages that small requests use: 16 clusters.
const SPAN_PAGES: u64 = 1024;
/// No two requests that follow each other meet in a page or in neighbours.
const STRIDE: u64 = 7;
/// Longer than the flusher waits when nothing is written.
const FLUSHED_AFTER: Duration = Duration::from_secs(10);
/// Pages that `flush_page` writes in all, and before each time it lets the flusher run.
const FLUSH_TOTAL: u64 = 1024;
const FLUSH_ROUND: u64 = 256;

/// A new volume and what is below it.
#[derive(Clone)]
pub(crate) struct Setup {
    pub device: Device,
    pub volume: Volume,
    // The pool closes without it.
    _engine: Engine,
}

impl Setup {
    /// The journal takes all that any step writes, so the flusher runs only when a step waits.
    pub(crate) async fn new(name: &str) -> Setup {
        let device = Device::in_memory("steps", 256 << 20).expect("memory");
        let pool = PoolSpec {
            name: "main".into(),
            file_bytes: None,
            overwrite: false,
        };
        Engine::create_pool_on(device.clone(), &pool)
            .await
            .expect("a pool");
        let mut options = EngineOptions::new("steps");
        // As on a device that is not memory: what was written stays beside the journal.
        options.payloads_beside_memory = true;
        let (engine, _) = Engine::open_on(device.clone(), options)
            .await
            .expect("it opens");
        let spec = VolumeSpec {
            name: name.into(),
            size_bytes: 128 << 20,
            block_bytes: PAGE_BYTES as u32,
            journal_bytes: Some(16 << 20),
        };
        let volume = engine.create_volume(spec).await.expect("room for it");
        Setup {
            device,
            volume,
            _engine: engine,
        }
    }

    /// Writes the first `pages` pages.
    pub(crate) async fn fill(&self, pages: u64) {
        for index in 0..pages * PAGE_BYTES / LARGE_BYTES {
            self.write(index * (LARGE_BYTES / PAGE_BYTES), LARGE_BYTES)
                .await;
        }
    }

    /// Waits until nothing is dirty.
    pub(crate) async fn flushed(&self) {
        sleep(FLUSHED_AFTER).await;
    }

    async fn write(&self, lba: u64, len_bytes: u64) {
        let data = reactor::buf::pool()
            .try_alloc(len_bytes as usize)
            .expect("memory");
        let request = Request::new(Command::Write { lba, data });
        self.volume.execute(request).await.expect("a good device");
    }

    async fn read(&self, lba: u64, len_bytes: u64) {
        let block_count = (len_bytes / PAGE_BYTES) as u32;
        let request = Request::new(Command::Read { lba, block_count });
        let data = self.volume.execute(request).await.expect("a good device");
        assert_eq!(data.map(|data| data.len() as u64), Some(len_bytes));
    }

    /// Bytes that were read from and written to the device while `work` ran.
    async fn moved(&self, work: impl Future<Output = ()>) -> (u64, u64) {
        let before = self.device.counters().snapshot();
        work.await;
        let after = self.device.counters().snapshot();
        (
            after.read_bytes - before.read_bytes,
            after.written_bytes - before.written_bytes,
        )
    }
}

fn page(index: u64) -> u64 {
    index * STRIDE % SPAN_PAGES
}

/// Reads one after another of `len_bytes` each, from the device.
async fn read_map(len_bytes: u64, count: u64) {
    let setup = Setup::new("steps").await;
    setup.fill(SPAN_PAGES).await;
    setup.flushed().await;
    let places = SPAN_PAGES * PAGE_BYTES / len_bytes;
    let (read_bytes, _) = setup
        .moved(async {
            for index in 0..count {
                let place = index * STRIDE % places;
                setup.read(place * len_bytes / PAGE_BYTES, len_bytes).await;
            }
        })
        .await;
    assert_eq!(
        read_bytes,
        count * len_bytes,
        "each read comes from the device"
    );
}

/// A page that is in the map, read from the device and verified.
pub(crate) fn read_4k_map(count: u64) {
    in_world(move || read_map(PAGE_BYTES, count));
}

/// 32 pages that lie together in the map.
pub(crate) fn read_128k_map(count: u64) {
    in_world(move || read_map(LARGE_BYTES, count));
}

/// A page that the flusher has not moved yet, read from the memory of the index.
pub(crate) fn read_4k_dirty(count: u64) {
    in_world(move || async move {
        let setup = Setup::new("steps").await;
        write_at_depth(&setup, 0, SPAN_PAGES).await;
        let (read_bytes, _) = setup
            .moved(async {
                for index in 0..count {
                    setup.read(page(index), PAGE_BYTES).await;
                }
            })
            .await;
        assert_eq!(read_bytes, 0, "each read comes from memory");
    });
}

/// A page written, alone in its batch.
pub(crate) fn write_4k_qd1(count: u64) {
    in_world(move || async move {
        let setup = Setup::new("steps").await;
        for index in 0..count {
            setup.write(page(index), PAGE_BYTES).await;
        }
    });
}

/// A page written while 31 others are: they share their batches.
pub(crate) fn write_4k_qd32(count: u64) {
    in_world(move || async move {
        let setup = Setup::new("steps").await;
        write_at_depth(&setup, 0, count).await;
    });
}

/// Writes `count` pages from the numbers `first` on, 32 at a time.
async fn write_at_depth(setup: &Setup, first: u64, count: u64) {
    let mut workers: [Option<JoinHandle<()>>; DEPTH as usize] = [const { None }; _];
    for (worker, place) in (0..DEPTH).zip(&mut workers) {
        let setup = setup.clone();
        *place = Some(reactor::spawn(async move {
            for round in 0..count / DEPTH {
                setup
                    .write(page(first + round * DEPTH + worker), PAGE_BYTES)
                    .await;
            }
        }));
    }
    for worker in workers.into_iter().flatten() {
        worker.await;
    }
}

/// 128 KiB that go straight to their place, with only a descriptor in the journal.
pub(crate) fn write_128k(count: u64) {
    in_world(move || async move {
        let setup = Setup::new("steps").await;
        let pages = count * LARGE_BYTES / PAGE_BYTES;
        let (_, written_bytes) = setup.moved(setup.fill(pages)).await;
        let most = count * (LARGE_BYTES + PAGE_BYTES);
        assert!(
            written_bytes <= most,
            "{written_bytes} written: not all went directly"
        );
    });
}

/// The flusher's part of a scattered page. All runs write the same pages; only the first `count`
/// of them are flushed, so the writes cancel out.
pub(crate) fn flush_page(count: u64) {
    in_world(move || async move {
        let setup = Setup::new("steps").await;
        for first in (0..FLUSH_TOTAL).step_by(FLUSH_ROUND as usize) {
            write_at_depth(&setup, first, FLUSH_ROUND).await;
            if first < count {
                let (_, written_bytes) = setup.moved(setup.flushed()).await;
                assert!(
                    written_bytes >= FLUSH_ROUND * PAGE_BYTES,
                    "the flusher did not run"
                );
            }
        }
    });
}
