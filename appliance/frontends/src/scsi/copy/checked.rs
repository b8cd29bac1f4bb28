//! From descriptors to moves.

use std::rc::{Rc, Weak};

use wire::scsi::data::copy::{Amount, CopyList, CopyTarget, Segment, TARGET_BYTES, split_segment};
use wire::scsi::sense::KeySpecific;
use wire::scsi::{Sense, SenseCode, SenseKey};

use super::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, TARGETS_MAX};
use crate::reservation::{Access, Identity};
use crate::scsi::{LogicalUnit, Nexus, identity};

/// One segment to copy. Positions and lengths in bytes, whole blocks of both units.
pub(super) struct Move {
    pub source: Rc<LogicalUnit>,
    pub destination: Rc<LogicalUnit>,
    pub source_at: u64,
    pub destination_at: u64,
    pub len_bytes: u64,
}

/// Byte of a segment descriptor that names the destination.
const DESTINATION_AT: u16 = 6;
/// Byte of a segment descriptor that says how much.
const AMOUNT_AT: u16 = 10;

/// The moves that a parameter list asks for.
///
/// Errors: those of the descriptors' decoders; TOO MANY TARGET or SEGMENT DESCRIPTORS; COPY ABORTED
/// when a descriptor names what is not there.
pub(super) fn moves(nexus: &Rc<Nexus>, list: &CopyList<'_>) -> Result<Vec<Move>, Sense> {
    let (targets, rest) = list.targets.as_chunks::<TARGET_BYTES>();
    if !rest.is_empty() {
        return Err(Sense::invalid_parameter(2, None));
    }
    if targets.len() > TARGETS_MAX {
        return Err(Sense::illegal(SenseCode::TOO_MANY_TARGETS));
    }
    let mut found: [Option<CopyTarget<'_>>; TARGETS_MAX] = [None; TARGETS_MAX];
    for (slot, bytes) in found.iter_mut().zip(targets) {
        *slot = Some(CopyTarget::decode(bytes)?);
    }
    let (segments, count) = segments(list.segments)?;
    let unit_of = |index: u16| {
        let target = found.get(usize::from(index)).copied().flatten();
        let target = target.ok_or(aborted(
            SenseCode::COPY_TARGET_NOT_REACHABLE,
            DESTINATION_AT,
        ))?;
        unit(nexus, &target)
    };
    let mut moves = Vec::with_capacity(count);
    for segment in segments.iter().flatten() {
        let (source, destination) = (unit_of(segment.source)?, unit_of(segment.destination)?);
        let one = movement(segment, source, destination)?;
        may_copy(nexus, &one)?;
        moves.push(one);
    }
    Ok(moves)
}

fn segments(list: &[u8]) -> Result<([Option<Segment>; SEGMENTS_MAX], usize), Sense> {
    let mut segments = [None; SEGMENTS_MAX];
    let (mut rest, mut count) = (list, 0);
    while !rest.is_empty() {
        let (segment, after) = split_segment(rest)?;
        let slot = segments.get_mut(count);
        *slot.ok_or(Sense::illegal(SenseCode::TOO_MANY_SEGMENTS))? = Some(segment);
        (rest, count) = (after, count + 1);
    }
    Ok((segments, count))
}

/// The unit that a descriptor names: this one, or another of this core.
fn unit(nexus: &Rc<Nexus>, target: &CopyTarget<'_>) -> Result<Rc<LogicalUnit>, Sense> {
    let is_it = |unit: &LogicalUnit| {
        identity::is_named_by(unit.info(), target.designator_type, target.designator)
    };
    let own = Some(nexus.unit()).filter(|unit| is_it(unit)).cloned();
    let found = own.or_else(|| nexus.unit().units()?.find(is_it));
    let unit = found.ok_or(aborted(
        SenseCode::COPY_TARGET_NOT_REACHABLE,
        DESTINATION_AT,
    ))?;
    let is_right = target.peripheral_type == 0 && target.block_bytes == unit.info().block_bytes;
    if is_right {
        Ok(unit)
    } else {
        Err(Sense::illegal(SenseCode::INVALID_PARAMETER))
    }
}

fn movement(
    segment: &Segment,
    source: Rc<LogicalUnit>,
    destination: Rc<LogicalUnit>,
) -> Result<Move, Sense> {
    let source_bytes = u64::from(source.info().block_bytes);
    let destination_bytes = u64::from(destination.info().block_bytes);
    let len_bytes = match segment.amount {
        Amount::Blocks {
            block_count,
            of_destination,
        } => {
            let block_bytes = if of_destination {
                destination_bytes
            } else {
                source_bytes
            };
            u64::from(block_count) * block_bytes
        }
        // Parts of blocks are not copied.
        Amount::Bytes {
            source_offset,
            destination_offset,
            ..
        } if source_offset != 0 || destination_offset != 0 => {
            return Err(Sense::illegal(SenseCode::INVALID_PARAMETER));
        }
        Amount::Bytes { len_bytes, .. } => u64::from(len_bytes),
    };
    let is_whole = |block_bytes| len_bytes.is_multiple_of(block_bytes);
    if !is_whole(source_bytes)
        || !is_whole(destination_bytes)
        || len_bytes > u64::from(SEGMENT_BYTES_MAX)
    {
        return Err(Sense::illegal(SenseCode::INVALID_PARAMETER));
    }
    let source_at = position(&source, segment.source_lba, len_bytes)?;
    let destination_at = position(&destination, segment.destination_lba, len_bytes)?;
    Ok(Move {
        source,
        destination,
        source_at,
        destination_at,
        len_bytes,
    })
}

/// Byte offset of a block, when all of the length from there on is inside the unit.
fn position(unit: &LogicalUnit, lba: u64, len_bytes: u64) -> Result<u64, Sense> {
    let start = lba.checked_mul(unit.info().block_bytes.into());
    let end = start.and_then(|start| start.checked_add(len_bytes));
    match (start, end) {
        (Some(start), Some(end)) if end <= unit.info().len_bytes() => Ok(start),
        _ => Err(aborted(SenseCode::NONE, AMOUNT_AT)),
    }
}

/// Whether the host of this nexus may read and write there, and the units are ready.
pub(super) fn may_copy(nexus: &Nexus, one: &Move) -> Result<(), Sense> {
    check_unit(nexus, &one.source, Access::Read)?;
    check_unit(nexus, &one.destination, Access::Write)?;
    if one.destination.mode.get().is_write_protected {
        return Err(Sense::new(
            SenseKey::DATA_PROTECT,
            SenseCode::SOFTWARE_WRITE_PROTECTED,
        ));
    }
    Ok(())
}

/// At another unit the host takes part as the same initiator port, for as long as this takes.
fn check_unit(nexus: &Nexus, unit: &Rc<LogicalUnit>, access: Access) -> Result<(), Sense> {
    let failed = aborted(SenseCode::THIRD_PARTY_FAILURE, 0);
    if !unit.is_ready() {
        return Err(failed);
    }
    let own = Rc::ptr_eq(unit, nexus.unit());
    let allowed = if own {
        unit.reservations().check(nexus.participant(), access)
    } else {
        let identity = Identity::Scsi {
            initiator_port: nexus.names().initiator_port.clone(),
            target_port: nexus.names().target_port,
        };
        let nobody = Weak::<Nexus>::new();
        let guest = unit.reservations().attach(identity, nobody);
        unit.reservations().check(&guest, access)
    };
    allowed.map_err(|_| failed)
}

/// COPY ABORTED, pointing into the segment descriptor.
fn aborted(code: SenseCode, byte: u16) -> Sense {
    let mut sense = Sense::new(SenseKey::COPY_ABORTED, code);
    let in_segment = true;
    sense.specific = KeySpecific::Segment { in_segment, byte };
    sense
}
