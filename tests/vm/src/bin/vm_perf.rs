//! Compares ours with the kernel's own target inside a VM: `make vm-perf`.
//!
//! What is measured and which variables change it: `tests/vm/README.md`. Prints a line for each
//! result and a table of ratios at the end. Exit code 1 when something could not be measured; a
//! ratio that falls short is not an error here.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use vm_tests::Result;
use vm_tests::perf::{Plan, Turn, render, run};

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vm-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<()> {
    let plan = Plan::from_environment()?;
    println!("{}", plan.describe());
    let cases = run("perf", &plan, show)?;
    println!("\n{}", render(&cases));
    Ok(())
}

fn show(turn: &Turn) {
    println!(
        "round {} {:<14} {:<5} {:>7.0}/s, latency {:>8.0} us, idle {:>3.0} %, bedplate {:.2} CPUs",
        turn.round,
        turn.case,
        turn.side.name(),
        turn.per_s,
        turn.latency_us,
        turn.idle * 100.0,
        turn.ours_cpus,
    );
}
