//! Each step of the data path takes the instructions that `budget.toml` allows, and not many less.
//!
//! `UPDATE_BUDGET=1` writes what was counted into `budget.toml`. perf/budget.md says what counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use perf_steps::{STEPS, Step};

/// Above this share of its budget a step has become slower.
const CEILING: f64 = 1.05;
/// Below this share the budget no longer guards what was gained.
const FLOOR: f64 = 0.80;
/// So few instructions either way are the compiler's choice of what to inline.
const INLINED: u64 = 16;

/// Where callgrind counts: in the turns of the executor, but for what stands in for the kernel.
/// Entering either switches counting over, and leaving it switches back.
const COUNTED: &[&str] = &[
    "--collect-atstart=no",
    "--toggle-collect=reactor::executor::Executor::turn",
    "--toggle-collect=<reactor::sim::backend::WorldBackend as reactor::backend::SimBackend>::*",
];
/// A copy by `rep movsb` would count as one instruction for each byte.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=0x40000000:\
                        glibc.cpu.x86_rep_stosb_threshold=0x40000000";

const HEAD: &str = "\
# Instructions of each step of the data path, one line a step: see perf/budget.md.
# Written by: UPDATE_BUDGET=1 cargo nextest run -p bedplate-perf-steps
";

#[cfg_attr(
    not(target_arch = "x86_64"),
    ignore = "the budget is of x86-64 instructions"
)]
#[test]
fn every_step_keeps_its_budget() {
    let program = build();
    let found: Vec<(&str, u64)> = STEPS
        .iter()
        .map(|step| (step.name, instructions(&program, step)))
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml");
    if std::env::var_os("UPDATE_BUDGET").is_some() {
        fs::write(&path, written(&found)).expect("budget.toml is ours to write");
        return;
    }
    let text = fs::read_to_string(&path).expect("budget.toml is part of the source");
    let budgets = toml::from_str(&text).expect("one number for each step");
    let (table, is_kept) = judge(&found, &budgets);
    assert!(is_kept, "\n{table}");
    println!("{table}");
}

/// Builds the program as it ships: with the debug assertions of the other test builds a step takes
/// two to three times the instructions.
fn build() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_bedplate-perf-steps"));
    let target = own.ancestors().nth(2).expect("target/PROFILE/PROGRAM");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            env!("CARGO_PKG_NAME"),
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the program does not build");
    target.join("release").join(env!("CARGO_PKG_NAME"))
}

/// Instructions of one repetition.
fn instructions(program: &Path, step: &Step) -> u64 {
    let [few, many] = step.counts;
    let more = count(program, step, many) - count(program, step, few);
    let instructions = more.div_ceil(many - few);
    assert!(instructions > 0, "{}: nothing was counted", step.name);
    instructions
}

fn count(program: &Path, step: &Step, repetitions: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(COUNTED)
        .arg(program)
        .args([step.name, &repetitions.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("valgrind is missing: apt-get install valgrind, or `make test-tools`")
        }
        output => output.expect("valgrind runs"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} x {repetitions}: {said}",
        step.name
    );
    let collected = said
        .split("Collected : ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let collected = collected.and_then(|number| number.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("callgrind does not say what it collected: {said}"))
}

/// The table of all steps, and whether each keeps its budget.
fn judge(found: &[(&str, u64)], budgets: &BTreeMap<String, u64>) -> (String, bool) {
    let mut table = format!("{:<20} measured   budget  ratio\n", "step");
    let mut is_kept = true;
    for &(name, measured) in found {
        let budget = budgets.get(name).copied().unwrap_or(0);
        let ratio = measured as f64 / budget as f64;
        let verdict = verdict(measured, budget);
        is_kept &= verdict.is_empty();
        table += &format!("{name:<20} {measured:>8} {budget:>8} {ratio:>6.3}{verdict}\n");
    }
    let is_step = |name: &String| found.iter().any(|(step, _)| step == name);
    for name in budgets.keys().filter(|name| !is_step(name)) {
        is_kept = false;
        table += &format!("{name:<20} is no step: remove its line\n");
    }
    (table, is_kept)
}

fn verdict(measured: u64, budget: u64) -> String {
    if budget == 0 {
        return format!("  no budget: write {measured}");
    }
    let ratio = measured as f64 / budget as f64;
    match measured.abs_diff(budget) {
        0..=INLINED => String::new(),
        _ if ratio > CEILING => "  over budget".to_owned(),
        _ if ratio < FLOOR => format!("  the budget can be tightened: write {measured}"),
        _ => String::new(),
    }
}

fn written(found: &[(&str, u64)]) -> String {
    let line = |(name, count): &(&str, u64)| format!("{name} = {count}\n");
    HEAD.to_owned() + &found.iter().map(line).collect::<String>()
}

#[test]
fn a_step_is_judged_both_ways() {
    for (budgeted, found, is_kept, says) in [
        (("step", 1000), ("step", 1050), true, "1.050"),
        (("step", 1000), ("step", 1051), false, "over budget"),
        (("step", 1000), ("step", 800), true, "0.800"),
        (("step", 1000), ("step", 799), false, "write 799"),
        (("small", 67), ("small", 51), true, "0.761"),
        (("small", 67), ("small", 83), true, "1.239"),
        (("small", 67), ("small", 84), false, "over budget"),
        (("step", 1000), ("new", 7), false, "no budget: write 7"),
        (("step", 1000), ("new", 7), false, "is no step"),
    ] {
        let budgets = toml::from_str(&written(&[budgeted])).expect("it is TOML");
        let (table, kept) = judge(&[found], &budgets);
        assert!(
            kept == is_kept && table.contains(says),
            "{found:?}: {table}"
        );
    }
}
