//! Why a PDU is refused, and the reason that a Reject gives for it.
//!
//! Source: RFC 7143 sections 11.17 (Reject), 7.7 and 7.8 (errors of format, digests, sequence).

use super::{Opcode, RejectReason};

/// What is wrong with a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// An opcode that does not exist, or not in this direction.
    #[error("{opcode:?} is not known here: reject it")]
    Opcode {
        /// The opcode.
        opcode: Opcode,
    },
    /// A known PDU at the wrong time: a login request after the login, or another before its end.
    #[error("{opcode:?} is not allowed now: close the connection")]
    Phase {
        /// The opcode.
        opcode: Opcode,
    },
    /// Additional header segments where there are none, or more than the limit.
    #[error("{opcode:?} has {len_bytes} bytes of additional headers, the limit is {limit}: close")]
    Ahs {
        /// The opcode.
        opcode: Opcode,
        /// Bytes announced.
        len_bytes: u32,
        /// Bytes allowed.
        limit: u32,
    },
    /// A data segment where there is none, or a longer one than was declared.
    #[error("{opcode:?} has {len_bytes} bytes of data, the limit is {limit}: close the connection")]
    Data {
        /// The opcode.
        opcode: Opcode,
        /// Bytes announced.
        len_bytes: u32,
        /// Bytes allowed.
        limit: u32,
    },
    /// A field has a value it cannot have.
    #[error("{opcode:?} has {value:#x} at header byte {offset}: reject it")]
    Field {
        /// The opcode.
        opcode: Opcode,
        /// Offset of the field in bytes.
        offset: u8,
        /// The value found.
        value: u32,
    },
    /// The header's digest does not match.
    #[error("header digest is {received:#010x}, computed {computed:#010x}: close the connection")]
    HeaderDigest {
        /// The digest in the PDU.
        received: u32,
        /// The digest of the bytes received.
        computed: u32,
    },
    /// The digest of the data does not match.
    #[error("data digest is {received:#010x}, computed {computed:#010x}: reject the PDU")]
    DataDigest {
        /// The digest in the PDU.
        received: u32,
        /// The digest of the bytes received.
        computed: u32,
    },
}

impl PduError {
    /// The reason to put into a Reject.
    #[must_use]
    pub const fn reason(&self) -> RejectReason {
        match self {
            Self::Opcode { .. } => RejectReason::COMMAND_NOT_SUPPORTED,
            Self::Phase { .. } | Self::Ahs { .. } | Self::Data { .. } => {
                RejectReason::PROTOCOL_ERROR
            }
            Self::Field { .. } => RejectReason::INVALID_PDU_FIELD,
            Self::HeaderDigest { .. } | Self::DataDigest { .. } => RejectReason::DATA_DIGEST_ERROR,
        }
    }

    /// Whether the connection ends. Otherwise the PDU was read in full and is answered with a
    /// Reject; [`super::Link::measure`] says how long it is.
    ///
    /// A header that fails its digest says nothing, not even how long the PDU is, so there is
    /// no Reject for it either (RFC 7143 section 7.7).
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::Opcode { .. } | Self::Field { .. } | Self::DataDigest { .. }
        )
    }
}
