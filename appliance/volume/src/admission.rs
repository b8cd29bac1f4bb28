//! Admission: a write waits here until the journal and the index have room for it.
//!
//! Below the soft limit nothing happens. Above it writers are slowed, a little more the fuller the
//! journal is; at the hard limit they wait, first come first served, for the flusher. Whatever is
//! admitted can be written and flushed: the flusher needs nothing that admission hands out.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::sync::{Mutex, Notify};

use crate::core::Core;
use crate::error::VolumeError;
use crate::metrics::add;
use crate::pages::PAGE;

/// Writers are slowed from this fill on, in percent of the ring.
pub(crate) const SOFT_PERCENT: u64 = 70;
/// Writers wait from this fill on.
const HARD_PERCENT: u64 = 85;
/// Pages written directly since the last cut from which on a flush cycle runs (64 MiB): until then
/// the clusters they replace are still taken, and a page written again goes through the journal.
const DIRECT_PAGES_MAX: u64 = (64 << 20) / PAGE;
/// The longest delay below the hard limit.
const MAX_PACE: Duration = Duration::from_millis(2);

/// What a request will need.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    /// Journal bytes: payload, and a header of its own.
    pub journal_bytes: u64,
    /// Pages that may become dirty.
    pub pages: usize,
    /// Clusters that may become dirty.
    pub clusters: usize,
}

/// Room promised to requests that are not in the journal or the index yet.
pub(crate) struct Admission {
    turn: Mutex<()>,
    /// Rung when the tail moves, the index shrinks or the volume fails.
    pub space: Notify,
    journal_bytes: Cell<u64>,
    pages: Cell<usize>,
    clusters: Cell<usize>,
}

impl Admission {
    pub fn new() -> Self {
        Self {
            turn: Mutex::new(()),
            space: Notify::new(),
            journal_bytes: Cell::new(0),
            pages: Cell::new(0),
            clusters: Cell::new(0),
        }
    }
}

/// Room for one request; given back when dropped.
pub(crate) struct Credit {
    core: Rc<Core>,
    need: Need,
}

impl Credit {
    /// The records are placed in the ring: the journal part is used, not promised, from now on.
    pub fn placed(&mut self) {
        let bytes = std::mem::take(&mut self.need.journal_bytes);
        let promised = &self.core.admission.journal_bytes;
        promised.set(promised.get() - bytes);
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.placed();
        let admission = &self.core.admission;
        admission.pages.set(admission.pages.get() - self.need.pages);
        admission
            .clusters
            .set(admission.clusters.get() - self.need.clusters);
        // Promised room that was not used is room for others.
        admission.space.notify_all();
    }
}

impl Core {
    /// Waits until there is room for `need`. Errors: the volume failed meanwhile. Cancel: safe.
    pub async fn admit(self: &Rc<Self>, need: Need) -> Result<Credit, VolumeError> {
        let waited = self.must_pace() || !self.has_room(&need);
        if !waited && let Some(_turn) = self.admission.turn.try_lock() {
            return Ok(self.take_room(need));
        }
        add(&self.metrics.admission_waits, 1);
        let start = reactor::now();
        self.pace().await;
        let _turn = self.admission.turn.lock().await;
        while !self.has_room(&need) {
            self.check_writable()?;
            self.flusher.kick_for_room();
            self.admission.space.notified().await;
        }
        self.metrics.admission_wait.record_since(start);
        Ok(self.take_room(need))
    }

    /// Share of the ring in use or promised, in percent.
    pub fn journal_fill_percent(&self) -> u64 {
        let used = self.journal.used_bytes() + self.admission.journal_bytes.get();
        used * 100 / self.ring.len_bytes()
    }

    /// Whether a flush cycle should make room.
    pub fn wants_cycle(&self) -> bool {
        let index = self.index.borrow();
        self.journal_fill_percent() > self.limits.flush_percent
            || index.is_short_of_memory()
            || index.page_count() * 2 > self.limits.pages
            || index.cluster_count() * 2 > self.limits.clusters
            || self.flusher.direct_pages.get() > DIRECT_PAGES_MAX
    }

    fn must_pace(&self) -> bool {
        self.journal_fill_percent() > SOFT_PERCENT
    }

    async fn pace(&self) {
        let fill = self.journal_fill_percent();
        if fill <= SOFT_PERCENT {
            return;
        }
        self.flusher.kick_for_room();
        let over = (fill - SOFT_PERCENT).min(HARD_PERCENT - SOFT_PERCENT) as u32;
        reactor::time::sleep(MAX_PACE * over / (HARD_PERCENT - SOFT_PERCENT) as u32).await;
    }

    fn has_room(&self, need: &Need) -> bool {
        let promised = &self.admission;
        let journal = self.journal.used_bytes() + promised.journal_bytes.get();
        let limit = self.ring.len_bytes() / 100 * HARD_PERCENT;
        let index = self.index.borrow();
        let pages = index.page_count() + promised.pages.get();
        let clusters = index.cluster_count() + promised.clusters.get();
        // Whatever its size, a request finds room where there is nobody else.
        let fits = |used: u64, need: u64, limit: u64| used == 0 || used + need <= limit;
        fits(journal, need.journal_bytes, limit)
            && fits(pages as u64, need.pages as u64, self.limits.pages as u64)
            && fits(
                clusters as u64,
                need.clusters as u64,
                self.limits.clusters as u64,
            )
    }

    fn take_room(self: &Rc<Self>, need: Need) -> Credit {
        let promised = &self.admission;
        promised
            .journal_bytes
            .set(promised.journal_bytes.get() + need.journal_bytes);
        promised.pages.set(promised.pages.get() + need.pages);
        promised
            .clusters
            .set(promised.clusters.get() + need.clusters);
        Credit {
            core: self.clone(),
            need,
        }
    }
}
