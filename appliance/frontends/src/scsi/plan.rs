//! From a command descriptor block to a plan: everything that can be refused is refused here,
//! before any data moves.

use wire::scsi::cdb::pad;
use wire::scsi::{Cdb, Command, OpCode, Sense, SenseCode};

use super::table::Reach;
use super::table::{self, Guard, Row, Unknown};
use super::{
    Nexus, Outcome, Transfer, alua, cache, commands, compare, copy, gates, inquiry, mode,
    persistent, power, provisioning, report, rw, same, sanitize,
};

/// A checked command: small and `Copy`, kept while its data travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) command: Command,
    pub(super) guard: Guard,
    pub(super) reach: Reach,
    /// The LUN names no unit.
    pub(super) is_absent: bool,
    transfer: Transfer,
}

impl Plan {
    /// The data that the command needs or gives.
    #[must_use]
    pub fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// Fits the plan to the data that the host says it will send: `from_host_bytes` of the
    /// transport's header. A WRITE with less than its command descriptor block says writes the
    /// blocks that come; what comes beyond it is not taken.
    ///
    /// Errors: INVALID FIELD IN COMMAND INFORMATION UNIT when the command cannot do with that, for
    /// COMPARE AND WRITE INVALID FIELD IN CDB, since its number of blocks is what does not fit, above all
    /// where 256 became 0; nothing has happened then. Source: FCP-4 section 9.4.2, which other
    /// transports follow.
    pub fn fit(&mut self, from_host_bytes: u32) -> Result<(), Outcome> {
        let is_exact = matches!(
            self.command,
            Command::CompareAndWrite(_) | Command::WriteSame(_)
        );
        let len_bytes = match self.transfer {
            Transfer::FromHost { len_bytes } => len_bytes,
            Transfer::None if is_exact => 0,
            _ => return Ok(()),
        };
        if from_host_bytes == len_bytes || (from_host_bytes > len_bytes && !is_exact) {
            return Ok(());
        }
        if matches!(self.command, Command::CompareAndWrite(_)) {
            return Err(Outcome::invalid_field_in_cdb(13, None));
        }
        let shortened = self.shortened(len_bytes, from_host_bytes);
        *self = shortened.ok_or(Sense::illegal(SenseCode::INVALID_INFORMATION_UNIT))?;
        Ok(())
    }

    /// The same for less data, when it is a write and the data are whole blocks.
    fn shortened(mut self, len_bytes: u32, from_host_bytes: u32) -> Option<Self> {
        let blocks = match &mut self.command {
            Command::Write(blocks) => blocks,
            Command::WriteVerify(fields) => &mut fields.blocks,
            _ => return None,
        };
        let block_bytes = len_bytes.checked_div(blocks.block_count)?;
        if !from_host_bytes.is_multiple_of(block_bytes) {
            return None;
        }
        blocks.block_count = from_host_bytes / block_bytes;
        self.transfer = from_host(from_host_bytes);
        Some(self)
    }
}

impl Nexus {
    /// Checks a command. `lun` are the 8 bytes of the transport's header.
    ///
    /// Errors: the outcome that completes the command; nothing has happened then, but that a unit
    /// attention which it reports is over. Cost: no allocation.
    pub fn plan(&self, lun: [u8; 8], cdb: &[u8]) -> Result<Plan, Outcome> {
        let Some(cdb) = pad(cdb) else {
            return Err(Sense::illegal(SenseCode::INVALID_OPCODE).into());
        };
        if !gates::is_unit(lun) {
            return self.plan_absent(&cdb);
        }
        self.check_attention(cdb[0])?;
        let row = row_of(&cdb)?;
        let command = (row.decode)(&cdb);
        let (guard, reach) = (gates::guard_of(row, &command), row.reach);
        self.check_state(reach, &command)?;
        self.check_reservation(guard)?;
        self.check_write_protection(&command)?;
        check_reserved(row, &cdb)?;
        Ok(Plan {
            command,
            guard,
            reach,
            is_absent: false,
            transfer: self.check(&command, false)?,
        })
    }

    /// A LUN that names no unit answers what it is, and which units there are: SPC-4 section 6.6.
    fn plan_absent(&self, cdb: &Cdb) -> Result<Plan, Outcome> {
        let known = [OpCode::INQUIRY, OpCode::REPORT_LUNS, OpCode::REQUEST_SENSE];
        if !known.contains(&OpCode(cdb[0])) {
            return Err(Sense::illegal(SenseCode::LUN_NOT_SUPPORTED).into());
        }
        let row = row_of(cdb)?;
        check_reserved(row, cdb)?;
        let command = (row.decode)(cdb);
        Ok(Plan {
            command,
            guard: Guard::Always,
            reach: Reach::Always,
            is_absent: true,
            transfer: self.check(&command, true)?,
        })
    }

