//! NVMe, NVMe over Fabrics, NVMe/TCP, NVMe/RDMA, SCSI and iSCSI structures and codecs; no I/O.
//!
//! Every structure exists as a byte-exact view (`wire_struct!`: a `repr(C)` struct with
//! fields of the protocol's byte order, with size and offsets asserted at compile time) and, where the bytes pack
//! several values, as a meaning (a plain struct with `decode` and `encode`). Decoders take bytes
//! from strangers: they never panic, never allocate and keep values they do not know.
//!
//! Both directions are here because the test hosts speak through the same crate as the target.
//!
//! * [`nvme`]: commands, completions, identify data, logs, features, registers
//!   (NVM Express base 2.0, NVM command set 1.0).
//! * [`fabrics`]: Connect, properties, discovery (NVMe over Fabrics, base 2.0 section 3 and 6).
//! * [`tcp`]: PDUs, framing, digests (NVMe/TCP transport 1.0).
//! * [`rdma`]: private data of the connection manager (NVMe/RDMA transport 1.0).
//! * [`scsi`]: command descriptor blocks, sense and parameter data (SPC-4, SBC-3).
//! * [`iscsi`]: PDUs and the text of negotiations (RFC 7143).
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[macro_use]
mod macros;
pub mod crc;
pub mod error;
pub mod fabrics;
pub mod iscsi;
pub mod nvme;
pub mod rdma;
pub mod scsi;
pub mod tcp;
pub mod text;

pub use error::Error;
