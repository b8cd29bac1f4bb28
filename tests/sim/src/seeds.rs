//! Which seeds a test runs, and how it reports.

use std::env;

use crate::ledger::Totals;
use crate::plan::Class;
use crate::run::{Failure, run_seed};

/// Seeds of all parts of the crash swarm, unless SIM_SEEDS says otherwise.
pub const DEFAULT_SEEDS: u64 = 2_000;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} must be a number, not {text:?}"),
    }
}

/// The seeds of one part of a swarm: every `parts`-th of SIM_SEEDS (default `default_count`)
/// seeds from SIM_SEED_BASE (default 0) on. SIM_SEED runs that one seed only, in part 0.
pub fn of_part(part: u64, parts: u64, default_count: u64) -> Vec<u64> {
    if let Some(seed) = number("SIM_SEED") {
        return if part == 0 { vec![seed] } else { Vec::new() };
    }
    let base = number("SIM_SEED_BASE").unwrap_or(0);
    let count = number("SIM_SEEDS").unwrap_or(default_count);
    (base..base + count)
        .filter(|seed| seed % parts == part)
        .collect()
}

/// Runs one part of a swarm; panics at the first seed that fails, with all there is to know.
/// Returns the sum of what the runs did.
pub fn swarm(part: u64, parts: u64, default_count: u64, class: Class) -> Totals {
    let mut sum = Totals::default();
    let seeds = of_part(part, parts, default_count);
    for seed in &seeds {
        match run_seed(*seed, class) {
            Ok(outcome) => add(&mut sum, &outcome.totals),
            Err(failure) => fail(&failure),
        }
    }
    eprintln!("{class:?} part {part}: {} seeds, {sum:?}", seeds.len());
    sum
}

/// Reports a failed seed.
pub fn fail(failure: &Failure) -> ! {
    panic!("{failure}");
}

fn add(sum: &mut Totals, totals: &Totals) {
    sum.done += totals.done;
    sum.failed += totals.failed;
    sum.cut_off += totals.cut_off;
    sum.blocks_judged += totals.blocks_judged;
    sum.corrupt += totals.corrupt;
    sum.pool_full += totals.pool_full;
    sum.lives += totals.lives;
    sum.device_gone += totals.device_gone;
    sum.device_full += totals.device_full;
}
