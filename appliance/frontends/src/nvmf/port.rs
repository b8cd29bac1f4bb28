//! What the core asks of a transport: the few things that happen to a queue from outside.

use crate::nvmf::outcome::Outcome;

/// Why a connection ends. Shown in the log and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed the connection.
    PeerClosed,
    /// The socket failed.
    SocketError,
    /// The peer broke the protocol; a termination request was sent.
    ProtocolError,
    /// The peer sent a termination request.
    PeerTerminated,
    /// No keep alive in time.
    KeepAliveExpired,
    /// The admin queue of the controller went.
    AdminQueueGone,
    /// The controller was reset.
    ControllerReset,
    /// The host asked for it with Disconnect.
    Disconnected,
    /// Connect was not finished in time.
    ConnectTimeout,
    /// The peer took or gave no data for too long.
    Stalled,
    /// The volume is offered under another identity now.
    Replaced,
    /// The target is shutting down.
    Shutdown,
    /// Too many connections.
    Limit,
}

/// A queue as the core sees it from outside: one connection of a transport.
pub trait QueuePort {
    /// Aborts a command. False when it is not there or too late.
    fn abort(&self, cid: u16) -> bool;
    /// Completes a command that was left waiting.
    fn post(&self, cid: u16, outcome: Outcome);
    /// True when everything that the host had sent was read, or nothing more will be.
    fn is_drained(&self) -> bool;
    /// Ends the connection; commands in the volume still finish.
    fn close(&self, reason: CloseReason);
}

impl CloseReason {
    /// The word that metrics use as a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::SocketError => "socket_error",
            Self::ProtocolError => "protocol_error",
            Self::PeerTerminated => "peer_terminated",
            Self::KeepAliveExpired => "keep_alive_expired",
            Self::AdminQueueGone => "admin_queue_gone",
            Self::ControllerReset => "controller_reset",
            Self::Disconnected => "disconnected",
            Self::ConnectTimeout => "connect_timeout",
            Self::Stalled => "stalled",
            Self::Replaced => "replaced",
            Self::Shutdown => "shutdown",
            Self::Limit => "limit",
        }
    }
}
