//! Commands on the unit.
//!
//! Source: SPC-4 section 6; START STOP UNIT, SANITIZE: SBC-3 section 5.

use super::{Cdb, Command, be16, be32};

/// INQUIRY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// A vital product data page instead of the standard data.
    pub vital: bool,
    /// Which page.
    pub page: u8,
    /// Bytes at most.
    pub allocation_bytes: u16,
}

/// PC: which values of mode pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageControl {
    /// In effect.
    Current,
    /// A mask: which bits may be changed.
    Changeable,
    /// Before any change.
    Default,
    /// That survive a reset.
    Saved,
}

/// MODE SENSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeSense {
    /// The form of 10 bytes, with its longer header.
    pub long: bool,
    /// No block descriptor.
    pub no_block_descriptor: bool,
    /// A block descriptor of 16 bytes may be returned.
    pub long_lba: bool,
    /// Which values.
    pub control: PageControl,
    /// Which page; 3Fh: all.
    pub page: u8,
    /// Which subpage; FFh: all.
    pub subpage: u8,
    /// Bytes at most.
    pub allocation_bytes: u16,
}

/// MODE SELECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeSelect {
    /// The form of 10 bytes, with its longer header.
    pub long: bool,
    /// Pages are as the standards say.
    pub page_format: bool,
    /// Keep over a reset.
    pub save: bool,
    /// Length of the parameter list.
    pub list_bytes: u16,
}

/// START STOP UNIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power {
    /// Status before it is done.
    pub immediate: bool,
    /// Power condition; 0: START and LOEJ say what to do.
    pub condition: u8,
    /// Detail of it.
    pub modifier: u8,
    /// Need not flush.
    pub no_flush: bool,
    /// Load or eject the medium.
    pub load_eject: bool,
    /// Start, else stop.
    pub start: bool,
}

/// What SANITIZE does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanitizeAction {
    /// Write a pattern over everything.
    Overwrite {
        /// Length of the parameter list.
        list_bytes: u16,
    },
    /// Erase the blocks.
    BlockErase,
    /// Change the keys.
    CryptographicErase,
    /// End the state that a failed sanitize leaves.
    ExitFailureMode,
    /// Another service action.
    Unknown,
}

/// SANITIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitize {
    /// Status before it is done.
    pub immediate: bool,
    /// Allow unrestricted sanitize exit: a failure may be left by EXIT FAILURE MODE.
    pub unrestricted_exit: bool,
    /// What to do.
    pub action: SanitizeAction,
}

/// SEND DIAGNOSTIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which self test; 0: see `default_test`.
    pub code: u8,
    /// Parameter data is a page.
    pub page_format: bool,
    /// The default self test.
    pub default_test: bool,
    /// Length of the parameter list.
    pub list_bytes: u16,
}

/// RECEIVE COPY RESULTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResults {
    /// 00h copy status, 03h operating parameters, 04h failed segment details.
    pub action: u8,
    /// Which copy.
    pub list_identifier: u8,
    /// Bytes at most.
    pub allocation_bytes: u32,
}

/// Which commands REPORT SUPPORTED OPERATION CODES is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// Every one.
    All,
    /// One that has no service action.
    Opcode,
    /// One that has.
    ServiceAction,
    /// One with or without.
    Either,
    /// A reserved value.
    Reserved,
}

/// REPORT SUPPORTED OPERATION CODES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportCommands {
    /// With a descriptor of timeouts.
    pub timeouts: bool,
    /// Which.
    pub reporting: Reporting,
    /// The one asked for.
    pub opcode: u8,
    /// Its service action.
    pub service_action: u16,
    /// Bytes at most.
    pub allocation_bytes: u32,
}

/// TEST UNIT READY.
#[must_use]
pub fn test_unit_ready(_cdb: &Cdb) -> Command {
    Command::TestUnitReady
}

/// REQUEST SENSE.
#[must_use]
pub fn request_sense(cdb: &Cdb) -> Command {
    Command::RequestSense {
        descriptors: cdb[1] & 1 != 0,
        allocation_bytes: cdb[4],
    }
}

/// INQUIRY.
#[must_use]
pub fn inquiry(cdb: &Cdb) -> Command {
    Command::Inquiry(Inquiry {
        vital: cdb[1] & 1 != 0,
        page: cdb[2],
        allocation_bytes: be16(cdb, 3),
    })
}

/// REPORT LUNS.
#[must_use]
pub fn report_luns(cdb: &Cdb) -> Command {
    Command::ReportLuns {
        select: cdb[2],
        allocation_bytes: be32(cdb, 6),
    }
}

const fn mode_sense(cdb: &Cdb, long: bool, allocation_bytes: u16) -> Command {
    Command::ModeSense(ModeSense {
        long,
        no_block_descriptor: cdb[1] & 0x08 != 0,
        long_lba: cdb[1] & 0x10 != 0,
        control: match cdb[2] >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        },
        page: cdb[2] & 0x3f,
        subpage: cdb[3],
        allocation_bytes,
    })
}

/// MODE SENSE (6).
#[must_use]
pub fn mode_sense6(cdb: &Cdb) -> Command {
    mode_sense(cdb, false, cdb[4] as u16)
}

