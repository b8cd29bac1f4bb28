//! The bytes between two simulated cards.
//!
//! Each connection is one TCP stream of frames. A frame is 24 bytes, all numbers little-endian,
//! and for some kinds a payload:
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0 | kind | see [`Kind`] |
//! | 1 | code | Send: 1 when `key` is to be invalidated. Refusal: see [`Refusal`]. Else 0 |
//! | 2..4 | - | 0 |
//! | 4..8 | sequence | of the work request that this is or answers; of the pair in a greeting |
//! | 8..12 | length | of the payload, or of what a ReadRequest asks for |
//! | 12..16 | key | of the memory; in a greeting the version of this protocol |
//! | 16..24 | address | of the memory; in a greeting [`MAGIC`] plus the read depth |
//!
//! The side that connects says Connect, the other Accept or Reject, each with private data, and the
//! first Ready. From then on both are requesters and responders at once. Requests carry consecutive
//! sequence numbers from 0. The responder carries them out in that order and answers in that order:
//! an Answered is for all requests up to its number, a ReadData for its own and all before it, a
//! Refusal for all before it. After a Refusal that says "not ready" the responder throws away
//! requests until that number comes again; after any other the connection is over.

use crate::error::WorkError;

/// Bytes of a frame without its payload.
pub(super) const FRAME_BYTES: usize = 24;
/// Version of this protocol.
pub(super) const VERSION: u32 = 1;
/// Marks a greeting, in all but the lowest byte, which is the read depth.
pub(super) const MAGIC: u64 = 0x736f_6674_7264_6d00;

/// Private data as an RDMA connection manager carries it.
pub(super) const CONNECT_DATA_BYTES: usize = 56;
pub(super) const ACCEPT_DATA_BYTES: usize = 196;
pub(super) const REJECT_DATA_BYTES: usize = 148;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect = 1,
    Accept = 2,
    Reject = 3,
    Ready = 4,
    Send = 5,
    Write = 6,
    ReadRequest = 7,
    ReadData = 8,
    Answered = 9,
    Refusal = 10,
    Disconnect = 11,
}

const KINDS: [Kind; 11] = [
    Kind::Connect,
    Kind::Accept,
    Kind::Reject,
    Kind::Ready,
    Kind::Send,
    Kind::Write,
    Kind::ReadRequest,
    Kind::ReadData,
    Kind::Answered,
    Kind::Refusal,
    Kind::Disconnect,
];

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No receive is free: try again.
    NotReady = 1,
    /// Wrong key, wrong access or out of range.
    Access = 2,
    /// Too long, or a key to invalidate that does not exist.
    Invalid = 3,
}

impl Refusal {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::NotReady, Self::Access, Self::Invalid]
            .into_iter()
            .find(|refusal| *refusal as u8 == code)
    }

    /// What the requester is told.
    pub fn error(self) -> WorkError {
        match self {
            Self::NotReady => WorkError::ReceiverNotReady,
            Self::Access => WorkError::RemoteAccess,
            Self::Invalid => WorkError::RemoteInvalid,
        }
    }
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: Kind,
    pub code: u8,
    pub sequence: u32,
    pub len: u32,
    pub key: u32,
    pub address: u64,
}

impl Frame {
    pub fn new(kind: Kind, sequence: u32, len: u32) -> Self {
        Self {
            kind,
            code: 0,
            sequence,
            len,
            key: 0,
            address: 0,
        }
    }

    /// A greeting; see the table above.
    pub fn greeting(kind: Kind, pair: u32, len: usize, read_depth: u8) -> Self {
        Self {
            key: VERSION,
            address: MAGIC | u64::from(read_depth),
            ..Self::new(kind, pair, len as u32)
        }
    }

    pub fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = self.code;
        bytes[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.key.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.address.to_le_bytes());
        bytes
    }

    /// None for a kind that does not exist, or when what must be zero is not.
    pub fn decode(bytes: &[u8; FRAME_BYTES]) -> Option<Self> {
        let kind = *KINDS.iter().find(|kind| **kind as u8 == bytes[0])?;
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        if bytes[2..4] != [0, 0] {
            return None;
        }
        Some(Self {
            kind,
            code: bytes[1],
            sequence: word(4),
            len: word(8),
            key: word(12),
            address: u64::from(word(16)) | u64::from(word(20)) << 32,
        })
    }

    /// The read depth of a greeting of this protocol and version with at most `max` bytes of
    /// private data.
    pub fn read_depth(&self, max: usize) -> Option<u8> {
        let is_greeting = self.address & !0xff == MAGIC && self.key == VERSION;
        (is_greeting && self.len as usize <= max).then_some(self.address as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        for kind in KINDS {
            let frame = Frame {
                kind,
                code: 3,
                sequence: 0x0102_0304,
                len: 0x0506_0708,
                key: 0x090a_0b0c,
                address: 0x0d0e_0f10_1112_1314,
            };
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
    }

    #[test]
    fn unknown_kinds_and_set_zeroes_are_refused() {
        let good = Frame::new(Kind::Send, 1, 2).encode();
        for (at, value) in [(0, 0), (0, 12), (0, 255), (2, 1), (3, 1)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Frame::decode(&bad), None, "byte {at} = {value}");
        }
    }

    #[test]
    fn a_greeting_is_of_this_version_and_not_too_long() {
        let greeting = Frame::greeting(Kind::Connect, 7, 56, 16);
        assert_eq!(greeting.read_depth(56), Some(16));
        assert_eq!(greeting.read_depth(55), None);
        let other = Frame { key: 2, ..greeting };
        assert_eq!(other.read_depth(56), None);
        let foreign = Frame {
            address: 16,
            ..greeting
        };
        assert_eq!(foreign.read_depth(56), None);
    }
}
