//! EXTENDED COPY (LID1), block device to block device, and RECEIVE COPY RESULTS.
//!
//! `checked` reads the parameter list: what is wrong with its form is refused before a byte is
//! copied. Each segment is then resolved and copied in order, as `moved` does, so that the number
//! of the segment that failed says which ones are done. Either end of a segment is a `place`: a unit
//! of this core, where `piece` reads and writes it, or of another core, which `far` asks to do the
//! same. `results` remembers how copies ended.
//! Source: SPC-4 sections 5.17.4, 6.4, 6.19 to 6.21.

mod checked;
mod far;
mod moved;
mod piece;
mod place;
mod results;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use reactor::buf::Buf;
use reactor::sync::Guard;
use wire::scsi::data::copy::HEADER_BYTES;
use wire::scsi::sense::KeySpecific;
use wire::scsi::{Sense, SenseCode, SenseKey, Status};

use self::checked::Copy;
pub(super) use self::far::{Ask, serve};
pub(super) use self::results::{CopyRecords, plan as plan_results, report};
use self::results::{NotBegun, Record};
use super::execute::IsAborted;
use super::plan::from_host;
use super::{Nexus, Outcome, Transfer};

/// Target descriptors in a list.
const TARGETS_MAX: usize = 8;
/// Segment descriptors in a list.
const SEGMENTS_MAX: usize = 64;
/// Bytes of all descriptors.
const DESCRIPTORS_BYTES_MAX: usize = 2560;
/// Bytes that one segment copies: 65,535 blocks of the largest size.
const SEGMENT_BYTES_MAX: u32 = 65_535 * 4096;
/// Copies at work on one core at a time; more of them wait for their turn.
pub(super) const COPIES_MAX: usize = 4;
/// How often a copy that waits for its turn looks whether it is aborted.
const TURN_PAUSE: Duration = Duration::from_millis(5);

pub(super) fn plan(list_bytes: u32) -> Result<Transfer, Sense> {
    let longest = HEADER_BYTES + DESCRIPTORS_BYTES_MAX;
    if list_bytes as usize > longest {
        return Err(Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH));
    }
    Ok(from_host(list_bytes))
}

/// Ends before the next piece once it is aborted.
///
/// Cancel: the same, but a piece on its way to the volume may still take effect.
pub(super) async fn execute(
    nexus: &Rc<Nexus>,
    data: Option<Buf>,
    is_aborted: IsAborted<'_>,
) -> Outcome {
    let Some(list) = data else {
        return Outcome::good();
    };
    let copy = match checked::read(nexus, &list) {
        Ok(copy) => copy,
        Err(sense) => return sense.into(),
    };
    // The list is not needed any more: nobody waits for memory while holding some.
    drop(list);
    let record = match nexus.copies.begin(copy.header) {
        Ok(record) => record,
        Err(NotBegun::InUse) => return Sense::illegal(SenseCode::OPERATION_IN_PROGRESS).into(),
        Err(NotBegun::TooMany) => return Outcome::status(Status::BUSY),
    };
    let Ok(_turn) = turn(nexus, is_aborted).await else {
        return Outcome::status(Status::TASK_ABORTED);
    };
    let done = run(nexus, &copy, &record, is_aborted).await;
    if is_aborted() {
        return Outcome::status(Status::TASK_ABORTED);
    }
    record.end(done.err());
    done.map_or_else(Outcome::from, |()| Outcome::good())
}

/// Waits for one of the places that the copies of a core share. None: the unit stands alone.
///
/// Errors: it was aborted first.
async fn turn(nexus: &Nexus, is_aborted: IsAborted<'_>) -> Result<Option<Guard>, ()> {
    let Some(units) = nexus.unit().units() else {
        return Ok(None);
    };
    let mut turn = std::pin::pin!(units.copies.acquire(1));
    loop {
        match reactor::time::timeout(TURN_PAUSE, turn.as_mut()).await {
            Ok(guard) => return Ok(Some(guard)),
            Err(_) if is_aborted() => return Err(()),
            Err(_) => {}
        }
    }
}

/// All segments in order, up to the first that fails.
async fn run(
    nexus: &Rc<Nexus>,
    copy: &Copy,
    record: &Record<'_>,
    is_aborted: IsAborted<'_>,
) -> Result<(), Sense> {
    for (number, segment) in copy.segments.iter().enumerate() {
        let of_segment = |sense: Sense| Sense {
            command_specific: Some(number as u64),
            ..sense
        };
        let one = checked::movement(segment, &copy.targets).map_err(of_segment)?;
        let copied = moved::copy(nexus, &one, record, is_aborted).await;
        copied.map_err(of_segment)?;
        record.segment_done();
    }
    Ok(())
}

/// COPY ABORTED.
const fn aborted(code: SenseCode) -> Sense {
    Sense::new(SenseKey::COPY_ABORTED, code)
}

/// COPY ABORTED, pointing to a byte of the segment descriptor.
const fn aborted_at(code: SenseCode, byte: u16) -> Sense {
    let mut sense = aborted(code);
    sense.specific = KeySpecific::Segment {
        in_segment: true,
        byte,
    };
    sense
}
