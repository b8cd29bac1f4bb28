//! NVMe/RDMA: how a listener is described, and what host and controller tell each other while the
//! connection manager connects them.
//!
//! Everything else of the transport is in other modules: a capsule is a bare [`Sqe`](crate::nvme::Sqe)
//! with or without data behind it, or a bare [`Cqe`](crate::nvme::Cqe), one in each message; data is
//! described by keyed descriptors ([`Sgl`](crate::nvme::Sgl)).
//!
//! Source: NVMe RDMA transport 1.0 section 3.1 (set-up, discovery entries) and 3.5.1 (errors).

mod error;
mod private_data;
pub mod tsas;

pub use error::{CmStatus, PrivateDataError};
pub use private_data::{CmAccept, CmReject, CmRequest};

/// Port of the connection manager for NVMe/RDMA over RoCE v2 (UDP) and iWARP (TCP).
pub const PORT: u16 = 4420;
/// The record format of all private data.
pub const RECFMT: u16 = 0;
/// In-capsule data that an admin queue accepts, in bytes: none. Source: section 3.3.1.
pub const ADMIN_CAPSULE_DATA_BYTES: u32 = 0;
