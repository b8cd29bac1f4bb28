//! The socket of a connection, and what its end means here.

use net::Closed;

use crate::nvmf::port::CloseReason;

/// A connected socket that is told with a [`CloseReason`] to end.
pub(crate) type Socket = net::Socket<CloseReason>;

impl From<Closed<CloseReason>> for CloseReason {
    fn from(closed: Closed<CloseReason>) -> Self {
        match closed {
            Closed::ByPeer => Self::PeerClosed,
            Closed::Ended(reason) => reason,
            Closed::Failed(_) => Self::SocketError,
        }
    }
}
