//! Tests of the tests: with a bug planted, crashes must leave traces that the checks notice.
#![cfg(feature = "mutations")]

mod common;

use common::LIMIT;
use common::crash::try_run;
use reactor::sim::Crash;
use store::mutation::{Mutation, select};

/// Crashes at one point, visit by visit and seed by seed, until a check complains.
fn caught(point: &str, seeds: u64) -> Option<String> {
    for seed in 0..seeds {
        for visit in [1, 3, 4, 8] {
            let result = try_run(seed, true, false, true, |world| {
                world.crash_at("target", point, visit, Crash::PowerLoss);
                world.run_until(LIMIT, |world| !world.is_up("target"));
                world.crashes("target") > 0
            });
            if let Err(what) = result {
                return Some(what);
            }
        }
    }
    None
}

// One test: the planted bug is a property of the process.
#[test]
fn planted_bugs_are_caught() {
    select(None);
    assert_eq!(
        caught("publish::after_superblock", 1),
        None,
        "without a bug nothing complains"
    );
    select(Some(Mutation::SkipFlushBeforeSuperblock));
    let what = caught("publish::after_superblock", 10).expect("skipped flush");
    // Metadata or data: whichever was still in the cache.
    assert!(
        what.contains("damaged") || what.contains("checksum"),
        "{what}"
    );
    select(Some(Mutation::FreeBeforePublish));
    let what = caught("publish::after_flush", 10).expect("freed too early");
    assert!(what.contains("checksum"), "{what}");
}
