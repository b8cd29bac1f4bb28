//! Payload memory and R2T: who may hold how much, who waits, and what Abort can still stop.
//!
//! A command that moves data is charged to its connection until the data left again. A write asks
//! the host for its data only when its buffer is there. In-capsule data never waits behind such
//! writes: they may take three quarters of the pool, so that reading on is always possible.
//! Source: NVMe/TCP 1.0 section 3.3.2.

use std::rc::Rc;
use std::time::Duration;

use wire::nvme::Status;

use super::connection::Connection;
use super::fuse::Fused;
use crate::nvmf::outcome::Outcome;
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

impl Connection {
    /// A command passed its checks: starts it, or asks for its data, or lets it wait its turn.
    pub(super) fn enqueue(self: &Rc<Self>, index: u16, transfer: Transfer) {
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
    pub(super) fn pump(self: &Rc<Self>) {
        loop {
            let Some(index) = self.queued.borrow().front().copied() else {
                return;
            };
            if self.wish.is_held() {
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
        let held = self.held_bytes.get() + self.outbox.queue.payload_bytes();
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
        let grant = {
            let mut table = self.table.borrow_mut();
            let ttag = table.ttag(index);
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
                Some((slot.sqe.cid.get(), ttag, slot.expected_bytes))
            }
        };
        match grant {
            Some((cid, ttag, len_bytes)) => {
                self.counters.r2t_sent.set(self.counters.r2t_sent.get() + 1);
                self.outbox.r2t(cid, ttag, len_bytes);
            }
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
        let connection = Rc::downgrade(self);
        drop(reactor::spawn(async move {
            reactor::time::sleep(RETRY).await;
            if let Some(connection) = connection.upgrade() {
                connection.retrying.set(false);
                connection.pump();
            }
        }));
    }

    /// Fails a command that has not reached the volume, and its fused partner with it.
    pub(super) fn fail(&self, index: u16, status: Status) {
        let partner = self.table.borrow_mut().slot_mut(index).partner.take();
        self.fail_one(index, status);
        if let Some(partner) = partner {
            self.table.borrow_mut().slot_mut(partner).partner = None;
            self.fail_one(partner, Status::ABORTED_FAILED_FUSED.with_dnr());
        }
    }

    fn fail_one(&self, index: u16, status: Status) {
        let (sqe, sqhd) = {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            let charged = slot.phase != Phase::Queued;
            if charged {
                self.held_bytes
                    .set(self.held_bytes.get().saturating_sub(slot.held_bytes));
            }
            slot.held_bytes = 0;
            let sqe = slot.sqe;
            if slot.phase == Phase::Receiving {
                // The host may have sent its data already.
                table.drain(index);
            } else {
                table.retire(index);
            }
            (sqe, table.sqhd())
        };
        self.queued.borrow_mut().retain(|queued| *queued != index);
        self.counters.completed(status);
        self.owner.record_error(self.qid, &sqe, status);
        self.send_answer(&sqe, sqhd, Outcome::failure(status));
    }

    /// A first half of a pair that goes takes what was to follow it along.
    fn forget_first(&self, index: u16) {
        if self.fused.get() == Fused::First(index) {
            self.fused.set(Fused::Failed);
        }
    }

    /// Abort: true when the command is answered as aborted. In the volume it may have happened,
    /// but nothing that the host sends from now on is overtaken by it.
    pub(super) fn abort_command(&self, cid: u16) -> bool {
        let found = self.table.borrow().find(cid);
        let Some(index) = found else { return false };
        let phase = self.table.borrow().slot(index).phase;
        match phase {
            Phase::Queued | Phase::Receiving | Phase::Held => {
                self.forget_first(index);
                self.fail(index, Status::ABORTED_BY_REQUEST);
                true
            }
            Phase::Waiting => {
                // Only admin commands wait, and those are with their controller.
                if let Some(controller) = self.owner.here() {
                    controller.events.borrow_mut().cancel(cid);
                }
                self.fail(index, Status::ABORTED_BY_REQUEST);
                true
            }
            // Its task answers. Admin commands and fused pairs have no signal: they run to their end.
            // What another core executes is aborted there, see `from_home`.
            Phase::Executing => {
                let signal = self.signals.get(usize::from(index));
                signal.is_some_and(|signal| signal.raise())
            }
            Phase::Free | Phase::Draining => false,
        }
    }
}
