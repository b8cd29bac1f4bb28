//! Copies one segment, piece by piece: read, then write.
//!
//! A piece is a request like any host's, so a copy has no memory of its own, and others of the
//! volume go on between its pieces. Each piece is allowed or refused by itself: a reservation, a
//! reset of the host's rights or a sanitize that comes meanwhile ends the copy.

use std::ops::Range;
use std::rc::Rc;

use reactor::buf::Buf;
use volume::{Command, ErrorKind, Request, VolumeError};
use wire::scsi::{Sense, SenseCode};

use super::checked::Move;
use super::results::Record;
use super::{aborted, aborted_at};
use crate::reservation::{Access as Wanted, Identity};
use crate::scsi::status::{self, Access};
use crate::scsi::{IsAborted, LogicalUnit, Nexus};

/// Bytes that are copied at a time: with what is around them in their blocks less than a request
/// of the volume carries.
const PIECE_BYTES: u64 = 512 << 10;
/// How often a part of a block is written anew when others change the rest of it meanwhile.
const PATCH_TRIES: usize = 16;

/// Copies a segment, from its end when it moves upwards inside one unit: no byte is overwritten
/// before it was read.
///
/// Errors: COPY ABORTED; what was copied stays, INFORMATION says how many blocks of the
/// destination are missing when there was any.
pub(super) async fn copy(
    nexus: &Nexus,
    one: &Move,
    record: &Record<'_>,
    is_aborted: IsAborted<'_>,
) -> Result<(), Sense> {
    let unreachable = aborted(SenseCode::COPY_TARGET_NOT_REACHABLE);
    let _source = one.source.gate.enter().map_err(|_| unreachable)?;
    let _destination = one.destination.gate.enter().map_err(|_| unreachable)?;
    let block_bytes = u64::from(one.destination.info().block_bytes);
    let mut left_bytes = one.len_bytes;
    for piece in ordered_pieces(one) {
        if is_aborted() {
            // Nobody hears of it: the task is over.
            return Err(aborted(SenseCode::NONE));
        }
        let copied = copy_piece(nexus, one, &piece).await;
        copied.map_err(|sense| match left_bytes {
            left if left == one.len_bytes => sense,
            left => sense.with_information(left / block_bytes),
        })?;
        let len_bytes = piece.end - piece.start;
        left_bytes -= len_bytes;
        record.bytes_done(len_bytes);
    }
    Ok(())
}

fn ordered_pieces(one: &Move) -> Vec<Range<u64>> {
    let block_bytes = u64::from(one.destination.info().block_bytes);
    let end = one.destination_at + one.len_bytes;
    let mut pieces: Vec<_> = pieces(one.destination_at..end, block_bytes).collect();
    if Rc::ptr_eq(&one.source, &one.destination) && one.destination_at > one.source_at {
        pieces.reverse();
    }
    pieces
}

/// Cuts a range of bytes into pieces that are whole blocks, but for a part of one at either end.
fn pieces(range: Range<u64>, block_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let mut next = range.start;
    std::iter::from_fn(move || {
        let start = next;
        let whole_end = range.end - range.end % block_bytes;
        next = if !start.is_multiple_of(block_bytes) {
            start.next_multiple_of(block_bytes).min(range.end)
        } else if start < whole_end {
            ((start / PIECE_BYTES + 1) * PIECE_BYTES).min(whole_end)
        } else {
            range.end
        };
        (start < range.end).then_some(start..next)
    })
}

/// Copies what belongs to `piece` of the destination.
async fn copy_piece(nexus: &Nexus, one: &Move, piece: &Range<u64>) -> Result<(), Sense> {
    check_unit(nexus, &one.source, Wanted::Read)?;
    check_unit(nexus, &one.destination, Wanted::Write)?;
    if one.destination.mode.get().is_write_protected {
        return Err(aborted(SenseCode::SOFTWARE_WRITE_PROTECTED));
    }
    let source_at = one.source_at + (piece.start - one.destination_at);
    let data = read(&one.source, source_at, piece.end - piece.start).await?;
    // Reading took time: a host that was shut out meanwhile writes nothing any more.
    check_unit(nexus, &one.destination, Wanted::Write)?;
    // Who preempts and aborts the host there waits for this piece.
    let there = nexus_at(nexus, &one.destination);
    let _copying = there.map(|there| there.copying_in());
    write(&one.destination, piece.start, data).await
}

/// The bytes, and no others of their blocks.
async fn read(unit: &LogicalUnit, at: u64, len_bytes: u64) -> Result<Buf, Sense> {
    let block_bytes = u64::from(unit.info().block_bytes);
    let lba = at / block_bytes;
    let block_count = ((at + len_bytes).div_ceil(block_bytes) - lba) as u32;
    let request = Request::new(Command::Read { lba, block_count });
    let read = unit.volume().execute(request).await;
    let data = read.map_err(|error| failed(&error, Access::Reads))?;
    let data = data.ok_or(aborted(SenseCode::INTERNAL_FAILURE))?;
    let start = (at % block_bytes) as usize;
    Ok(data.slice(start..start + len_bytes as usize))
}

