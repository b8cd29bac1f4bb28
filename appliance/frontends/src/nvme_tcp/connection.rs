//! Write path 1/9: a connection. Next: `nvmf::io` (2), the command becomes a request.
//!
//! A connection is one queue of one controller. Its receiver task reads PDUs and starts commands,
//! its sender task sends what waits, each command in the volume is a task of its own; all on one
//! core. Here is what they share, and how commands begin and end. While its controller lives on
//! another core, commands go there instead (`nvmf::away`); `moving` is how it gets from core to core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};

use reactor::Instant;
use reactor::buf::Buf;
use reactor::sync::Notify;
use wire::nvme::{Cqe, Sqe, Status};
use wire::tcp::{FatalStatus, Link, PduError, PduType, Receiver, TermFrame};

use super::fuse::Fused;
use super::greet;
use super::handshake::Negotiated;
use super::intake::Intake;
use super::moving;
use super::send::Outbox;
use super::socket::Socket;
use super::wish::Wish;
use crate::complaints::Complaint;
use crate::metrics::{ConnectionInfo, CounterValues, Counters};
use crate::nvmf::abort::AbortSignal;
use crate::nvmf::admin::{self, AdminResult};
use crate::nvmf::away::{Away, ToHome};
use crate::nvmf::fabrics::{self, Connected};
use crate::nvmf::handover::Handover;
use crate::nvmf::io::{self, IoCommand};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::owner::Owner;
use crate::nvmf::plan::Transfer;
use crate::nvmf::port::{Aborted, CloseReason, QueuePort};
use crate::nvmf::stand_in::WORK_BYTES;
use crate::nvmf::table::{CommandTable, Phase};
use crate::nvmf::target::Target;
use crate::seats::Seat;

/// One queue of one controller over one socket.
pub struct Connection {
    id: u64,
    pub(super) target: Target,
    pub(super) socket: Socket,
    seat: Seat,
    pub(super) peer: SocketAddr,
    local: SocketAddr,
    pub(super) owner: Owner,
    pub(super) qid: u16,
    no_flow_control: bool,
    negotiated: Negotiated,
    pub(super) table: RefCell<CommandTable>,
    /// One for each slot; none where another core executes the commands.
    pub(super) signals: Box<[Rc<AbortSignal>]>,
    pub(super) queued: RefCell<VecDeque<u16>>,
    pub(super) held_bytes: Cell<usize>,
    pub(super) retrying: Cell<bool>,
    pub(super) fused: Cell<Fused>,
    pub(super) outbox: Outbox,
    /// Commands in the volume, or on another core that has it.
    pub(super) executing: Cell<u32>,
    pub(super) orphans: Cell<bool>,
    pub(super) idle: Notify,
    pub(super) wish: Wish,
    pub(super) counters: Counters,
    /// What it had counted and sent when it came to this core.
    before: (CounterValues, u64),
}

