//! iSCSI: PDUs, their framing, and the text of negotiations.
//!
//! Receiving, in order: 48 bytes are a [`Bhs`]; [`Link::frame`] judges it and gives the [`Layout`]
//! of what follows; once `layout.header()` bytes and the digest are there the header digest is
//! checked ([`digest::check_header`]); the PDU's own structure views the header; then data, padding
//! and data digest ([`digest::check_data`]) follow.
//!
//! Sending: a constructor fills the header, [`Layout::to_send`] gives the lengths, [`digest`] the
//! digests.
//!
//! Source: RFC 7143 section 11 (PDU formats) and section 13 (keys). All numbers are big-endian.

pub mod codes;
pub mod digest;
mod error;
mod frame;
mod parts;
pub mod pdu;
pub mod text;
mod to_initiator;
mod to_target;

pub use codes::{
    AsyncEvent, LoginStatus, LogoutReason, LogoutResult, RejectReason, Response, SnackType, Stage,
    TaskAttribute, TaskFunction, TaskResult, flags,
};
pub use error::PduError;
pub use frame::{AHS_MAX_BYTES, DEFAULT_MAX_DATA_BYTES, Digests, Layout, Link, Receiver};
pub use parts::{Extent, InitiatorNumbers, LoginFlags, Residual, TargetNumbers};
pub use pdu::{
    AsyncMessage, Bhs, DataIn, DataOut, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse,
    NopIn, NopOut, Opcode, R2t, Reject, ScsiCommand, ScsiResponse, SnackRequest, TaskRequest,
    TaskResponse, TextRequest, TextResponse,
};

/// TCP port of iSCSI targets.
pub const PORT: u16 = 3260;
/// Bytes of a basic header segment.
pub const BHS_BYTES: usize = 48;
/// The value of a task or transfer tag that names none.
pub const NO_TAG: u32 = 0xffff_ffff;

/// Whether serial number `a` comes before `b` (RFC 1982, 32 bits). For CmdSN, StatSN, DataSN.
#[must_use]
pub const fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
