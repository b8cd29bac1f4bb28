//! Write path 1/9: a connection. Next: `nvmf::io` (2), the command becomes a request.
//!
//! A connection is one queue of one controller. Its receiver task reads PDUs and starts commands,
//! its sender task sends what waits, each command in the volume is a task of its own; all on one
//! core. Here is what they share, and how commands begin and end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};

use reactor::buf::Buf;
use reactor::sync::Notify;
use wire::nvme::{Cqe, Sqe, Status};
use wire::tcp::{FatalStatus, PduError, PduType, Receiver, TermFrame};

use super::fuse::Fused;
use super::handshake::Negotiated;
use super::intake::Intake;
use super::send::Outbox;
use super::socket::Socket;
use super::{closing, greet, receive, watch};
use crate::complaints::Complaint;
use crate::metrics::{ConnectionInfo, Counters};
use crate::nvmf::admin::{self, AdminResult};
use crate::nvmf::controller::Controller;
use crate::nvmf::directory::Seat;
use crate::nvmf::fabrics::{self, Connected};
use crate::nvmf::handover::Handover;
use crate::nvmf::io::{self, IoCommand, IoContext};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::Transfer;
use crate::nvmf::port::{CloseReason, QueuePort};
use crate::nvmf::table::{CommandTable, Phase};
use crate::nvmf::target::Target;

/// One queue of one controller over one socket.
pub struct Connection {
    id: u64,
    pub(super) target: Target,
    pub(super) socket: Socket,
    _seat: Seat,
    pub(super) peer: SocketAddr,
    local: SocketAddr,
    pub(super) controller: Rc<Controller>,
    pub(super) qid: u16,
    no_flow_control: bool,
    negotiated: Negotiated,
    pub(super) table: RefCell<CommandTable>,
    pub(super) queued: RefCell<VecDeque<u16>>,
    pub(super) held_bytes: Cell<usize>,
    pub(super) retrying: Cell<bool>,
    pub(super) fused: Cell<Fused>,
    pub(super) outbox: Outbox,
    pub(super) executing: Cell<u32>,
    pub(super) orphans: Cell<bool>,
    pub(super) idle: Notify,
    pub(super) counters: Counters,
}

/// What a command needs, by kind of queue.
pub(super) struct Planned {
    pub io: Option<IoCommand>,
    pub transfer: Transfer,
}

/// What greeting a socket gave.
pub(super) struct Greeted {
    pub socket: Socket,
    pub seat: Seat,
    pub intake: Intake,
    pub negotiated: Negotiated,
    pub connected: Connected,
    pub entries: u16,
    pub no_flow_control: bool,
    pub connect_cid: u16,
    pub sqhd: u16,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

impl Connection {
    /// Serves an accepted socket until it ends.
    pub(super) fn accept(target: &Target, stream: reactor::net::TcpStream, peer: SocketAddr) {
        let target = target.clone();
        drop(reactor::spawn(async move {
            if let Some(greeted) = greet::fresh(&target, stream, peer).await {
                Self::serve(target, greeted).await;
            }
        }));
    }

    /// Goes on with a connection that another core greeted.
    pub(crate) fn resume(target: &Target, handover: Handover) {
        let target = target.clone();
        drop(reactor::spawn(async move {
            if let Some(greeted) = greet::resumed(&target, handover).await {
                Self::serve(target, greeted).await;
            }
        }));
    }

    async fn serve(target: Target, greeted: Greeted) {
        let (connect_cid, sqhd) = (greeted.connect_cid, greeted.sqhd);
        let connected = greeted.connected.clone();
        let (connection, intake) = Self::new(target, greeted);
        let this: Rc<dyn QueuePort> = Rc::clone(&connection) as Rc<dyn QueuePort>;
        let port: Weak<dyn QueuePort> = Rc::downgrade(&this);
        drop(this);
        if let Err(status) = connected.controller.add_queue(connected.qid, port) {
            // The queue was connected by another socket while this one waited.
            connection
                .outbox
                .response(Cqe::new(connect_cid, sqhd, status, 0));
            connection.end_unentered().await;
            return;
        }
        let sqhd = if connection.no_flow_control {
            u16::MAX
        } else {
            sqhd
        };
        let cqe = Cqe::new(connect_cid, sqhd, Status::SUCCESS, connected.result());
        connection.outbox.response(cqe);
        connection.log("connected");
        let sender = reactor::spawn(closing::send_loop(Rc::clone(&connection)));
        drop(reactor::spawn(watch::watch(Rc::downgrade(&connection))));
        let reason = receive::receive(&connection, intake).await;
        connection.socket.end(reason);
        connection.finish().await;
        sender.await;
        connection.target.leave(connection.id);
    }

