//! Why a PDU ends its connection, and the termination status that says so.
//!
//! Source: NVMe/TCP 1.0 section 3.6.2.3 (H2CTermReq) and 3.6.2.4 (C2HTermReq), fatal error status.

use super::PduType;

open_enum! {
    /// Fatal error status of a termination request.
    FatalStatus: u16 {
        INVALID_HEADER_FIELD = 1, "A header field is invalid; the information is its offset.";
        SEQUENCE = 2, "A PDU that is not allowed at this point.";
        HEADER_DIGEST = 3, "Bad header digest; the information is the digest received.";
        OUT_OF_RANGE = 4, "Data outside the transfer.";
        LIMIT_EXCEEDED = 5, "Controller: data limit exceeded. Host: R2T limit exceeded.";
        UNSUPPORTED_PARAMETER = 6, "A parameter is not supported; information as for 1.";
    }
}

/// A fatal transport error. Send a termination request ([`super::TermFrame`]), then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// A header field has a value it cannot have.
    #[error("{kind:?} has {value:#x} at header byte {offset}: terminate the connection")]
    HeaderField {
        /// The PDU.
        kind: PduType,
        /// Offset of the field in bytes.
        offset: u8,
        /// The value found.
        value: u64,
    },
    /// A known PDU at the wrong time or from the wrong side.
    #[error("{kind:?} is not allowed now: terminate the connection")]
    Sequence {
        /// The PDU.
        kind: PduType,
    },
    /// The header's digest does not match.
    #[error("header digest is {received:#010x}, computed {computed:#010x}: terminate")]
    HeaderDigest {
        /// The digest in the PDU.
        received: u32,
        /// The digest of the bytes received.
        computed: u32,
    },
    /// Data outside the transfer it belongs to.
    #[error("{kind:?} covers {len_bytes} bytes at {offset}, outside the transfer: terminate")]
    OutOfRange {
        /// The PDU.
        kind: PduType,
        /// Offset in the command's data.
        offset: u32,
        /// Length in bytes.
        len_bytes: u32,
    },
    /// More data in one PDU, or more R2Ts, than was negotiated.
    #[error("{kind:?} brings {found}, the limit is {limit}: terminate the connection")]
    LimitExceeded {
        /// The PDU.
        kind: PduType,
        /// What came: bytes, or R2Ts.
        found: u32,
        /// The negotiated limit.
        limit: u32,
    },
    /// A parameter of the connection that is not supported.
    #[error("{kind:?} asks for {value:#x} at header byte {offset}: not supported, terminate")]
    Unsupported {
        /// The PDU.
        kind: PduType,
        /// Offset of the parameter in bytes.
        offset: u8,
        /// The value found.
        value: u64,
    },
}

impl PduError {
    /// The fatal error status to report.
    #[must_use]
    pub const fn status(&self) -> FatalStatus {
        match self {
            Self::HeaderField { .. } => FatalStatus::INVALID_HEADER_FIELD,
            Self::Sequence { .. } => FatalStatus::SEQUENCE,
            Self::HeaderDigest { .. } => FatalStatus::HEADER_DIGEST,
            Self::OutOfRange { .. } => FatalStatus::OUT_OF_RANGE,
            Self::LimitExceeded { .. } => FatalStatus::LIMIT_EXCEEDED,
            Self::Unsupported { .. } => FatalStatus::UNSUPPORTED_PARAMETER,
        }
    }

    /// The fatal error information: a field offset, the digest received, or 0.
    #[must_use]
    pub const fn information(&self) -> u32 {
        match self {
            Self::HeaderField { offset, .. } | Self::Unsupported { offset, .. } => *offset as u32,
            Self::HeaderDigest { received, .. } => *received,
            Self::Sequence { .. } | Self::OutOfRange { .. } | Self::LimitExceeded { .. } => 0,
        }
    }

    pub(super) fn field(kind: PduType, offset: u8, value: impl Into<u64>) -> Self {
        Self::HeaderField {
            kind,
            offset,
            value: value.into(),
        }
    }
}
