//! Task management functions.
//!
//! A function is answered only when nothing of the tasks it ended can take effect any more. Their
//! data that is still on the way is passed over.
//! Source: RFC 7143 sections 11.5 and 11.6 (functions and responses), 4.2.3 (ordering).

use std::rc::Rc;

use wire::iscsi::{RejectReason, TaskFunction, TaskRequest, TaskResponse, TaskResult};

use super::connection::Connection;
use super::options::IMMEDIATE_TASKS;
use super::reason::CloseReason;
use super::session::Session;
use super::task::Aborted;
use crate::complaints::Complaint;
use crate::scsi::{Function, Managed};

/// Carries out a function.
pub(super) fn request(connection: &Rc<Connection>, request: TaskRequest) {
    if connection.session.unit.is_discovery() {
        let header = zerocopy::transmute!(request);
        return connection.reject(RejectReason::PROTOCOL_ERROR, &header);
    }
    tell(connection, &request);
    if connection.session.managing.get() >= u32::from(IMMEDIATE_TASKS) {
        let header = zerocopy::transmute!(request);
        return connection.reject(RejectReason::IMMEDIATE_COMMAND_REJECT, &header);
    }
    match request.function() {
        TaskFunction::ABORT_TASK => abort_task(connection, request),
        TaskFunction::ABORT_TASK_SET => manage(connection, request, Function::AbortTaskSet),
        TaskFunction::CLEAR_TASK_SET => manage(connection, request, Function::ClearTaskSet),
        TaskFunction::LOGICAL_UNIT_RESET => {
            manage(connection, request, Function::LogicalUnitReset);
        }
        TaskFunction::TARGET_WARM_RESET => {
            manage(connection, request, Function::TargetWarmReset);
        }
        TaskFunction::TARGET_COLD_RESET => {
            manage(connection, request, Function::TargetColdReset);
        }
        TaskFunction::TASK_REASSIGN => {
            say(connection, &request, TaskResult::REASSIGN_UNSUPPORTED);
        }
        _ => say(connection, &request, TaskResult::UNSUPPORTED),
    }
}

fn tell(connection: &Connection, request: &TaskRequest) {
    let session = &connection.session;
    session
        .target
        .complaints()
        .about(Complaint::Management, || {
            tracing::info!(
                peer = %connection.peer, initiator = %session.identity.initiator,
                target = %session.unit.iqn, function = ?request.function(), "task management"
            );
        });
}

fn say(connection: &Connection, request: &TaskRequest, result: TaskResult) {
    if !connection.is_finished() {
        let numbers = connection.response_numbers();
        let pdu = TaskResponse::new(request.itt.get(), result, numbers);
        connection.outbox.small(pdu.as_wire(), &[]);
    }
}

fn abort_task(connection: &Rc<Connection>, request: TaskRequest) {
    let session = &connection.session;
    match session.abort_one(&request) {
        Abort::NoTask => say(connection, &request, TaskResult::NO_TASK),
        Abort::Done => {
            say(connection, &request, TaskResult::COMPLETE);
            session.deliver_early();
            session.pump();
        }
        Abort::Pending => {
            let connection = Rc::clone(connection);
            let pending = Pending::new(session);
            drop(reactor::spawn(async move {
                let _pending = pending;
                let session = &connection.session;
                session.when(|| session.aborting.get() == 0).await;
                say(&connection, &request, TaskResult::COMPLETE);
            }));
        }
    }
}

/// A function at work, counted: each is a task of its own.
struct Pending(Rc<Session>);

impl Pending {
    fn new(session: &Rc<Session>) -> Self {
        session.managing.set(session.managing.get() + 1);
        Self(Rc::clone(session))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.managing.set(self.0.managing.get() - 1);
    }
}

/// What became of ABORT TASK.
enum Abort {
    NoTask,
    Done,
    Pending,
}

impl Session {
    fn abort_one(&self, request: &TaskRequest) -> Abort {
        let found = self.table.borrow().find(request.ref_task_tag.get());
        let index = found.filter(|index| self.table.borrow().task(*index).is_command());
        match index {
            Some(index) => {
                self.end_task(index, Aborted::Silently);
                if self.aborting.get() == 0 {
                    Abort::Done
                } else {
                    Abort::Pending
                }
            }
            // It may come by another connection: its number is taken, so that it is ignored then.
            None => {
                let number = request.ref_cmd_sn.get();
                let mut table = self.table.borrow_mut();
                let is_to_come = wire::iscsi::is_before(number, request.cmd_sn.get())
                    && table.early_at(number).is_none()
                    && table.skip(number);
                if is_to_come {
                    Abort::Done
                } else {
                    Abort::NoTask
                }
            }
        }
    }

    /// Commands before a function that ends many tasks are taken as received: those of them that
    /// are still to come by other connections will be ignored.
    ///
    /// At most the window is skipped: an immediate request may carry any number.
    fn close_gap(&self, cmd_sn: u32) {
        for _ in 0..self.options().queue_depth {
            self.deliver_early();
            let mut table = self.table.borrow_mut();
            let expected = table.window.expected();
            let beyond = table.max_cmd_sn().wrapping_add(1);
            let is_gap =
                wire::iscsi::is_before(expected, cmd_sn) && !wire::iscsi::is_before(beyond, cmd_sn);
            if !is_gap || !table.skip(expected) {
                return;
            }
        }
    }
}

fn manage(connection: &Rc<Connection>, request: TaskRequest, function: Function) {
    let session = &connection.session;
    session.close_gap(request.cmd_sn.get());
    let Some(nexus) = session.nexus() else {
        return say(connection, &request, TaskResult::REJECTED);
    };
    let pending = Pending::new(session);
    let connection = Rc::clone(connection);
    drop(reactor::spawn(async move {
        let _pending = pending;
        let managed = nexus.manage(request.lun, function).await;
        drop(nexus);
        let result = match managed {
            Managed::Complete => TaskResult::COMPLETE,
            Managed::NoSuchUnit => TaskResult::NO_LUN,
        };
        say(&connection, &request, result);
        connection.session.pump();
        if function == Function::TargetColdReset {
            connection.session.unit.end_sessions(CloseReason::ColdReset);
        }
    }));
}
