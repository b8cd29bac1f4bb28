//! What the core asks of a transport: the few things that happen to a queue from outside.

use reactor::Instant;
use reactor::sync::oneshot;

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

/// What became of an Abort: true when the command ends as aborted.
pub enum Aborted {
    /// Known at once.
    Known(bool),
    /// The queue's connection lives on another core, which says.
    Asked(oneshot::Receiver<bool>),
}

impl Aborted {
    /// The answer. A connection that ended meanwhile aborted nothing.
    pub async fn answer(self) -> bool {
        match self {
            Self::Known(aborted) => aborted,
            Self::Asked(answer) => answer.await.unwrap_or(false),
        }
    }
}

/// A queue as the core sees it from outside: one connection of a transport, on this core or, by its
/// [`StandIn`](crate::nvmf::stand_in::StandIn), on another.
pub trait QueuePort {
    /// Aborts a command. False when it is not there or too late.
    fn abort(&self, cid: u16) -> Aborted;
    /// Completes a command that was left waiting.
    fn post(&self, cid: u16, outcome: Outcome);
    /// True when everything that the host had sent at `since` was read, or nothing more will be.
    /// May be false for now because another core has to be asked: ask again.
    fn is_drained(&self, since: Instant) -> bool;
    /// Ends the connection; commands in the volume still finish.
    fn close(&self, reason: CloseReason);
    /// When the last command came, where the controller did not see that itself.
    fn last_command(&self) -> Option<Instant> {
        None
    }
    /// Handles what another core has said and this one has not looked at.
    fn catch_up(&self) {}
}

impl CloseReason {
    /// Reasons that leave time for answers.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(
            self,
            Self::Shutdown
                | Self::Disconnected
                | Self::Replaced
                | Self::ControllerReset
                | Self::AdminQueueGone
        )
    }

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
