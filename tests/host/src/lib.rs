//! User-space NVMe hosts for tests, on the codecs of `wire`: over TCP on std sockets, here, and over
//! RDMA on a reactor, in [`rdma`].
//!
//! Three levels, each usable alone:
//!
//! * [`Raw`]: bytes and PDUs; sends whatever a hostile host could send.
//! * [`Queue`]: one connected NVMe queue: capsules, R2T and data PDUs, many commands in flight.
//! * [`Controller`] and [`IoQueue`]: commands by name.
//!
//! Every wait has a deadline ([`HostOptions::timeout`]). The host judges its peer: an answer that
//! breaks the transport's rules is an error here, even when Linux would let it pass.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a host for tests of real servers lives on the real clock"
)]

mod admin;
mod command;
mod controller;
mod discovery;
mod error;
mod io;
mod op;
mod options;
mod pending;
mod queue;
mod raw;
pub mod rdma;
mod table;

pub use command::{Command, Completion, granted_queues};
pub use controller::{Controller, Host};
pub use discovery::DiscoveryLog;
pub use error::HostError;
pub use io::IoQueue;
pub use op::Op;
pub use options::HostOptions;
pub use queue::{Queue, QueueId};
pub use raw::{Raw, RawPdu};
pub use table::Cid;
