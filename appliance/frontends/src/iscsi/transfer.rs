//! Payload memory and R2T: who may hold how much, who waits, and what is asked for when.
//!
//! A command that moves data is charged to its session until the data left again. Requests for
//! data go out only once the buffer is there for all of it. Data that comes unasked never waits
//! behind such commands: they may take three quarters of the pool, so that reading on is always
//! possible. Source: RFC 7143 sections 11.8 (R2T), 13.17 (MaxOutstandingR2T).

use std::time::Duration;

use reactor::buf::Buf;
use wire::iscsi::TaskAttribute;

use super::session::Session;
use super::table::TaskRef;
use super::task::{MAX_OPEN, Open, Phase};
use crate::scsi::Transfer;

/// How often a session looks again when the pool is empty. The pool's own queue is not used here
/// because a command that waits can still be aborted.
const RETRY: Duration = Duration::from_millis(1);

/// What a command does next.
enum Step {
    /// Data is on its way.
    Wait,
    /// It ends without having been executed.
    Fail,
    /// Its buffer has room for all data.
    Ask,
    /// It needs memory first.
    Queue,
    /// Nothing is missing.
    Run,
}

enum Pumped {
    /// The next command in line can go.
    Go,
    /// The session holds enough; an answer that leaves makes room.
    Budget,
    /// The pool has no memory to spare.
    Pool,
}

impl Session {
    /// Looks what a command needs next, after something of it came.
    pub(super) fn advance(&self, task: TaskRef) {
        let step = {
            let mut table = self.table.borrow_mut();
            match table.live(task) {
                Some(slot) if slot.phase == Phase::Receiving => next_step(slot),
                _ => return,
            }
        };
        match step {
            Step::Wait => {}
            Step::Ask => self.ask(task.index),
            Step::Run => self.run(task.index),
            Step::Queue => self.enqueue(task.index),
            Step::Fail => {
                let fault = self.table.borrow_mut().task_mut(task.index).fault.take();
                if let Some(outcome) = fault {
                    self.answer(task.index, outcome);
                }
            }
        }
    }

    fn enqueue(&self, index: u16) {
        self.table.borrow_mut().task_mut(index).phase = Phase::Queued;
        self.queued.borrow_mut().push_back(index);
        self.pump();
    }

    /// Lets commands that wait for memory go, in order, as far as there is some.
    pub(super) fn pump(&self) {
        loop {
            let Some(index) = self.queued.borrow().front().copied() else {
                return;
            };
            match self.try_begin(index) {
                Pumped::Go => {
                    self.queued.borrow_mut().pop_front();
                    self.go(index);
                }
                Pumped::Budget => return self.note_wait(index),
                Pumped::Pool => {
                    self.note_wait(index);
                    return self.retry_later();
                }
            }
        }
    }

    /// Charges a command and, for data from the host, gets its buffer.
    fn try_begin(&self, index: u16) -> Pumped {
        let mut table = self.table.borrow_mut();
        let slot = table.task_mut(index);
        let need = match slot.plan.map(|plan| plan.transfer()) {
            Some(Transfer::FromHost { len_bytes } | Transfer::ToHost { len_bytes }) => {
                len_bytes as usize
            }
            _ => 0,
        };
        let more = need.saturating_sub(slot.held_bytes);
        let held = self.all_held_bytes();
        if held > slot.held_bytes && held + more > self.options().session_data_bytes {
            return Pumped::Budget;
        }
        if slot.need_bytes != 0 {
            let Some(mut buf) = spare(need) else {
                return Pumped::Pool;
            };
            if let Some(first) = slot.data.take() {
                let len = first.len().min(need);
                buf.as_mut()[..len].copy_from_slice(&first[..len]);
            }
            slot.data = Some(buf);
        }
        self.charge(slot, more);
        Pumped::Go
    }

    fn go(&self, index: u16) {
        let needs_data = {
            let mut table = self.table.borrow_mut();
            let slot = table.task_mut(index);
            slot.phase = Phase::Receiving;
            slot.progress = reactor::now();
            slot.need_bytes > slot.received_bytes
        };
        if needs_data {
            self.ask(index);
        } else {
            self.run(index);
        }
    }

