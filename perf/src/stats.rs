//! What a load thread counts.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::pace::Backlog;
use crate::queue::{Done, Kind, Status};

/// Longest latency told apart; longer ones count as this.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;
/// Groups in which commands that were never issued are counted.
const BACKLOG_GROUPS: u64 = 10_000;

/// The measured part of a run, in nanoseconds of its clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// First nanosecond.
    pub start_ns: u64,
    /// First nanosecond after it.
    pub end_ns: u64,
    /// Length of one point of the timeline.
    pub interval_ns: u64,
    /// Latencies belong to the window by their intended start (open loop), not by their end.
    pub by_start: bool,
}

impl Window {
    /// Points of the timeline.
    pub fn intervals(&self) -> usize {
        (self.end_ns - self.start_ns).div_ceil(self.interval_ns.max(1)) as usize
    }

    fn contains(&self, time_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&time_ns)
    }
}

fn histogram() -> Histogram<u64> {
    let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS);
    histogram.expect("constant bounds are valid")
}

/// One kind of command.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Commands completed within the window.
    pub ios: u64,
    /// Their latencies in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Meter {
    fn new() -> Self {
        Self {
            ios: 0,
            latency: histogram(),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.ios += other.ios;
        self.latency
            .add(&other.latency)
            .expect("both have the same bounds");
    }
}

/// One point of the timeline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    /// Commands completed.
    pub ios: u64,
    /// Sum of their latencies.
    pub latency_sum_ns: u64,
    /// Longest of their latencies.
    pub latency_max_ns: u64,
}

/// How the client spent its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Receives that brought bytes.
    pub receives: u64,
    /// Sends.
    pub sends: u64,
    /// Time in turns of the loop, within the window.
    pub total_ns: u64,
    /// Time in turns that found nothing to do.
    pub idle_ns: u64,
    /// CPU time of the thread within the window: in this program and in the kernel.
    pub user_us: u64,
    /// See `user_us`.
    pub system_us: u64,
}

/// Everything one thread counted.
#[derive(Clone, Debug)]
pub struct Stats {
    window: Window,
    /// Reads, writes, flushes.
    pub meters: [Meter; 3],
    /// Commands completed per interval.
    pub timeline: Vec<Interval>,
    /// Commands that failed, by status.
    pub errors: BTreeMap<String, u64>,
    /// Commands that failed.
    pub error_count: u64,
    /// How the client spent its time.
    pub effort: Effort,
    /// Commands of an open loop that were due and never issued.
    pub unissued: u64,
    /// How long those had waited when the window ended: a lower bound of their latency.
    pub waited: Histogram<u64>,
    /// Reads whose data was compared.
    pub verified: u64,
}

impl Stats {
    /// Nothing counted. All memory that counting needs is taken here.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            meters: [Meter::new(), Meter::new(), Meter::new()],
            timeline: vec![Interval::default(); window.intervals()],
            errors: BTreeMap::new(),
            error_count: 0,
            effort: Effort::default(),
            unissued: 0,
            waited: histogram(),
            verified: 0,
        }
    }

    /// The meter of a kind.
    pub fn meter(&self, kind: Kind) -> &Meter {
        let [read, write, flush] = &self.meters;
        match kind {
            Kind::Read => read,
            Kind::Write => write,
            Kind::Flush => flush,
        }
    }

    /// Counts a success that came at `now_ns`.
    pub fn success(&mut self, done: &Done, now_ns: u64) {
        let [read, write, flush] = &mut self.meters;
        let meter = match done.io.kind {
            Kind::Read => read,
            Kind::Write => write,
            Kind::Flush => flush,
        };
        let latency_ns = now_ns.saturating_sub(done.io.intended_ns);
        let inside = self.window.contains(now_ns);
        let judged = if self.window.by_start {
            self.window.contains(done.io.intended_ns)
        } else {
            inside
        };
        if judged {
            meter.latency.saturating_record(latency_ns.max(1));
        }
        if !inside {
            return;
        }
        meter.ios += 1;
        let index = (now_ns - self.window.start_ns) / self.window.interval_ns;
        if let Some(interval) = self.timeline.get_mut(index as usize) {
            interval.ios += 1;
            interval.latency_sum_ns = interval.latency_sum_ns.saturating_add(latency_ns);
            interval.latency_max_ns = interval.latency_max_ns.max(latency_ns);
        }
    }

    /// Counts commands that were due within the window and never issued, as if they had been
    /// answered at its end: leaving them out would make a target look better the more it stalls.
    /// Cost: bounded, whatever their number.
    pub fn not_issued(&mut self, backlog: &Backlog) {
        self.unissued += backlog.count;
        let groups = backlog.count.min(BACKLOG_GROUPS);
        for group in 0..groups {
            let first = backlog.count * group / groups;
            let count = backlog.count * (group + 1) / groups - first;
            let due_ns = backlog.first_ns + first as f64 * backlog.step_ns;
            let waited_ns = (self.window.end_ns as f64 - due_ns).max(1.0) as u64;
            self.waited.saturating_record_n(waited_ns, count);
        }
    }

    /// Counts a failure.
    pub fn failure(&mut self, status: Status) {
        *self.errors.entry(status.label()).or_default() += 1;
        self.error_count += 1;
    }

    /// Counts one turn of the loop that took from `from_ns` to `to_ns`.
    pub fn turn(&mut self, from_ns: u64, to_ns: u64, idle: bool) {
        if !self.window.contains(to_ns) {
            return;
        }
        let spent = to_ns - from_ns;
        self.effort.total_ns += spent;
        if idle {
            self.effort.idle_ns += spent;
        }
    }

    /// Commands completed within the window.
    pub fn ios(&self) -> u64 {
        self.meters.iter().map(|meter| meter.ios).sum()
    }

    /// Adds what another thread of the same run counted.
    pub fn merge(&mut self, other: &Self) {
        for (to, from) in self.meters.iter_mut().zip(&other.meters) {
            to.merge(from);
        }
        for (to, from) in self.timeline.iter_mut().zip(&other.timeline) {
            to.ios += from.ios;
            to.latency_sum_ns = to.latency_sum_ns.saturating_add(from.latency_sum_ns);
            to.latency_max_ns = to.latency_max_ns.max(from.latency_max_ns);
        }
        for (status, count) in &other.errors {
            *self.errors.entry(status.clone()).or_default() += count;
        }
        self.error_count += other.error_count;
        self.effort.receives += other.effort.receives;
        self.effort.sends += other.effort.sends;
        self.effort.total_ns += other.effort.total_ns;
        self.effort.idle_ns += other.effort.idle_ns;
        self.effort.user_us += other.effort.user_us;
        self.effort.system_us += other.effort.system_us;
        self.unissued += other.unissued;
        self.waited
            .add(&other.waited)
            .expect("both have the same bounds");
        self.verified += other.verified;
    }
}

