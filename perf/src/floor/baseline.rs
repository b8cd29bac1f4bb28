//! What was measured on this machine before, relative to its loopback.
//!
//! Stored ratios and not figures: a machine that is slower today is slower for both sides.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::PerfError;
use crate::output::{Machine, to_json};

const SCHEMA: u32 = 1;

/// Target / loopback of one case.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Commands a second.
    pub iops: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A stored result.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    schema: u32,
    cpu: String,
    cores: usize,
    /// Case → level.
    pub cases: BTreeMap<String, Level>,
}

impl Baseline {
    /// A result of this machine.
    pub fn new(machine: &Machine, cases: BTreeMap<String, Level>) -> Self {
        Self {
            schema: SCHEMA,
            cpu: machine.cpu.clone(),
            cores: machine.cores,
            cases,
        }
    }

    /// Reads a stored result.
    ///
    /// Errors: `File`; `Option` when it is none, of another schema, or of another machine.
    pub fn load(path: &Path, machine: &Machine) -> Result<Self, PerfError> {
        let text = fs::read_to_string(path).map_err(|source| PerfError::File {
            path: path.to_owned(),
            source,
        })?;
        let bad = |problem: String| PerfError::option("--baseline", path.display(), problem);
        let stored: Self = serde_json::from_str(&text)
            .map_err(|error| bad(format!("{error}: make it with --save")))?;
        if stored.schema != SCHEMA {
            return Err(bad(format!(
                "schema {}: make it again with --save",
                stored.schema
            )));
        }
        if (&stored.cpu, stored.cores) != (&machine.cpu, machine.cores) {
            let other = format!(
                "of another machine ({}, {} cores)",
                stored.cpu, stored.cores
            );
            return Err(bad(format!("{other}: make one here with --save")));
        }
        Ok(stored)
    }

    /// Stores it.
    ///
    /// Errors: `File`.
    pub fn save(&self, path: &Path) -> Result<(), PerfError> {
        fs::write(path, to_json(self) + "\n").map_err(|source| PerfError::File {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_on_the_same_machine_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("baseline.json");
        let machine = Machine::this();
        let level = Level {
            iops: 0.5,
            p99: 2.0,
        };
        let stored = Baseline::new(&machine, [("4k-randread-qd1".to_owned(), level)].into());
        stored.save(&path).unwrap();
        assert_eq!(Baseline::load(&path, &machine).unwrap(), stored);
        let other = Machine {
            cores: machine.cores + 1,
            ..machine.clone()
        };
        assert!(Baseline::load(&path, &other).is_err());
        fs::write(&path, "{}").unwrap();
        assert!(Baseline::load(&path, &machine).is_err());
    }
}
