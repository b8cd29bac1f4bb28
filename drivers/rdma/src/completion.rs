//! What comes back from a queue pair.

use reactor::buf::Buf;

use crate::HEADER_BYTES;
use crate::error::WorkError;

/// One event on a queue pair.
#[derive(Debug)]
pub enum Completion {
    /// The peer sent a message.
    Received(Received),
    /// Work ended well.
    Done {
        /// What it was posted with.
        tag: u64,
        /// What it was.
        done: Done,
    },
    /// Work failed. The pair is of no use from now on: all other work fails as flushed, and
    /// [`QueuePair::next`](crate::QueuePair::next) says that it is lost after that.
    Failed {
        /// What it was posted with.
        tag: u64,
        /// Why.
        error: WorkError,
    },
}

/// Work that ended well.
#[derive(Debug)]
pub enum Done {
    /// The peer's card has the message.
    Sent,
    /// The data is here.
    Read(Buf),
}

/// A message from the peer.
#[derive(Debug)]
pub struct Received {
    /// Its first bytes; zero beyond its end.
    pub header: [u8; HEADER_BYTES],
    /// Its length, header and data.
    pub len_bytes: u32,
    /// What came after the header, cut to length, page-aligned. None when nothing did.
    pub data: Option<Buf>,
    /// A key of ours that the peer had our card forget.
    pub invalidated: Option<u32>,
}
