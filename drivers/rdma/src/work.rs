//! What is posted on a queue pair.

use reactor::buf::Buf;

use crate::INLINE_BYTES;

/// A place in the peer's memory. Good for as long as the peer says so; its length is the peer's to
/// check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Virtual address at the peer.
    pub address: u64,
    /// The peer's key (`rkey`).
    pub key: u32,
}

/// What a peer may do with memory that is exposed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
}

/// A short message, kept in the work request itself.
#[derive(Clone, Copy, Debug)]
pub struct Inline {
    bytes: [u8; INLINE_BYTES],
    len: u8,
}

impl Inline {
    /// None when `bytes` is longer than [`INLINE_BYTES`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut all = [0; INLINE_BYTES];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let len = bytes.len() as u8;
        Some(Self { bytes: all, len })
    }

    /// The message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The bytes of a message.
#[derive(Debug)]
pub enum Payload {
    /// Short, copied.
    Inline(Inline),
    /// From memory of the reactor's pools, sent from where it lies.
    Buf(Buf),
}

/// One work request on the send queue. They are carried out in order; a Read holds nothing up but
/// what is fenced by its completion.
#[derive(Debug)]
pub enum Work {
    /// A message, which takes one receive of the peer's. Completes as [`Done::Sent`](crate::Done::Sent).
    Send {
        /// What to say.
        payload: Payload,
        /// A key of the peer's that its card shall forget with the message.
        invalidate: Option<u32>,
    },
    /// Fills `into` from the peer's memory. Completes as [`Done::Read`](crate::Done::Read).
    Read {
        /// Unshared; its length is what is read.
        into: Buf,
        /// Where it lies.
        from: Remote,
    },
    /// Writes `data` to the peer's memory. Has no completion of its own unless it fails: it is over
    /// when a later Send on the pair has completed, and until then holds its buffer.
    Write {
        /// What to write.
        data: Buf,
        /// Where to.
        to: Remote,
    },
}
