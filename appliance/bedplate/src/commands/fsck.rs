//! `bedplate fsck`: the offline check, printed one line a finding.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use block::{Device, OpenOptions};
use control::client::Client;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use store::fsck::{Finding, FsckOptions, FsckProgress, FsckReport};

use super::client::pool_in_memory;
use super::offline;
use super::pool::in_memory;
use crate::cli::Output;
use crate::output::print;

/// What programs get.
#[derive(Serialize)]
struct Report {
    pool: String,
    clean: bool,
    generation: u64,
    findings: Vec<Line>,
    findings_omitted: u64,
    volumes: u64,
    map_nodes: u64,
    pages: u64,
    journal_batches: u64,
}

#[derive(Serialize)]
struct Line {
    damage: bool,
    text: String,
}

/// Checks the pool at `path`; 0 clean, 1 damaged. An error means that it could not be checked.
pub fn run(client: &Client, path: &Path, output: Output) -> anyhow::Result<ExitCode> {
    if pool_in_memory(client, path).is_some() {
        bail!("nothing was checked: {}", in_memory(path));
    }
    let target = path.to_owned();
    let report = offline::run(async move {
        let device = Device::open(&target, OpenOptions { read_only: true })?;
        let bar = progress_bar();
        let mut tell = |progress: &FsckProgress| {
            bar.set_length(progress.pages_estimate.max(progress.pages));
            bar.set_position(progress.pages);
        };
        let report = store::fsck::fsck(&device, FsckOptions::default(), &mut tell).await;
        bar.finish_and_clear();
        Ok(report?)
    })
    .with_context(|| format!("{} was not checked", path.display()))?;
    let report = summary(path, report);
    print(output, &report, text);
    Ok(if report.clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Shown on a terminal only; findings go to standard output, so that both can be told apart.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("checking {bar:40} {percent}% of the data, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn summary(path: &Path, report: FsckReport) -> Report {
    let line = |finding: &Finding| {
        let id = finding.volume();
        let name = report
            .names
            .iter()
            .find(|(other, _)| Some(*other) == id)
            .map(|(_, name)| name);
        let of_volume = name.map(|name| format!("{name}: ")).unwrap_or_default();
        Line {
            damage: finding.is_damage(),
            text: format!("{of_volume}{finding}"),
        }
    };
    Report {
        pool: path.display().to_string(),
        clean: !report.is_damaged,
        generation: report.generation,
        findings: report.findings.iter().map(line).collect(),
        findings_omitted: report.omitted,
        volumes: report.progress.volumes,
        map_nodes: report.progress.nodes,
        pages: report.progress.pages,
        journal_batches: report.progress.batches,
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.findings {
        let kind = if line.damage { "damage" } else { "note" };
        text.push_str(&format!("{kind}: {}\n", line.text));
    }
    if report.findings_omitted > 0 {
        text.push_str(&format!(
            "... and {} more findings\n",
            report.findings_omitted
        ));
    }
    let verdict = if report.clean { "clean" } else { "DAMAGED" };
    text.push_str(&format!(
        "{}: {verdict}: {} volumes, {} map nodes, {} pages of data, {} journal batches checked\n",
        report.pool, report.volumes, report.map_nodes, report.pages, report.journal_batches
    ));
    text
}
