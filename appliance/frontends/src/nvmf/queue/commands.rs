//! How commands begin and end.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use reactor::buf::Buf;
use wire::fabrics::FabricsType;
use wire::nvme::{Cqe, Sqe, Status};

use super::running::Running;
use super::{Link, Queue};
use crate::nvmf::admin::{self, AdminResult, is_event_request};
use crate::nvmf::away::{Away, ToHome};
use crate::nvmf::fabrics::{self, is_property};
use crate::nvmf::io::{self, IoCommand};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::owner::Owner;
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;

impl<L: Link> Queue<L> {
    /// Starts a command whose data, if it has any, is here.
    pub(super) fn start(self: &Rc<Self>, index: u16) {
        let (sqe, io, data) = {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            slot.phase = Phase::Executing;
            (slot.sqe, slot.io, slot.data.take())
        };
        match io {
            Some(command) => self.start_io(index, command, data),
            None if sqe.is_fabrics() => self.start_fabrics(index, sqe),
            None => self.start_admin(index, sqe, data),
        }
    }

    fn start_io(self: &Rc<Self>, index: u16, command: IoCommand, data: Option<Buf>) {
        if let Owner::Away(away) = &self.owner {
            return self.send_home(
                away,
                ToHome::Command {
                    index,
                    command,
                    data,
                },
            );
        }
        let controller = self.owner.here().cloned();
        let volume = self
            .owner
            .subsystem()
            .and_then(|subsystem| subsystem.volume());
        let Some((volume, controller)) = volume.zip(controller) else {
            return self.answer(index, Status::INVALID_NAMESPACE.with_dnr().into());
        };
        let running = Running::new(self);
        let abort = self.signals[usize::from(index)].clone();
        abort.arm();
        drop(reactor::spawn(async move {
            let mut work = pin!(io::execute(command, data, &volume, &controller));
            let outcome = poll_fn(|cx| abort.poll(work.as_mut(), cx)).await;
            let aborted = || Status::ABORTED_BY_REQUEST.into();
            running
                .queue()
                .answer(index, outcome.unwrap_or_else(aborted));
        }));
    }

    /// Sends a command to the core of its volume; [`Queue::came_back`] is its end.
    pub(super) fn send_home(&self, away: &Rc<Away>, command: ToHome) {
        // Without a home the connection ends; what was read before it does has no answer.
        if !away.is_lost() {
            self.executing.set(self.executing.get() + 1);
            away.send(command);
        }
    }

    /// A command that was sent home has been answered.
    pub(super) fn came_back(&self) {
        self.executing.set(self.executing.get() - 1);
        if self.executing.get() == 0 {
            self.idle.notify_all();
        }
    }

    fn start_admin(self: &Rc<Self>, index: u16, sqe: Sqe, data: Option<Buf>) {
        let controller = match &self.owner {
            Owner::Here(controller) => Rc::clone(controller),
            Owner::Away(away) => return self.send_admin_home(away, index, sqe, data),
        };
        let running = Running::new(self);
        drop(reactor::spawn(async move {
            let queue = running.queue();
            match admin::execute(&controller, &sqe, data).await {
                AdminResult::Done(outcome) => queue.answer(index, outcome),
                AdminResult::Waits => queue.park(index),
            }
        }));
    }

    /// An event request waits at home from now on, so that one message answers it whenever that is.
    fn send_admin_home(&self, away: &Rc<Away>, index: u16, sqe: Sqe, data: Option<Buf>) {
        let command = ToHome::Admin { index, sqe, data };
        if is_event_request(&sqe) {
            self.park(index);
            return away.send(command);
        }
        self.send_home(away, command);
    }

    /// An event request waits; it may have been completed already.
    fn park(&self, index: u16) {
        let mut table = self.table.borrow_mut();
        let slot = table.slot_mut(index);
        if slot.phase == Phase::Executing {
            slot.phase = Phase::Waiting;
        }
    }

    fn start_fabrics(self: &Rc<Self>, index: u16, sqe: Sqe) {
        let outcome = match &self.owner {
            Owner::Away(away) if self.qid == 0 && is_property(&sqe) => {
                return self.send_admin_home(away, index, sqe, None);
            }
            _ => self.fabrics(&sqe),
        };
        self.answer(index, outcome);
    }

    fn fabrics(&self, sqe: &Sqe) -> Outcome {
        let admin = self.owner.here().filter(|_| self.qid == 0);
        match (sqe.fabrics_type(), admin) {
            // The queue is connected: a second Connect comes too late.
            (Some(FabricsType::CONNECT), _) => Status::COMMAND_SEQUENCE_ERROR.with_dnr().into(),
            (_, Some(admin)) if is_property(sqe) => fabrics::property(admin, sqe),
            (Some(FabricsType::DISCONNECT), _) => {
                let outcome = fabrics::disconnect(self.qid, sqe);
                if outcome.status.is_success() {
                    self.link.end(CloseReason::Disconnected);
                }
                outcome
            }
            _ => Status::INVALID_OPCODE.with_dnr().into(),
        }
    }

    /// Answers a command and frees its slot.
    pub fn answer(self: &Rc<Self>, index: u16, outcome: Outcome) {
        let status = outcome.status;
        let (sqe, sqhd) = {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            let sqe = slot.sqe;
            self.discharge(slot.held_bytes);
            self.counters.moved(slot.held_bytes);
            slot.held_bytes = 0;
            table.retire(index);
            (sqe, table.sqhd())
        };
        self.counters.completed(status);
        if !status.is_success() && is_worth_logging(status) {
            self.owner.record_error(self.qid, &sqe, status);
        }
        self.send_answer(&sqe, sqhd, outcome);
        self.pump();
    }

    #[inline]
    pub(super) fn send_answer(&self, sqe: &Sqe, sqhd: u16, outcome: Outcome) {
        let cqe = Cqe::new(sqe.cid.get(), sqhd, outcome.status, outcome.result);
        let data = outcome.data.filter(|_| outcome.status.is_success());
        L::answer(self, sqe, cqe, data);
    }

    /// Refuses a command that never got a slot.
    pub fn answer_unentered(&self, sqe: &Sqe, status: Status) {
        let sqhd = self.table.borrow().sqhd();
        self.counters.completed(status);
        self.owner.record_error(self.qid, sqe, status);
        let cqe = Cqe::new(sqe.cid.get(), sqhd, status, 0);
        L::answer(self, sqe, cqe, None);
    }
}

/// What the error log is not for: outcomes that a host asked for.
fn is_worth_logging(status: Status) -> bool {
    let code = status.code();
    code != Status::COMPARE_FAILURE
        && code != Status::ABORTED_BY_REQUEST
        && code != Status::RESERVATION_CONFLICT
        && code != Status::ABORTED_FAILED_FUSED
}
