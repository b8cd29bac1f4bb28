//! Commands with the logical unit, and how they end.

use std::rc::Rc;

use wire::iscsi::TaskAttribute;
use wire::scsi::Status;

use super::answer::Ending;
use super::session::Session;
use super::task::{Aborted, Phase, Task};
use crate::scsi::Outcome;

impl Session {
    /// Starts a command whose data, if it has any, is here.
    pub(super) fn start(&self, index: u16) {
        let (plan, data) = {
            let mut table = self.table.borrow_mut();
            let slot = table.task_mut(index);
            slot.phase = Phase::Executing;
            let mut data = slot.data.take();
            if let Some(data) = &mut data {
                // An early command got its buffer before anybody knew what it needs.
                data.truncate(slot.need_bytes as usize);
            }
            (slot.plan, data.filter(|data| !data.is_empty()))
        };
        let parts = self.this.upgrade().zip(self.nexus()).zip(plan);
        let stop = self.stops.get(usize::from(index)).cloned();
        let (Some(((session, nexus), plan)), Some(stop)) = (parts, stop) else {
            return self.answer(index, Outcome::status(Status::BUSY));
        };
        let running = Running::new(session);
        stop.set(false);
        drop(reactor::spawn(async move {
            let outcome = nexus.execute_until(plan, data, &|| stop.get()).await;
            running.0.executed(index, outcome);
        }));
    }

    /// A command left the unit: it has no effect from now on. An aborted one has no answer, or
    /// another one.
    fn executed(&self, index: u16, outcome: Outcome) {
        let aborted = self.table.borrow().task(index).aborted;
        if aborted.is_some() {
            self.aborting.set(self.aborting.get() - 1);
        }
        match aborted {
            None => self.answer(index, outcome),
            Some(Aborted::WithStatus) => self.answer(index, Outcome::status(Status::TASK_ABORTED)),
            Some(Aborted::Silently) => {
                self.retire(index);
                self.pump();
            }
        }
    }

    /// Answers a command and frees its slot.
    pub(super) fn answer(&self, index: u16, outcome: Outcome) {
        let (ending, connection) = {
            let mut table = self.table.borrow_mut();
            let slot = table.task_mut(index);
            let ending = ending_of(slot, &outcome);
            (ending, slot.connection.take())
        };
        let moved = self.table.borrow().task(index).held_bytes;
        self.retire(index);
        if let Some(connection) = connection {
            let counters = &connection.counters;
            counters.moved(moved);
            counters.ended(outcome.is_good());
            connection.answer(self, &ending, outcome);
        }
        self.pump();
    }

    /// Frees the slot of a command that is over.
    pub(super) fn retire(&self, index: u16) {
        let was_ordered = {
            let mut table = self.table.borrow_mut();
            let slot = table.task_mut(index);
            self.uncharge(slot);
            let was_ordered =
                slot.order != 0 && slot.is_command() && slot.attribute == TaskAttribute::ORDERED;
            table.retire(index);
            was_ordered
        };
        let ordered = self.ordered.get();
        if ordered != 0 {
            self.ordered.set(ordered - u16::from(was_ordered));
            self.unblock();
        }
        if self.waiters.get() != 0 {
            self.settled.notify_all();
        }
    }
}

/// What of a command its response needs.
fn ending_of(task: &Task, outcome: &Outcome) -> Ending {
    let command = task.command();
    let sent = outcome.data.as_ref().map_or(0, |data| data.len() as u32);
    let is_from_host = task.wanted_bytes != 0;
    let actual = if is_from_host {
        task.wanted_bytes
    } else {
        sent
    };
    let is_expected = if is_from_host {
        command.is_write()
    } else {
        command.is_read()
    };
    // Data in the direction that was not announced has no room at all.
    let to_host_bytes = if command.is_read() {
        task.expected_bytes
    } else {
        0
    };
    let expected = if is_expected || actual == 0 {
        task.expected_bytes
    } else {
        0
    };
    Ending {
        itt: task.itt(),
        to_host_bytes,
        residual: wire::iscsi::Residual::of(expected, actual),
        r2t_count: task.r2t_sn,
    }
}

/// A command at work: counted as long as this lives, so that also a task that is dropped leaves
/// the count right.
struct Running(Rc<Session>);

impl Running {
    fn new(session: Rc<Session>) -> Self {
        session.executing.set(session.executing.get() + 1);
        Self(session)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let session = &self.0;
        session.executing.set(session.executing.get() - 1);
        if session.waiters.get() != 0 {
            session.settled.notify_all();
        }
    }
}
