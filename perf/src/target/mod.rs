//! A target as the admin side sees it: what it is, what it allows, which queues it gives.

mod fill;
mod iscsi;
mod nvme;
mod place;
mod rdma;

use std::fmt;
use std::net::SocketAddr;

use fill::Fill;
pub use place::Place;

use crate::cli::ConnectArgs;
use crate::error::PerfError;
use crate::queue::Opening;

/// Bytes of one write of a fill, where the target takes as much.
const FILL_BYTES: u64 = 128 << 10;
/// Writes of a fill in flight.
const FILL_DEPTH: usize = 16;

/// What the namespace or unit and its target allow.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// Size in logical blocks.
    pub blocks: u64,
    /// Data of a write that travels without being asked for, in bytes: in the capsule of an I/O
    /// command, or with and right after an iSCSI command.
    pub capsule_bytes: u32,
    /// Most bytes of one command; `None` when there is no limit.
    pub max_transfer_bytes: Option<u64>,
    /// Largest queue in entries; one fewer can be in flight.
    pub queue_entries: u32,
}

/// What a target is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A subsystem.
    Nvme {
        /// Its name.
        nqn: String,
    },
    /// A unit of a target.
    Iscsi {
        /// The target's name.
        iqn: String,
        /// Number of the unit.
        lun: u16,
    },
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nvme { nqn } => f.write_str(nqn),
            Self::Iscsi { iqn, lun } => write!(f, "{iqn}/{lun}"),
        }
    }
}

/// A connected target. Dropping it ends its admin connection, and with it what hangs on that.
#[derive(Debug)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// What it is called.
    pub name: Name,
    /// Model, serial number and firmware, as it says itself.
    pub model: String,
    /// See `model`.
    pub serial: String,
    /// See `model`.
    pub firmware: String,
    /// What it allows.
    pub geometry: Geometry,
    admin: Admin,
}

#[derive(Debug)]
enum Admin {
    Nvme(Box<nvme::Admin>),
    Iscsi(Box<iscsi::Admin>),
    Rdma(Box<rdma::Admin>),
}

impl Target {
    /// Connects to what `place` names, or to the only one that discovery lists there.
    ///
    /// Errors: `Admin`, `Session`; `Option` when there is not exactly one to choose.
    pub fn connect(place: &Place, link: &ConnectArgs) -> Result<Self, PerfError> {
        match place {
            Place::Nvme { address, nqn } => nvme::connect(*address, nqn.as_deref(), link),
            Place::Iscsi { address, iqn, lun } => {
                iscsi::connect(*address, iqn.as_deref(), *lun, link)
            }
            Place::Rdma { address, nqn } => rdma::connect(*address, nqn.as_deref(), link),
        }
    }

    /// What it speaks.
    pub fn protocol(&self) -> &'static str {
        match self.admin {
            Admin::Nvme(_) => "nvme-tcp",
            Admin::Iscsi(_) => "iscsi",
            Admin::Rdma(_) => "nvme-rdma",
        }
    }

    /// Asks for `count` I/O queues with `depth` commands in flight each, to be opened by the
    /// load threads.
    ///
    /// Errors: `Admin`; `Option` when the target grants fewer.
    pub fn queues(&mut self, count: u16, depth: u16) -> Result<Opening, PerfError> {
        match &mut self.admin {
            Admin::Nvme(admin) => Ok(Opening::Nvme(admin.queues(count, depth)?)),
            Admin::Iscsi(admin) => Ok(Opening::Iscsi(admin.opening())),
            Admin::Rdma(admin) => Ok(Opening::Rdma(admin.queues(count, depth)?)),
        }
    }

    /// Writes the first `span` bytes once, with bytes that differ from block to block. Ends with a
    /// flush. Uses up the target: an NVMe controller has its queue count set.
    ///
    /// Errors: `Admin`, `Session`.
    pub fn fill(&mut self, span: u64) -> Result<(), PerfError> {
        match &mut self.admin {
            Admin::Nvme(admin) => admin.fill(&self.geometry, span),
            Admin::Iscsi(admin) => admin.fill(&self.geometry, span),
            Admin::Rdma(admin) => admin.fill(&self.geometry, span),
        }
    }
}
