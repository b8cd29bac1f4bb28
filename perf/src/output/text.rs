//! The result for people.

use std::fmt::Write as _;

use super::Report;
use super::summary::{KindSummary, Latency};
use crate::units::{show_bytes, show_rate, show_us};

/// Idle share below which the client itself limits the result.
const CLIENT_LIMIT: f64 = 0.03;

/// Renders the whole result.
pub fn render(report: &Report) -> String {
    let mut text = head(report);
    let result = &report.result;
    let _ = writeln!(
        text,
        "{:>7} {:>12} {:>12}   latency in us: {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "IOPS", "MiB/s", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    for (name, kind) in &result.kinds {
        row(&mut text, name, kind);
    }
    if result.kinds.len() > 1 || result.unissued > 0 {
        let all = KindSummary {
            ios: result.ios,
            iops: result.iops,
            bytes_per_s: result.bytes_per_s,
            latency_ns: result.latency_ns.clone(),
        };
        row(&mut text, "all", &all);
    }
    text + &notes(report)
}

/// One line about the target and one about the load.
pub fn head(report: &Report) -> String {
    let (target, load) = (&report.target, &report.load);
    let mut text = format!(
        "{} at {} ({}, {} {}, {} B blocks)\n",
        target.name,
        target.address,
        target.model,
        show_bytes(target.size_bytes),
        if target.iqn.is_some() {
            "unit"
        } else {
            "namespace"
        },
        target.block_bytes
    );
    let _ = write!(
        text,
        "{} {}, {} % reads, {} queue(s) x depth {}, {} thread(s)",
        show_bytes(u64::from(load.io_bytes)),
        load.distribution,
        load.read_percent,
        load.queues,
        load.depth,
        load.threads
    );
    if let Some(rate) = load.rate {
        let _ = write!(text, ", open loop at {}IOPS", show_rate(rate));
    }
    let _ = writeln!(
        text,
        ", {} s after {} s",
        report.result.seconds, load.ramp_s
    );
    text
}

fn row(text: &mut String, name: &str, kind: &KindSummary) {
    let Latency {
        p50,
        p90,
        p99,
        p99_9,
        p99_99,
        max,
        mean,
        ..
    } = kind.latency_ns;
    let _ = write!(
        text,
        "{name:>7} {:>12.0} {:>12.1}   {:14}",
        kind.iops,
        kind.bytes_per_s / f64::from(1 << 20),
        ""
    );
    for value in [mean as u64, p50, p90, p99, p99_9, p99_99, max] {
        let _ = write!(text, " {:>8}", show_us(value));
    }
    text.push('\n');
}

fn notes(report: &Report) -> String {
    let (result, client) = (&report.result, &report.result.client);
    let mut text = format!(
        "client: {:.0} % idle, {:.1} commands a receive, {:.2} + {:.2} us CPU a command \
         (user + kernel); machine: {}, {} cores, load {}\n",
        client.idle_share * 100.0,
        client.ios_per_receive,
        client.user_us_per_io,
        client.system_us_per_io,
        report.machine.cpu,
        report.machine.cores,
        report.machine.load_average
    );
    if report.load.rate.is_none() && client.idle_share < CLIENT_LIMIT {
        text += "note: the client is the limit, not the target: use more --threads and --cores\n";
    }
    if result.unissued > 0 {
        let _ = writeln!(
            text,
            "note: the target did not keep up: {} commands were due and never issued; \
             \"all\" counts them as answered at the end",
            result.unissued
        );
    }
    if report.load.verify {
        let _ = writeln!(
            text,
            "verified: {} reads, no miscompare",
            result.verified_reads
        );
    }
    for (status, count) in &result.errors {
        let _ = writeln!(text, "failed: {count} x {status}");
    }
    text
}
