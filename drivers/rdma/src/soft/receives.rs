//! The shared receive queue of one core's card.

use std::cell::{Cell, RefCell};

use reactor::Instant;
use reactor::buf::{Buf, BufPool, pool};

use crate::inbox::Receives;
use crate::options::CardOptions;

/// Receives that are posted, and how many are not: with a message that is arriving or waits for
/// the pair's user.
pub(super) struct ReceiveQueue {
    pool: BufPool,
    entries: usize,
    data_bytes: usize,
    /// Memory of the posted receives; none at all when messages have no data.
    bufs: RefCell<Vec<Buf>>,
    held: Cell<usize>,
    is_short: Cell<bool>,
    short: Cell<u64>,
    dry_until: Cell<Instant>,
}

impl ReceiveQueue {
    /// Posts all receives, as far as the pool has memory for them.
    pub fn new(options: &CardOptions) -> Self {
        let entries = options.receive_entries as usize;
        let data_bytes = options.receive_data_bytes as usize;
        let queue = Self {
            pool: pool(),
            entries,
            data_bytes,
            bufs: RefCell::new(Vec::with_capacity(if data_bytes > 0 { entries } else { 0 })),
            held: Cell::new(0),
            is_short: Cell::new(false),
            short: Cell::new(0),
            dry_until: Cell::new(Instant::default()),
        };
        queue.fill();
        queue
    }

    /// Longest data after a message's header.
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Nothing can be taken until `until`.
    pub fn run_dry(&self, until: Instant) {
        self.dry_until.set(until.max(self.dry_until.get()));
    }

    /// A receive for a message, with its memory for data if there is any. None when no receive is
    /// free.
    pub fn take(&self) -> Option<Option<Buf>> {
        self.fill();
        if self.held.get() >= self.entries || reactor::now() < self.dry_until.get() {
            return None;
        }
        let buf = self.bufs.borrow_mut().pop();
        if buf.is_none() && self.data_bytes > 0 {
            return None;
        }
        self.held.set(self.held.get() + 1);
        Some(buf)
    }

    /// A receive's memory that no message needed.
    pub fn give_back(&self, buf: Option<Buf>) {
        let Some(mut buf) = buf else { return };
        let mut bufs = self.bufs.borrow_mut();
        if bufs.len() < self.entries && buf.is_unique() {
            buf.set_len(self.data_bytes);
            bufs.push(buf);
        }
    }

    /// Receives that a message may take now.
    pub fn posted(&self) -> usize {
        let free = self.entries - self.held.get();
        match self.data_bytes {
            0 => free,
            _ => free.min(self.bufs.borrow().len()),
        }
    }

    /// Times that the pool had no memory for a receive.
    pub fn short(&self) -> u64 {
        self.short.get()
    }

    fn fill(&self) {
        let mut bufs = self.bufs.borrow_mut();
        while self.data_bytes > 0 && bufs.len() + self.held.get() < self.entries {
            let Some(buf) = self.pool.try_alloc(self.data_bytes) else {
                if !self.is_short.replace(true) {
                    self.short.set(self.short.get() + 1);
                }
                return;
            };
            bufs.push(buf);
        }
        self.is_short.set(false);
    }
}

impl Receives for ReceiveQueue {
    fn taken(&self, count: usize) {
        self.held.set(self.held.get().saturating_sub(count));
        self.fill();
    }
}
