//! iSCSI: PDUs, their framing, and the text of negotiations.
//!
//! Source: RFC 7143 section 11 (PDU formats) and section 13 (keys). All numbers are big-endian.

pub mod pdu;

pub use pdu::{
    AsyncMessage, Bhs, DataIn, DataOut, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse,
    NopIn, NopOut, Opcode, R2t, Reject, ScsiCommand, ScsiResponse, SnackRequest, TaskRequest,
    TaskResponse, TextRequest, TextResponse,
};

/// Bytes of a basic header segment.
pub const BHS_BYTES: usize = 48;
/// The value of a task or transfer tag that names none.
pub const NO_TAG: u32 = 0xffff_ffff;
