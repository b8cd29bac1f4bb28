//! GET LBA STATUS.
//!
//! Source: SBC-3 section 5.6.

use std::rc::Rc;

use volume::{VolumeError, VolumeInfo};
use wire::scsi::data::provisioning::StatusRange;
use wire::scsi::{Sense, Writer};

use super::execute::PARAMETER_BYTES;
use super::plan::to_host;
use super::rw::check_range;
use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer};

/// Looks into the volume in one command: bounds its time.
const LOOKS_MAX: usize = 1024;

pub(super) fn plan(info: &VolumeInfo, lba: u64, allocation_bytes: u32) -> Result<Transfer, Sense> {
    check_range(info, lba, 1)?;
    Ok(to_host(allocation_bytes))
}

pub(super) async fn execute(nexus: &Rc<Nexus>, lba: u64, transfer: Transfer) -> Outcome {
    let Transfer::ToHost { len_bytes } = transfer else {
        return Outcome::good();
    };
    let room = (len_bytes as usize).min(PARAMETER_BYTES);
    let ranges = room.saturating_sub(StatusRange::HEADER_BYTES) / StatusRange::SIZE;
    let mut buf = reactor::buf::alloc(PARAMETER_BYTES).await;
    let mut out = Writer::new(buf.as_mut());
    StatusRange::begin(&mut out);
    // One descriptor at least: hosts must see that there is more than they have room for.
    if let Err(error) = write_ranges(nexus, lba, ranges.max(1), &mut out).await {
        return status::of_error(&error, Access::Reads).into();
    }
    StatusRange::end(&mut out);
    let written = out.written().min(len_bytes as usize);
    buf.truncate(written);
    Outcome::with_data(buf)
}

/// Writes at most `limit` ranges; neighbours that are alike become one.
async fn write_ranges(
    nexus: &Rc<Nexus>,
    lba: u64,
    limit: usize,
    out: &mut Writer<'_>,
) -> Result<(), VolumeError> {
    let unit = nexus.unit();
    let (mut next, mut written) = (lba, 0);
    let mut open: Option<StatusRange> = None;
    for _ in 0..LOOKS_MAX {
        if next >= unit.info().block_count {
            break;
        }
        let found = unit.volume().block_status(next).await?;
        let block_count = u32::try_from(found.block_count).unwrap_or(u32::MAX);
        let range = StatusRange {
            lba: next,
            block_count,
            is_deallocated: !found.is_mapped,
        };
        next += u64::from(block_count.max(1));
        match open.and_then(|open| joined(open, range)) {
            Some(longer) => open = Some(longer),
            None => {
                if let Some(done) = open.replace(range) {
                    done.write(out);
                    written += 1;
                }
            }
        }
        if written == limit {
            return Ok(());
        }
    }
    if let Some(last) = open {
        last.write(out);
    }
    Ok(())
}

/// Both as one, when they are alike and their length can be said.
fn joined(first: StatusRange, second: StatusRange) -> Option<StatusRange> {
    let block_count = first.block_count.checked_add(second.block_count)?;
    (first.is_deallocated == second.is_deallocated).then_some(StatusRange {
        block_count,
        ..first
    })
}
