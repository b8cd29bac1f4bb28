//! A session: one initiator port's use of one target, over one connection or several.
//!
//! Here is what its connections share; how commands travel is in `command` (arrival), `data_out`
//! and `transfer` (data from the host), `execute` (with the logical unit) and `answer`.
//! Source: RFC 7143 sections 4.4 (session types), 6.3 (reinstatement), 7 (error handling).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use reactor::sync::Notify;

use super::connection::Connection;
use super::login::Negotiated;
use super::metrics::SessionInfo;
use super::options::Options;
use super::reason::CloseReason;
use super::table::TaskTable;
use super::target::Target;
use super::task::{Aborted, Phase};
use super::unit::Unit;
use crate::metrics::CounterValues;
use crate::scsi::{AbortCause, Nexus, NexusPort, PortNames};
use crate::seats::Seat;

/// What identifies a session, RFC 7143 section 4.4.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The initiator's name.
    pub initiator: String,
    /// Its part of the session identifier.
    pub isid: [u8; 6],
    /// Target portal group tag.
    pub portal: u16,
}

/// What a login settled that commands look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub max_burst_bytes: u32,
    pub first_burst_bytes: u32,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_outstanding_r2t: u16,
}

impl Terms {
    fn of(negotiated: &Negotiated) -> Self {
        Self {
            max_burst_bytes: negotiated.max_burst_bytes,
            first_burst_bytes: negotiated.first_burst_bytes,
            initial_r2t: negotiated.initial_r2t,
            immediate_data: negotiated.immediate_data,
            max_outstanding_r2t: negotiated.max_outstanding_r2t,
        }
    }
}

/// One session, on the home core of its volume.
pub(super) struct Session {
    pub this: Weak<Self>,
    pub target: Target,
    pub unit: Rc<Unit>,
    pub identity: Identity,
    pub tsih: u16,
    pub terms: Terms,
    /// All that its leading login settled, for logins that join it.
    pub negotiated: Negotiated,
    /// None in a discovery session, and once the session is over.
    nexus: RefCell<Option<Rc<Nexus>>>,
    pub table: RefCell<TaskTable>,
    /// For each slot: its command shall end early.
    pub stops: Box<[Rc<Cell<bool>>]>,
    /// Commands that wait for payload memory, in order.
    pub queued: RefCell<VecDeque<u16>>,
    pub held_bytes: Cell<usize>,
    pub retrying: Cell<bool>,
    /// ORDERED commands that are not finished.
    pub ordered: Cell<u16>,
    pub executing: Cell<u32>,
    /// Those of them that were aborted.
    pub aborting: Cell<u32>,
    /// Task management functions that are not answered yet.
    pub managing: Cell<u32>,
    /// Rings when a command leaves the unit and somebody waits for that.
    pub settled: Notify,
    pub waiters: Cell<u32>,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Logins that are about to add a connection.
    joining: Cell<u32>,
    ended: Cell<bool>,
    past: Cell<CounterValues>,
    _seat: Seat,
}

impl Session {
    /// Begins a session without connections, and enters it with its unit.
    pub fn begin(
        target: &Target,
        unit: &Rc<Unit>,
        identity: Identity,
        tsih: u16,
        negotiated: Negotiated,
        seat: Seat,
    ) -> Rc<Self> {
        let table = TaskTable::new(negotiated.cmd_sn, target.options().queue_depth);
        let slots = table.slots();
        let session = Rc::new_cyclic(|this: &Weak<Self>| Self {
            this: this.clone(),
            target: target.clone(),
            unit: Rc::clone(unit),
            tsih,
            terms: Terms::of(&negotiated),
            negotiated,
            nexus: RefCell::default(),
            stops: (0..slots).map(|_| Rc::default()).collect(),
            queued: RefCell::new(VecDeque::with_capacity(slots)),
            table: RefCell::new(table),
            held_bytes: Cell::new(0),
            retrying: Cell::new(false),
            ordered: Cell::new(0),
            executing: Cell::new(0),
            aborting: Cell::new(0),
            managing: Cell::new(0),
            settled: Notify::new(),
            waiters: Cell::new(0),
            connections: RefCell::default(),
            joining: Cell::new(0),
            ended: Cell::new(false),
            past: Cell::default(),
            identity,
            _seat: seat,
        });
        session.attach();
        unit.enter(&session);
        session
    }