    fn new(target: Target, greeted: Greeted) -> (Rc<Self>, Intake) {
        let entries = greeted.entries;
        let mut table = CommandTable::new(entries);
        table.start_at(greeted.sqhd);
        let connection = Rc::new(Self {
            id: target.next_connection_id(),
            socket: greeted.socket,
            _seat: greeted.seat,
            peer: greeted.peer,
            local: greeted.local,
            controller: greeted.connected.controller,
            qid: greeted.connected.qid,
            no_flow_control: greeted.no_flow_control,
            negotiated: greeted.negotiated,
            table: RefCell::new(table),
            queued: RefCell::new(VecDeque::with_capacity(usize::from(entries))),
            held_bytes: Cell::new(0),
            retrying: Cell::new(false),
            fused: Cell::new(Fused::None),
            outbox: Outbox::new(entries, greeted.negotiated.outgoing()),
            executing: Cell::new(0),
            orphans: Cell::new(false),
            idle: Notify::new(),
            counters: Counters::default(),
            target,
        });
        connection.target.enter(Rc::clone(&connection));
        (connection, greeted.intake)
    }

    /// Identifier on this core, for logs and lists.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What there is to know about it.
    pub fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            id: self.id,
            peer: self.peer,
            local: self.local,
            host_nqn: self.controller.host.nqn.clone(),
            subsystem_nqn: self
                .controller
                .subsystem()
                .map(|subsystem| subsystem.nqn.clone()),
            cntlid: self.controller.cntlid,
            qid: self.qid,
            header_digest: self.negotiated.header_digest,
            data_digest: self.negotiated.data_digest,
            in_flight: self.table.borrow().in_flight(),
            sent_bytes: self.outbox.queue.sent_bytes(),
            counters: self.counters.snapshot(),
        }
    }

    pub(super) fn log(&self, what: &str) {
        tracing::info!(
            peer = %self.peer, host = %self.controller.host.nqn, cntlid = self.controller.cntlid,
            qid = self.qid, subsystem = self.controller.subsystem().map(|s| s.nqn.as_str()),
            "{what}"
        );
    }
}