    /// The command's own checks.
    fn check(&self, command: &Command, is_absent: bool) -> Result<Transfer, Outcome> {
        let info = self.unit().info();
        let checked = match command {
            Command::Read(blocks) => rw::plan_read(info, blocks),
            Command::Write(blocks) => rw::plan_write(info, blocks),
            Command::OrWrite(blocks) => rw::plan_or(info, blocks),
            Command::WriteAtomic {
                blocks,
                boundary_blocks,
            } => rw::plan_atomic(info, blocks, *boundary_blocks),
            Command::WriteVerify(fields) => compare::plan_write_verify(info, fields),
            Command::Verify(fields) => compare::plan_verify(info, fields),
            Command::CompareAndWrite(blocks) => compare::plan_compare_and_write(info, blocks),
            Command::SynchronizeCache { blocks, .. } | Command::PreFetch { blocks, .. } => {
                cache::plan(info, blocks)
            }
            Command::Unmap { list_bytes, .. } => Ok(from_host((*list_bytes).into())),
            Command::WriteSame(fields) => same::plan(info, fields),
            Command::LbaStatus {
                lba,
                allocation_bytes,
            } => provisioning::plan(info, *lba, *allocation_bytes),
            Command::ExtendedCopy { list_bytes } => copy::plan(*list_bytes),
            Command::CopyResults(fields) => copy::plan_results(self, fields),
            Command::Sanitize(fields) => sanitize::plan(info, fields),
            Command::Reservation(cdb) => return self.check_own(cdb),
            other => check_quick(other, is_absent),
        };
        checked.map_err(Outcome::from)
    }

    fn check_own(&self, cdb: &Cdb) -> Result<Transfer, Outcome> {
        match OpCode(cdb[0]) {
            OpCode::PERSISTENT_RESERVE_IN => persistent::plan_in(self, cdb),
            OpCode::PERSISTENT_RESERVE_OUT => persistent::plan_out(self, cdb),
            _ => Ok(Transfer::None),
        }
    }
}

/// Checks of commands that touch no medium.
fn check_quick(command: &Command, is_absent: bool) -> Result<Transfer, Sense> {
    match command {
        Command::Inquiry(fields) => inquiry::plan(fields, is_absent),
        Command::RequestSense {
            allocation_bytes, ..
        } => Ok(to_host((*allocation_bytes).into())),
        Command::ReportLuns {
            select,
            allocation_bytes,
        } => report::plan_luns(*select, *allocation_bytes),
        Command::ModeSense(fields) => mode::plan_sense(fields),
        Command::ModeSelect(fields) => mode::plan_select(fields),
        Command::ReadCapacity10 => Ok(report::plan_capacity10()),
        Command::ReadCapacity16 { allocation_bytes }
        | Command::ReadDefectData {
            allocation_bytes, ..
        }
        | Command::ReportTaskManagement {
            allocation_bytes, ..
        } => Ok(to_host(*allocation_bytes)),
        Command::ReportTargetPortGroups {
            format,
            allocation_bytes,
        } => alua::plan_report(*format, *allocation_bytes),
        Command::SetTargetPortGroups { list_bytes } => alua::plan_set(*list_bytes),
        Command::ReportCommands(fields) => commands::plan(fields),
        Command::Power(fields) => power::plan(fields),
        Command::SendDiagnostic(fields) => report::plan_diagnostic(fields),
        Command::ReceiveDiagnostic {
            page_valid,
            page,
            allocation_bytes,
        } => report::plan_diagnostic_page(*page_valid, *page, *allocation_bytes),
        _ => Ok(Transfer::None),
    }
}

fn row_of(cdb: &Cdb) -> Result<&'static Row, Outcome> {
    table::find(cdb).map_err(|unknown| match unknown {
        Unknown::Opcode => Sense::illegal(SenseCode::INVALID_OPCODE).into(),
        Unknown::Action => Outcome::invalid_field_in_cdb(1, Some(4)),
    })
}

/// Nothing is accepted and ignored: a bit that means nothing here must be zero.
fn check_reserved(row: &Row, cdb: &Cdb) -> Result<(), Outcome> {
    match row.reserved_bit(cdb) {
        None => Ok(()),
        Some((byte, bit)) => Err(Outcome::invalid_field_in_cdb(byte, Some(bit))),
    }
}

/// Data to the host.
pub(super) fn to_host(len_bytes: u32) -> Transfer {
    match len_bytes {
        0 => Transfer::None,
        len_bytes => Transfer::ToHost { len_bytes },
    }
}

/// Data from the host.
pub(super) fn from_host(len_bytes: u32) -> Transfer {
    match len_bytes {
        0 => Transfer::None,
        len_bytes => Transfer::FromHost { len_bytes },
    }
}
