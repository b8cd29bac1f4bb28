//! `bedplate-perf-steps STEP COUNT` runs one step of the data path COUNT times and ends.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use perf_steps::{STEPS, step};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = &arguments[..]
        && let (Some(step), Ok(count)) = (step(name), count.parse())
    {
        (step.run)(count);
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    eprintln!(
        "usage: bedplate-perf-steps STEP COUNT\nsteps: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}
