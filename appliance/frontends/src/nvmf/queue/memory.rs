//! Payload memory: who may hold how much, and who waits.
//!
//! A command that moves data is charged to its connection until the data left again. A write asks
//! the host for its data only when its buffer is there. In-capsule data never waits behind such
//! writes: they may take three quarters of the pool, so that reading on is always possible.

use std::rc::Rc;
use std::time::Duration;

use super::{Fetch, Link, Queue};
use crate::nvmf::plan::Transfer;
use crate::nvmf::table::Phase;

/// How often a connection looks again when the pool is empty. The pool's own queue is not used
/// here because a command that waits can still be aborted.
const RETRY: Duration = Duration::from_millis(1);

enum Pumped {
    /// The next command in line can go.
    Go,
    /// The connection holds enough; an answer that leaves makes room.
    Budget,
    /// The pool has no memory to spare.
    Pool,
}

impl<L: Link> Queue<L> {
    /// A command passed its checks: starts it, or asks for its data, or lets it wait its turn.
    pub fn enqueue(self: &Rc<Self>, index: u16, transfer: Transfer) {
        {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            slot.held_bytes = transfer.held_bytes();
            slot.expected_bytes = transfer.from_host_bytes() as u32;
        }
        if transfer == Transfer::None {
            return self.start(index);
        }
        self.queued.borrow_mut().push_back(index);
        self.pump();
    }

    /// Starts commands that wait, in order, as far as memory allows.
    pub fn pump(self: &Rc<Self>) {
        loop {
            let Some(index) = self.queued.borrow().front().copied() else {
                return;
            };
            if !self.link.may_begin() {
                return;
            }
            match self.try_begin(index) {
                Pumped::Go => {
                    self.queued.borrow_mut().pop_front();
                    self.go(index);
                }
                Pumped::Budget => return,
                Pumped::Pool => return self.retry_later(),
            }
        }
    }

    /// Charges the command and, for a write, gets its buffer.
    fn try_begin(&self, index: u16) -> Pumped {
        let mut table = self.table.borrow_mut();
        let slot = table.slot_mut(index);
        if slot.phase != Phase::Queued {
            return Pumped::Go;
        }
        let held = self.held_bytes.get() + self.link.payload_bytes();
        let limit = self.target.options().connection_data_bytes;
        if held > 0 && held + slot.held_bytes > limit {
            return Pumped::Budget;
        }
        if slot.expected_bytes > 0 {
            let pool = reactor::buf::pool();
            let len = slot.expected_bytes as usize;
            let spare = pool.capacity_bytes() / 4 * 3;
            if pool.in_use_bytes() + len > spare {
                return Pumped::Pool;
            }
            let Some(buf) = pool.try_alloc(len) else {
                return Pumped::Pool;
            };
            slot.data = Some(buf);
        }
        self.held_bytes.set(self.held_bytes.get() + slot.held_bytes);
        Pumped::Go
    }

    fn go(self: &Rc<Self>, index: u16) {
        let fetch = {
            let mut table = self.table.borrow_mut();
            let (ttag, serial) = (table.ttag(index), table.serial(index));
            let slot = table.slot_mut(index);
            if slot.phase != Phase::Queued {
                // Aborted while it waited; its slot may hold another command by now, which has
                // its own place in the line.
                return;
            }
            if slot.expected_bytes == 0 {
                None
            } else {
                slot.phase = Phase::Receiving;
                slot.progress = reactor::now();
                Some(Fetch {
                    index,
                    serial,
                    ttag,
                    len_bytes: slot.expected_bytes,
                })
            }
        };
        match fetch {
            Some(fetch) => L::fetch(self, fetch),
            None => self.start(index),
        }
    }

    fn retry_later(self: &Rc<Self>) {
        self.counters
            .r2t_waits
            .set(self.counters.r2t_waits.get() + 1);
        if self.retrying.replace(true) {
            return;
        }
        let queue = Rc::downgrade(self);
        drop(reactor::spawn(async move {
            reactor::time::sleep(RETRY).await;
            if let Some(queue) = queue.upgrade() {
                queue.retrying.set(false);
                queue.pump();
            }
        }));
    }

    /// Charges data that comes without having been asked for.
    pub(super) fn charge(&self, len_bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() + len_bytes);
    }

    /// The data of a command has left, or will not be held any more.
    pub(super) fn discharge(&self, len_bytes: usize) {
        self.held_bytes
            .set(self.held_bytes.get().saturating_sub(len_bytes));
    }
}
