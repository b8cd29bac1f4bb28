//! Frontends: what hosts talk to. A transport-free NVMe-oF core (`nvmf`) with NVMe/TCP (`nvme_tcp`)
//! and NVMe/RDMA (`nvme_rdma`) below it, a transport-free SCSI core (`scsi`) with iSCSI (`iscsi`) below it, and the
//! reservations that both share (`reservation`).
//!
//! A [`Target`] lives on one core and serves the volumes of that core. A host's connection is
//! accepted by any core, and moves to the core of the subsystem that its Connect names. Commands
//! become [`volume::Request`]s; the frontend never sees a device.
//!
//! Everything a host can make the target hold is bounded by [`TargetOptions`]; what it does wrong
//! ends in a status or a termination request on its own connection, never in the process.
#![forbid(unsafe_code)]

mod closing;
mod complaints;
mod error;
mod guests;
mod intake;
pub mod iscsi;
mod listener;
mod metrics;
pub mod nvme_rdma;
pub mod nvme_tcp;
pub mod nvmf;
mod options;
pub mod reservation;
pub mod scsi;
mod seats;

pub use error::FrontendError;
pub use listener::Listener;
pub use metrics::{ConnectionInfo, CounterValues, MetricsSnapshot};
pub use nvmf::directory::Directory;
pub use nvmf::placement::Placement;
pub use nvmf::port::CloseReason;
pub use nvmf::target::Target;
pub use nvmf::transport::Transport;
pub use options::{
    HostAccess, NQN_PREFIX, RdmaOptions, SubsystemOptions, TargetOptions, volume_nqn,
};
