//! RECEIVE COPY RESULTS: what became of the last copies of a nexus.

use std::cell::RefCell;

use wire::scsi::cdb::CopyResults;
use wire::scsi::data::copy::{ListIdUsage, SEGMENT_BLOCKS, SEGMENT_OFFSETS, TARGET_IDENTIFICATION};
use wire::scsi::{Sense, Writer};

use super::{
    DESCRIPTORS_BYTES_MAX, Header, PIECE_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_MAX, TARGETS_MAX,
};
use crate::scsi::plan::to_host;
use crate::scsi::{Nexus, Transfer};

/// Copies of which a nexus remembers the end.
const RECORDS: usize = 8;
/// COPY STATUS.
const STATUS: u8 = 0x00;
/// OPERATING PARAMETERS.
const PARAMETERS: u8 = 0x03;
/// FAILED SEGMENT DETAILS.
const FAILED: u8 = 0x04;

/// How far a copy came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub segments: u16,
    pub bytes: u64,
    pub failure: Option<Sense>,
}

/// A copy of a nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    list_identifier: u8,
    /// None while it runs.
    end: Option<Progress>,
}

/// The last copies of a nexus, the newest last.
#[derive(Debug, Default)]
pub(in crate::scsi) struct CopyRecords {
    records: RefCell<[Option<Record>; RECORDS]>,
}

impl CopyRecords {
    /// A copy starts; the oldest record makes room for it.
    pub(super) fn begin(&self, header: Header) {
        if header.usage == ListIdUsage::None {
            return;
        }
        let mut records = self.records.borrow_mut();
        let same = |record: &Option<Record>| {
            record.is_none_or(|record| record.list_identifier == header.list_identifier)
        };
        let at = records.iter().position(same).unwrap_or(0);
        records[at..].rotate_left(1);
        records[RECORDS - 1] = Some(Record {
            list_identifier: header.list_identifier,
            end: None,
        });
    }

    /// It ended.
    pub(super) fn end(&self, list_identifier: u8, progress: &Progress) {
        let mut records = self.records.borrow_mut();
        let mut known = records.iter_mut().rev().flatten();
        let found = known.find(|record| record.list_identifier == list_identifier);
        if let Some(record) = found {
            record.end = Some(*progress);
        }
    }

    /// Whether a copy of this identifier has not ended.
    pub(super) fn is_running(&self, list_identifier: u8) -> bool {
        self.find(list_identifier)
            .is_some_and(|record| record.end.is_none())
    }

    fn find(&self, list_identifier: u8) -> Option<Record> {
        let records = self.records.borrow();
        let mut known = records.iter().rev().flatten();
        known
            .find(|record| record.list_identifier == list_identifier)
            .copied()
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
    out.u32(0);
    let record = nexus.copies.find(fields.list_identifier);
    match (fields.action, record) {
        (PARAMETERS, _) => parameters(out),
        (STATUS, Some(record)) => status(&record, out),
        (FAILED, Some(record)) => failed(&record, out),
        _ => {}
    }
    out.patch_len32(0);
}

fn status(record: &Record, out: &mut Writer<'_>) {
    let progress = record.end.unwrap_or_default();
    out.u8(status_code(record)).u16(progress.segments);
    // Transfer count in KiB.
    out.u8(1)
        .u32(u32::try_from(progress.bytes >> 10).unwrap_or(u32::MAX));
}

/// In progress, without errors, with errors.
fn status_code(record: &Record) -> u8 {
    match record.end {
        None => 0,
        Some(Progress { failure: None, .. }) => 1,
        Some(_) => 2,
    }
}

fn failed(record: &Record, out: &mut Writer<'_>) {
    let Some(sense) = record.end.and_then(|end| end.failure) else {
        return;
    };
    let bytes = sense.fixed();
    out.zeros(52).u8(status_code(record)).u8(0);
    out.u16(bytes.len() as u16).bytes(&bytes);
}

fn parameters(out: &mut Writer<'_>) {
    // SNLID: a copy may come without a list identifier.
    out.bytes(&[1, 0, 0, 0]);
    out.u16(TARGETS_MAX as u16).u16(SEGMENTS_MAX as u16);
    out.u32(DESCRIPTORS_BYTES_MAX as u32).u32(SEGMENT_BYTES_MAX);
    // No inline data, no held data, no streams.
    out.zeros(12).zeros(2);
    out.u16(RECORDS as u16).u8(RECORDS as u8);
    let granularity = PIECE_BYTES.trailing_zeros() as u8;
    out.bytes(&[granularity, 0, 0, 0, 0, 0]);
    let kinds = [SEGMENT_BLOCKS, SEGMENT_OFFSETS, TARGET_IDENTIFICATION];
    out.u8(kinds.len() as u8).bytes(&kinds);
}
