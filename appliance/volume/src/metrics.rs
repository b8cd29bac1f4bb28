//! Counters and latency histograms of one volume, and the snapshot the slow plane reads.
//!
//! Recording costs a few adds and no clock call: stamps come from `reactor::now()`. A histogram is
//! made when its kind of request is first seen, so an idle volume costs next to nothing.

use std::cell::{Cell, RefCell};

use hdrhistogram::Histogram;
use reactor::time::Instant;

use crate::error::{ErrorKind, VolumeError};
use crate::request::OpKind;

/// Shortest latency told apart, in nanoseconds.
const LOWEST_NS: u64 = 1_000;
/// Longest latency told apart, in nanoseconds; longer ones are counted here.
const HIGHEST_NS: u64 = 100_000_000_000;
/// Significant decimal digits of a recorded value.
const DIGITS: u8 = 2;

/// A latency distribution in nanoseconds, empty until first used.
#[derive(Debug, Default)]
pub(crate) struct Latency(RefCell<Option<Histogram<u64>>>);

impl Latency {
    /// Counts one value.
    pub fn record_ns(&self, value_ns: u64) {
        let mut slot = self.0.borrow_mut();
        if slot.is_none() {
            *slot = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).ok();
        }
        if let Some(histogram) = slot.as_mut() {
            histogram.saturating_record(value_ns);
        }
    }

    /// Counts the time from `start` to the current loop turn.
    pub fn record_since(&self, start: Instant) {
        self.record_ns(start.elapsed().as_nanos() as u64);
    }

    fn snapshot(&self) -> Option<Histogram<u64>> {
        self.0.borrow().clone()
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, value: u64) {
    counter.set(counter.get().wrapping_add(value));
}

/// Live counters of one volume; they stay on its core.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    ops: [OpCounters; OpKind::ALL.len()],
    pub dropped: Cell<u64>,
    pub in_flight: Cell<u64>,
    pub admission_wait: Latency,
    pub admission_waits: Cell<u64>,
    pub journal_write: Latency,
    pub journal_batches: Cell<u64>,
    pub journal_bytes: Cell<u64>,
    pub device_flush: Latency,
    pub flush_cycle: Latency,
    pub flush_cycles: Cell<u64>,
    pub checkpoint: Latency,
    pub flushed_pages: Cell<u64>,
    pub direct_bytes: Cell<u64>,
    pub corrupt_reads: Cell<u64>,
    pub read_retries: Cell<u64>,
}

#[derive(Debug, Default)]
struct OpCounters {
    count: Cell<u64>,
    errors: Cell<u64>,
    bytes: Cell<u64>,
    total: Latency,
}

impl Metrics {
    /// Counts one finished request.
    pub fn finished(&self, kind: OpKind, bytes: u64, start: Instant, error: Option<&VolumeError>) {
        let op = &self.ops[kind.index()];
        add(&op.count, 1);
        match error {
            None => add(&op.bytes, bytes),
            // A compare that finds a difference did its work.
            Some(error) if error.kind() == ErrorKind::CompareMismatch => {}
            Some(_) => add(&op.errors, 1),
        }
        op.total.record_since(start);
    }

    /// Everything counted so far, as plain data. `gauges` are sampled by the caller.
    pub fn snapshot(&self, gauges: Gauges) -> MetricsSnapshot {
        MetricsSnapshot {
            ops: std::array::from_fn(|index| OpSnapshot {
                kind: OpKind::ALL[index],
                count: self.ops[index].count.get(),
                errors: self.ops[index].errors.get(),
                bytes: self.ops[index].bytes.get(),
                total_ns: self.ops[index].total.snapshot(),
            }),
            dropped: self.dropped.get(),
            in_flight: self.in_flight.get(),
            admission_wait_ns: self.admission_wait.snapshot(),
            admission_waits: self.admission_waits.get(),
            journal_write_ns: self.journal_write.snapshot(),
            journal_batches: self.journal_batches.get(),
            journal_bytes: self.journal_bytes.get(),
            device_flush_ns: self.device_flush.snapshot(),
            flush_cycle_ns: self.flush_cycle.snapshot(),
            flush_cycles: self.flush_cycles.get(),
            checkpoint_ns: self.checkpoint.snapshot(),
            flushed_pages: self.flushed_pages.get(),
            direct_bytes: self.direct_bytes.get(),
            corrupt_reads: self.corrupt_reads.get(),
            read_retries: self.read_retries.get(),
            gauges,
        }
    }
}

/// Sampled state of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Bytes of the journal ring that cannot be reused yet.
    pub journal_used_bytes: u64,
    /// Size of the journal ring.
    pub journal_ring_bytes: u64,
    /// Pages whose newest data is not in the map yet.
    pub dirty_pages: u64,
    /// The most pages that can be dirty.
    pub dirty_pages_limit: u64,
    /// Payload kept in memory for dirty pages.
    pub payload_bytes: u64,
    /// Payloads for which there was no memory: the flusher reads them from the journal.
    pub payloads_refused: u64,
    /// Highest LSN whose request may be acknowledged.
    pub completed_lsn: u64,
    /// Highest LSN known to survive power loss.
    pub durable_lsn: u64,
    /// Highest LSN folded into the published map.
    pub checkpoint_lsn: u64,
}

/// Counters of one kind of request.
#[derive(Clone, Debug)]
pub struct OpSnapshot {
    /// Which kind.
    pub kind: OpKind,
    /// Requests finished.
    pub count: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Bytes of the requests that succeeded.
    pub bytes: u64,
    /// From execute to completion, in nanoseconds. None: no such request yet.
    pub total_ns: Option<Histogram<u64>>,
}

/// Everything counted for one volume. Plain data: `Send`, for the slow plane.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// Per kind of request, in the order of [`OpKind::ALL`].
    pub ops: [OpSnapshot; OpKind::ALL.len()],
    /// Requests whose future was dropped before they completed.
    pub dropped: u64,
    /// Requests executing now.
    pub in_flight: u64,
    /// Time writes waited for journal space, index space or payload memory.
    pub admission_wait_ns: Option<Histogram<u64>>,
    /// Writes that had to wait.
    pub admission_waits: u64,
    /// Time of one journal device write.
    pub journal_write_ns: Option<Histogram<u64>>,
    /// Batches written.
    pub journal_batches: u64,
    /// Bytes written to the journal, headers included.
    pub journal_bytes: u64,
    /// Time of the device flush behind Flush and FUA.
    pub device_flush_ns: Option<Histogram<u64>>,
    /// Time of one flush cycle, checkpoint included.
    pub flush_cycle_ns: Option<Histogram<u64>>,
    /// Flush cycles finished.
    pub flush_cycles: u64,
    /// Time of the publish at the end of a flush cycle.
    pub checkpoint_ns: Option<Histogram<u64>>,
    /// Pages moved from the journal to their clusters.
    pub flushed_pages: u64,
    /// Bytes of large writes that went straight to their clusters.
    pub direct_bytes: u64,
    /// Reads refused because of a wrong checksum.
    pub corrupt_reads: u64,
    /// Reads that looked up again because the page moved meanwhile.
    pub read_retries: u64,
    /// Sampled state.
    pub gauges: Gauges,
}
