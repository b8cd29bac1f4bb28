//! Small answers: REPORT LUNS, REQUEST SENSE, READ CAPACITY, READ DEFECT DATA, diagnostics, task
//! management functions.
//!
//! Source: SPC-4 sections 6.33, 6.39, 6.36, 6.42, 6.27; SBC-3 sections 5.15 to 5.18.

use volume::VolumeInfo;
use wire::scsi::cdb::Diagnostic;
use wire::scsi::data::capacity::{Capacity, write_luns};
use wire::scsi::sense::DESCRIPTOR_BYTES_MAX;
use wire::scsi::{Sense, SenseCode, Writer};

use super::plan::to_host;
use super::{Nexus, Transfer, limits};

/// REPORT LUNS has room for its header and one LUN.
const LUNS_BYTES_MIN: u32 = 16;
/// READ CAPACITY (10) data.
const CAPACITY_10_BYTES: u32 = 8;

/// Well-known units are 01h, administrative ones 10h to 12h: there are none of them.
pub(super) fn plan_luns(select: u8, allocation_bytes: u32) -> Result<Transfer, Sense> {
    if !matches!(select, 0x00..=0x02 | 0x10..=0x12) {
        return Err(Sense::invalid_cdb(2, None));
    }
    if allocation_bytes < LUNS_BYTES_MIN {
        return Err(Sense::invalid_cdb(6, None));
    }
    Ok(to_host(allocation_bytes))
}

pub(super) fn luns(select: u8, out: &mut Writer<'_>) {
    write_luns(matches!(select, 0x00 | 0x02), out);
}

pub(super) fn plan_capacity10() -> Transfer {
    to_host(CAPACITY_10_BYTES)
}

pub(super) fn capacity(info: &VolumeInfo) -> Capacity {
    Capacity {
        block_count: info.block_count,
        block_bytes: info.block_bytes,
        physical_exponent: limits::page_blocks(info).trailing_zeros() as u8,
    }
}

impl Nexus {
    /// REQUEST SENSE: a pending unit attention first, then how the unit is.
    pub(super) fn request_sense(&self, descriptors: bool, is_absent: bool, out: &mut Writer<'_>) {
        let sense = if is_absent {
            Sense::illegal(SenseCode::LUN_NOT_SUPPORTED)
        } else if let Some(attention) = self.attentions.take() {
            attention.sense()
        } else {
            self.condition()
        };
        if descriptors {
            let mut bytes = [0; DESCRIPTOR_BYTES_MAX];
            let len = sense.descriptors(&mut bytes);
            out.bytes(&bytes[..len]);
        } else {
            out.bytes(&sense.fixed());
        }
    }
}

/// There are no defects: the lists are empty, in whichever format was asked for.
pub(super) fn defects(is_long: bool, primary: bool, grown: bool, format: u8, out: &mut Writer<'_>) {
    out.bytes(&[0, u8::from(primary) << 4 | u8::from(grown) << 3 | format]);
    out.zeros(if is_long { 6 } else { 2 });
}

/// Only the default self test, which has nothing to do: the pool checks itself all the time.
pub(super) fn plan_diagnostic(fields: &Diagnostic) -> Result<Transfer, Sense> {
    // No page can be sent.
    if fields.list_bytes != 0 {
        return Err(Sense::invalid_cdb(3, None));
    }
    if fields.code != 0 {
        return Err(Sense::invalid_cdb(1, Some(7)));
    }
    Ok(Transfer::None)
}

/// Only the list of pages, which has itself.
pub(super) fn plan_diagnostic_page(
    page_valid: bool,
    page: u8,
    allocation_bytes: u16,
) -> Result<Transfer, Sense> {
    if !page_valid {
        return Err(Sense::invalid_cdb(1, Some(0)));
    }
    if page != 0 {
        return Err(Sense::invalid_cdb(2, None));
    }
    Ok(to_host(allocation_bytes.into()))
}

pub(super) fn diagnostic_page(out: &mut Writer<'_>) {
    out.bytes(&[0, 0, 0, 1, 0]);
}

/// All functions of the unit and its transport but those for ACA and queries.
pub(super) fn task_management(is_extended: bool, out: &mut Writer<'_>) {
    // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET.
    out.bytes(&[0xda, 0, 0]);
    if is_extended {
        out.u8(0x0c).zeros(12);
    } else {
        out.u8(0);
    }
}
