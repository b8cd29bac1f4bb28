//! Places that all cores share: how many connections, or sessions, there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken, on all cores together; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<AtomicUsize>);

impl Seats {
    /// One more place; none when `limit` are taken.
    pub fn take(&self, limit: usize) -> Option<Seat> {
        let next = |taken: usize| (taken < limit).then_some(taken + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()?;
        Some(Seat(Arc::clone(&self.0)))
    }
}

/// A place among those of all cores; dropping it gives it back.
///
/// Goes with the connection from core to core.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
