//! NVMe/RDMA: moves capsules and data between queue pairs and the transport-free core.
//!
//! A request to connect is checked and given to a core (`request`), becomes a queue pair there and
//! is greeted (`greet`: its first capsule is Connect), and then is a [`crate::nvmf::queue::Queue`]
//! over a [`link::RdmaLink`]. It stays on its core, since a queue pair cannot change its completion
//! queue; when its controller lives elsewhere, its commands go there.
//!
//! No payload is copied: the data of a write is read by the card into the aligned buffer that the
//! journal writes to its device, or came with the capsule into an aligned buffer of its own; the data
//! of a read is written to the host from the buffer that the device filled.
//! Source: NVMe RDMA transport 1.0.

mod connection;
mod greet;
mod homes;
mod link;
mod listener;
mod request;

pub(crate) use homes::Homes;
pub(crate) use link::send_entries;
pub use listener::RdmaListener;