async fn write(unit: &LogicalUnit, at: u64, data: Buf) -> Result<(), Sense> {
    let block_bytes = u64::from(unit.info().block_bytes);
    let (lba, len_bytes) = (at / block_bytes, data.len() as u64);
    if !at.is_multiple_of(block_bytes) || !len_bytes.is_multiple_of(block_bytes) {
        let part = data.to_vec();
        // Nobody waits for memory while holding some.
        drop(data);
        return patch(unit, lba, (at % block_bytes) as usize, &part).await;
    }
    let command = if is_zero(&data) {
        // A copy of a thin volume is as thin.
        Command::WriteZeroes {
            lba,
            block_count: len_bytes / block_bytes,
            deallocate: true,
        }
    } else {
        Command::Write { lba, data }
    };
    let fua = unit.mode.get().write_through;
    let written = unit.volume().execute(Request { command, fua }).await;
    written
        .map(|_| ())
        .map_err(|error| failed(&error, Access::Writes))
}

fn is_zero(data: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    data.chunks(512).all(is_zero)
}

/// Changes a part of one block, and nothing that others do to the rest of it meanwhile.
async fn patch(unit: &LogicalUnit, lba: u64, at: usize, part: &[u8]) -> Result<(), Sense> {
    let block_bytes = unit.info().block_bytes as usize;
    let fua = unit.mode.get().write_through;
    let mut tries = 1;
    loop {
        let before = read(unit, lba * block_bytes as u64, block_bytes as u64).await?;
        let before = before.to_vec();
        let mut both = reactor::buf::alloc(2 * block_bytes).await;
        let (compare, write) = both.as_mut().split_at_mut(block_bytes);
        compare.copy_from_slice(&before);
        write.copy_from_slice(&before);
        write[at..at + part.len()].copy_from_slice(part);
        let command = Command::CompareAndWrite {
            lba,
            compare: both.slice(..block_bytes),
            write: both.slice(block_bytes..),
        };
        drop(both);
        match unit.volume().execute(Request { command, fua }).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::CompareMismatch && tries < PATCH_TRIES => {
                tries += 1;
            }
            Err(error) => return Err(failed(&error, Access::Writes)),
        }
    }
}

/// COPY ABORTED with the code that the command itself would have had.
fn failed(error: &VolumeError, access: Access) -> Sense {
    aborted(status::of_error(error, access).code)
}

/// Whether the host of this nexus may do that there now, and the unit can.
fn check_unit(nexus: &Nexus, unit: &Rc<LogicalUnit>, wanted: Wanted) -> Result<(), Sense> {
    let at = if wanted == Wanted::Read { 4 } else { 6 };
    let is_active = unit.is_active(nexus.names().target_port);
    if unit.is_ready() && is_active && may_access(nexus, unit, wanted) {
        return Ok(());
    }
    Err(aborted_at(SenseCode::COPY_TARGET_NOT_REACHABLE, at))
}

/// The copy is made in the name of the host: at another unit as the nexus that it has there, and if
/// there is none, with the rights that such a one would have.
fn may_access(nexus: &Nexus, unit: &Rc<LogicalUnit>, wanted: Wanted) -> bool {
    if Rc::ptr_eq(unit, nexus.unit()) {
        return nexus.participant().check(wanted).is_ok();
    }
    if let Some(there) = nexus_at(nexus, unit) {
        return there.participant().check(wanted).is_ok();
    }
    let identity = Identity::Scsi {
        initiator_port: nexus.names().initiator_port.clone(),
        target_port: nexus.names().target_port,
    };
    let reservations = unit.reservations();
    let is_open = !reservations.is_locked() && !reservations.is_unit_reserved();
    is_open && reservations.state().allows(&identity, wanted)
}

/// The nexus that the host has at another unit by the same ports.
fn nexus_at(nexus: &Nexus, unit: &LogicalUnit) -> Option<Rc<Nexus>> {
    let names = nexus.names();
    unit.nexuses().into_iter().find(|other| {
        let other = other.names();
        other.initiator_port == names.initiator_port && other.target_port == names.target_port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once_and_cut_only_its_ends_inside_a_block() {
        let ranges = [
            0..0,
            0..1,
            0..512,
            3..5,
            511..513,
            1..1024,
            512..4 * PIECE_BYTES + 7,
        ];
        for range in ranges {
            let mut next = range.start;
            for piece in pieces(range.clone(), 512) {
                assert_eq!(piece.start, next);
                let len_bytes = piece.end - piece.start;
                assert!(len_bytes > 0 && len_bytes <= PIECE_BYTES);
                let is_whole = piece.start % 512 == 0 && piece.end % 512 == 0;
                assert!(
                    is_whole || piece.start / 512 == (piece.end - 1) / 512,
                    "{piece:?}"
                );
                next = piece.end;
            }
            assert_eq!(next, range.end);
        }
    }

    #[test]
    fn one_byte_is_enough_not_to_be_zero() {
        let mut data = vec![0; 1300];
        assert!(is_zero(&data));
        for at in [0, 511, 512, 1299] {
            data[at] = 1;
            assert!(!is_zero(&data), "byte {at}");
            data[at] = 0;
        }
    }
}
