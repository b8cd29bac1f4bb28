//! The flusher: moves what is dirty from the journal to the map, and frees journal space.
//!
//! `plan` says what one cycle writes, `fold` writes it and tells the map, `cycle` runs the steps
//! in the order that a crash cannot hurt, `slice` says how much of a turn it may take, `window` how
//! much of the device, `mod` when.

mod cycle;
mod fold;
mod plan;
mod slice;
mod window;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use reactor::sync::Notify;
use store::Cluster;

use crate::core::Core;

/// Where the flusher looks again while there is something dirty.
const TICK: Duration = Duration::from_millis(250);
/// A cycle runs when nothing was written for this long.
const IDLE: Duration = Duration::from_secs(1);
/// And at the latest when something is dirty for this long.
const OLDEST: Duration = Duration::from_secs(5);

/// Bells and counters of a volume's flusher.
#[derive(Default)]
pub(crate) struct Flusher {
    /// Rung when a batch completed.
    pub has_dirty: Notify,
    kicked: Cell<bool>,
    kick: Notify,
    stopping: Cell<bool>,
    stopped: Cell<bool>,
    /// Cycles begun, and cycles ended (in whatever way).
    begun: Cell<u64>,
    ended: Cell<u64>,
    cycle_done: Notify,
    /// Pages written directly since the last cut.
    pub direct_pages: Cell<u64>,
    /// Clusters that only the journal in front of the tail refers to: given back when the tail
    /// has moved.
    abandoned: RefCell<Vec<Cluster>>,
    buffers: RefCell<plan::Plan>,
    slice: slice::Slice,
}

impl Flusher {
    /// A flusher; `abandoned` are clusters that recovery claimed and nobody uses.
    pub fn new(abandoned: Vec<Cluster>) -> Self {
        Self {
            abandoned: RefCell::new(abandoned),
            ..Self::default()
        }
    }

    /// Asks for a cycle now.
    pub fn kick(&self) {
        self.kicked.set(true);
        self.kick.notify_one();
        self.has_dirty.notify_one();
    }

    /// Asks for a cycle because room is short. One that runs makes some; what is missing then is
    /// found out at its end.
    pub fn kick_for_room(&self) {
        if self.begun.get() == self.ended.get() {
            self.kick();
        }
    }

    /// Asks the flusher to end after the cycle that runs.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.kick();
    }

    /// Whether it has ended.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Waits for the end of a cycle that began after this call.
    pub async fn full_cycle(&self) {
        let wanted = self.begun.get() + 1;
        while self.ended.get() < wanted {
            self.kick();
            self.cycle_done.notified().await;
        }
    }

    /// Takes the clusters that wait for the tail, for a volume that is deleted.
    pub fn take_abandoned(&self) -> Vec<Cluster> {
        self.abandoned.take()
    }

    async fn kicked_within(&self, limit: Duration) -> bool {
        if self.kicked.get() {
            return true;
        }
        let _ = reactor::time::timeout(limit, self.kick.notified()).await;
        self.kicked.get()
    }
}

impl Core {
    /// Runs cycles for as long as the volume is open.
    pub async fn run_flusher(self: Rc<Self>) {
        loop {
            while !self.is_dirty() && !self.flusher.kicked.get() {
                self.flusher.has_dirty.notified().await;
            }
            self.wait_for_reason().await;
            if self.flusher.stopping.get() {
                break;
            }
            self.flusher.kicked.set(false);
            self.run_cycle().await;
        }
        self.flusher.stopped.set(true);
    }

    /// Whether the published map or tail is behind.
    pub fn is_dirty(&self) -> bool {
        self.journal.completed_lsn() > self.journal.checkpoint_lsn()
            || !self.index.borrow().is_clean()
            || !self.flusher.abandoned.borrow().is_empty()
    }

    async fn wait_for_reason(&self) {
        let start = reactor::now();
        let (mut last_lsn, mut last_change) = (self.journal.completed_lsn(), start);
        loop {
            if self.flusher.kicked_within(TICK).await {
                return;
            }
            let lsn = self.journal.completed_lsn();
            if lsn != last_lsn {
                (last_lsn, last_change) = (lsn, reactor::now());
            }
            if last_change.elapsed() >= IDLE || start.elapsed() >= OLDEST {
                return;
            }
        }
    }

    /// One cycle. A failure stops the volume; those who wait for room or for a cycle are told.
    pub async fn run_cycle(self: &Rc<Self>) {
        let flusher = &self.flusher;
        flusher.begun.set(flusher.begun.get() + 1);
        let number = flusher.begun.get();
        let result = if self.check_writable().is_ok() {
            self.index.borrow_mut().hold_payloads();
            let result = self.cycle().await;
            self.index.borrow_mut().let_payloads_go();
            result
        } else {
            Ok(())
        };
        if let Err(error) = result {
            self.fail(&error);
            self.fail_batches(&error);
        }
        if self.check_writable().is_err() {
            // Nothing will become better by trying again at once.
            reactor::time::sleep(IDLE).await;
        }
        flusher.ended.set(number);
        // Without anything completed meanwhile another cycle would find nothing to free.
        let has_more = self.journal.completed_lsn() > self.journal.checkpoint_lsn();
        if has_more && self.wants_cycle() {
            flusher.kick();
        }
        flusher.cycle_done.notify_all();
        self.admission.space.notify_all();
    }
}
