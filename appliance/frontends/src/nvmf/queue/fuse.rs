//! Fused pairs on a queue: two commands, one after the other, that act as one.
//!
//! Source: base 2.0 section 3.4.2.

use std::rc::Rc;

use wire::nvme::command::Fuse;
use wire::nvme::{Sqe, Status};

use super::running::Running;
use super::{Link, Queue};
use crate::nvmf::away::ToHome;
use crate::nvmf::io::fused::{self, PairStatus, check_pair};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::table::Phase;

/// What the queue remembers between the halves of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fused {
    /// Nothing.
    #[default]
    None,
    /// The first half is in this slot; the next command must be the second.
    First(u16),
    /// The first half failed; so will the second.
    Failed,
}

impl<L: Link> Queue<L> {
    /// Called for each command in order, before its plan is carried out. The error fails it.
    pub(super) fn fuse(self: &Rc<Self>, index: u16, sqe: &Sqe) -> Result<(), Status> {
        let before = self.fused.replace(Fused::None);
        match (before, sqe.fuse()) {
            (Fused::First(first), Fuse::SECOND) => self.pair(first, index),
            (Fused::Failed, Fuse::SECOND) => Err(Status::ABORTED_FAILED_FUSED.with_dnr()),
            (Fused::None, Fuse::SECOND) => Err(Status::ABORTED_MISSING_FUSED.with_dnr()),
            (Fused::First(first), _) => {
                self.fail(first, Status::ABORTED_MISSING_FUSED.with_dnr());
                self.note_first(index, sqe);
                Ok(())
            }
            _ => {
                self.note_first(index, sqe);
                Ok(())
            }
        }
    }

    /// The command was refused before [`Queue::fuse`] saw it.
    pub(super) fn fuse_refused(self: &Rc<Self>, sqe: &Sqe) {
        match (self.fused.replace(Fused::None), sqe.fuse()) {
            (Fused::First(first), Fuse::SECOND) => {
                self.fail(first, Status::ABORTED_FAILED_FUSED.with_dnr());
            }
            (Fused::First(first), _) => {
                self.fail(first, Status::ABORTED_MISSING_FUSED.with_dnr());
            }
            _ => {}
        }
        if sqe.fuse() == Fuse::FIRST {
            self.fused.set(Fused::Failed);
        }
    }

    fn note_first(&self, index: u16, sqe: &Sqe) {
        if sqe.fuse() == Fuse::FIRST {
            self.fused.set(Fused::First(index));
        }
    }

    fn pair(self: &Rc<Self>, first: u16, second: u16) -> Result<(), Status> {
        let commands = {
            let table = self.table.borrow();
            table.slot(first).io.zip(table.slot(second).io)
        };
        let (compare, write) = commands.ok_or(Status::INTERNAL_ERROR)?;
        if let Err(status) = check_pair(compare, write) {
            self.fail(first, Status::ABORTED_FAILED_FUSED.with_dnr());
            return Err(status);
        }
        let mut table = self.table.borrow_mut();
        table.slot_mut(first).partner = Some(second);
        table.slot_mut(second).partner = Some(first);
        Ok(())
    }

    /// The data of one half is here: starts the pair when the other half's is, too.
    pub(super) fn half_ready(self: &Rc<Self>, index: u16) {
        let ready = {
            let mut table = self.table.borrow_mut();
            table.slot_mut(index).phase = Phase::Held;
            let partner = table.slot(index).partner;
            let held = partner.filter(|partner| table.slot(*partner).phase == Phase::Held);
            held.map(|partner| match table.slot(index).sqe.fuse() {
                Fuse::FIRST => (index, partner),
                _ => (partner, index),
            })
        };
        if let Some((first, second)) = ready {
            self.start_pair(first, second);
        }
    }

    fn start_pair(self: &Rc<Self>, first: u16, second: u16) {
        let (compare, data, write) = {
            let mut table = self.table.borrow_mut();
            let compare = begin(&mut table, first);
            let data = begin(&mut table, second);
            (compare, data, table.slot(second).io)
        };
        let (Some(compare), Some(data), Some(write)) = (compare, data, write) else {
            return self.answer_without_volume(first, second);
        };
        if let Some(away) = self.owner.away() {
            let pair = ToHome::Pair {
                first,
                second,
                write,
                compare,
                data,
            };
            return self.send_home(away, pair);
        }
        let subsystem = self.owner.subsystem();
        let Some(volume) = subsystem.and_then(|subsystem| subsystem.volume()) else {
            return self.answer_without_volume(first, second);
        };
        let running = Running::new(self);
        drop(reactor::spawn(async move {
            let queue = running.queue();
            let status = match queue.owner.here() {
                Some(controller) => {
                    fused::execute(write, (compare, data), &volume, controller).await
                }
                None => PairStatus::failed(Status::INTERNAL_ERROR),
            };
            queue.answer_pair(first, second, status);
        }));
    }

    /// Answers both halves.
    pub(super) fn answer_pair(self: &Rc<Self>, first: u16, second: u16, status: PairStatus) {
        self.answer(first, Outcome::failure(status.first));
        self.answer(second, Outcome::failure(status.second));
    }

    fn answer_without_volume(self: &Rc<Self>, first: u16, second: u16) {
        let status = PairStatus {
            first: Status::INVALID_NAMESPACE.with_dnr(),
            second: Status::ABORTED_FAILED_FUSED.with_dnr(),
        };
        self.answer_pair(first, second, status);
    }
}

fn begin(table: &mut crate::nvmf::table::CommandTable, index: u16) -> Option<reactor::buf::Buf> {
    let slot = table.slot_mut(index);
    slot.phase = Phase::Executing;
    slot.partner = None;
    slot.data.take()
}