#[cfg(test)]
mod tests {
    use wire::nvme;

    use super::*;
    use crate::queue::Io;

    fn window(by_start: bool) -> Window {
        Window {
            start_ns: 1_000,
            end_ns: 2_000,
            interval_ns: 250,
            by_start,
        }
    }

    fn done(kind: Kind, intended_ns: u64) -> Done {
        let io = Io {
            kind,
            unit: 0,
            fua: false,
            intended_ns,
            issued_ns: intended_ns,
        };
        Done {
            cid: 0,
            io,
            status: nvme::Status::SUCCESS.into(),
        }
    }

    #[test]
    fn a_closed_loop_counts_what_ends_within_the_window() {
        let mut stats = Stats::new(window(false));
        stats.success(&done(Kind::Read, 900), 999);
        stats.success(&done(Kind::Read, 900), 1_100);
        stats.success(&done(Kind::Write, 1_000), 1_999);
        stats.success(&done(Kind::Read, 1_900), 2_000);
        assert_eq!(stats.ios(), 2);
        assert_eq!(stats.meter(Kind::Read).latency.len(), 1);
        assert_eq!(stats.meter(Kind::Read).latency.max(), 200);
        let points: Vec<u64> = stats.timeline.iter().map(|i| i.ios).collect();
        assert_eq!(points, [1, 0, 0, 1]);
    }

    #[test]
    fn an_open_loop_keeps_the_latency_of_what_ends_late() {
        let mut stats = Stats::new(window(true));
        stats.success(&done(Kind::Read, 1_500), 9_500);
        stats.success(&done(Kind::Read, 900), 1_100);
        assert_eq!(stats.ios(), 1, "throughput is what ended within the window");
        let latency = &stats.meter(Kind::Read).latency;
        assert_eq!(
            latency.len(),
            1,
            "latency is what was due within the window"
        );
        assert!((7_990..8_010).contains(&latency.max()), "{}", latency.max());
    }

    #[test]
    fn what_was_never_issued_has_waited() {
        let mut stats = Stats::new(Window {
            start_ns: 0,
            end_ns: 1_000_000_000,
            ..window(true)
        });
        let backlog = |count| Backlog {
            first_ns: 0.0,
            step_ns: 1e9 / count as f64,
            count,
        };
        for count in [7, 123_456_789_012] {
            stats.not_issued(&backlog(count));
        }
        assert_eq!(stats.unissued, 123_456_789_019);
        assert_eq!(stats.waited.len(), stats.unissued);
        let median = stats.waited.value_at_quantile(0.5);
        assert!((499_000_000..501_500_000).contains(&median), "{median}");
    }

    #[test]
    fn threads_add_up() {
        let mut one = Stats::new(window(false));
        let mut two = Stats::new(window(false));
        one.success(&done(Kind::Read, 1_000), 1_100);
        two.success(&done(Kind::Read, 1_000), 1_900);
        two.failure(nvme::Status::WRITE_FAULT.with_dnr().into());
        two.turn(1_100, 1_200, true);
        two.turn(1_200, 1_500, false);
        one.merge(&two);
        assert_eq!(one.ios(), 2);
        assert_eq!(one.meter(Kind::Read).latency.max(), 900);
        assert_eq!(one.errors.get("WRITE_FAULT"), Some(&1));
        assert_eq!((one.effort.total_ns, one.effort.idle_ns), (400, 100));
    }

    #[test]
    fn an_endless_latency_does_not_panic() {
        let mut stats = Stats::new(Window {
            end_ns: u64::MAX,
            interval_ns: u64::MAX,
            ..window(false)
        });
        stats.success(&done(Kind::Read, 0), u64::MAX - 1);
        assert_eq!(stats.meter(Kind::Read).latency.len(), 1);
    }
}
