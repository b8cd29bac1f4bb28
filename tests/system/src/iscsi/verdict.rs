//! What one run of the conformance suite's program means.
//!
//! Its exit status is 0 for a test that passed and for one that tried nothing, so its words count.

use crate::Finished;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ran, and all it asserts holds.
    Passed,
    /// It, or a part of it, was left out; the program's reasons.
    Skipped(Vec<String>),
    /// It failed, crashed, did not run or did not end; all that the program said.
    Failed(String),
}

impl Verdict {
    /// Judges a run of one test; `Err` is one that had to be killed.
    #[must_use]
    pub fn of(run: &Result<Finished, Finished>) -> Self {
        match run {
            Err(killed) => Self::Failed(format!("killed, it did not end\n{killed}")),
            Ok(finished) if finished.code != Some(0) => Self::Failed(finished.to_string()),
            Ok(finished) => match tests_passed(&finished.stdout) {
                Some(1) => Self::of_words(&finished.text()),
                _ => Self::Failed(finished.to_string()),
            },
        }
    }

    /// Judges what a test that asserts nothing wrong said.
    fn of_words(text: &str) -> Self {
        let reasons: Vec<String> = text.lines().filter_map(reason).collect();
        if reasons.is_empty() {
            Self::Passed
        } else {
            Self::Skipped(reasons)
        }
    }
}

/// Why something was left out, when that is what the line says.
fn reason(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("[SKIPP")?;
    let (_, why) = rest.split_once(']')?;
    Some(why.trim().to_owned())
}

/// Tests that passed; `None` unless the summary is there and as many ran as there were.
fn tests_passed(text: &str) -> Option<u32> {
    let row = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tests "));
    let numbers: Result<Vec<u32>, _> = row?.split_whitespace().map(str::parse).collect();
    match numbers.ok()?[..] {
        [total, ran, passed, 0, 0] if total == ran && ran == passed => Some(passed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, words: &str, row: &str) -> Result<Finished, Finished> {
        Ok(Finished {
            code: Some(code),
            stdout: format!(
                "Suite: Read10\n  Test: Simple ...{words}\n\n\
                 Run Summary:    Type  Total    Ran Passed Failed Inactive\n\
                 \x20             suites      1      1    n/a      0        0\n\
                 \x20              tests      {row}\n\
                 \x20            asserts    512    512    512      0      n/a\n"
            ),
            stderr: String::new(),
            line: "iscsi-test-cu".to_owned(),
        })
    }

    const ONE: &str = "1      1      1      0        0";

    #[test]
    fn a_test_passes_by_its_words_not_by_its_exit_status() {
        assert_eq!(Verdict::of(&said(0, "passed", ONE)), Verdict::Passed);
        let skipped = "    [SKIPPED] READ12 is not implemented.\npassed";
        let reasons = vec!["READ12 is not implemented.".to_owned()];
        assert_eq!(
            Verdict::of(&said(0, skipped, ONE)),
            Verdict::Skipped(reasons)
        );
    }

    #[test]
    fn what_failed_or_did_not_run_has_not_passed() {
        let rows = [
            (1, "FAILED", "1      1      0      1        0"),
            (0, "FAILED", "1      1      0      1        0"),
            (0, "", "0      0      0      0        0"),
            (0, "passed", "1      1      1      0        1"),
            (134, "passed", ONE),
        ];
        for (code, words, row) in rows {
            let verdict = Verdict::of(&said(code, words, row));
            assert!(
                matches!(verdict, Verdict::Failed(_)),
                "{code} {words} {row}"
            );
        }
        let killed = said(0, "passed", ONE).and_then(Err);
        assert!(matches!(Verdict::of(&killed), Verdict::Failed(_)));
        let silent = said(0, "passed", ONE).map(|run| Finished {
            stdout: "Failed to connect to SCSI device 0".to_owned(),
            ..run
        });
        assert!(matches!(Verdict::of(&silent), Verdict::Failed(_)));
    }
}
