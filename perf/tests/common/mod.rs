//! Runs the real binary.

use std::process::{Command, Output, Stdio};

/// What every load in these tests has: short, and kind to a shared machine.
const SHORT: &[[&str; 2]] = &[["--time", "300ms"], ["--ramp", "50ms"], ["--wait", "poll"]];

/// The binary, dying with the test.
pub fn perf(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(env!("CARGO_BIN_EXE_bedplate-perf"))
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// One short run against `address`.
pub fn run(address: &str, arguments: &[&str]) -> Output {
    let mut all = vec!["run", "--connect", address];
    let given = |option| arguments.contains(&option);
    all.extend(SHORT.iter().filter(|short| !given(short[0])).flatten());
    all.extend_from_slice(arguments);
    perf(&all).output().expect("it runs")
}

/// The result of a short run that must succeed.
#[track_caller]
pub fn run_json(address: &str, arguments: &[&str]) -> serde_json::Value {
    let mut all = vec!["--output", "json"];
    all.extend_from_slice(arguments);
    let output = run(address, &all);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What it said on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
