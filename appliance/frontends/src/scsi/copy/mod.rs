//! EXTENDED COPY (LID1), block device to block device, and RECEIVE COPY RESULTS.
//!
//! Everything is checked before the first byte is copied: `checked` turns the parameter list into
//! moves between units of this core. Source: SPC-4 sections 5.17.4, 6.4, 6.19 to 6.21.

mod checked;
mod results;

use std::rc::Rc;

use reactor::buf::Buf;
use volume::{Command, Request, VolumeError};
use wire::scsi::data::copy::{CopyList, HEADER_BYTES, ListIdUsage};
use wire::scsi::{Sense, SenseCode, SenseKey};

use self::checked::Move;
use self::results::Progress;
pub(super) use self::results::{CopyRecords, plan as plan_results, report};
use super::plan::from_host;
use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer};

/// Target descriptors in a list.
const TARGETS_MAX: usize = 8;
/// Segment descriptors in a list.
const SEGMENTS_MAX: usize = 16;
/// Bytes of all descriptors.
const DESCRIPTORS_BYTES_MAX: usize = 1024;
/// Bytes that one segment copies: 65,535 blocks of the largest size.
const SEGMENT_BYTES_MAX: u32 = 65_535 * 4096;
/// Bytes that are copied at a time.
const PIECE_BYTES: u64 = 128 << 10;

pub(super) fn plan(list_bytes: u32) -> Result<Transfer, Sense> {
    let longest = HEADER_BYTES + DESCRIPTORS_BYTES_MAX;
    if list_bytes as usize > longest {
        return Err(Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH));
    }
    Ok(from_host(list_bytes))
}

pub(super) async fn execute(nexus: &Rc<Nexus>, data: Option<Buf>) -> Outcome {
    let Some(list) = data else {
        return Outcome::good();
    };
    let (header, moves) = match read(nexus, &list) {
        Ok(read) => read,
        Err(sense) => return sense.into(),
    };
    // The list is not needed any more: nobody waits for memory while holding some.
    drop(list);
    nexus.copies.begin(header);
    let done = run(nexus, &moves).await;
    nexus.copies.end(header.list_identifier, &done);
    match done.failure {
        None => Outcome::good(),
        Some(sense) => sense.into(),
    }
}

/// What is kept of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    list_identifier: u8,
    usage: ListIdUsage,
}

fn read(nexus: &Rc<Nexus>, list: &[u8]) -> Result<(Header, Vec<Move>), Sense> {
    let list = CopyList::decode(list)?;
    if list.usage == ListIdUsage::Reserved {
        return Err(Sense::invalid_parameter(1, Some(4)));
    }
    if list.inline_bytes != 0 {
        return Err(Sense::invalid_parameter(12, None));
    }
    let header = Header {
        list_identifier: list.list_identifier,
        usage: list.usage,
    };
    if nexus.copies.is_running(header.list_identifier) && header.usage != ListIdUsage::None {
        return Err(Sense::invalid_parameter(0, None));
    }
    Ok((header, checked::moves(nexus, &list)?))
}

async fn run(nexus: &Nexus, moves: &[Move]) -> Progress {
    let mut progress = Progress::default();
    for one in moves {
        if let Err(sense) = copy(nexus, one, &mut progress).await {
            progress.failure = Some(sense);
            break;
        }
        progress.segments += 1;
    }
    progress
}

/// Copies one segment, from the end when the destination begins inside the source.
async fn copy(nexus: &Nexus, one: &Move, progress: &mut Progress) -> Result<(), Sense> {
    let (Ok(_source), Ok(_destination)) = (one.source.gate.enter(), one.destination.gate.enter())
    else {
        return Err(Sense::new(
            SenseKey::COPY_ABORTED,
            SenseCode::COPY_TARGET_NOT_REACHABLE,
        ));
    };
    let pieces = one.len_bytes.div_ceil(PIECE_BYTES);
    let is_backward =
        Rc::ptr_eq(&one.source, &one.destination) && one.destination_at > one.source_at;
    for index in 0..pieces {
        let index = if is_backward {
            pieces - 1 - index
        } else {
            index
        };
        let offset = index * PIECE_BYTES;
        let len_bytes = PIECE_BYTES.min(one.len_bytes - offset);
        // A reservation or an end of the nexus may have come meanwhile.
        checked::may_copy(nexus, one)?;
        copy_piece(one, offset, len_bytes).await?;
        progress.bytes += len_bytes;
    }
    Ok(())
}

async fn copy_piece(one: &Move, offset: u64, len_bytes: u64) -> Result<(), Sense> {
    let source = u64::from(one.source.info().block_bytes);
    let destination = u64::from(one.destination.info().block_bytes);
    let read = Command::Read {
        lba: (one.source_at + offset) / source,
        block_count: (len_bytes / source) as u32,
    };
    let read = one.source.volume().execute(Request::new(read)).await;
    let data = read.map_err(|error| aborted(&error, Access::Reads))?;
    let data = data.ok_or(Sense::new(
        SenseKey::HARDWARE_ERROR,
        SenseCode::INTERNAL_FAILURE,
    ))?;
    let write = Request {
        command: Command::Write {
            lba: (one.destination_at + offset) / destination,
            data,
        },
        fua: one.destination.mode.get().write_through,
    };
    let written = one.destination.volume().execute(write).await;
    written.map_err(|error| aborted(&error, Access::Writes))?;
    Ok(())
}

/// COPY ABORTED with the code that the command itself would have had.
fn aborted(error: &VolumeError, access: Access) -> Sense {
    Sense {
        key: SenseKey::COPY_ABORTED,
        information: None,
        ..status::of_error(error, access)
    }
}
