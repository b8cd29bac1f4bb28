//! Commands that end before they reached the volume: what Abort can still stop.

use wire::nvme::Status;

use super::{Fused, Link, Queue};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::port::{Aborted, CloseReason, QueuePort};
use crate::nvmf::table::Phase;

impl<L: Link> Queue<L> {
    /// Fails a command that has not reached the volume, and its fused partner with it.
    pub(super) fn fail(&self, index: u16, status: Status) {
        let partner = self.table.borrow_mut().slot_mut(index).partner.take();
        self.fail_one(index, status);
        if let Some(partner) = partner {
            self.table.borrow_mut().slot_mut(partner).partner = None;
            self.fail_one(partner, Status::ABORTED_FAILED_FUSED.with_dnr());
        }
    }

    pub(super) fn fail_one(&self, index: u16, status: Status) {
        let (sqe, sqhd) = {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            if L::READS_HOST_MEMORY && slot.phase == Phase::Receiving {
                slot.failed = slot.failed.or(Some(status));
                return;
            }
            let charged = slot.phase != Phase::Queued;
            if charged {
                self.discharge(slot.held_bytes);
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

    /// Abort: true when the command is answered as aborted, now or when the host's memory is no longer
    /// read. In the volume it may have happened,
    /// but nothing that the host sends from now on is overtaken by it.
    pub fn abort_command(&self, cid: u16) -> bool {
        let found = self.table.borrow().find(cid);
        let Some(index) = found else { return false };
        let phase = {
            let table = self.table.borrow();
            let slot = table.slot(index);
            if slot.failed.is_some() {
                return false;
            }
            slot.phase
        };
        match phase {
            Phase::Queued | Phase::Receiving | Phase::Held => {
                self.forget_first(index);
                self.fail(index, Status::ABORTED_BY_REQUEST);
                true
            }
            Phase::Waiting => {
                // What waits where the controller is ends there.
                let Some(controller) = self.owner.here() else {
                    return false;
                };
                controller.events.borrow_mut().cancel(cid);
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

impl<L: Link> QueuePort for Queue<L> {
    fn abort(&self, cid: u16) -> Aborted {
        Aborted::Known(self.abort_command(cid))
    }

    fn post(&self, cid: u16, outcome: Outcome) {
        let found = self.table.borrow().find(cid);
        let Some(index) = found else { return };
        let (sqe, sqhd) = {
            let mut table = self.table.borrow_mut();
            let sqe = table.slot(index).sqe;
            table.retire(index);
            (sqe, table.sqhd())
        };
        self.counters.completed(outcome.status);
        self.send_answer(&sqe, sqhd, outcome);
    }

    fn is_drained(&self, _since: reactor::Instant) -> bool {
        self.has_read_all()
    }

    fn close(&self, reason: CloseReason) {
        self.link.end(reason);
    }
}
