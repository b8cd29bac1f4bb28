//! What a device did, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running totals of one device. Written by its core, read by metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) reads: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_waiters: AtomicU64,
    pub(crate) discarded_bytes: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// The totals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// Completed reads.
    pub reads: u64,
    /// Bytes of completed reads.
    pub read_bytes: u64,
    /// Completed writes.
    pub writes: u64,
    /// Bytes of completed writes.
    pub written_bytes: u64,
    /// Flushes the device did.
    pub flushes: u64,
    /// Callers those flushes served.
    pub flush_waiters: u64,
    /// Bytes given back.
    pub discarded_bytes: u64,
    /// Operations that failed.
    pub errors: u64,
}

impl Counters {
    /// The totals now. They are read one by one, so two may be a moment apart.
    pub fn snapshot(&self) -> CountersSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersSnapshot {
            reads: get(&self.reads),
            read_bytes: get(&self.read_bytes),
            writes: get(&self.writes),
            written_bytes: get(&self.written_bytes),
            flushes: get(&self.flushes),
            flush_waiters: get(&self.flush_waiters),
            discarded_bytes: get(&self.discarded_bytes),
            errors: get(&self.errors),
        }
    }
}

/// Only the device's core counts, so no locked instruction is needed: one would wait until all the
/// bytes that were just moved have left the core.
pub(crate) fn add(counter: &AtomicU64, value: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(value);
    counter.store(sum, Ordering::Relaxed);
}
