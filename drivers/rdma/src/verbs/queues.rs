//! What one core has on one device: a completion queue that is polled, a shared receive queue, and
//! the queue pairs on both.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use reactor::sync::Notify;

use super::RECEIVE;
use super::cm_id::PairParts;
use super::completions::CompletionQueue;
use super::device::Device;
use super::ffi::WorkCompletion;
use super::keys::Keys;
use super::news::News;
use super::pair::Pair;
use super::polling;
use super::receives::{Arrival, Receives};
use super::status::work_error;
use crate::inbox::Receives as _;
use crate::{CardOptions, CardStats, Completion, INLINE_BYTES, Lost, WorkError};

/// Completions that are taken at once.
const BATCH: usize = 32;

/// The queues of a core on a device. Ends when the card is dropped and the last pair is gone.
pub struct Queues {
    // In the order in which they have to go.
    receives: Rc<Receives>,
    completions: CompletionQueue,
    keys: Rc<Keys>,
    device: Arc<Device>,
    pairs: RefCell<BTreeMap<u32, Weak<Pair>>>,
    /// Entries of the completion queue that nothing was promised.
    spare: Cell<u32>,
    batch: RefCell<[WorkCompletion; BATCH]>,
    taken: Cell<u64>,
    failed: Cell<u64>,
    armed: Cell<u64>,
    links_down: Cell<u64>,
    closing: Cell<bool>,
    bell: Notify,
}

