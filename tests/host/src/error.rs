//! The one error of this crate.

use std::io;

use ::rdma::{Lost, WorkError};
use wire::nvme::Status;
use wire::rdma::{CmStatus, PrivateDataError};
use wire::tcp::{FatalStatus, PduType};

/// Why the host gave up. Only [`HostError::Command`] leaves the connection usable.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What the host was doing.
        doing: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The peer did not answer in time.
    #[error("{doing}: no progress within {after_ms} ms; in flight: {in_flight:?}")]
    Timeout {
        /// What the host was doing.
        doing: &'static str,
        /// How long it waited.
        after_ms: u64,
        /// Identifiers of the commands without an answer.
        in_flight: Vec<u16>,
    },
    /// The peer closed the connection.
    #[error("{doing}: the peer closed the connection")]
    Closed {
        /// What the host was doing.
        doing: &'static str,
    },
    /// The controller sent a termination request.
    #[error("the controller terminated the connection: {status:?}, information {information:#x}")]
    Terminated {
        /// Fatal error status.
        status: FatalStatus,
        /// Fatal error information.
        information: u32,
    },
    /// Bytes that are no valid PDU, or a digest that does not match.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// A command completed with an error status.
    #[error("{what} failed: {status:?}, result {result:#x}")]
    Command {
        /// The command.
        what: &'static str,
        /// Its status.
        status: Status,
        /// The result field of its completion.
        result: u64,
    },
    /// A valid PDU that has no place in the conversation.
    #[error("{kind:?} for command {cid}: {problem}")]
    Protocol {
        /// The PDU.
        kind: PduType,
        /// The command it names.
        cid: u16,
        /// The rule it breaks.
        problem: &'static str,
    },
    /// The answer is well-formed and still cannot be used.
    #[error("{what}: {problem}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
    /// No RDMA connection could be made.
    #[error(transparent)]
    Rdma(#[from] ::rdma::RdmaError),
    /// The controller rejected the RDMA connection and said why.
    #[error("the controller rejects the connection: {status:?}")]
    Rejected {
        /// Its reason.
        status: CmStatus,
    },
    /// The controller's private data is none of NVMe/RDMA.
    #[error(transparent)]
    PrivateData(#[from] PrivateDataError),
    /// The RDMA connection ended.
    #[error(transparent)]
    Lost(Lost),
    /// The card could not do what was posted.
    #[error(transparent)]
    Work(WorkError),
    /// Every entry of the submission queue is in use: take a completion first.
    #[error("all {entries} usable entries of the queue are in flight")]
    QueueFull {
        /// Usable entries.
        entries: usize,
    },
}

impl HostError {
    /// The status of a command that completed with an error.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Command { status, .. } => Some(status.code()),
            _ => None,
        }
    }

    /// True when the connection ended without a reason from the peer: closed or reset.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Closed { .. } | Self::Lost(_) => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotConnected
            ),
            _ => false,
        }
    }
}