/// How commands begin and end.
impl Connection {
    /// Checks a command for this kind of queue and says what it needs.
    pub(super) fn plan(&self, sqe: &Sqe, capsule_bytes: u32) -> Result<Planned, Status> {
        if sqe.is_fabrics() {
            let transfer = fabrics::plan(sqe, capsule_bytes)?;
            return Ok(Planned { io: None, transfer });
        }
        if self.qid == 0 {
            let transfer = admin::plan(&self.controller, sqe, capsule_bytes)?;
            return Ok(Planned { io: None, transfer });
        }
        if !self.controller.registers.get().ready() {
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        let subsystem = self.controller.subsystem().ok_or(Status::INTERNAL_ERROR)?;
        let context = IoContext {
            namespace: subsystem.is_live().then_some(&subsystem.info),
            max_io_bytes: self.controller.limits.max_io_bytes,
            capsule_bytes,
        };
        let plan = io::plan(sqe, &context)?;
        Ok(Planned {
            io: Some(plan.command),
            transfer: plan.transfer,
        })
    }

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
            None if sqe.is_fabrics() => {
                let outcome = self.fabrics(&sqe);
                self.answer(index, outcome);
            }
            None => self.start_admin(index, sqe, data),
        }
    }

    fn start_io(self: &Rc<Self>, index: u16, command: IoCommand, data: Option<Buf>) {
        let volume = self
            .controller
            .subsystem()
            .and_then(|subsystem| subsystem.volume());
        let Some(volume) = volume else {
            return self.answer(index, Status::INVALID_NAMESPACE.with_dnr().into());
        };
        let running = Running::new(self);
        let abort = self.table.borrow().slot(index).abort.clone();
        abort.arm();
        drop(reactor::spawn(async move {
            let mut work = pin!(io::execute(command, data, &volume));
            let outcome = poll_fn(|cx| abort.poll(work.as_mut(), cx)).await;
            let aborted = || Status::ABORTED_BY_REQUEST.into();
            running.0.answer(index, outcome.unwrap_or_else(aborted));
        }));
    }

    fn start_admin(self: &Rc<Self>, index: u16, sqe: Sqe, data: Option<Buf>) {
        let running = Running::new(self);
        drop(reactor::spawn(async move {
            let connection = &running.0;
            match admin::execute(&connection.controller, &sqe, data).await {
                AdminResult::Done(outcome) => connection.answer(index, outcome),
                AdminResult::Waits => connection.park(index),
            }
        }));
    }

    /// An event request waits; it may have been completed already.
    fn park(&self, index: u16) {
        let mut table = self.table.borrow_mut();
        let slot = table.slot_mut(index);
        if slot.phase == Phase::Executing {
            slot.phase = Phase::Waiting;
        }
    }

    fn fabrics(&self, sqe: &Sqe) -> Outcome {
        use wire::fabrics::FabricsType;
        match (sqe.fabrics_type(), self.qid) {
            // The queue is connected: a second Connect comes too late.
            (Some(FabricsType::CONNECT), _) => Status::COMMAND_SEQUENCE_ERROR.with_dnr().into(),
            (Some(FabricsType::PROPERTY_GET), 0) => fabrics::property_get(&self.controller, sqe),
            (Some(FabricsType::PROPERTY_SET), 0) => fabrics::property_set(&self.controller, sqe),
            (Some(FabricsType::DISCONNECT), qid) => {
                let outcome = fabrics::disconnect(qid, sqe);
                if outcome.status.is_success() {
                    self.socket.end(CloseReason::Disconnected);
                }
                outcome
            }
            _ => Status::INVALID_OPCODE.with_dnr().into(),
        }
    }

    /// Answers a command and frees its slot.
    pub(super) fn answer(self: &Rc<Self>, index: u16, outcome: Outcome) {
        let status = outcome.status;
        let (sqe, sqhd) = {
            let mut table = self.table.borrow_mut();
            let slot = table.slot_mut(index);
            let sqe = slot.sqe;
            self.held_bytes
                .set(self.held_bytes.get().saturating_sub(slot.held_bytes));
            slot.held_bytes = 0;
            table.retire(index);
            (sqe, table.sqhd())
        };
        self.counters.completed(status);
        if !status.is_success() && is_worth_logging(status) {
            self.controller.record_error(self.qid, &sqe, status);
        }
        self.send_answer(&sqe, sqhd, outcome);
        self.pump();
    }

    pub(super) fn send_answer(&self, sqe: &Sqe, sqhd: u16, outcome: Outcome) {
        let cid = sqe.cid.get();
        let cqe = Cqe::new(cid, sqhd, outcome.status, outcome.result);
        let data = outcome.data.filter(|_| outcome.status.is_success());
        let Some(data) = data else {
            return self.outbox.response(cqe);
        };
        // Without flow control the host needs nothing that only a response would bring.
        let is_response = self.no_flow_control && outcome.result == 0;
        match self.outbox.data(cid, data, is_response) {
            Ok(()) if is_response => {}
            Ok(()) => self.outbox.response(cqe),
            Err(_) => {
                self.outbox
                    .response(Cqe::new(cid, sqhd, Status::INTERNAL_ERROR, 0));
            }
        }
    }

    /// Refuses a command that never got a slot.
    pub(super) fn answer_unentered(&self, sqe: &Sqe, status: Status) {
        let sqhd = self.table.borrow().sqhd();
        self.counters.completed(status);
        self.controller.record_error(self.qid, sqe, status);
        self.outbox
            .response(Cqe::new(sqe.cid.get(), sqhd, status, 0));
    }

    /// Sends a termination request; the caller then stops reading.
    pub(super) fn terminate(&self, error: &PduError, header: &[u8]) -> CloseReason {
        self.target.complaints().about(Complaint::Protocol, || {
            tracing::warn!(
                peer = %self.peer, qid = self.qid, %error,
                "protocol error: connection is terminated"
            );
        });
        self.counters
            .protocol_errors
            .set(self.counters.protocol_errors.get() + 1);
        let frame = TermFrame::new(Receiver::Controller, error, header);
        self.outbox.raw(frame.as_wire());
        CloseReason::ProtocolError
    }

    /// The host sent a termination request.
    pub(super) fn complain_of(&self, status: FatalStatus) {
        self.target.complaints().about(Complaint::Protocol, || {
            tracing::warn!(
                peer = %self.peer, qid = self.qid, ?status, "host terminates the connection"
            );
        });
    }

    /// A command that overran the queue.
    pub(super) fn terminate_overrun(&self, header: &[u8]) -> CloseReason {
        self.terminate(
            &PduError::Sequence {
                kind: PduType::CAPSULE_CMD,
            },
            header,
        )
    }
}

/// What the error log is not for: outcomes that a host asked for.
fn is_worth_logging(status: Status) -> bool {
    let code = status.code();
    code != Status::COMPARE_FAILURE
        && code != Status::ABORTED_BY_REQUEST
        && code != Status::ABORTED_FAILED_FUSED
}

/// A command at work: counted for its connection and its subsystem as long as this lives, so that
/// also a task that is dropped leaves the counts right.
pub(super) struct Running(Rc<Connection>);

impl Running {
    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.0
    }

    pub(super) fn new(connection: &Rc<Connection>) -> Self {
        connection.executing.set(connection.executing.get() + 1);
        if let Some(subsystem) = connection.controller.subsystem() {
            subsystem.begin();
        }
        Self(Rc::clone(connection))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.executing.set(connection.executing.get() - 1);
        if let Some(subsystem) = connection.controller.subsystem() {
            subsystem.end(connection.orphans.get());
        }
        if connection.executing.get() == 0 {
            connection.idle.notify_all();
        }
    }
}

impl QueuePort for Connection {
    fn abort(&self, cid: u16) -> bool {
        self.abort_command(cid)
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

    fn is_drained(&self) -> bool {
        self.socket.is_drained()
    }

    fn close(&self, reason: CloseReason) {
        self.socket.end(reason);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("qid", &self.qid)
            .finish_non_exhaustive()
    }
}
