//! What the targets of several cores send each other: above all, connections on their way to the
//! core of their subsystem.
//!
//! The core that accepted a connection reads as far as Connect, which names the subsystem. When
//! that lives on another core, everything known so far moves there in one message.

use std::net::SocketAddr;

use reactor::net::DetachedStream;
use wire::nvme::Sqe;

use crate::nvme_tcp::handshake::Negotiated;
use crate::nvme_tcp::moving::Departure;
use crate::nvmf::fabrics::ConnectRequest;
use crate::seats::Seat;

/// What cores tell each other.
pub(crate) enum TargetMessage {
    /// Subsystems or listeners changed.
    DirectoryChanged,
    /// A connection for a subsystem of the receiving core.
    Connection(Box<Handover>),
    /// A connection that was served by the core of its controller, and is here from now on.
    Moved(Box<Departure>),
}

/// All there is to know about a connection whose Connect has not been answered.
pub(crate) struct Handover {
    /// The socket.
    pub stream: DetachedStream,
    /// Its place among the connections.
    pub seat: Seat,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// What ICReq and ICResp settled.
    pub negotiated: Negotiated,
    /// Bytes read after Connect.
    pub unread: Vec<u8>,
    /// The Connect command, still to be answered.
    pub sqe: Sqe,
    /// Queue head after it.
    pub sqhd: u16,
    /// Its checked content.
    pub request: ConnectRequest,
}