/// What a connection is beside its socket and its controller: this moves from core to core.
pub(crate) struct Carried {
    pub seat: Seat,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub qid: u16,
    pub no_flow_control: bool,
    pub negotiated: Negotiated,
    pub table: CommandTable,
    pub queued: VecDeque<u16>,
    pub held_bytes: usize,
    pub fused: Fused,
    pub counters: CounterValues,
    pub sent_bytes: u64,
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
    pub(crate) fn accept(target: &Target, stream: reactor::net::TcpStream, peer: SocketAddr) {
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
        let (connection, intake) = Self::greeted(target, greeted);
        let added = connected
            .controller
            .add_queue(connected.qid, connection.port());
        if let Err(status) = added {
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
        moving::run(connection, intake, None).await;
    }

    fn greeted(target: Target, greeted: Greeted) -> (Rc<Self>, Intake) {
        let mut table = CommandTable::new(greeted.entries);
        table.start_at(greeted.sqhd);
        let carried = Carried {
            seat: greeted.seat,
            peer: greeted.peer,
            local: greeted.local,
            qid: greeted.connected.qid,
            no_flow_control: greeted.no_flow_control,
            negotiated: greeted.negotiated,
            table,
            queued: VecDeque::with_capacity(usize::from(greeted.entries)),
            held_bytes: 0,
            fused: Fused::None,
            counters: CounterValues::default(),
            sent_bytes: 0,
        };
        let owner = Owner::Here(greeted.connected.controller);
        let connection = Self::new(target, greeted.socket, owner, carried);
        (connection, greeted.intake)
    }

    /// Enters a connection of this core.
    pub(super) fn new(target: Target, socket: Socket, owner: Owner, carried: Carried) -> Rc<Self> {
        let entries = carried.table.entries();
        let signals = match owner {
            Owner::Here(_) => (0..entries).map(|_| Rc::default()).collect(),
            Owner::Away(_) => Box::default(),
        };
        let connection = Rc::new(Self {
            id: target.next_connection_id(),
            socket,
            seat: carried.seat,
            peer: carried.peer,
            local: carried.local,
            owner,
            qid: carried.qid,
            no_flow_control: carried.no_flow_control,
            negotiated: carried.negotiated,
            table: RefCell::new(carried.table),
            signals,
            queued: RefCell::new(carried.queued),
            held_bytes: Cell::new(carried.held_bytes),
            retrying: Cell::new(false),
            fused: Cell::new(carried.fused),
            outbox: Outbox::new(entries, carried.negotiated.outgoing()),
            executing: Cell::new(0),
            orphans: Cell::new(false),
            idle: Notify::new(),
            wish: Wish::default(),
            counters: Counters::from(carried.counters),
            before: (carried.counters, carried.sent_bytes),
            target,
        });
        connection.target.enter(Rc::clone(&connection));
        connection
    }

    /// Its socket, and all that goes with it to another core.
    pub(super) fn take_apart(self) -> (Socket, Carried) {
        let sent_bytes = self.sent_bytes();
        let carried = Carried {
            seat: self.seat,
            peer: self.peer,
            local: self.local,
            qid: self.qid,
            no_flow_control: self.no_flow_control,
            negotiated: self.negotiated,
            table: self.table.into_inner(),
            queued: self.queued.into_inner(),
            held_bytes: self.held_bytes.get(),
            fused: self.fused.get(),
            counters: self.counters.snapshot(),
            sent_bytes,
        };
        (self.socket, carried)
    }

    /// Whether it may be served by another core than its controller's.
    pub(crate) fn can_leave(&self) -> bool {
        self.qid != 0 && matches!(self.owner, Owner::Here(_))
    }

    /// Work done on it, in the unit of [`crate::nvmf::stand_in::work_of`].
    pub(crate) fn work(&self) -> u64 {
        let counted = self.counters.snapshot();
        counted.commands + counted.payload_bytes / WORK_BYTES
    }

    /// The form of what its host sends.
    pub(super) fn link(&self) -> Link {
        self.negotiated.link(self.target.options())
    }

    /// The connection as its controller sees it.
    pub(super) fn port(self: &Rc<Self>) -> Weak<dyn QueuePort> {
        let port: Rc<dyn QueuePort> = Rc::clone(self) as Rc<dyn QueuePort>;
        Rc::downgrade(&port)
    }

    /// What it counted on this core.
    pub(crate) fn counted_here(&self) -> CounterValues {
        self.counters.snapshot() - self.before.0
    }

    fn sent_bytes(&self) -> u64 {
        self.before.1 + self.outbox.queue.sent_bytes()
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
            host_nqn: self.owner.host_nqn().to_owned(),
            subsystem_nqn: self.owner.subsystem_nqn().map(str::to_owned),
            cntlid: self.owner.cntlid(),
            qid: self.qid,
            header_digest: self.negotiated.header_digest,
            data_digest: self.negotiated.data_digest,
            in_flight: self.table.borrow().in_flight(),
            sent_bytes: self.sent_bytes(),
            counters: self.counters.snapshot(),
            core: self.target.core(),
            home: self.owner.home(self.target.core()),
            mailbox_waits: self.mailbox_waits(),
        }
    }

    pub(super) fn log(&self, what: &str) {
        tracing::info!(
            peer = %self.peer, host = %self.owner.host_nqn(), cntlid = self.owner.cntlid(),
            qid = self.qid, subsystem = self.owner.subsystem_nqn(), core = %self.target.core(),
            "{what}"
        );
    }

    /// True when everything that the host had sent was read, or nothing more will be.
    pub(super) fn has_read_all(&self) -> bool {
        // Nobody looks at the socket while it waits for its move.
        self.socket.is_drained() && !self.wish.is_held()
    }

    /// Times that a message home found no room.
    pub(super) fn mailbox_waits(&self) -> u64 {
        self.owner.away().map_or(0, |away| away.waits())
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
            let controller = self.owner.here().ok_or(Status::INTERNAL_ERROR)?;
            let transfer = admin::plan(controller, sqe, capsule_bytes)?;
            return Ok(Planned { io: None, transfer });
        }
        let plan = io::plan(sqe, &self.owner.io_context(capsule_bytes)?)?;
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
            running.0.answer(index, outcome.unwrap_or_else(aborted));
        }));
    }

    /// Sends a command to the core of its volume; [`Connection::came_back`] is its end.
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
        let Some(controller) = self.owner.here().cloned() else {
            return self.answer(index, Status::INTERNAL_ERROR.into());
        };
        let running = Running::new(self);
        drop(reactor::spawn(async move {
            let connection = &running.0;
            match admin::execute(&controller, &sqe, data).await {
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
        let admin = self.owner.here().filter(|_| self.qid == 0);
        match (sqe.fabrics_type(), admin) {
            // The queue is connected: a second Connect comes too late.
            (Some(FabricsType::CONNECT), _) => Status::COMMAND_SEQUENCE_ERROR.with_dnr().into(),
            (Some(FabricsType::PROPERTY_GET), Some(admin)) => fabrics::property_get(admin, sqe),
            (Some(FabricsType::PROPERTY_SET), Some(admin)) => fabrics::property_set(admin, sqe),
            (Some(FabricsType::DISCONNECT), _) => {
                let outcome = fabrics::disconnect(self.qid, sqe);
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
        self.owner.record_error(self.qid, sqe, status);
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
        && code != Status::RESERVATION_CONFLICT
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
        if let Some(subsystem) = connection.owner.subsystem() {
            subsystem.begin();
        }
        Self(Rc::clone(connection))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.executing.set(connection.executing.get() - 1);
        if let Some(subsystem) = connection.owner.subsystem() {
            subsystem.end(connection.orphans.get());
        }
        if connection.executing.get() == 0 {
            connection.idle.notify_all();
        }
    }
}

impl QueuePort for Connection {
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

    fn is_drained(&self, _since: Instant) -> bool {
        self.has_read_all()
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
