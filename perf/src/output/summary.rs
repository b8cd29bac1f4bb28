//! The numbers of a run, as they are printed and as JSON. The schema is in perf/README.md.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::queue::Kind;
use crate::run::Outcome;
use crate::stats::{Meter, Stats};

/// Latencies in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Shortest.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub stdev: f64,
    /// Half are at most this.
    pub p50: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p99_9: u64,
    /// 99.99 % are at most this.
    pub p99_99: u64,
    /// Longest.
    pub max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share| histogram.value_at_quantile(share);
        Self {
            min: histogram.min(),
            mean: histogram.mean(),
            stdev: histogram.stdev(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max(),
        }
    }
}

/// One kind of command.
#[derive(Clone, Debug, Serialize)]
pub struct KindSummary {
    /// Commands completed.
    pub ios: u64,
    /// Commands a second.
    pub iops: f64,
    /// Bytes a second; 0 for flushes.
    pub bytes_per_s: f64,
    /// Their latencies.
    pub latency_ns: Latency,
}

/// How the client spent its time.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Share of its time in turns that found nothing to do. Near 0 the client is the limit.
    pub idle_share: f64,
    /// Commands that one receive completed, on average.
    pub ios_per_receive: f64,
    /// Receives that brought bytes.
    pub receives: u64,
    /// Sends.
    pub sends: u64,
    /// CPU time of the load threads for each command, in this program, in microseconds. With
    /// `--wait spin` this includes looking for answers that are not there yet.
    pub user_us_per_io: f64,
    /// The same in the kernel: sockets, and on loopback the whole way to the other side.
    pub system_us_per_io: f64,
}

/// Points in equal distances.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// Distance in milliseconds.
    pub interval_ms: f64,
    /// Commands a second.
    pub iops: Vec<f64>,
    /// Mean latency in nanoseconds.
    pub mean_ns: Vec<u64>,
    /// Longest latency in nanoseconds.
    pub max_ns: Vec<u64>,
}

/// The numbers of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Measured time in seconds.
    pub seconds: f64,
    /// Commands completed.
    pub ios: u64,
    /// Commands a second.
    pub iops: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
    /// All commands together, with those of an open loop that were never issued as if they had
    /// been answered at the end.
    pub latency_ns: Latency,
    /// Each kind that occurred.
    pub kinds: BTreeMap<&'static str, KindSummary>,
    /// Failed commands, by status.
    pub errors: BTreeMap<String, u64>,
    /// Reads whose data was compared.
    pub verified_reads: u64,
    /// Commands of an open loop that were due and never issued.
    pub unissued: u64,
    /// How the client spent its time.
    pub client: Client,
    /// How it went over time.
    pub timeline: Timeline,
}

impl Summary {
    /// Sums a run up. `io_bytes` is the size of each read and write.
    pub fn new(outcome: &Outcome, io_bytes: u32) -> Self {
        let (stats, seconds) = (&outcome.stats, outcome.seconds);
        let names = [
            (Kind::Read, "read"),
            (Kind::Write, "write"),
            (Kind::Flush, "flush"),
        ];
        let kinds = names
            .into_iter()
            .map(|(kind, name)| {
                (
                    name,
                    kind_summary(stats.meter(kind), kind, seconds, io_bytes),
                )
            })
            .filter(|(_, kind)| kind.ios > 0 || kind.latency_ns.max > 0)
            .collect::<BTreeMap<_, _>>();
        let ios = stats.ios();
        Self {
            seconds,
            ios,
            iops: ios as f64 / seconds,
            bytes_per_s: kinds.values().map(|kind| kind.bytes_per_s).sum(),
            latency_ns: Latency::of(&all_latencies(stats)),
            kinds,
            errors: stats.errors.clone(),
            verified_reads: stats.verified,
            unissued: stats.unissued,
            client: client(stats),
            timeline: timeline(outcome),
        }
    }
}

/// The latencies of all kinds in one histogram, with what never issued commands had waited.
pub fn all_latencies(stats: &Stats) -> Histogram<u64> {
    let mut all = stats.meter(Kind::Read).latency.clone();
    let others = [Kind::Write, Kind::Flush].map(|kind| &stats.meter(kind).latency);
    for other in others.into_iter().chain([&stats.waited]) {
        all.add(other).expect("all have the same bounds");
    }
    all
}

fn kind_summary(meter: &Meter, kind: Kind, seconds: f64, io_bytes: u32) -> KindSummary {
    let bytes = match kind {
        Kind::Read | Kind::Write => f64::from(io_bytes),
        Kind::Flush => 0.0,
    };
    let iops = meter.ios as f64 / seconds;
    KindSummary {
        ios: meter.ios,
        iops,
        bytes_per_s: iops * bytes,
        latency_ns: Latency::of(&meter.latency),
    }
}

fn client(stats: &Stats) -> Client {
    let effort = &stats.effort;
    Client {
        idle_share: effort.idle_ns as f64 / effort.total_ns.max(1) as f64,
        ios_per_receive: stats.ios() as f64 / effort.receives.max(1) as f64,
        receives: effort.receives,
        sends: effort.sends,
        user_us_per_io: effort.user_us as f64 / stats.ios().max(1) as f64,
        system_us_per_io: effort.system_us as f64 / stats.ios().max(1) as f64,
    }
}

fn timeline(outcome: &Outcome) -> Timeline {
    let points = &outcome.stats.timeline;
    let interval_s = outcome.interval.as_secs_f64();
    let left_s = |index: usize| outcome.seconds - index as f64 * interval_s;
    let iops = points.iter().enumerate();
    Timeline {
        interval_ms: interval_s * 1e3,
        iops: iops
            .map(|(index, p)| p.ios as f64 / interval_s.min(left_s(index)).max(1e-9))
            .collect(),
        mean_ns: points
            .iter()
            .map(|p| p.latency_sum_ns / p.ios.max(1))
            .collect(),
        max_ns: points.iter().map(|p| p.latency_max_ns).collect(),
    }
}
