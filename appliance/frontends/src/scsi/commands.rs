//! REPORT SUPPORTED OPERATION CODES, from the table that dispatches them.
//!
//! Source: SPC-4 section 6.35.

use wire::scsi::cdb::{ReportCommands, Reporting};
use wire::scsi::{Sense, Writer};

use super::Transfer;
use super::plan::to_host;
use super::table::{ROWS, Row, of_opcode};

/// Length of a timeouts descriptor behind its length field.
const TIMEOUTS_BYTES: u16 = 10;
/// How much longer than usual a host should wait before it gives up.
const PATIENCE: u32 = 6;
/// There is no such command.
const NOT_SUPPORTED: u8 = 1;
/// There is, as the standard says.
const SUPPORTED: u8 = 3;

pub(super) fn plan(fields: &ReportCommands) -> Result<Transfer, Sense> {
    let has_actions = of_opcode(fields.opcode).any(|row| row.action.is_some());
    let is_known = of_opcode(fields.opcode).next().is_some();
    let fits = match fields.reporting {
        Reporting::All | Reporting::Either => true,
        Reporting::Opcode => !has_actions,
        Reporting::ServiceAction => has_actions || !is_known,
        Reporting::Reserved => false,
    };
    if !fits {
        return Err(Sense::invalid_cdb(2, Some(2)));
    }
    Ok(to_host(fields.allocation_bytes))
}

pub(super) fn report(fields: &ReportCommands, out: &mut Writer<'_>) {
    if fields.reporting == Reporting::All {
        out.u32(0);
        for row in ROWS {
            descriptor(row, fields.timeouts, out);
        }
        out.patch_len32(0);
        return;
    }
    match asked_for(fields) {
        None => {
            out.bytes(&[0, NOT_SUPPORTED, 0, 0]);
        }
        Some(row) => one(row, fields.timeouts, out),
    }
}

fn asked_for(fields: &ReportCommands) -> Option<&'static Row> {
    of_opcode(fields.opcode).find(|row| match (fields.reporting, row.action) {
        (Reporting::Opcode, None) => true,
        (Reporting::Either, None) => fields.service_action == 0,
        (_, Some(action)) => fields.service_action == u16::from(action),
        _ => false,
    })
}

fn descriptor(row: &Row, timeouts: bool, out: &mut Writer<'_>) {
    out.bytes(&[row.opcode.0, 0]);
    out.u16(row.action.unwrap_or_default().into());
    let has_action = u8::from(row.action.is_some());
    out.bytes(&[0, u8::from(timeouts) << 1 | has_action]);
    out.u16(row.cdb_bytes() as u16);
    if timeouts {
        write_timeouts(row, out);
    }
}

fn one(row: &Row, timeouts: bool, out: &mut Writer<'_>) {
    out.bytes(&[0, u8::from(timeouts) << 7 | SUPPORTED]);
    out.u16(row.cdb_bytes() as u16);
    for byte in row.usage_data() {
        out.u8(byte);
    }
    if timeouts {
        write_timeouts(row, out);
    }
}

fn write_timeouts(row: &Row, out: &mut Writer<'_>) {
    out.u16(TIMEOUTS_BYTES).u16(0);
    out.u32(row.seconds).u32(row.seconds * PATIENCE);
}
