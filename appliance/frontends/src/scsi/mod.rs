//! SCSI without a transport: a command descriptor block becomes a `Request`, its outcome becomes
//! status and sense data.
//!
//! A transport attaches a [`Nexus`] to a [`LogicalUnit`], lets it `plan` each command, fetches the
//! data that the plan asks for, and then has it executed. Source: SAM-5, SPC-4, SBC-3.

use reactor::buf::Buf;
use wire::scsi::{Sense, Status};

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

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its status.
    pub status: Status,
    /// With CHECK CONDITION.
    pub sense: Option<Sense>,
    /// Data for the host.
    pub data: Option<Buf>,
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

/// What tasks end for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortCause {
    /// The nexus itself asked: its tasks get no response.
    Own,
    /// Another nexus asked: they get TASK ABORTED when the control mode page says so.
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
