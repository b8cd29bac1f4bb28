//! How many clusters a cycle writes at the same time: as few as let it end before the hosts run
//! out of room.
//!
//! Each cluster in flight makes the hosts' journal writes wait longer in the device. A cycle that
//! hurries is done early and has hurt for nothing; one that dawdles fills the journal, and then
//! writers are slowed. So the window follows the hosts: it opens while they use up room faster than
//! the cycle makes it, and closes again. Measured on a disk, 4 KiB random writes beyond the journal
//! at depth 32, against 64 clusters at all times: +26 % [18 - 30], p99 354 us in place of 778; eight
//! clusters at all times: +22 % [14 - 32]. On tmpfs at depth 128: +19 % [12 - 21].

use std::cell::Cell;

use reactor::sync::{Credits, Guard};

use crate::admission::SOFT_PERCENT;
use crate::core::Core;
use crate::pages::PAGE;

/// The most clusters in flight.
const MOST: usize = 64;
/// The share of [`MOST`] that one cluster takes when the window is at its narrowest: 8 in flight.
const LARGEST_SHARE: usize = 8;
/// A cycle may be this part of its work behind before it hurries.
const SLACK: u64 = 16;

/// The window of one cycle.
pub(super) struct Window {
    credits: Credits,
    share: Cell<usize>,
    /// Clusters of the whole cycle, and those begun.
    total: u64,
    begun: Cell<u64>,
    /// Journal bytes in use when the cycle began.
    used_bytes: u64,
    /// Payloads for which there was no memory, when last looked at.
    refused: Cell<u64>,
}

impl Window {
    /// For a cycle that is about to begin.
    pub fn new(core: &Core, cluster_count: usize) -> Self {
        Self {
            credits: Credits::new(MOST),
            share: Cell::new(LARGEST_SHARE),
            total: cluster_count as u64,
            begun: Cell::new(0),
            used_bytes: core.journal.used_bytes(),
            refused: Cell::new(core.index.borrow().payloads_refused()),
        }
    }

    /// Waits for room for one more cluster; it has it until the guard is dropped.
    pub async fn enter(&self, core: &Core) -> Guard {
        let share = match self.is_behind(core) {
            true => self.share.get() - 1,
            false => self.share.get() + 1,
        };
        self.share.set(share.clamp(1, LARGEST_SHARE));
        self.begun.set(self.begun.get() + 1);
        self.credits.acquire(self.share.get()).await
    }

    /// Waits until none is in flight.
    pub async fn all_done(&self) {
        drop(self.credits.acquire(MOST).await);
    }

    /// Whether the hosts have used a larger part of the journal's room than this cycle has done of
    /// its work, or all memory for payloads.
    fn is_behind(&self, core: &Core) -> bool {
        let refused = core.index.borrow().payloads_refused();
        let was_refused = self.refused.replace(refused) != refused;
        let room = (core.ring.len_bytes() / 100 * SOFT_PERCENT).saturating_sub(self.used_bytes);
        let taken = core.journal.used_bytes().saturating_sub(self.used_bytes);
        let done = self.begun.get() + self.total / SLACK;
        was_refused || taken / PAGE * self.total > room / PAGE * done
    }
}
