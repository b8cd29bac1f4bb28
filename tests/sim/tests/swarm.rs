//! The seeded swarm: thousands of small runs with crashes and faults, judged by the checkers.
//!
//! SIM_SEEDS: how many seeds (default 2000). SIM_SEED_BASE: the first. SIM_SEED: only this one.

use sim_tests::plan::Class;
use sim_tests::run::run_seed;
use sim_tests::seeds::{DEFAULT_SEEDS, fail, swarm};

/// Parts of the swarm, so that the test runner uses every core.
const PARTS: u64 = 4;

fn crash_part(part: u64) {
    let sum = swarm(part, PARTS, DEFAULT_SEEDS, Class::Crash);
    // A swarm that does nothing finds nothing.
    if sum.lives > 1_000 {
        assert!(sum.cut_off > 100 && sum.blocks_judged > 100_000, "{sum:?}");
        assert!(sum.pool_full > 0, "no run fills its pool: {sum:?}");
        assert!(sum.device_gone > 10 && sum.device_full > 10, "{sum:?}");
    }
}

#[test]
fn swarm_crash_0() {
    crash_part(0);
}

#[test]
fn swarm_crash_1() {
    crash_part(1);
}

#[test]
fn swarm_crash_2() {
    crash_part(2);
}

#[test]
fn swarm_crash_3() {
    crash_part(3);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| run_seed(seed, Class::Crash).unwrap_or_else(|failure| fail(&failure));
    for seed in 100..110 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(100).trace_hash, run(101).trace_hash);
}
