//! Counters of one core, written by its thread and read by any.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning core calls this.
    pub(crate) fn add(&self, amount: u64) {
        // One writer: a plain load and store is enough and costs no locked instruction.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now; it may be a turn old.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a core has done since it started.
#[derive(Debug, Default)]
pub struct CoreStats {
    /// Turns of the loop.
    pub turns: Counter,
    /// Nanoseconds in turns that did something.
    pub busy_ns: Counter,
    /// Nanoseconds in turns that found nothing to do, and parked.
    pub idle_ns: Counter,
    /// Times the core went to sleep in the kernel.
    pub parks: Counter,
    /// Operations given to the backend.
    pub ops_submitted: Counter,
    /// Operations in flight at the end of the last turn.
    pub ops_in_flight: Counter,
    /// Live tasks at the end of the last turn.
    pub tasks: Counter,
    /// Times a task was polled.
    pub polls: Counter,
    /// Wakes that came from another core or thread.
    pub remote_wakes: Counter,
}