    fn attach(self: &Rc<Self>) {
        let Some(lun) = self.unit.lun() else { return };
        let port: Rc<dyn NexusPort> = Rc::clone(self) as Rc<dyn NexusPort>;
        let identity = &self.identity;
        let names = PortNames {
            initiator_port: initiator_port(identity),
            target: self.unit.iqn.clone(),
            target_port: identity.portal,
        };
        let nexus = lun.attach(Rc::downgrade(&port), names);
        self.nexus.replace(Some(nexus));
    }

    pub fn options(&self) -> &Options {
        self.target.options()
    }

    /// The nexus with the logical unit. Cost: a reference count.
    pub fn nexus(&self) -> Option<Rc<Nexus>> {
        self.nexus.borrow().clone()
    }

    /// True once no connection can join it any more.
    pub fn is_over(&self) -> bool {
        self.ended.get()
    }

    pub fn connection_count(&self) -> usize {
        self.connections.borrow().len()
    }

    /// The connection with this CID.
    pub fn connection(&self, cid: u16) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.iter().find(|other| other.cid == cid).cloned()
    }

    pub fn has_connection(&self, connection: &Rc<Connection>) -> bool {
        let connections = self.connections.borrow();
        connections
            .iter()
            .any(|other| Rc::ptr_eq(other, connection))
    }

    /// The sum of something over the connections.
    pub fn sum_of(&self, value: impl Fn(&Connection) -> usize) -> usize {
        self.connections.borrow().iter().map(|one| value(one)).sum()
    }

    pub fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().clone()
    }

    pub fn add_connection(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().push(Rc::clone(connection));
    }

    /// Keeps the session while a login replaces its last connection.
    pub fn hold(self: &Rc<Self>) -> Joining {
        self.joining.set(self.joining.get() + 1);
        Joining(Rc::clone(self))
    }

    /// Ends all connections, and with them the session.
    pub fn end(&self, reason: CloseReason) {
        self.ended.set(true);
        for connection in self.connections() {
            connection.close(reason);
        }
        if self.connections.borrow().is_empty() {
            self.leave();
        }
    }

    /// A connection is over and none of its commands is at work.
    pub fn connection_ended(&self, connection: &Rc<Connection>, reason: CloseReason) {
        let mut past = self.past.get();
        past += connection.counters.snapshot();
        self.past.set(past);
        self.connections
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, connection));
        self.settled.notify_all();
        let is_last = self.connections.borrow().is_empty();
        if is_last && self.joining.get() == 0 {
            self.ended.set(true);
            self.leave();
        } else if !is_last && !reason.spares_session() && !self.ended.get() {
            // At error recovery level 0 commands that were lost with a connection do not come
            // again, and those after them would wait for ever.
            self.end(CloseReason::SessionFailed);
        }
    }

    /// I_T nexus loss: what the nexus held is given back.
    fn leave(&self) {
        drop(self.nexus.borrow_mut().take());
        self.unit.leave(self.tsih);
    }

    /// Ends the tasks for which `which` holds. Returns how many there were.
    pub fn end_tasks(&self, how: Aborted, which: impl Fn(&super::task::Task) -> bool) -> usize {
        let mut count = 0;
        let mut next = self.table.borrow().next_used(0);
        while let Some(index) = next {
            let is_meant = {
                let table = self.table.borrow();
                let task = table.task(index);
                task.aborted.is_none() && which(task)
            };
            if is_meant {
                count += usize::from(self.end_task(index, how));
            }
            next = self.table.borrow().next_used(index + 1);
        }
        count
    }

    /// Ends a task: at once, or as soon as the unit has let go of it. False when there is none.
    ///
    /// What the volume has of it is waited for: a write that was only forgotten could still take
    /// effect after a read that followed the abort.
    pub fn end_task(&self, index: u16, how: Aborted) -> bool {
        let phase = self.table.borrow().task(index).phase;
        match phase {
            Phase::Free => false,
            Phase::Executing => {
                let fresh = {
                    let mut table = self.table.borrow_mut();
                    table.task_mut(index).aborted.replace(how).is_none()
                };
                if fresh {
                    self.aborting.set(self.aborting.get() + 1);
                    if let Some(stop) = self.stops.get(usize::from(index)) {
                        stop.set(true);
                    }
                }
                true
            }
            Phase::Early => {
                // Its number must not be missing.
                let mut table = self.table.borrow_mut();
                self.uncharge(table.task_mut(index));
                if table.task(index).is_numbered {
                    table.make_void(index);
                } else {
                    table.retire(index);
                }
                true
            }
            Phase::Receiving | Phase::Queued | Phase::Blocked => {
                self.queued.borrow_mut().retain(|queued| *queued != index);
                if how == Aborted::WithStatus {
                    self.answer(index, crate::scsi::Outcome::status(TASK_ABORTED));
                } else {
                    self.retire(index);
                }
                true
            }
        }
    }

    /// Gives back what a task holds.
    pub fn uncharge(&self, task: &mut super::task::Task) {
        let held = std::mem::take(&mut task.held_bytes);
        self.held_bytes
            .set(self.held_bytes.get().saturating_sub(held));
    }

    /// Charges payload memory to a task.
    pub fn charge(&self, task: &mut super::task::Task, len_bytes: usize) {
        task.held_bytes += len_bytes;
        self.held_bytes.set(self.held_bytes.get() + len_bytes);
    }

    /// Returns when `done` holds; looks whenever a command left the unit.
    pub async fn when(&self, done: impl Fn() -> bool) {
        self.waiters.set(self.waiters.get() + 1);
        let _guard = Waiting(self);
        while !done() {
            self.settled.notified().await;
        }
    }

    /// Commands of this connection that are with the unit.
    pub fn executing_of(&self, connection: &Rc<Connection>) -> usize {
        let table = self.table.borrow();
        let own = table
            .used()
            .filter(|(_, task)| task.phase == Phase::Executing && task.is_of(connection));
        own.count()
    }

    /// What there is to know about it.
    pub fn info(&self) -> SessionInfo {
        let mut counters = self.past.get();
        let connections = self.connections.borrow();
        for connection in connections.iter() {
            counters += connection.counters.snapshot();
        }
        SessionInfo {
            tsih: self.tsih,
            isid: self.identity.isid,
            initiator: self.identity.initiator.clone(),
            target: self.unit.lun().map(|_| self.unit.iqn.clone()),
            portal: self.identity.portal,
            in_flight: self.table.borrow().in_flight(),
            connections: connections.iter().map(|one| one.info()).collect(),
            counters,
            core: self.target.core(),
        }
    }

    /// Whether everything that the initiator had sent was read, or nothing more will be.
    pub fn is_drained(&self) -> bool {
        self.connections
            .borrow()
            .iter()
            .all(|connection| connection.socket.is_drained())
    }
}