impl Queues {
    /// Makes the queues and starts the tasks that serve them. Errors: what the system says.
    pub fn open(device: Arc<Device>, options: &CardOptions) -> io::Result<Rc<Queues>> {
        let keys = Rc::new(Keys::new(device.clone(), options.exposes_memory));
        let completions = CompletionQueue::new(&device, options.completion_entries)?;
        let (entries, data) = (options.receive_entries, options.receive_data_bytes);
        let receives = Rc::new(Receives::new(&keys, &device, entries, data)?);
        let spare = completions.entries().saturating_sub(receives.entries());
        let queues = Rc::new(Queues {
            receives,
            completions,
            keys,
            device,
            pairs: RefCell::default(),
            spare: Cell::new(spare),
            batch: RefCell::new([WorkCompletion::default(); BATCH]),
            taken: Cell::new(0),
            failed: Cell::new(0),
            armed: Cell::new(0),
            links_down: Cell::new(0),
            closing: Cell::new(false),
            bell: Notify::new(),
        });
        polling::start(&queues)?;
        Ok(queues)
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The keys of registered memory.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn completions(&self) -> &CompletionQueue {
        &self.completions
    }

    pub(super) fn receives(&self) -> &Rc<Receives> {
        &self.receives
    }

    /// What a queue pair is made of here.
    pub fn parts(&self, send_entries: u32) -> PairParts {
        PairParts {
            domain: self.device.domain(),
            completions: self.completions.raw(),
            receives: self.receives.raw(),
            send_entries,
            inline_bytes: INLINE_BYTES as u32,
        }
    }

    /// Keeps room for the completions of a send queue. False when the completion queue has none
    /// left: it must never overflow.
    pub fn reserve(&self, entries: u32) -> bool {
        let left = self.spare.get().checked_sub(entries);
        left.inspect(|&left| self.spare.set(left)).is_some()
    }

    /// Gives the room back; no completion of the send queue is there any more.
    pub fn give_back(&self, entries: u32) {
        self.spare.set(self.spare.get() + entries);
    }

    /// Completions of this number go to this pair from now on.
    pub fn add(&self, number: u32, pair: Weak<Pair>) {
        self.pairs.borrow_mut().insert(number, pair);
    }

    /// A pair is gone.
    pub fn remove(&self, number: u32) {
        self.pairs.borrow_mut().remove(&number);
        self.bell.notify_all();
    }

    fn pair(&self, number: u32) -> Option<Rc<Pair>> {
        self.pairs.borrow().get(&number)?.upgrade()
    }

    /// The card is dropped.
    pub fn close(&self) {
        self.closing.set(true);
        self.bell.notify_all();
    }

    /// Whether nobody will use it any more.
    pub fn is_over(&self) -> bool {
        self.closing.get() && self.pairs.borrow().is_empty()
    }

    /// Returns when nobody will use it any more.
    pub async fn over(&self) {
        while !self.is_over() {
            self.bell.notified().await;
        }
    }

    /// Asks for an event at the next completion.
    pub fn arm(&self) -> io::Result<()> {
        self.armed.set(self.armed.get() + 1);
        self.completions.arm()
    }

    /// Takes completions, a batch at most, and gives each to whom it concerns.
    pub fn take_completions(&self) -> usize {
        let mut batch = self.batch.borrow_mut();
        let count = self.completions.poll(&mut *batch);
        if count == 0 {
            return 0;
        }
        for completion in batch.iter().take(count) {
            self.dispatch(completion);
        }
        self.receives.post();
        self.taken.set(self.taken.get() + count as u64);
        count
    }

    /// Takes all completions that are there now.
    pub fn drain(&self) {
        let most = self.completions.entries() as usize / BATCH + 1;
        for _ in 0..most {
            if self.take_completions() == 0 {
                return;
            }
        }
    }

    fn dispatch(&self, completion: &WorkCompletion) {
        let pair = self.pair(completion.qp_num);
        let error = work_error(completion.status);
        if error.is_some_and(|error| error != WorkError::Flushed) {
            self.failed.set(self.failed.get() + 1);
        }
        if completion.wr_id & RECEIVE == 0 {
            // Without a pair: it was given up, its work with it.
            if let Some(pair) = pair {
                pair.completed(completion.wr_id, completion.status);
            }
            return;
        }
        let arrival = self.receives.complete(completion.wr_id as u32, completion);
        match (arrival, pair) {
            (Arrival::Message(message), Some(pair)) => {
                pair.deliver(Completion::Received(message));
            }
            // A flushed receive says that the pair is in its error state; a longer message than
            // fits says why.
            (Arrival::Failed, Some(pair)) => {
                pair.end(Lost::Failed(error.unwrap_or(WorkError::Flushed)));
            }
            (Arrival::Unknown, _) => {
                let slot = completion.wr_id & !RECEIVE;
                tracing::error!(slot, "a receive has completed that was not posted");
            }
            // Somebody talked to a pair that is gone.
            (Arrival::Message(_), None) => self.receives.taken(1),
            (Arrival::Failed, None) => {}
        }
    }

    /// Acts on what happened to the device.
    pub fn hear(&self, news: News) {
        match news {
            News::PairFailed(number) => {
                if let Some(pair) = self.pair(number) {
                    pair.end(Lost::Failed(WorkError::Card));
                }
            }
            News::LastReceive(number) => {
                if let Some(pair) = self.pair(number) {
                    pair.has_taken_last_receive();
                }
            }
            News::Talks(number) => {
                if let Some(pair) = self.pair(number) {
                    pair.talks();
                }
            }
            News::CompletionsLost(queue) if queue == self.completions.raw().addr() => {
                self.end_all("its completion queue overflowed");
            }
            News::ReceivesLost(queue) if queue == self.receives.raw().addr() => {
                self.end_all("its shared receive queue failed");
            }
            News::DeviceFailed => self.end_all("the device failed"),
            News::CompletionsLost(_) | News::ReceivesLost(_) => {}
            // A link that comes back soon costs a few retries, a lost connection costs a host
            // seconds. Retries that run out end the pairs that have work; hosts' keep-alives the rest.
            News::PortDown(port) => {
                self.links_down.set(self.links_down.get() + 1);
                tracing::warn!(device = self.device.name(), port, "the link is down");
            }
            News::PortUp(port) => {
                tracing::info!(device = self.device.name(), port, "the link is up");
            }
        }
    }

    fn end_all(&self, why: &str) {
        let pairs: Vec<_> = self
            .pairs
            .borrow()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        let (device, count) = (self.device.name(), pairs.len());
        tracing::error!(
            device,
            count,
            why,
            "all connections of a core on this device end"
        );
        for pair in pairs {
            pair.end(Lost::Failed(WorkError::Card));
        }
    }

    /// Adds what happened here to the counters.
    pub fn add_stats(&self, stats: &mut CardStats) {
        stats.queue_pairs += self.pairs.borrow().len() as u64;
        stats.receives_posted += u64::from(self.receives.posted());
        stats.receives_short += self.receives.short();
        stats.completions += self.taken.get();
        stats.failed += self.failed.get();
        stats.armed += self.armed.get();
        stats.links_down += self.links_down.get();
    }
}