    /// Asks for as much of the missing data as may be asked for at once.
    fn ask(&self, index: u16) {
        let most = usize::from(self.terms.max_outstanding_r2t).min(MAX_OPEN);
        let connection = self.table.borrow().task(index).connection.clone();
        let Some(connection) = connection else { return };
        loop {
            let mut table = self.table.borrow_mut();
            let slot = table.task(index);
            let start = slot.asked_bytes;
            if usize::from(slot.open_count) >= most || start >= slot.need_bytes {
                return;
            }
            let len_bytes = (slot.need_bytes - start).min(self.terms.max_burst_bytes);
            let ttt = table.new_ttt(index);
            let slot = table.task_mut(index);
            let end = start + len_bytes;
            slot.push_open(Open { ttt, end });
            slot.asked_bytes = end;
            let sn = slot.r2t_sn;
            slot.r2t_sn += 1;
            slot.progress = reactor::now();
            let (itt, lun) = (slot.itt(), slot.header.lun);
            drop(table);
            connection.ask(itt, ttt, lun, (sn, start, len_bytes));
        }
    }

    /// Everything a command needs is here: starts it, unless an ORDERED one is in the way.
    fn run(&self, index: u16) {
        if self.ordered.get() != 0 && !self.may_start(index) {
            self.table.borrow_mut().task_mut(index).phase = Phase::Blocked;
        } else {
            self.start(index);
        }
    }

    /// SAM-5 section 8.6: what came before an ORDERED command ends before it starts, and what came
    /// after it starts when it ended. HEAD OF QUEUE waits for nobody.
    fn may_start(&self, index: u16) -> bool {
        let table = self.table.borrow();
        let own = table.task(index);
        if own.attribute == TaskAttribute::HEAD_OF_QUEUE {
            return true;
        }
        let is_barrier = own.attribute == TaskAttribute::ORDERED;
        !table.used().any(|(_, other)| {
            other.order != 0
                && other.order < own.order
                && other.is_command()
                && (is_barrier || other.attribute == TaskAttribute::ORDERED)
        })
    }

    /// A command ended while ORDERED ones were there: others may start now.
    pub(super) fn unblock(&self) {
        let mut next = self.table.borrow().next_used(0);
        while let Some(index) = next {
            let is_blocked = self.table.borrow().task(index).phase == Phase::Blocked;
            if is_blocked && self.may_start(index) {
                self.start(index);
            }
            next = self.table.borrow().next_used(index + 1);
        }
    }

    /// A buffer for a command that waits for more data, all of it within budget and pool.
    pub(super) fn spare_buffer(&self, len: usize) -> Option<Buf> {
        if self.all_held_bytes() + len > self.options().session_data_bytes {
            return None;
        }
        spare(len)
    }

    /// A buffer for the first part of the data only. The window bounds how many there are.
    pub(super) fn short_buffer(&self, len: usize) -> Option<Buf> {
        spare(len)
    }

    /// What commands hold, and what waits to be sent.
    fn all_held_bytes(&self) -> usize {
        self.held_bytes.get() + self.waiting_bytes()
    }

    fn note_wait(&self, index: u16) {
        let table = self.table.borrow();
        if let Some(connection) = &table.task(index).connection {
            let waits = &connection.counters.r2t_waits;
            waits.set(waits.get() + 1);
        }
    }

    fn retry_later(&self) {
        if self.retrying.replace(true) {
            return;
        }
        let session = self.this.clone();
        drop(reactor::spawn(async move {
            reactor::time::sleep(RETRY).await;
            if let Some(session) = session.upgrade() {
                session.retrying.set(false);
                session.pump();
            }
        }));
    }
}

fn next_step(slot: &super::task::Task) -> Step {
    if slot.immediate_open || slot.unsolicited_open {
        return Step::Wait;
    }
    if slot.fault.is_some() {
        return if slot.open_count == 0 {
            Step::Fail
        } else {
            Step::Wait
        };
    }
    if slot.received_bytes < slot.need_bytes {
        let room = slot.data.as_ref().map_or(0, Buf::len);
        return if room >= slot.need_bytes as usize {
            Step::Ask
        } else {
            Step::Queue
        };
    }
    match slot.plan.map(|plan| plan.transfer()) {
        Some(Transfer::ToHost { .. }) => Step::Queue,
        _ => Step::Run,
    }
}

/// Memory from the three quarters of the pool that may wait for data.
fn spare(len: usize) -> Option<Buf> {
    let pool = reactor::buf::pool();
    let share = pool.capacity_bytes() / 4 * 3;
    if pool.in_use_bytes() + len > share {
        return None;
    }
    pool.try_alloc(len)
}
