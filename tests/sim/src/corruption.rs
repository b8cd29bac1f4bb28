//! Runs in which the only copy of data is damaged: what is served is right, or it is an error.

use crate::plan::{Class, Plan};
use crate::run::{Failure, Outcome, Runner};

/// Runs one seed of the corruption class.
pub fn run_corruption(seed: u64) -> Result<Outcome, Failure> {
    let mut runner = Runner::new(Plan::new(seed, Class::Corruption));
    runner.prepare()?;
    runner.settle()
}
