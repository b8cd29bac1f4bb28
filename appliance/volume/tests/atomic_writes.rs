//! Atomic writes: after power loss all of the data is there, or none of it.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::broken::{life, lose_power, pool_of, read_fills};
use common::*;
use volume::{Command, ErrorKind, MAX_ATOMIC_BYTES, Volume};

const ONE: &[(&str, u64, u32)] = &[("demo", 4 << 20, 4096)];
const POOL: u64 = 64 << 20;
const BLOCKS: u64 = MAX_ATOMIC_BYTES as u64 / 4096;
/// One cluster, so that a write of it may go straight to its place.
const LBA: u64 = BLOCKS;

type Writes = fn(u64, reactor::buf::Buf) -> Command;

fn atomic(lba: u64, data: reactor::buf::Buf) -> Command {
    Command::WriteAtomic { lba, data }
}

fn ordinary(lba: u64, data: reactor::buf::Buf) -> Command {
    Command::Write { lba, data }
}

async fn opened() -> (volume::Engine, Volume) {
    let (engine, _) = open(Path::new(DISK)).await;
    let volume = engine.volume("demo").expect("it is there");
    (engine, volume)
}

/// What blocks hold after power was lost behind an acknowledged write that nobody flushed.
fn after_power_loss(seed: u64, writes: Writes) -> BTreeSet<Option<u8>> {
    let mut world = pool_of(seed, POOL, ONE);
    life(&mut world, move |_| async move {
        let (_engine, volume) = opened().await;
        let data = filled(MAX_ATOMIC_BYTES, 2).await;
        run(&volume, writes(LBA, data)).await.expect("written");
    });
    lose_power(&mut world);
    life(&mut world, |_| async {
        let (engine, volume) = opened().await;
        let found = read_fills(&volume, LBA, BLOCKS).await;
        engine.shutdown().await.expect("shutdown");
        found.into_iter().collect()
    })
}

#[test]
fn power_loss_leaves_all_of_an_atomic_write_or_nothing() {
    let mut seen = BTreeSet::new();
    for seed in 0..24 {
        let found = after_power_loss(seed, atomic);
        assert_eq!(found.len(), 1, "seed {seed}: {found:?}");
        seen.extend(found);
    }
    assert_eq!(seen, BTreeSet::from([Some(0), Some(2)]), "both ends happen");
}

/// Without it the test above would pass for any write.
#[test]
fn power_loss_tears_other_writes() {
    let torn = (0..24).filter(|seed| after_power_loss(*seed, ordinary).len() > 1);
    assert!(torn.count() > 0);
}

#[test]
fn atomic_writes_have_a_limit_and_are_read_back() {
    let mut world = pool_of(1, POOL, ONE);
    life(&mut world, |_| async {
        let (engine, volume) = opened().await;
        let data = filled(MAX_ATOMIC_BYTES + 4096, 1).await;
        let error = run(&volume, atomic(0, data)).await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let data = filled(MAX_ATOMIC_BYTES, 3).await;
        run(&volume, atomic(5, data)).await.expect("written");
        expect(&volume, 5, BLOCKS as u32, 3).await;
        expect(&volume, 4, 1, 0).await;
        settled(&volume).await;
        expect(&volume, 5, BLOCKS as u32, 3).await;
        engine.shutdown().await.expect("shutdown");
    });
}