/// MODE SENSE (10).
#[must_use]
pub fn mode_sense10(cdb: &Cdb) -> Command {
    mode_sense(cdb, true, be16(cdb, 7))
}

const fn mode_select(cdb: &Cdb, long: bool, list_bytes: u16) -> Command {
    Command::ModeSelect(ModeSelect {
        long,
        page_format: cdb[1] & 0x10 != 0,
        save: cdb[1] & 0x01 != 0,
        list_bytes,
    })
}

/// MODE SELECT (6).
#[must_use]
pub fn mode_select6(cdb: &Cdb) -> Command {
    mode_select(cdb, false, cdb[4] as u16)
}

/// MODE SELECT (10).
#[must_use]
pub fn mode_select10(cdb: &Cdb) -> Command {
    mode_select(cdb, true, be16(cdb, 7))
}

/// START STOP UNIT.
#[must_use]
pub fn start_stop(cdb: &Cdb) -> Command {
    Command::Power(Power {
        immediate: cdb[1] & 0x01 != 0,
        modifier: cdb[3] & 0x0f,
        condition: cdb[4] >> 4,
        no_flush: cdb[4] & 0x04 != 0,
        load_eject: cdb[4] & 0x02 != 0,
        start: cdb[4] & 0x01 != 0,
    })
}

/// PREVENT ALLOW MEDIUM REMOVAL. Bit 1 is obsolete, and refused by the caller.
#[must_use]
pub fn prevent_allow(cdb: &Cdb) -> Command {
    Command::PreventAllow {
        prevent: cdb[4] & 0x01 != 0,
    }
}

/// SANITIZE.
#[must_use]
pub fn sanitize(cdb: &Cdb) -> Command {
    let action = match cdb[1] & 0x1f {
        0x01 => SanitizeAction::Overwrite {
            list_bytes: be16(cdb, 7),
        },
        0x02 => SanitizeAction::BlockErase,
        0x03 => SanitizeAction::CryptographicErase,
        0x1f => SanitizeAction::ExitFailureMode,
        _ => SanitizeAction::Unknown,
    };
    Command::Sanitize(Sanitize {
        immediate: cdb[1] & 0x80 != 0,
        unrestricted_exit: cdb[1] & 0x20 != 0,
        action,
    })
}

/// SEND DIAGNOSTIC.
#[must_use]
pub fn send_diagnostic(cdb: &Cdb) -> Command {
    Command::SendDiagnostic(Diagnostic {
        code: cdb[1] >> 5,
        page_format: cdb[1] & 0x10 != 0,
        default_test: cdb[1] & 0x04 != 0,
        list_bytes: be16(cdb, 3),
    })
}

/// RECEIVE DIAGNOSTIC RESULTS.
#[must_use]
pub fn receive_diagnostic(cdb: &Cdb) -> Command {
    Command::ReceiveDiagnostic {
        page_valid: cdb[1] & 1 != 0,
        page: cdb[2],
        allocation_bytes: be16(cdb, 3),
    }
}

/// EXTENDED COPY (LID1).
#[must_use]
pub fn extended_copy(cdb: &Cdb) -> Command {
    Command::ExtendedCopy {
        list_bytes: be32(cdb, 10),
    }
}

/// RECEIVE COPY RESULTS.
#[must_use]
pub fn copy_results(cdb: &Cdb) -> Command {
    Command::CopyResults(CopyResults {
        action: cdb[1] & 0x1f,
        list_identifier: cdb[2],
        allocation_bytes: be32(cdb, 10),
    })
}

/// REPORT TARGET PORT GROUPS.
#[must_use]
pub fn report_groups(cdb: &Cdb) -> Command {
    Command::ReportTargetPortGroups {
        format: cdb[1] >> 5,
        allocation_bytes: be32(cdb, 6),
    }
}

/// SET TARGET PORT GROUPS.
#[must_use]
pub fn set_groups(cdb: &Cdb) -> Command {
    Command::SetTargetPortGroups {
        list_bytes: be32(cdb, 6),
    }
}

/// REPORT SUPPORTED OPERATION CODES.
#[must_use]
pub fn report_commands(cdb: &Cdb) -> Command {
    let reporting = match cdb[2] & 0x07 {
        0 => Reporting::All,
        1 => Reporting::Opcode,
        2 => Reporting::ServiceAction,
        3 => Reporting::Either,
        _ => Reporting::Reserved,
    };
    Command::ReportCommands(ReportCommands {
        timeouts: cdb[2] & 0x80 != 0,
        reporting,
        opcode: cdb[3],
        service_action: be16(cdb, 4),
        allocation_bytes: be32(cdb, 6),
    })
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
#[must_use]
pub fn report_task_management(cdb: &Cdb) -> Command {
    Command::ReportTaskManagement {
        extended: cdb[2] & 0x80 != 0,
        allocation_bytes: be32(cdb, 6),
    }
}

/// A reservation command.
#[must_use]
pub fn reservation(cdb: &Cdb) -> Command {
    Command::Reservation(*cdb)
}
