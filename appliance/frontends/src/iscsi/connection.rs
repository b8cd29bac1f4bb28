//! A connection of a session: its socket, its numbers, and what it shares with its tasks.
//!
//! Its receiver task reads PDUs and starts commands, its sender task sends what waits, each
//! command in the volume is a task of its own; all on the volume's core.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use reactor::Instant;
use reactor::net::TcpStream;
use wire::iscsi::{
    AsyncEvent, AsyncMessage, Bhs, Digests, NO_TAG, NopIn, Reject, RejectReason, TargetNumbers,
};

use super::closing;
use super::greet::{self, Greeted};
use super::handover::Handover;
use super::intake::Intake;
use super::login::TextExchange;
use super::metrics::ConnectionInfo;
use super::outbox::Outbox;
use super::reason::{CloseReason, Socket};
use super::receive;
use super::session::Session;
use super::target::Target;
use super::text::TextState;
use super::watch;
use crate::complaints::Complaint;
use crate::metrics::Counters;
use crate::seats::Seat;

/// One connection in full feature phase.
pub(super) struct Connection {
    pub id: u64,
    pub cid: u16,
    pub session: Rc<Session>,
    pub socket: Socket,
    pub outbox: Outbox,
    digests: Digests,
    /// The initiator's MaxRecvDataSegmentLength.
    pub peer_segment_bytes: Cell<u32>,
    pub text: TextState,
    /// When something was last heard of the initiator.
    pub heard: Cell<Instant>,
    /// Since when a sign of life is awaited.
    pub pinged: Cell<Option<Instant>>,
    last_ping: Cell<u32>,
    /// A logout is being carried out.
    pub leaving: Cell<bool>,
    finished: Cell<bool>,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub counters: Counters,
    _seat: Seat,
}

impl Connection {
    /// Serves an accepted socket until it ends.
    pub fn accept(target: &Target, portal: u16, stream: TcpStream, peer: SocketAddr) {
        let target = target.clone();
        drop(reactor::spawn(async move {
            if let Some(greeted) = greet::fresh(&target, portal, stream, peer).await {
                Self::serve(greeted).await;
            }
        }));
    }

    /// Goes on with a login that another core began.
    pub fn resume(target: &Target, handover: Handover) {
        let target = target.clone();
        drop(reactor::spawn(async move {
            if let Some(greeted) = greet::resumed(&target, handover).await {
                Self::serve(greeted).await;
            }
        }));
    }

    async fn serve(greeted: Greeted) {
        let (connection, mut intake, joining) = Self::enter(greeted);
        drop(joining);
        connection.log("logged in");
        let sender = reactor::spawn(closing::send_loop(Rc::clone(&connection)));
        drop(reactor::spawn(watch::watch(Rc::downgrade(&connection))));
        let reason = receive::receive(&connection, &mut intake).await;
        drop(intake);
        connection.close(reason);
        connection.finish().await;
        sender.await;
    }

    fn enter(greeted: Greeted) -> (Rc<Self>, Intake, super::session::Joining) {
        let session = greeted.session;
        let target = session.target.clone();
        let slots = session.table.borrow().slots();
        let unit = &session.unit;
        let name = (!unit.is_discovery()).then(|| unit.iqn.clone());
        let connection = Rc::new(Self {
            id: target.next_connection_id(),
            cid: greeted.cid,
            socket: greeted.socket,
            outbox: Outbox::new(slots, greeted.digests, greeted.stat_sn),
            digests: greeted.digests,
            peer_segment_bytes: Cell::new(greeted.peer_segment_bytes),
            text: RefCell::new(TextExchange::new(name)),
            heard: Cell::new(reactor::now()),
            pinged: Cell::new(None),
            last_ping: Cell::new(0),
            leaving: Cell::new(false),
            finished: Cell::new(false),
            peer: greeted.peer,
            local: greeted.local,
            counters: Counters::default(),
            _seat: greeted.seat,
            session,
        });
        connection.session.add_connection(&connection);
        target.enter(Rc::clone(&connection));
        (connection, greeted.intake, greeted.joining)
    }

    /// Asks for the end; the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.socket.end(reason);
    }

    /// Whether nothing can be sent any more.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    pub fn set_finished(&self) {
        self.finished.set(true);
    }

    /// The numbers of a PDU that is no response.
    pub fn numbers(&self) -> TargetNumbers {
        self.numbered(self.outbox.stat_sn())
    }

    /// The numbers of a response, which is queued now.
    pub fn response_numbers(&self) -> TargetNumbers {
        self.numbered(self.outbox.take_stat_sn())
    }

    fn numbered(&self, stat_sn: u32) -> TargetNumbers {
        let table = self.session.table.borrow();
        TargetNumbers {
            stat_sn,
            exp_cmd_sn: table.window.expected(),
            max_cmd_sn: table.max_cmd_sn(),
        }
    }

    /// Refuses a PDU.
    pub fn reject(&self, reason: RejectReason, header: &Bhs) {
        let errors = &self.counters.protocol_errors;
        errors.set(errors.get() + 1);
        self.session
            .target
            .complaints()
            .about(Complaint::Protocol, || {
                tracing::warn!(
                    peer = %self.peer, initiator = %self.session.identity.initiator, ?reason,
                    opcode = ?header.opcode(), "PDU rejected"
                );
            });
        let pdu = Reject::new(reason, self.response_numbers());
        self.outbox.small(pdu.as_wire(), header.as_wire());
    }

    /// Asks the initiator for a sign of life.
    pub fn ping(&self) {
        self.pinged.set(Some(reactor::now()));
        let ttt = self.last_ping.get().wrapping_add(1) % NO_TAG;
        self.last_ping.set(ttt);
        let pdu = NopIn::ping(ttt, [0; 8], self.numbers());
        self.outbox.small(pdu.as_wire(), &[]);
    }

    /// Tells the initiator of an event.
    pub fn tell(&self, event: AsyncEvent, parameters: [u16; 3]) {
        let pdu = AsyncMessage::new(event, parameters, self.response_numbers());
        self.outbox.small(pdu.as_wire(), &[]);
    }

    /// What there is to know about it.
    pub fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            cid: self.cid,
            peer: self.peer,
            local: self.local,
            header_digest: self.digests.header,
            data_digest: self.digests.data,
            sent_bytes: self.outbox.queue.sent_bytes(),
            counters: self.counters.snapshot(),
        }
    }

    pub fn log(&self, what: &str) {
        let session = &self.session;
        tracing::info!(
            peer = %self.peer, initiator = %session.identity.initiator, target = %session.unit.iqn,
            tsih = session.tsih, cid = self.cid, core = %session.target.core(), "{what}"
        );
    }
}

impl Session {
    /// Payload that waits to be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.sum_of(|connection| connection.outbox.queue.payload_bytes())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("cid", &self.cid)
            .finish_non_exhaustive()
    }
}
