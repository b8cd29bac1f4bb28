//! INQUIRY.

use wire::scsi::cdb::Inquiry;
use wire::scsi::{Sense, Writer};

use super::plan::to_host;
use super::{Nexus, Transfer};

pub(super) fn plan(fields: &Inquiry) -> Result<Transfer, Sense> {
    if !fields.vital && fields.page != 0 {
        return Err(Sense::invalid_cdb(2, None));
    }
    Ok(to_host(fields.allocation_bytes.into()))
}

pub(super) fn build(nexus: &Nexus, _fields: &Inquiry, is_absent: bool, out: &mut Writer<'_>) {
    let _ = nexus;
    out.u8(if is_absent { 0x7f } else { 0 });
}
