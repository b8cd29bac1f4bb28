//! What the iSCSI targets of several cores send each other: logins on their way to the core of
//! their volume.
//!
//! The core that accepted a connection reads as far as the names in the first login request. When
//! the volume lives on another core, everything known so far moves there in one message.

use std::net::SocketAddr;

use reactor::net::DetachedStream;

use super::login::{Login, Named};
use crate::seats::Seat;

/// What cores tell each other.
pub(crate) enum CoreMessage {
    /// There are more portals.
    PortalsChanged,
    /// A login for a volume of the receiving core.
    Login(Box<Handover>),
}

/// All there is to know about a login whose first request was not answered.
pub(crate) struct Handover {
    /// The socket.
    pub stream: DetachedStream,
    /// Its place among the connections.
    pub seat: Seat,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Tag of the portal group it came in by.
    pub portal: u16,
    /// Bytes read after the request.
    pub unread: Vec<u8>,
    /// How far the login is.
    pub login: Login,
    /// Who asks for which target.
    pub named: Named,
}
