//! The end of a queue, in pieces: its transport says in which order.

use super::{Link, Queue};
use crate::complaints::Complaint;
use crate::nvmf::away::ToHome;
use crate::nvmf::owner::Owner;
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;
use crate::nvmf::target::Served;

impl<L: Link> Queue<L> {
    /// From here on no command of this connection starts.
    pub fn drop_unstarted(&self) {
        self.queued.borrow_mut().clear();
        let mut table = self.table.borrow_mut();
        let unstarted: Vec<u16> = table
            .used()
            .filter(|(_, slot)| slot.phase != Phase::Executing)
            .map(|(index, _)| index)
            .collect();
        for index in unstarted {
            table.retire(index);
        }
    }

    /// The controller is done with this queue. What is still in the volume is an orphan now.
    pub fn leave_controller(&self) {
        self.orphans.set(true);
        match &self.owner {
            Owner::Here(controller) => {
                if let Some(subsystem) = controller.subsystem() {
                    subsystem.orphan(self.executing.get());
                }
                controller.remove_queue(self.qid);
            }
            // What is in the volume is counted there.
            Owner::Away(away) => away.send(ToHome::Finished),
        }
    }

    /// True once it has left its controller.
    pub fn has_left(&self) -> bool {
        self.orphans.get()
    }

    /// Returns when none of its commands is at work.
    pub async fn settled(&self) {
        while self.executing.get() != 0 {
            self.idle.notified().await;
        }
    }

    /// True when none of its commands is at work.
    pub fn is_settled(&self) -> bool {
        self.executing.get() == 0
    }

    /// Counts and logs the end.
    pub fn tell_end(&self, reason: CloseReason) {
        self.target.totals().closed(reason, self.counted_here());
        self.target.totals().waited(self.mailbox_waits());
        let line = || {
            tracing::info!(
                transport = L::TRANSPORT.label(), peer = %self.peer, cntlid = self.owner.cntlid(),
                qid = self.qid, ?reason, "connection closed"
            );
        };
        // Hosts that know how to leave are as few as their controllers; their lines are wanted.
        match reason {
            CloseReason::PeerClosed => line(),
            orderly if orderly.is_orderly() => line(),
            _ => self.target.complaints().about(Complaint::Closed, line),
        }
    }
}
