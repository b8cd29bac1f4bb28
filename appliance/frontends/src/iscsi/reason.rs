//! Why connections end, and the socket that is told so.

use std::time::Duration;

use net::Closed;

/// Why a connection ends. Shown in the log and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed the connection.
    PeerClosed,
    /// The socket failed.
    SocketError,
    /// The peer broke the protocol.
    ProtocolError,
    /// A header did not match its digest: nothing after it can be trusted.
    HeaderDigest,
    /// The login was refused.
    LoginRefused,
    /// The login took too long.
    LoginTimeout,
    /// The initiator logged out.
    LoggedOut,
    /// The initiator logged in again in its place.
    Reinstated,
    /// Another connection of the session failed.
    SessionFailed,
    /// The initiator gave no sign of life.
    Silent,
    /// The peer took or gave no data for too long.
    Stalled,
    /// The volume is gone.
    Removed,
    /// TARGET COLD RESET.
    ColdReset,
    /// The target is shutting down.
    Shutdown,
    /// Too many connections.
    Limit,
}

impl CloseReason {
    /// The word that metrics use as a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::SocketError => "socket_error",
            Self::ProtocolError => "protocol_error",
            Self::HeaderDigest => "header_digest",
            Self::LoginRefused => "login_refused",
            Self::LoginTimeout => "login_timeout",
            Self::LoggedOut => "logged_out",
            Self::Reinstated => "reinstated",
            Self::SessionFailed => "session_failed",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Removed => "removed",
            Self::ColdReset => "cold_reset",
            Self::Shutdown => "shutdown",
            Self::Limit => "limit",
        }
    }

    /// Whether what waits to be sent is given time to leave, and for how long input is passed over
    /// then: a socket that is closed with unread input is reset, and what was said last is lost.
    /// Short, as hosts wait for the end; after an error more may be on the way.
    pub(crate) fn last_words(self) -> Option<Duration> {
        match self {
            Self::ProtocolError => Some(Duration::from_millis(250)),
            Self::LoginRefused
            | Self::LoggedOut
            | Self::Removed
            | Self::ColdReset
            | Self::Shutdown => Some(Duration::from_millis(50)),
            _ => None,
        }
    }

    /// Whether the other connections of the session go on.
    pub(crate) fn spares_session(self) -> bool {
        matches!(self, Self::LoggedOut | Self::Reinstated)
    }
}

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
