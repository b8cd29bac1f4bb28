//! Write path 1/9: a connection. Next: `nvmf::queue` (1, too), the half that all transports share.
//!
//! A connection is one queue of one controller over one socket. Its receiver task reads PDUs and
//! hands commands to the queue, its sender task sends what waits; all on one core. `moving` is how
//! it gets from core to core.

use std::net::SocketAddr;
use std::rc::Rc;

use reactor::Instant;
use reactor::buf::Buf;
use wire::nvme::{Cqe, Sqe, Status};
use wire::tcp::{FatalStatus, Link as Form, PduError, PduType, Receiver, TermFrame};

use super::greet;
use super::handshake::Negotiated;
use super::intake::Intake;
use super::moving;
use super::send::Outbox;
use super::socket::Socket;
use super::wish::Wish;
use crate::complaints::{Complaint, Complaints};
use crate::listener::Acceptor;
use crate::nvmf::fabrics::Connected;
use crate::nvmf::moves::Destination;
use crate::nvmf::owner::Owner;
use crate::nvmf::port::CloseReason;
use crate::nvmf::queue::{Carried, Ends, Fetch, Link, Queue};
use crate::nvmf::target::Target;
use crate::nvmf::transport::Transport;
use crate::seats::Seat;

/// One queue of one controller over one socket.
pub(crate) type Connection = Queue<TcpLink>;

/// What a connection has beside its queue.
pub(crate) struct TcpLink {
    pub(super) socket: Socket,
    pub(super) negotiated: Negotiated,
    pub(super) outbox: Outbox,
    pub(super) wish: Wish,
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

impl Acceptor for Target {
    fn accept(&self, stream: reactor::net::TcpStream, peer: SocketAddr) {
        let target = self.clone();
        drop(reactor::spawn(async move {
            if let Some(greeted) = greet::fresh(&target, stream, peer).await {
                Connection::serve(target, greeted).await;
            }
        }));
    }

    fn complaints(&self) -> &Rc<Complaints> {
        Target::complaints(self)
    }
}

impl TcpLink {
    pub(super) fn new(socket: Socket, negotiated: Negotiated, entries: u16) -> Self {
        Self {
            socket,
            negotiated,
            outbox: Outbox::new(entries, negotiated.outgoing()),
            wish: Wish::default(),
        }
    }
}

impl Link for TcpLink {
    const TRANSPORT: Transport = Transport::Tcp;
    const CAN_MOVE: bool = true;

    /// Asks for the data with an R2T. Source: NVMe/TCP 1.0 section 3.3.2.
    fn fetch(queue: &Rc<Queue<Self>>, fetch: Fetch) {
        let counters = &queue.counters;
        counters.r2t_sent.set(counters.r2t_sent.get() + 1);
        let cid = queue.table.borrow().slot(fetch.index).sqe.cid.get();
        let outbox = &queue.link.outbox;
        outbox.r2t(cid, fetch.ttag, fetch.len_bytes);
    }

    #[inline]
    fn answer(queue: &Queue<Self>, _sqe: &Sqe, cqe: Cqe, data: Option<Buf>) {
        let outbox = &queue.link.outbox;
        let Some(data) = data else {
            return outbox.response(cqe);
        };
        // Without flow control the host needs nothing that only a response would bring.
        let is_response = queue.no_flow_control && cqe.result.get() == 0;
        match outbox.data(cqe.cid.get(), data, is_response) {
            Ok(()) if is_response => {}
            Ok(()) => outbox.response(cqe),
            Err(_) => outbox.response(Cqe::new(
                cqe.cid.get(),
                cqe.sqhd.get(),
                Status::INTERNAL_ERROR,
                0,
            )),
        }
    }

    #[inline]
    fn payload_bytes(&self) -> usize {
        self.outbox.queue.payload_bytes()
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.outbox.queue.stalled_since()
    }

    fn end(&self, reason: CloseReason) {
        self.socket.end(reason);
    }

    fn ending(&self) -> Option<CloseReason> {
        self.socket.ending()
    }

    fn is_drained(&self) -> bool {
        // Nobody looks at the socket while it waits for its move.
        self.socket.is_drained() && !self.wish.is_held()
    }

    fn sent_bytes(&self) -> u64 {
        self.outbox.queue.sent_bytes()
    }

    fn digests(&self) -> (bool, bool) {
        (self.negotiated.header_digest, self.negotiated.data_digest)
    }

    #[inline]
    fn may_begin(&self) -> bool {
        !self.wish.is_held()
    }

    fn is_moving(&self) -> bool {
        self.wish.is_made()
    }

    fn ask_move(queue: &Queue<Self>, to: Destination) -> bool {
        queue.wish_for(to)
    }
}

impl Connection {
    pub(super) async fn serve(target: Target, greeted: Greeted) {
        let (connect_cid, sqhd) = (greeted.connect_cid, greeted.sqhd);
        let connected = greeted.connected.clone();
        let (connection, intake) = Self::greeted(target, greeted);
        let added = connected
            .controller
            .add_queue(connected.qid, connection.port());
        let outbox = &connection.link.outbox;
        if let Err(status) = added {
            // The queue was connected by another socket while this one waited.
            outbox.response(Cqe::new(connect_cid, sqhd, status, 0));
            connection.end_unentered().await;
            return;
        }
        let sqhd = if connection.no_flow_control {
            u16::MAX
        } else {
            sqhd
        };
        let cqe = Cqe::new(connect_cid, sqhd, Status::SUCCESS, connected.result());
        outbox.response(cqe);
        connection.log("connected");
        moving::run(connection, intake, None).await;
    }

    fn greeted(target: Target, greeted: Greeted) -> (Rc<Self>, Intake) {
        let ends = Ends {
            peer: greeted.peer,
            local: greeted.local,
        };
        let (entries, qid) = (greeted.entries, greeted.connected.qid);
        let carried = Carried {
            no_flow_control: greeted.no_flow_control,
            ..Carried::fresh(greeted.seat, ends, qid, entries, greeted.sqhd)
        };
        let owner = Owner::Here(greeted.connected.controller);
        let entries = carried.table.entries();
        let link = TcpLink::new(greeted.socket, greeted.negotiated, entries);
        (Self::new(target, link, owner, carried), greeted.intake)
    }

    /// The form of what its host sends.
    pub(super) fn form(&self) -> Form {
        self.link.negotiated.link(self.target.options())
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
        self.link.outbox.raw(frame.as_wire());
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
