//! Whether a gate holds.

use std::fmt::Write as _;

use serde::Serialize;

use super::gates::{Against, Gate};

/// Target / reference, the median over all rounds; for hardware the target's own figures, with
/// the percentile in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Commands a second.
    pub iops: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// What became of a gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "why")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It fell short, and in what.
    Short(String),
    /// It does not apply, and why.
    Skipped(String),
}

/// A gate, what was found and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The case.
    pub case: String,
    /// What it was compared with.
    pub against: &'static str,
    /// What was found; `None` when it was skipped.
    pub found: Option<Found>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Judges a gate by what was found, or says why nothing was.
pub fn judge(gate: &Gate, found: Result<Found, String>) -> Verdict {
    let outcome = match &found {
        Err(why) => Outcome::Skipped(why.clone()),
        Ok(found) => match shortfall(gate, found) {
            None => Outcome::Holds,
            Some(what) => Outcome::Short(what),
        },
    };
    Verdict {
        case: gate.case.clone(),
        against: name(gate.against),
        found: found.ok(),
        outcome,
    }
}

fn name(against: Against) -> &'static str {
    match against {
        Against::Loopback => "loopback",
        Against::Raw => "raw",
        Against::Baseline => "baseline",
        Against::Hardware => "hardware",
    }
}

/// What fell short. A figure that is no number falls short of everything.
fn shortfall(gate: &Gate, found: &Found) -> Option<String> {
    let mut short = Vec::new();
    if let Some(least) = gate.min_iops
        && (found.iops.is_nan() || found.iops < least)
    {
        short.push(format!("IOPS {:.3}, at least {least}", found.iops));
    }
    if let Some(most) = gate.max_p99
        && (found.p99.is_nan() || found.p99 > most)
    {
        short.push(format!("p99 {:.3}, at most {most}", found.p99));
    }
    (!short.is_empty()).then(|| short.join("; "))
}

/// The verdicts for people.
pub fn render(verdicts: &[Verdict]) -> String {
    let mut text = format!(
        "{:<28} {:<10} {:>12} {:>10}  verdict\n",
        "case", "against", "IOPS", "p99"
    );
    for verdict in verdicts {
        let (iops, p99) = match verdict.found {
            Some(found) => (format!("{:.3}", found.iops), format!("{:.3}", found.p99)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let said = match &verdict.outcome {
            Outcome::Holds => "holds".to_owned(),
            Outcome::Short(what) => format!("FALLS SHORT: {what}"),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        };
        let (case, against) = (&verdict.case, verdict.against);
        let _ = writeln!(
            text,
            "{case:<28} {against:<10} {iops:>12} {p99:>10}  {said}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(min_iops: Option<f64>, max_p99: Option<f64>) -> Gate {
        Gate {
            case: "4k-randread-qd1".to_owned(),
            against: Against::Loopback,
            min_iops,
            max_p99,
            nic_gbit: None,
        }
    }

    fn outcome(gate: &Gate, iops: f64, p99: f64) -> Outcome {
        judge(gate, Ok(Found { iops, p99 })).outcome
    }

    #[test]
    fn both_limits_are_judged_and_belong_to_the_good_side() {
        let gate = gate(Some(0.9), Some(1.1));
        assert_eq!(outcome(&gate, 0.9, 1.1), Outcome::Holds);
        assert!(matches!(outcome(&gate, 0.89, 1.0), Outcome::Short(w) if w.starts_with("IOPS")));
        assert!(matches!(outcome(&gate, 1.0, 1.2), Outcome::Short(w) if w.starts_with("p99")));
        assert!(matches!(outcome(&gate, 0.1, 9.0), Outcome::Short(w) if w.contains("; p99")));
    }

    #[test]
    fn no_number_is_no_pass() {
        let gate = gate(Some(0.9), None);
        assert!(matches!(outcome(&gate, f64::NAN, 1.0), Outcome::Short(_)));
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let verdict = judge(&gate(Some(0.9), None), Err("no --raw was given".to_owned()));
        assert!(render(&[verdict]).contains("skipped: no --raw was given"));
    }
}
