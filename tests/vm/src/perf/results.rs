//! Figures out of the files that fio and pgbench leave.

use std::path::Path;

use serde_json::Value;

use super::plan::PGBENCH;
use crate::{Error, Result};

/// Which target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Bedplate.
    Ours,
    /// The kernel's.
    Nvmet,
}

impl Side {
    /// As folders and messages have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Nvmet => "nvmet",
        }
    }
}

/// One result: one case on one side in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// From 1.
    pub round: u32,
    /// A job of fio, or `pgbench`.
    pub case: String,
    /// Which target.
    pub side: Side,
    /// Requests or transactions a second.
    pub per_s: f64,
    /// Latency, microseconds: the 99th percentile of fio, the average of pgbench.
    pub latency_us: f64,
    /// Share of the guest's processors that did nothing, 0.0 to 1.0.
    pub idle: f64,
    /// CPU time of the `bedplate` process, in processors.
    pub ours_cpus: f64,
}

impl Turn {
    /// Reads what the guest left in `dir`.
    ///
    /// # Errors
    /// When a file is missing or has no figure.
    pub fn read(round: u32, case: &str, side: Side, dir: &Path) -> Result<Self> {
        let file = match case {
            PGBENCH => dir.join("pgbench.txt"),
            job => dir.join(format!("{job}.json")),
        };
        let text = read(&file)?;
        let found = match case {
            PGBENCH => pgbench_figures(&text),
            _ => fio_figures(&text),
        };
        let (per_s, latency_us) = found.ok_or(Error::NoFigure {
            what: "rate and latency",
            path: file,
        })?;
        let (before, after) = (dir.join("cpu.before"), dir.join("cpu.after"));
        let ticks = Ticks::parse(&read(&before)?).zip(Ticks::parse(&read(&after)?));
        let (before, after) = ticks.ok_or(Error::NoFigure {
            what: "ticks of the processors",
            path: after,
        })?;
        Ok(Self {
            round,
            case: case.to_owned(),
            side,
            per_s,
            latency_us,
            idle: after.idle_since(&before),
            ours_cpus: after.ours_since(&before),
        })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

/// Requests a second and p99 in microseconds: of the fsyncs where there are any, else of what
/// there is more of.
fn fio_figures(text: &str) -> Option<(f64, f64)> {
    let result: Value = serde_json::from_str(text).ok()?;
    let jobs = result["jobs"].as_array()?;
    let job = jobs.first()?;
    let rate = |kind: &str| job[kind]["iops"].as_f64();
    let (reads, writes) = (rate("read")?, rate("write")?);
    let per_s = reads + writes;
    let latency = if job["sync"]["total_ios"].as_u64() > Some(0) {
        &job["sync"]["lat_ns"]
    } else if reads > writes {
        &job["read"]["clat_ns"]
    } else {
        &job["write"]["clat_ns"]
    };
    let p99_ns = latency["percentile"]["99.000000"].as_f64()?;
    // A job that did nothing is not a measurement.
    (per_s > 0.0).then_some((per_s, p99_ns / 1e3))
}

/// Transactions a second and average latency in microseconds.
fn pgbench_figures(text: &str) -> Option<(f64, f64)> {
    let number = |prefix: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(prefix))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let per_s = number("tps = ").filter(|&tps| tps > 0.0)?;
    Some((per_s, number("latency average = ")? * 1e3))
}

/// What the kernel counted since its start, in ticks.
#[derive(Debug, PartialEq)]
struct Ticks {
    all: f64,
    idle: f64,
    cpus_of_all: f64,
    ours: f64,
}

impl Ticks {
    /// From the first line of `/proc/stat`, and `bedplate USER SYSTEM`.
    fn parse(text: &str) -> Option<Self> {
        let numbers = |name: &str| -> Option<Vec<f64>> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace()
                .map(|word| word.parse().ok())
                .collect()
        };
        let cpu = numbers("cpu ")?;
        let ours = numbers("bedplate ")?;
        // user nice system idle iowait irq softirq steal; what follows is counted in user already.
        let counted = cpu.get(..8)?;
        Some(Self {
            all: counted.iter().sum(),
            idle: counted[3] + counted[4],
            cpus_of_all: numbers("cpus ")?.first().copied()?,
            ours: ours.iter().sum(),
        })
    }

    fn idle_since(&self, before: &Self) -> f64 {
        (self.idle - before.idle) / (self.all - before.all).max(1.0)
    }

    fn ours_since(&self, before: &Self) -> f64 {
        (self.ours - before.ours) / (self.all - before.all).max(1.0) * self.cpus_of_all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIO: &str = r#"{"jobs": [{
        "read": {"iops": 0.0, "clat_ns": {"percentile": {}}},
        "write": {"iops": 1500.5, "clat_ns": {"percentile": {"99.000000": 2000}}},
        "sync": {"total_ios": SYNCS, "lat_ns": {"percentile": {"99.000000": 9000}}}}]}"#;

    #[test]
    fn the_latency_of_commits_is_that_of_their_fsync() {
        let fio = |syncs: &str| fio_figures(&FIO.replace("SYNCS", syncs));
        assert_eq!(fio("0"), Some((1500.5, 2.0)));
        assert_eq!(fio("7"), Some((1500.5, 9.0)));
    }

    #[test]
    fn what_is_not_a_result_gives_no_figure() {
        for text in ["", "{", "{}", r#"{"jobs": []}"#, r#"{"jobs": [{}]}"#] {
            assert_eq!(fio_figures(text), None, "{text}");
        }
        let nothing_done = FIO.replace("1500.5", "0.0").replace("SYNCS", "0");
        assert_eq!(fio_figures(&nothing_done), None);
        for text in ["", "tps = x", "tps = 0\nlatency average = 1 ms", "tps = 5"] {
            assert_eq!(pgbench_figures(text), None, "{text}");
        }
    }

    #[test]
    fn pgbench_says_rate_and_latency() {
        let text = "latency average = 12.5 ms\ninitial connection time = 9 ms\n\
                    tps = 320.25 (without initial connection time)\n";
        assert_eq!(pgbench_figures(text), Some((320.25, 12_500.0)));
    }

    #[test]
    fn shares_are_of_the_time_between() {
        let ticks = |text| Ticks::parse(text).unwrap();
        let before = ticks("cpu  10 0 10 100 0 0 0 0 0 0\ncpus 2\nbedplate 5 5\n");
        let after = ticks("cpu  60 0 60 150 50 0 0 0 0 0\ncpus 2\nbedplate 25 35\n");
        assert!((after.idle_since(&before) - 0.5).abs() < 1e-9);
        assert!((after.ours_since(&before) - 0.5).abs() < 1e-9);
        assert_eq!(Ticks::parse("cpu  1 2\ncpus 2\nbedplate 1 1\n"), None);
    }
}
