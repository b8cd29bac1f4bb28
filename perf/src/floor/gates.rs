//! The gates: read from a file, judged against what was measured.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::PerfError;

/// The gates that come with the program.
const BUILT_IN: &str = include_str!("../../floor.toml");

/// What a gate compares with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The null target over the same TCP, in the same round.
    Loopback,
    /// A file or device through io_uring, in the same round.
    Raw,
    /// What was stored on this machine; both sides relative to loopback.
    Baseline,
    /// Absolute figures, on hardware that can reach them.
    Hardware,
}

/// One thing that must hold.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The case.
    pub case: String,
    /// What it is compared with.
    pub against: Against,
    /// Least commands a second: a ratio, for hardware absolute.
    pub min_iops: Option<f64>,
    /// Largest 99th percentile: a ratio, for hardware in microseconds.
    pub max_p99: Option<f64>,
    /// Hardware only: speed of the network card that makes the gate apply.
    pub nic_gbit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    gate: Vec<Gate>,
}

/// Reads the gates of `path`, or the built-in ones.
///
/// Errors: `File`; `Option` with the parser's words, which name the line.
pub fn load(path: Option<&Path>) -> Result<Vec<Gate>, PerfError> {
    match path {
        None => parse(BUILT_IN, "(built in)"),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|source| PerfError::File {
                path: path.to_owned(),
                source,
            })?;
            parse(&text, &path.display().to_string())
        }
    }
}

fn parse(text: &str, name: &str) -> Result<Vec<Gate>, PerfError> {
    let file: File = toml::from_str(text)
        .map_err(|error| PerfError::option("--gates", name, error.to_string()))?;
    for gate in &file.gate {
        check(gate).map_err(|problem| {
            PerfError::option("--gates", name, format!("case {}: {problem}", gate.case))
        })?;
    }
    Ok(file.gate)
}

fn check(gate: &Gate) -> Result<(), &'static str> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if gate.min_iops.is_none() && gate.max_p99.is_none() {
        return Err("needs min_iops, max_p99 or both");
    }
    if ![gate.min_iops, gate.max_p99]
        .into_iter()
        .flatten()
        .all(positive)
    {
        return Err("min_iops and max_p99 must be above 0");
    }
    match (gate.against, gate.nic_gbit) {
        (Against::Hardware, None) => Err("a hardware gate needs nic_gbit"),
        (Against::Hardware, Some(_)) | (_, None) => Ok(()),
        _ => Err("nic_gbit goes with hardware only"),
    }
}

/// The names of all cases, each once.
pub fn cases<'a>(gates: impl Iterator<Item = &'a Gate>) -> Vec<String> {
    let names: BTreeSet<&str> = gates.map(|gate| gate.case.as_str()).collect();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_gates_are_valid_and_their_cases_exist() {
        let gates = load(None).unwrap();
        assert!(gates.len() >= 8);
        for case in cases(gates.iter()) {
            crate::compare::parse_case(&case).unwrap();
        }
    }

    #[test]
    fn a_gate_that_says_nothing_or_too_much_is_refused() {
        let gate = |rest: &str| format!("[[gate]]\ncase = \"4k-randread-qd1\"\n{rest}");
        for rest in [
            "against = \"loopback\"",
            "against = \"loopback\"\nmin_iops = -1.0",
            "against = \"loopback\"\nmin_iops = nan",
            "against = \"loopback\"\nmin_iops = 1.0\nnic_gbit = 25",
            "against = \"hardware\"\nmin_iops = 1.0",
            "against = \"hearsay\"\nmin_iops = 1.0",
            "against = \"loopback\"\nmin_iops = 1.0\nmax_p98 = 1.0",
            "min_iops = 1.0",
        ] {
            assert!(parse(&gate(rest), "test").is_err(), "{rest:?} was taken");
        }
        assert!(parse(&gate("against = \"raw\"\nmin_iops = 0.5"), "test").is_ok());
    }
}
