//! NVMe/TCP PDUs.
//!
//! Receiving, in order: 8 bytes are a [`CommonHeader`]; [`Link::frame`] judges it and gives the
//! [`Layout`] of what follows; once `layout.header` bytes are there the header digest is checked
//! ([`digest::check_header`]), [`Pdu::parse`] gives the typed PDU with its fields checked; then
//! pad, data and data digest ([`digest::check_data`]) follow.
//!
//! Sending: fill the typed PDU, [`Layout::to_send`] gives the lengths, and the PDU's `finish`
//! writes flags, PDO and PLEN from them.
//!
//! Source: NVMe/TCP transport 1.0 section 3.

pub mod capsule;
pub mod data;
pub mod digest;
mod error;
mod frame;
mod header;
pub mod icreq;
pub mod icresp;
mod pdu;
pub mod r2t;
pub mod term;

pub use capsule::{CapsuleCmd, CapsuleResp};
pub use data::{C2hData, Grant, H2cData};
pub use error::{FatalStatus, PduError};
pub use frame::{Framing, Layout, Link, Receiver};
pub use header::{CommonHeader, PduType, field, flags};
pub use icreq::IcReq;
pub use icresp::IcResp;
pub use pdu::Pdu;
pub use r2t::R2t;
pub use term::{TermFrame, TermReq};

/// TCP port of NVMe/TCP I/O and, here, discovery.
pub const PORT_IO: u16 = 4420;
/// TCP port of a discovery controller of its own.
pub const PORT_DISCOVERY: u16 = 8009;
/// Smallest MAXH2CDATA a controller may announce, in bytes.
pub const MIN_MAXH2CDATA_BYTES: u32 = 4096;
/// In-capsule data that every admin queue accepts, in bytes.
pub const ADMIN_CAPSULE_DATA_BYTES: u32 = 8192;
