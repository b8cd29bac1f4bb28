//! What headers are made of: sequence numbers, ranges of data, residuals, the flags of a login.
//!
//! Source: RFC 7143 sections 11.2.2 (numbers), 11.4.5 (residuals), 11.12 (login).

use super::codes::{Stage, flags};

/// The numbers that every header of a target carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetNumbers {
    /// StatSN.
    pub stat_sn: u32,
    /// ExpCmdSN.
    pub exp_cmd_sn: u32,
    /// MaxCmdSN.
    pub max_cmd_sn: u32,
}

/// The numbers that every header of an initiator carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitiatorNumbers {
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
}

/// Where data lies: its number, and its range in the command's data in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// DataSN or R2TSN.
    pub sn: u32,
    /// Offset in the command's data.
    pub offset: u32,
    /// Length.
    pub len_bytes: u32,
}

/// How much less or more data there was than the initiator expected, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Just as much.
    #[default]
    None,
    /// So much of what was expected did not move.
    Underflow(u32),
    /// So much more would have moved.
    Overflow(u32),
}

impl Residual {
    /// Of a command that has `actual` bytes of data where `expected` were announced.
    #[must_use]
    pub const fn of(expected: u32, actual: u32) -> Self {
        if actual < expected {
            Self::Underflow(expected - actual)
        } else if actual > expected {
            Self::Overflow(actual - expected)
        } else {
            Self::None
        }
    }

    /// The flag bit, and the count.
    #[must_use]
    pub const fn encode(self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Underflow(count) => (flags::UNDERFLOW, count),
            Self::Overflow(count) => (flags::OVERFLOW, count),
        }
    }

    /// From the flags and the count of a SCSI Response or Data-In. Overflow wins when both bits
    /// are set, which section 11.4.1 forbids.
    #[must_use]
    pub const fn decode(flag_bits: u8, count: u32) -> Self {
        if flag_bits & flags::OVERFLOW != 0 {
            Self::Overflow(count)
        } else if flag_bits & flags::UNDERFLOW != 0 {
            Self::Underflow(count)
        } else {
            Self::None
        }
    }
}

/// The flags of a login's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginFlags {
    /// The sender wants to go on to the next stage.
    pub transit: bool,
    /// The text goes on in the next PDU.
    pub continues: bool,
    /// CSG.
    pub current: Stage,
    /// NSG; means nothing without `transit`.
    pub next: Stage,
}

impl LoginFlags {
    /// From byte 1.
    #[must_use]
    pub const fn decode(bits: u8) -> Self {
        Self {
            transit: bits & flags::TRANSIT != 0,
            continues: bits & flags::CONTINUE != 0,
            current: Stage(bits >> 2 & 3),
            next: Stage(bits & 3),
        }
    }

    /// Byte 1. Without transit the next stage is sent as zero.
    #[must_use]
    pub const fn encode(self) -> u8 {
        let next = if self.transit {
            flags::TRANSIT | self.next.0 & 3
        } else {
            0
        };
        let more = if self.continues { flags::CONTINUE } else { 0 };
        next | more | (self.current.0 & 3) << 2
    }
}
