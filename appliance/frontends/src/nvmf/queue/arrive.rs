//! Commands that come in, and their data: what a link calls.
//!
//! For each capsule [`Queue::admit`], then [`Queue::check`], then one of: [`Queue::enqueue`] for what
//! has no data in its capsule, [`Queue::begin_receiving`] and [`Queue::received`] for what has, and
//! [`Queue::answer`] for what did not pass.

use std::rc::Rc;

use reactor::buf::Buf;
use wire::nvme::command::Fuse;
use wire::nvme::{Sqe, Status};

use super::{Link, Queue};
use crate::nvmf::io::{self, IoCommand};
use crate::nvmf::plan::Transfer;
use crate::nvmf::table::{Phase, Refusal};
use crate::nvmf::{admin, fabrics};

/// What a command needs, by kind of queue.
struct Planned {
    io: Option<IoCommand>,
    transfer: Transfer,
}

impl<L: Link> Queue<L> {
    /// A command came: gives it a slot.
    ///
    /// Errors: one whose identifier is in use is answered with [`Queue::answer_unentered`]; after
    /// one that overran the queue the connection cannot go on.
    pub fn admit(&self, sqe: &Sqe) -> Result<u16, Refusal> {
        self.owner.command_arrived(reactor::now());
        self.table.borrow_mut().admit(sqe)
    }

    /// Checks a command that has its slot, with `capsule_bytes` of data in its capsule, and pairs it
    /// when it is half of a fused operation. The error completes it.
    pub fn check(
        self: &Rc<Self>,
        index: u16,
        sqe: &Sqe,
        capsule_bytes: u32,
    ) -> Result<Transfer, Status> {
        match self.plan(sqe, capsule_bytes) {
            Ok(planned) => {
                self.table.borrow_mut().slot_mut(index).io = planned.io;
                self.fuse(index, sqe)?;
                Ok(planned.transfer)
            }
            Err(status) => {
                self.fuse_refused(sqe);
                Err(status)
            }
        }
    }

    /// Checks a command for this kind of queue and says what it needs.
    fn plan(&self, sqe: &Sqe, capsule_bytes: u32) -> Result<Planned, Status> {
        if sqe.is_fabrics() {
            let transfer = fabrics::plan(sqe, capsule_bytes, L::TRANSPORT)?;
            return Ok(Planned { io: None, transfer });
        }
        if self.qid == 0 {
            let transfer = admin::plan(&self.owner.admin_context(L::TRANSPORT), sqe)?;
            return Ok(Planned { io: None, transfer });
        }
        let plan = io::plan(sqe, &self.owner.io_context(capsule_bytes, L::TRANSPORT)?)?;
        Ok(Planned {
            io: Some(plan.command),
            transfer: plan.transfer,
        })
    }

    /// The data of a command comes in its capsule: charges it. False when the command was aborted
    /// meanwhile; its slot is free then, and its data goes nowhere.
    pub fn begin_receiving(&self, index: u16, len_bytes: usize) -> bool {
        let mut table = self.table.borrow_mut();
        let slot = table.slot_mut(index);
        if slot.phase != Phase::Queued {
            return false;
        }
        slot.phase = Phase::Receiving;
        slot.held_bytes = len_bytes;
        slot.progress = reactor::now();
        self.charge(len_bytes);
        true
    }

    /// The data of a [`Fetch`](super::Fetch) came, or could not be had: as [`Queue::received`], unless the slot has
    /// another command by now.
    pub fn fetched(self: &Rc<Self>, index: u16, serial: u32, buf: Option<Buf>, is_good: bool) {
        if self.table.borrow().waits(index, serial) {
            self.received(index, buf, is_good);
        }
    }

    /// All data of a command is here: starts the command, or lets it wait for its partner. False for
    /// `is_good` when the data is known to be damaged. A command that was aborted meanwhile has its
    /// answer, and gives its slot back now.
    pub fn received(self: &Rc<Self>, index: u16, buf: Option<Buf>, is_good: bool) {
        let is_wanted = {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            let is_wanted = slot.phase == Phase::Receiving;
            if let Some(status) = slot.failed.take() {
                slot.phase = Phase::Held;
                drop(table);
                return self.fail_one(index, status);
            }
            if is_wanted {
                slot.data = buf;
            } else {
                table.retire(index);
            }
            is_wanted
        };
        if is_wanted {
            self.data_complete(index, is_good);
        }
    }

    fn data_complete(self: &Rc<Self>, index: u16, is_good: bool) {
        if !is_good {
            // Nothing of it is on the way any more, so the slot need not drain.
            self.table.borrow_mut().slot_mut(index).phase = Phase::Held;
            self.fail(index, Status::TRANSIENT_TRANSPORT_ERROR);
            return;
        }
        let is_fused = self.table.borrow().slot(index).sqe.fuse() != Fuse::NONE;
        if is_fused {
            self.half_ready(index)
        } else {
            self.start(index)
        }
    }
}
