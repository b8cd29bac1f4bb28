//! The conformance suite `iscsi-test-cu` of libiscsi: which tests it has and how one is run.
//!
//! Each test runs in a process of its own, since one leaves hooks behind that spoil the next. Its
//! two URLs are two sessions, which the tests of several paths and of reservations need.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::verdict::Verdict;
use crate::binary::{Finished, mortal, run_to_end};

const PROGRAM: &str = "iscsi-test-cu";
/// Longest time that listing or compiling may take.
const SHORT: Duration = Duration::from_secs(60);

/// Tests that are wrong themselves, and run with the library of [`mend`].
pub const MENDED: [&str; 3] = [
    "ALL.iSCSITMF.LUNResetSimpleAsync",
    "ALL.WriteSame10.UnmapUntilEnd",
    "ALL.GetLBAStatus.UnmapSingle",
];

/// Names of all tests, `ALL.Suite.Test`.
#[must_use]
pub fn names() -> Vec<String> {
    let mut command = mortal(PROGRAM);
    command.arg("--list");
    let listed = run_to_end(command, format!("{PROGRAM} --list"), SHORT);
    let listed = listed.expect("the list comes").expect_code(0);
    let names = listed.stdout.lines().filter(|line| is_test(line));
    names.map(str::to_owned).collect()
}

/// `ALL` stands for every family; without the third part it is a suite.
fn is_test(name: &str) -> bool {
    name.starts_with("ALL.") && name.split('.').count() == 3
}

/// One test on one logical unit.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Its name.
    pub test: &'a str,
    /// Two paths to the unit.
    pub urls: [&'a str; 2],
    /// Longest time it may take.
    pub limit: Duration,
    /// The library from [`mend`].
    pub mend: &'a Path,
}

impl Run<'_> {
    /// Runs it, everything on the unit may be destroyed.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        Verdict::of(&self.run())
    }

    fn run(&self) -> Result<Finished, Finished> {
        let mut command = mortal(PROGRAM);
        command.args(["--dataloss", "--allow-sanitize", "-v", "-t", self.test]);
        command.args(self.urls);
        if MENDED.contains(&self.test) {
            command.env("LD_PRELOAD", self.mend);
        }
        run_to_end(command, format!("{PROGRAM} -t {}", self.test), self.limit)
    }
}

/// Compiles the library that puts right what is wrong in a few tests of release 1.19, see
/// `docs/iscsi-suite.md`.
#[must_use]
pub fn mend(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/iscsi/mend.c");
    let library = directory.join("mend.so");
    let mut command = mortal("cc");
    command.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
    command.arg(&library).arg(source);
    let compiled = run_to_end(command, "cc".to_owned(), SHORT);
    compiled.expect("the compiler ends").expect_code(0);
    library
}

/// Tests that may be left out, from the first table of `docs/iscsi-suite.md`, with their reasons.
#[must_use]
pub fn allowed_skips(page: &str) -> Vec<(String, String)> {
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`');
        let reason = cells.next()?.trim();
        Some((format!("ALL.{name}"), reason.to_owned()))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_tests_without_their_family() {
        let page = "text\n| test | why |\n|---|---|\n| `A.B` | none |\n| `C.D` | other |\nmore";
        let skips = allowed_skips(page);
        let expected = [("ALL.A.B", "none"), ("ALL.C.D", "other")];
        assert_eq!(
            skips,
            expected.map(|(name, why)| (name.to_owned(), why.to_owned()))
        );
    }

    #[test]
    fn suites_and_families_are_no_tests() {
        let tests: Vec<_> = [
            "ALL",
            "ALL.Read10",
            "ALL.Read10.Simple",
            "SCSI.Read10.Simple",
        ]
        .into_iter()
        .filter(|name| is_test(name))
        .collect();
        assert_eq!(tests, ["ALL.Read10.Simple"]);
    }
}
