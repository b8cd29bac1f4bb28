//! Everything that can go wrong, as data.

use std::io;
use std::net::SocketAddr;

use crate::work::Work;

/// A user-space library that is not there, or is not what it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the RDMA library {library} cannot be loaded ({reason}): install rdma-core, then see `bedplate doctor`"
)]
pub struct MissingLibrary {
    /// Its file name.
    pub library: &'static str,
    /// What the loader said.
    pub reason: String,
}

/// A card, a listener or a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RdmaError {
    /// The user-space libraries are not there.
    #[error(transparent)]
    NoLibrary(#[from] MissingLibrary),
    /// No RDMA device, or none that serves the address.
    #[error("no RDMA device serves {address}: see `bedplate doctor`")]
    NoDevice {
        /// The address.
        address: SocketAddr,
    },
    /// Memory could not be registered.
    #[error(
        "{len_bytes} bytes of memory cannot be registered with {device} ({error}): raise the limit of locked memory (`ulimit -l`, LimitMEMLOCK=)"
    )]
    Memory {
        /// The device.
        device: String,
        /// How much.
        len_bytes: usize,
        /// What the system said.
        error: io::Error,
    },
    /// A step of the set-up failed.
    #[error("{step} failed for {address}: {error}")]
    Setup {
        /// Which call.
        step: &'static str,
        /// For which address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The peer refused the connection; what it said is in its private data.
    #[error("{address} refused the connection")]
    Refused {
        /// The peer.
        address: SocketAddr,
        /// Its words.
        private_data: Vec<u8>,
    },
    /// The peer went away before the connection stood.
    #[error("{address} went away while it was being connected")]
    Gone {
        /// The peer.
        address: SocketAddr,
    },
}

/// Why a queue pair gives nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The peer disconnected.
    #[error("the peer disconnected")]
    ByPeer,
    /// [`crate::QueuePair::disconnect`] was called.
    #[error("the connection was ended here")]
    Here,
    /// Work failed, or the card or its port did.
    #[error("the connection failed: {0}")]
    Failed(WorkError),
}

/// Why work failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The pair failed or was disconnected before this was done.
    #[error("flushed")]
    Flushed,
    /// The peer's key or address does not allow it.
    #[error("the peer's memory may not be used so (remote access error)")]
    RemoteAccess,
    /// The peer's card could not do it.
    #[error("the peer could not do it (remote operation error)")]
    RemoteOperation,
    /// The peer asked for something wrong.
    #[error("the peer refused the request (remote invalid request)")]
    RemoteInvalid,
    /// The peer had no receive posted for too long.
    #[error("the peer had no receive posted (receiver not ready)")]
    ReceiverNotReady,
    /// The peer's card did not answer.
    #[error("the peer does not answer (retries exceeded)")]
    Unreachable,
    /// A message was longer than the receive it met.
    #[error("a message was too long for the receive it met")]
    Length,
    /// Our own memory or request was wrong: a defect here.
    #[error("a local protection or operation error")]
    Local,
    /// The card or its port failed.
    #[error("the card or its port failed")]
    Card,
    /// Something else; the card's number for it.
    #[error("card error {0}")]
    Other(u32),
}

/// Work that could not be posted; it comes back.
#[derive(Debug)]
pub enum PostError {
    /// The send queue is full: more was posted than the pair was made for.
    Full(Work),
    /// The pair is lost.
    Lost(Work),
}
