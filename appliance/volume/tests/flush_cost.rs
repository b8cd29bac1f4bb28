//! What the flusher asks of the device, counted there.

mod common;

use std::path::Path;

use block::CountersSnapshot;
use common::broken::{life, pool_of, read_fills};
use common::*;
use volume::{Engine, Volume};

const ONE: &[(&str, u64, u32)] = &[("a", 32 << 20, 4096)];
const POOL: u64 = 64 << 20;

fn counted(engine: &Engine) -> CountersSnapshot {
    engine.snapshot_metrics().device
}

/// Writes these pages one after the other, then lets the flusher rest: its reads and its writes.
async fn cost_of(engine: &Engine, a: &Volume, pages: &[u64], fill: u8) -> (u64, u64) {
    for page in pages {
        write(a, *page, 4096, fill).await;
    }
    let before = counted(engine);
    settled(a).await;
    let after = counted(engine);
    (after.reads - before.reads, after.writes - before.writes)
}

#[test]
fn pages_of_a_cluster_reach_it_in_one_write_in_whatever_order_they_came() {
    // None of the payloads stays in memory, a few do, all do.
    for payload_bytes in [0, 40 << 10, 4 << 20] {
        let mut world = pool_of(1, POOL, ONE);
        life(&mut world, move |_| async move {
            let (engine, _) = open_with(Path::new(DISK), payload_bytes).await;
            let a = engine.volume("a").expect("served");
            // 13 and 32 have no common factor: every page once, none beside the one before.
            let shuffled: Vec<u64> = (0..PAGES).map(|at| at * 13 % PAGES).collect();
            cost_of(&engine, &a, &shuffled, 1).await;
            let (_, one_page) = cost_of(&engine, &a, &[5], 2).await;
            let (reads, all_pages) = cost_of(&engine, &a, &shuffled, 3).await;
            assert_eq!(all_pages, one_page, "payload memory {payload_bytes}");
            assert!(reads <= PAGES && (reads == 0) == (payload_bytes > 1 << 20));
            expect(&a, 0, PAGES as u32, 3).await;
            engine.shutdown().await.expect("shut down");
        });
    }
}

#[test]
fn a_bad_page_takes_no_neighbour_along_when_pages_are_gathered() {
    let mut world = pool_of(1, POOL, ONE);
    life(&mut world, |disk| async move {
        let (engine, _) = open_with(Path::new(DISK), 0).await;
        let a = engine.volume("a").expect("served");
        // Together in the journal as in the cluster, so they are read together.
        write(&a, 0, 4 * 4096, 7).await;
        let bytes = disk.bytes(0..POOL);
        let is_ours = |at: &usize| bytes[*at..][..4 * 4096].iter().all(|byte| *byte == 7);
        let offset = (0..bytes.len() - 4 * 4096).step_by(4096).find(is_ours);
        let bad = offset.expect("in the journal") as u64 + 2 * 4096;
        disk.latent_error(bad..bad + 4096);
        settled(&a).await;
        disk.clear_latent_errors();
        let expected = [Some(7), Some(7), None, Some(7)];
        assert_eq!(read_fills(&a, 0, 4).await, expected);
    });
}

#[test]
fn a_cycle_is_not_followed_by_one_that_has_hardly_anything_to_do() {
    let mut world = pool_of(1, POOL, ONE);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let a = engine.volume("a").expect("served");
        for page in 0..8192 {
            write(&a, page * 997 % 8192, 4096, page as u8).await;
        }
        // A cycle begins when half of the journal of 4 MiB is in use.
        let (done, worth) = (a.metrics().flush_cycles, a.metrics().journal_bytes >> 21);
        assert!(
            (worth * 3 / 4..=worth).contains(&done),
            "{done} cycles of {worth}"
        );
    });
}