/// Status of tasks that another nexus ended.
const TASK_ABORTED: wire::scsi::Status = wire::scsi::Status::TASK_ABORTED;

/// Name of an initiator port: SPC-4 section 7.6.4.7.
fn initiator_port(identity: &Identity) -> String {
    use std::fmt::Write;
    let mut name = format!("{},i,0x", identity.initiator);
    for byte in identity.isid {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// A login that is about to add a connection.
pub(super) struct Joining(Rc<Session>);

impl Drop for Joining {
    fn drop(&mut self) {
        let session = &self.0;
        session.joining.set(session.joining.get() - 1);
        if session.joining.get() == 0 && session.connections.borrow().is_empty() {
            session.ended.set(true);
            session.leave();
        }
    }
}

struct Waiting<'a>(&'a Session);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiters.set(self.0.waiters.get() - 1);
    }
}

impl NexusPort for Session {
    fn abort_tasks(&self, cause: AbortCause) -> usize {
        let reports = self
            .nexus
            .borrow()
            .as_ref()
            .is_some_and(|nexus| nexus.reports_aborted_tasks());
        let how = match cause {
            AbortCause::Other if reports => Aborted::WithStatus,
            _ => Aborted::Silently,
        };
        self.end_tasks(how, super::task::Task::is_command)
    }

    fn is_settled(&self) -> bool {
        self.aborting.get() == 0
    }

    fn close(&self) {
        self.end(CloseReason::Removed);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("tsih", &self.tsih)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
