//! SCSI without a transport: a command descriptor block becomes a `Request`, its outcome becomes
//! status and sense data.
//!
//! A transport attaches a [`Nexus`] to a [`LogicalUnit`], lets it [`plan`](Nexus::plan) each
//! command, fetches the data that the plan asks for, and then has it
//! [`executed`](Nexus::execute). `table` says which commands there are, `plan` what each is
//! checked for, `execute` which file does it. Source: SAM-5, SPC-4, SBC-3.

mod alua;
mod attention;
mod cache;
mod commands;
mod compare;
mod copy;
mod execute;
mod gates;
mod identity;
mod inquiry;
mod limits;
mod long;
mod manage;
mod mode;
mod nexus;
mod outcome;
mod persistent;
mod plan;
mod power;
mod provisioning;
mod report;
mod reserve6;
mod rw;
mod same;
mod sanitize;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod unit;
mod units;
mod unmap;

pub use attention::Attention;
pub use execute::IsAborted;
pub use nexus::{Nexus, SENSE_BYTES_MAX};
pub use outcome::Outcome;
pub use plan::Plan;
pub use unit::LogicalUnit;
pub use units::{UnitDirectory, Units};
pub use wire::scsi::data::alua::AccessState;

/// Which way the data of a command goes, and how much the command descriptor block asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// No data.
    None,
    /// From the host.
    FromHost {
        /// Bytes.
        len_bytes: u32,
    },
    /// To the host.
    ToHost {
        /// At most so many bytes: the allocation length, or the blocks of a read.
        len_bytes: u32,
    },
}

/// What a target port is called, and which port of the target it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortNames {
    /// `iqn...,i,0x` and the ISID: the initiator port.
    pub initiator_port: String,
    /// `iqn...`: the target device.
    pub target: String,
    /// Relative target port identifier, the target portal group's tag and the ALUA group at once.
    pub target_port: u16,
}

impl PortNames {
    /// Name of the initiator: of its port without the ISID.
    pub(crate) fn initiator(&self) -> &str {
        let name = self.initiator_port.rsplit_once(",i,0x");
        name.map_or(&self.initiator_port, |(name, _)| name)
    }
}

/// What tasks end for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortCause {
    /// The nexus itself asked: its tasks get no response.
    Own,
    /// Another nexus asked: they get TASK ABORTED when [`Nexus::reports_aborted_tasks`] says so.
    Other,
}

/// A transport's end of a nexus.
pub trait NexusPort {
    /// Ends all tasks of the nexus. Returns how many there were.
    fn abort_tasks(&self, cause: AbortCause) -> usize;
    /// Whether no ended task can take effect any more.
    fn is_settled(&self) -> bool;
    /// Closes the nexus: its unit is gone.
    fn close(&self);
}

/// A task management function that the unit carries out. ABORT TASK is the transport's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Ends the tasks of the nexus.
    AbortTaskSet,
    /// Ends the tasks of all nexuses.
    ClearTaskSet,
    /// Ends all tasks, and sets the unit back to its defaults.
    LogicalUnitReset,
    /// The same for all units of the target.
    TargetWarmReset,
    /// The same; the transport then ends all sessions.
    TargetColdReset,
}

/// How a task management function ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// It is done.
    Complete,
    /// There is no such unit.
    NoSuchUnit,
}
