//! From descriptors to moves between units.

use volume::VolumeInfo;
use wire::scsi::data::copy::{
    Amount, CopyList, CopyTarget, HEADER_BYTES, ListIdUsage, Segment, TARGET_BYTES, split_segment,
};
use wire::scsi::{Sense, SenseCode};

use super::place::Place;
use super::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, TARGETS_MAX, aborted_at};
use crate::scsi::{Nexus, identity};

/// What is kept of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub list_identifier: u8,
    pub usage: ListIdUsage,
}

/// A parameter list without faults of form.
pub(super) struct Copy {
    pub header: Header,
    /// None: no unit has that name that the host may use.
    pub targets: Vec<Option<Place>>,
    pub segments: Vec<Segment>,
}

/// One segment to copy. Positions and lengths in bytes.
pub(super) struct Move {
    pub source: Place,
    pub destination: Place,
    pub source_at: u64,
    pub destination_at: u64,
    pub len_bytes: u64,
}

/// Where a segment descriptor names the source, and the destination.
const TARGETS_AT: (u16, u16) = (4, 6);
/// Where it has their first blocks.
const LBAS_AT: (u16, u16) = (12, 20);
/// Where it says how much, by blocks and by bytes.
const AMOUNT_AT: (u16, u16) = (10, 8);

/// Reads a parameter list.
///
/// Errors: ILLEGAL REQUEST with the code for each fault of form. A name that no unit has is none:
/// the segment that uses it fails.
pub(super) fn read(nexus: &Nexus, list: &[u8]) -> Result<Copy, Sense> {
    let list = CopyList::decode(list)?;
    if list.usage == ListIdUsage::Reserved {
        return Err(Sense::invalid_parameter(1, Some(4)));
    }
    if list.usage == ListIdUsage::None && list.list_identifier != 0 {
        return Err(Sense::invalid_parameter(0, None));
    }
    if list.inline_bytes != 0 {
        return Err(Sense::invalid_parameter(12, None));
    }
    Ok(Copy {
        header: Header {
            list_identifier: list.list_identifier,
            usage: list.usage,
        },
        targets: targets(nexus, list.targets)?,
        segments: segments(list.segments)?,
    })
}

fn targets(nexus: &Nexus, list: &[u8]) -> Result<Vec<Option<Place>>, Sense> {
    let (targets, rest) = list.as_chunks::<TARGET_BYTES>();
    if !rest.is_empty() {
        return Err(Sense::invalid_parameter(2, None));
    }
    if targets.len() > TARGETS_MAX {
        return Err(Sense::illegal(SenseCode::TOO_MANY_TARGETS));
    }
    let at = |index: usize| (HEADER_BYTES + index * TARGET_BYTES) as u16;
    let each = targets.iter().enumerate();
    each.map(|(index, bytes)| target(nexus, bytes, at(index)))
        .collect()
}

/// The unit that a descriptor at byte `at` of the list names: this one, or another.
fn target(nexus: &Nexus, bytes: &[u8; TARGET_BYTES], at: u16) -> Result<Option<Place>, Sense> {
    let target = CopyTarget::decode(bytes, at)?;
    let is_it =
        |info: &VolumeInfo| identity::is_named_by(info, target.designator_type, target.designator);
    let found = Place::find(nexus, is_it);
    if target.peripheral_type != 0 {
        return Err(Sense::invalid_parameter(at + 1, Some(4)));
    }
    match found {
        // With another length of blocks the host means other bytes than we would copy.
        Some(unit) if target.block_bytes != unit.info().block_bytes => {
            Err(Sense::invalid_parameter(at + 29, None))
        }
        found => Ok(found),
    }
}

fn segments(list: &[u8]) -> Result<Vec<Segment>, Sense> {
    let mut segments = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (segment, after) = split_segment(rest)?;
        if segments.len() == SEGMENTS_MAX {
            return Err(Sense::illegal(SenseCode::TOO_MANY_SEGMENTS));
        }
        segments.push(segment);
        rest = after;
    }
    Ok(segments)
}

/// What a segment asks for, between the units that its target descriptors name.
///
/// Errors: COPY ABORTED, pointing into the segment descriptor.
pub(super) fn movement(segment: &Segment, targets: &[Option<Place>]) -> Result<Move, Sense> {
    let named = |index: u16, at| {
        let unit = targets.get(usize::from(index)).cloned().flatten();
        unit.ok_or(aborted_at(SenseCode::UNREACHABLE_COPY_TARGET, at))
    };
    let source = named(segment.source, TARGETS_AT.0)?;
    let destination = named(segment.destination, TARGETS_AT.1)?;
    let (len_bytes, offsets) = amount(segment, &source, &destination)?;
    let source_at = position(&source, segment.source_lba, offsets.0, len_bytes, LBAS_AT.0)?;
    let destination_at = position(
        &destination,
        segment.destination_lba,
        offsets.1,
        len_bytes,
        LBAS_AT.1,
    )?;
    Ok(Move {
        source,
        destination,
        source_at,
        destination_at,
        len_bytes,
    })
}

/// Bytes to copy, and where they begin in the first blocks.
fn amount(
    segment: &Segment,
    source: &Place,
    destination: &Place,
) -> Result<(u64, (u16, u16)), Sense> {
    let (len_bytes, offsets, at) = match segment.amount {
        Amount::Blocks {
            block_count,
            of_destination,
        } => {
            let counted = if of_destination { destination } else { source };
            let block_bytes = u64::from(counted.info().block_bytes);
            let len_bytes = u64::from(block_count) * block_bytes;
            // What does not fill a block is neither padded nor kept for the next segment.
            let is_whole = |unit: &Place| len_bytes.is_multiple_of(unit.info().block_bytes.into());
            if !is_whole(source) || !is_whole(destination) {
                return Err(aborted_at(SenseCode::INEXACT_SEGMENT, AMOUNT_AT.0));
            }
            (len_bytes, (0, 0), AMOUNT_AT.0)
        }
        Amount::Bytes {
            len_bytes,
            source_offset,
            destination_offset,
        } => {
            let offsets = (source_offset, destination_offset);
            (u64::from(len_bytes), offsets, AMOUNT_AT.1)
        }
    };
    if len_bytes > u64::from(SEGMENT_BYTES_MAX) {
        return Err(aborted_at(SenseCode::INVALID_PARAMETER, at));
    }
    Ok((len_bytes, offsets))
}

/// Offset in bytes, when all of the length from there on is inside the unit.
fn position(
    unit: &Place,
    lba: u64,
    offset_bytes: u16,
    len_bytes: u64,
    at: u16,
) -> Result<u64, Sense> {
    let block = lba.checked_mul(unit.info().block_bytes.into());
    let start = block.and_then(|block| block.checked_add(offset_bytes.into()));
    let end = start.and_then(|start| start.checked_add(len_bytes));
    match (start, end) {
        (Some(start), Some(end)) if end <= unit.info().len_bytes() => Ok(start),
        _ => Err(aborted_at(SenseCode::COPY_TARGET_NOT_REACHABLE, at)),
    }
}
