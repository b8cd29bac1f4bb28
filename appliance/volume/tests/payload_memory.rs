//! Payloads that the index keeps in memory never take the memory that new requests need.

mod common;

use std::time::Duration;

use common::broken::{life, pool_of};
use common::*;
use volume::{Engine, EngineOptions, VolumeSpec};

/// More pages than the I/O pool of the simulated core has buffers, in a journal that takes them.
const PAGES: u64 = 6_000;
/// Far below the flusher's idle time, far above what one write takes.
const LONGEST: Duration = Duration::from_millis(200);

#[test]
fn small_writes_do_not_wait_for_the_memory_of_earlier_ones() {
    let mut world = pool_of(1, 512 << 20, &[]);
    life(&mut world, |_| async {
        // More than the pool has in small buffers: larger ones stand in for them.
        let options = EngineOptions {
            payload_bytes: Some(reactor::buf::pool().capacity_bytes() / 3),
            ..EngineOptions::new(DISK)
        };
        let (engine, _) = Engine::open(options).await.expect("it opens");
        let spec = VolumeSpec {
            journal_bytes: Some(256 << 20),
            ..spec("demo", 64 << 20, 4096)
        };
        let volume = engine.create_volume(spec).await.expect("room");
        for page in 0..PAGES {
            let start = reactor::now();
            write(&volume, page, 4096, page as u8).await;
            let took = start.elapsed();
            assert!(took < LONGEST, "page {page} took {took:?}");
        }
        engine.shutdown().await.expect("shut down");
    });
}
