//! The report: one HTML file with inline SVG, no script, nothing loaded from elsewhere.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::plot::{self, Axis, Line};
use super::{Report, text};
use crate::queue::Kind;
use crate::stats::Stats;
use crate::units::{show_rate, show_us};

/// Last percentile of the plot: 99.9999.
const TAIL: f64 = 1e6;
/// Points of a latency line for each decade of the tail.
const STEPS: u32 = 40;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;\
padding:0 1em;color:#1f2328}svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;\
fill:#57606a}.grid{stroke:#d8dee4;stroke-width:1}table{border-collapse:collapse}\
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #d8dee4}\
.legend{margin-top:0;color:#57606a}pre{background:#f6f8fa;padding:1em;overflow-x:auto}";

/// Renders the page.
pub fn render(report: &Report, stats: &Stats) -> String {
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let title = escape(&format!(
        "{} at {}",
        report.target.name, report.target.address
    ));
    let _ = write!(
        page,
        "<title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<pre>{}</pre>\n",
        escape(&text::head(report))
    );
    page += &table(report);
    page += "<h2>Latency by percentile</h2>\n";
    page += &latency_plot(stats);
    page += "<h2>Throughput over time</h2>\n";
    page += &throughput_plot(report);
    page += "<h2>Latency over time</h2>\n";
    page += &latency_over_time(report);
    let _ = write!(
        page,
        "<h2>Everything</h2>\n<pre>{}</pre>\n</body></html>\n",
        escape(&super::to_json(report))
    );
    page
}

fn table(report: &Report) -> String {
    let mut html = String::from("<table><tr><th></th><th>IOPS</th><th>MiB/s</th>");
    for name in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        let _ = write!(html, "<th>{name} µs</th>");
    }
    html += "</tr>\n";
    for (name, kind) in &report.result.kinds {
        let mib = kind.bytes_per_s / f64::from(1 << 20);
        let _ = write!(
            html,
            "<tr><th>{name}</th><td>{:.0}</td><td>{mib:.1}</td>",
            kind.iops
        );
        let l = &kind.latency_ns;
        for value in [l.mean as u64, l.p50, l.p90, l.p99, l.p99_9, l.p99_99, l.max] {
            let _ = write!(html, "<td>{}</td>", show_us(value));
        }
        html += "</tr>\n";
    }
    html + "</table>\n"
}

fn latency_plot(stats: &Stats) -> String {
    let names = [
        (Kind::Read, "read"),
        (Kind::Write, "write"),
        (Kind::Flush, "flush"),
    ];
    let lines: Vec<Line> = names
        .into_iter()
        .map(|(kind, name)| (name, &stats.meter(kind).latency))
        .filter(|(_, latency)| !latency.is_empty())
        .map(|(name, latency)| latency_line(name, latency))
        .collect();
    let marks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
    let x = Axis {
        title: "percentile",
        range: (1.0, TAIL),
        marks: marks
            .iter()
            .map(|share| {
                (
                    1.0 / (1.0 - share),
                    format!("{}", (share * 1e8_f64).round() / 1e6),
                )
            })
            .collect(),
        logarithmic: true,
    };
    let values = || {
        lines
            .iter()
            .flat_map(|line| line.points.iter().map(|p| p.1))
    };
    let (low, high) = (
        values().fold(f64::MAX, f64::min),
        values().fold(1.0, f64::max),
    );
    let y = Axis::decades("latency in µs", (low.min(high), high), |us| us.to_string());
    plot::render(&x, &y, &lines)
}

/// Latency against 1 / (1 - share), up to the last percentile that the count supports.
fn latency_line(name: &str, latency: &Histogram<u64>) -> Line {
    let last = (latency.len() as f64).clamp(1.0, TAIL);
    let points = (0..=6 * STEPS)
        .map(|step| 10f64.powf(f64::from(step) / f64::from(STEPS)))
        .take_while(|inverse| *inverse <= last)
        .map(|inverse| {
            let value = latency.value_at_quantile(1.0 - 1.0 / inverse);
            (inverse, value as f64 / 1e3)
        });
    Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}

fn throughput_plot(report: &Report) -> String {
    let timeline = &report.result.timeline;
    let max = timeline.iops.iter().copied().fold(1.0, f64::max);
    let y = Axis::from_zero("commands a second", max, |value| {
        show_rate(value).trim_end().to_owned()
    });
    let line = over_time(
        "completed",
        timeline.interval_ms,
        timeline.iops.iter().copied(),
    );
    plot::render(&time_axis(report), &y, &[line])
}

fn latency_over_time(report: &Report) -> String {
    let timeline = &report.result.timeline;
    let us = |values: &[u64]| -> Vec<f64> { values.iter().map(|ns| *ns as f64 / 1e3).collect() };
    let (mean, max) = (us(&timeline.mean_ns), us(&timeline.max_ns));
    let low = mean
        .iter()
        .copied()
        .filter(|v| *v > 0.0)
        .fold(f64::MAX, f64::min);
    let high = max.iter().copied().fold(1.0, f64::max);
    let y = Axis::decades("latency in µs", (low.min(high), high), |us| us.to_string());
    let lines = [
        over_time("mean", timeline.interval_ms, mean.into_iter()),
        over_time("longest", timeline.interval_ms, max.into_iter()),
    ];
    plot::render(&time_axis(report), &y, &lines)
}

fn time_axis(report: &Report) -> Axis {
    Axis::from_zero("seconds", report.result.seconds, |value| {
        format!("{}", (value * 1e3).round() / 1e3)
    })
}

fn over_time(name: &str, interval_ms: f64, values: impl Iterator<Item = f64>) -> Line {
    let points = values
        .enumerate()
        .map(|(index, value)| ((index as f64 + 0.5) * interval_ms / 1e3, value));
    Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}

/// Names come from the target: a stranger must not put markup into the page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
