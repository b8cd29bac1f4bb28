//! The comparison for people.

use std::fmt::Write as _;

use super::{CaseResult, Comparison, Ratio};
use crate::units::{show_rate, show_us};

/// Idle share below which the client hides the difference of the targets.
const CLIENT_LIMIT: f64 = 0.03;

/// Renders the table.
pub fn render(comparison: &Comparison) -> String {
    let (candidate, reference) = (&comparison.candidate, &comparison.reference);
    let mut text = format!(
        "candidate {} {} ({})\nreference {} {} ({})\n{}, {} cores, kernel {}, load {}\n",
        candidate.address,
        candidate.name,
        candidate.model,
        reference.address,
        reference.name,
        reference.model,
        comparison.machine.cpu,
        comparison.machine.cores,
        comparison.machine.kernel,
        comparison.machine.load_average
    );
    let _ = writeln!(
        text,
        "{} rounds of {} s in alternating order; candidate / reference: median [min - max], IQR\n\
         IOPS above 1 and latency below 1 are better\n",
        comparison.rounds, comparison.seconds
    );
    let _ = writeln!(
        text,
        "{:<28} {:<30} {:<22} {:<22} {:<26} p99 us",
        "case", "IOPS", "p50", "p99", "level IOPS"
    );
    for case in &comparison.cases {
        text += &row(case);
    }
    text
}

fn row(case: &CaseResult) -> String {
    let (ours, theirs) = case.iops.levels();
    let (our_p99, their_p99) = case.p99.levels();
    let limit = if case.client_idle_share < CLIENT_LIMIT {
        "  (client at its limit)"
    } else {
        ""
    };
    format!(
        "{:<28} {:<30} {:<22} {:<22} {:<26} {} / {}{limit}\n",
        case.case,
        format!("{}, {:.3}", spread(&case.iops), case.iops.q3 - case.iops.q1),
        spread(&case.p50),
        spread(&case.p99),
        format!("{}/ {}", show_rate(ours), show_rate(theirs)),
        show_us(our_p99 as u64),
        show_us(their_p99 as u64),
    )
}

fn spread(ratio: &Ratio) -> String {
    format!("{:.3} [{:.3} - {:.3}]", ratio.median, ratio.min, ratio.max)
}
