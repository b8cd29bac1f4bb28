//! RECEIVE COPY RESULTS: what became of the last copies of a nexus.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wire::scsi::Status;
use wire::scsi::cdb::CopyResults;
use wire::scsi::data::copy::{
    CopyState, CopyStatus, ListIdUsage, OperatingParameters, SEGMENT_BLOCKS, SEGMENT_OFFSETS,
    TARGET_IDENTIFICATION, write_failed_details,
};
use wire::scsi::{Sense, Writer};

use super::checked::Header;
use super::{DESCRIPTORS_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX, TARGETS_MAX};
use crate::scsi::plan::to_host;
use crate::scsi::{Nexus, Transfer};

/// Copies with a list identifier that a nexus has at a time, or remembers the end of.
const RECORDS: usize = 8;
/// Smallest length of data in a segment, as a power of two: a block of 512 bytes.
const GRANULARITY: u8 = 9;
/// COPY STATUS.
const STATUS: u8 = 0x00;
/// OPERATING PARAMETERS.
const PARAMETERS: u8 = 0x03;
/// FAILED SEGMENT DETAILS.
const FAILED: u8 = 0x04;

/// A copy with a list identifier.
#[derive(Debug)]
struct Kept {
    list_identifier: u8,
    state: Cell<CopyState>,
    segments: Cell<u16>,
    bytes: Cell<u64>,
    failure: Cell<Option<Sense>>,
}

/// The last copies of a nexus, the oldest first.
#[derive(Debug, Default)]
pub(in crate::scsi) struct CopyRecords {
    kept: RefCell<Vec<Rc<Kept>>>,
}

/// Why a copy cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// A copy with this list identifier is under way.
    InUse,
    /// As many as can be remembered are.
    TooMany,
}

impl CopyRecords {
    /// A copy starts. What was kept for its list identifier goes, or else the oldest that ended.
    pub(super) fn begin(&self, header: Header) -> Result<Record<'_>, NotBegun> {
        if header.usage == ListIdUsage::None {
            return Ok(Record {
                records: self,
                kept: None,
            });
        }
        let mut kept = self.kept.borrow_mut();
        let is_running = |one: &Rc<Kept>| one.state.get() == CopyState::RUNNING;
        let same = |one: &Rc<Kept>| one.list_identifier == header.list_identifier;
        if kept.iter().any(|one| same(one) && is_running(one)) {
            return Err(NotBegun::InUse);
        }
        kept.retain(|one| !same(one));
        if kept.len() == RECORDS {
            let oldest = kept.iter().position(|one| !is_running(one));
            kept.remove(oldest.ok_or(NotBegun::TooMany)?);
        }
        let one = Rc::new(Kept {
            list_identifier: header.list_identifier,
            state: Cell::new(CopyState::RUNNING),
            segments: Cell::new(0),
            bytes: Cell::new(0),
            failure: Cell::new(None),
        });
        kept.push(one.clone());
        Ok(Record {
            records: self,
            kept: Some(one),
        })
    }

    /// A reset: how copies ended is forgotten.
    pub(in crate::scsi) fn forget(&self) {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|one| one.state.get() == CopyState::RUNNING);
    }

    fn find(&self, list_identifier: u8) -> Option<Rc<Kept>> {
        let kept = self.kept.borrow();
        let mut known = kept.iter();
        known
            .find(|one| one.list_identifier == list_identifier)
            .cloned()
    }
}

/// A copy under way. One that is dropped before its end was aborted, and leaves nothing.
pub(super) struct Record<'a> {
    records: &'a CopyRecords,
    kept: Option<Rc<Kept>>,
}

impl Record<'_> {
    pub fn segment_done(&self) {
        if let Some(kept) = &self.kept {
            kept.segments.set(kept.segments.get().saturating_add(1));
        }
    }

    pub fn bytes_done(&self, len_bytes: u64) {
        if let Some(kept) = &self.kept {
            kept.bytes.set(kept.bytes.get().saturating_add(len_bytes));
        }
    }

    /// It ended, and stays to be asked for.
    pub fn end(mut self, failure: Option<Sense>) {
        if let Some(kept) = self.kept.take() {
            kept.failure.set(failure);
            let state = if failure.is_some() {
                CopyState::FAILED
            } else {
                CopyState::DONE
            };
            kept.state.set(state);
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if let Some(aborted) = self.kept.take() {
            let mut kept = self.records.kept.borrow_mut();
            kept.retain(|one| !Rc::ptr_eq(one, &aborted));
        }
    }
}

pub(in crate::scsi) fn plan(nexus: &Nexus, fields: &CopyResults) -> Result<Transfer, Sense> {
    let is_known =
        fields.action == PARAMETERS || nexus.copies.find(fields.list_identifier).is_some();
    if !is_known {
        return Err(Sense::invalid_cdb(2, None));
    }
    Ok(to_host(fields.allocation_bytes))
}

pub(in crate::scsi) fn report(nexus: &Nexus, fields: &CopyResults, out: &mut Writer<'_>) {
    if fields.action == PARAMETERS {
        return parameters().write(out);
    }
    // Another copy may have taken its place since it was planned.
    let kept = nexus.copies.find(fields.list_identifier);
    let failure = kept.as_ref().and_then(|kept| kept.failure.get());
    match (fields.action, kept) {
        (STATUS, Some(kept)) => {
            let status = CopyStatus {
                state: kept.state.get(),
                segments: kept.segments.get(),
                len_bytes: kept.bytes.get(),
            };
            status.write(out);
        }
        (FAILED, _) => {
            let sense = failure.map(|sense| sense.fixed());
            let sense = sense.as_ref().map(|sense| &sense[..]);
            write_failed_details(Status::CHECK_CONDITION, sense, out);
        }
        _ => {}
    }
}

fn parameters() -> OperatingParameters<'static> {
    OperatingParameters {
        no_list_identifier: true,
        targets_max: TARGETS_MAX as u16,
        segments_max: SEGMENTS_MAX as u16,
        descriptors_bytes_max: DESCRIPTORS_BYTES_MAX as u32,
        segment_bytes_max: SEGMENT_BYTES_MAX,
        copies_max: RECORDS as u8,
        granularity: GRANULARITY,
        kinds: &[SEGMENT_BLOCKS, SEGMENT_OFFSETS, TARGET_IDENTIFICATION],
    }
}
