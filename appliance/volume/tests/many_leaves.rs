//! A flush cycle with more dirty leaves than one publish is sure to have room for.

mod common;

use std::path::Path;

use common::broken::*;
use common::*;
use reactor::sim::{Crash, World};
use store::format::node::LEAF_ENTRIES;
use volume::{Engine, Volume};

/// One page in every leaf, 3.6 MiB apart.
const LEAVES: u64 = 300;
const LEAF_BLOCKS: u64 = LEAF_ENTRIES as u64 * PAGES;
const ONE: &[(&str, u64, u32)] = &[(
    "a",
    LEAVES * LEAF_ENTRIES as u64 * store::CLUSTER_BYTES,
    4096,
)];
const POOL: u64 = 112 << 20;
/// What one publish takes of a pool of this size.
const STEP_LEAVES: u64 = 204;
const STEPS: u64 = LEAVES.div_ceil(STEP_LEAVES);

/// Dirties every leaf, so many at a time that the journal does not ask for a cycle.
async fn dirty_all(a: &Volume, fill: u8) {
    for first in (0..LEAVES).step_by(16) {
        let write_one = |leaf: u64| {
            let a = a.clone();
            reactor::spawn(async move { write(&a, leaf * LEAF_BLOCKS, 4096, fill).await })
        };
        let tasks: Vec<_> = (first..LEAVES.min(first + 16)).map(write_one).collect();
        for task in tasks {
            task.await;
        }
    }
}

async fn expect_all(a: &Volume, fill: u8) {
    for leaf in 0..LEAVES {
        expect(a, leaf * LEAF_BLOCKS, 1, fill).await;
    }
}

async fn volume_a() -> (Engine, Volume) {
    let (engine, _) = open(Path::new(DISK)).await;
    let a = engine.volume("a").expect("served");
    (engine, a)
}

fn steps(world: &World) -> u64 {
    let points = world.crash_points();
    points.get("flush::after_publish").copied().unwrap_or(0)
}

fn settle_with(world: &mut World, fill: u8) {
    life(world, move |_| async move {
        let (engine, a) = volume_a().await;
        dirty_all(&a, fill).await;
        assert_eq!(a.metrics().flush_cycles, 0, "all of it is one cycle's work");
        settled(&a).await;
        expect_all(&a, fill).await;
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn a_large_cycle_is_published_in_several_steps() {
    let mut world = pool_of(0, POOL, ONE);
    for fill in [1, 2] {
        let before = steps(&world);
        settle_with(&mut world, fill);
        assert_eq!(steps(&world) - before, STEPS);
        assert_clean(&mut world);
    }
}

#[test]
fn a_crash_between_the_steps_loses_nothing() {
    for step in 1..=STEPS {
        for crash in [Crash::Kill, Crash::PowerLoss] {
            let mut world = pool_of(step, POOL, ONE);
            settle_with(&mut world, 1);
            world.crash_at(NODE, "flush::after_publish", step, crash);
            world.start(NODE, 1, |_| async {
                let (_engine, a) = volume_a().await;
                dirty_all(&a, 2).await;
                write_fua(&a, 1, 4096, 3).await.expect("durable");
                settled(&a).await;
            });
            world.run_until(LIMIT, |world| !world.is_up(NODE));
            assert_eq!(world.last_crash(NODE), Some(crash));
            assert_clean(&mut world);
            life(&mut world, |_| async {
                let (engine, a) = volume_a().await;
                expect_all(&a, 2).await;
                expect(&a, 1, 1, 3).await;
                engine.shutdown().await.expect("shutdown");
            });
            assert_clean(&mut world);
        }
    }
}
