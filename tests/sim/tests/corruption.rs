//! The corruption swarm: damaged data is refused and found, never served.
//!
//! SIM_SEEDS, SIM_SEED_BASE, SIM_SEED: as for the crash swarm.

use sim_tests::plan::Class;
use sim_tests::seeds::swarm;

/// Seeds of both parts.
const SEEDS: u64 = 240;

fn part(part: u64) {
    let sum = swarm(part, 2, SEEDS, Class::Corruption);
    if sum.lives > 300 {
        assert!(sum.corrupt > 0, "nothing was damaged: {sum:?}");
    }
}

#[test]
fn swarm_corruption_0() {
    part(0);
}

#[test]
fn swarm_corruption_1() {
    part(1);
}
