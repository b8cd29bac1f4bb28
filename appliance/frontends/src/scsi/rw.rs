//! Write path 2/9 for SCSI hosts: READ and WRITE become requests. Next: `volume::request` (3).
//!
//! Source: SBC-3 sections 5.8 and 5.32 and their siblings.

use std::rc::Rc;

use reactor::buf::Buf;
use volume::{Command, MAX_REQUEST_BYTES, Request, VolumeInfo};
use wire::scsi::cdb::Blocks;
use wire::scsi::{Sense, SenseCode, Status};

use super::plan::{from_host, to_host};
use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer, limits, long};

/// Checks a range against the capacity; an empty one must be inside, too.
pub(super) fn check_range(info: &VolumeInfo, lba: u64, block_count: u64) -> Result<(), Sense> {
    match lba.checked_add(block_count) {
        Some(end) if end <= info.block_count => Ok(()),
        _ => {
            Err(Sense::illegal(SenseCode::LBA_OUT_OF_RANGE)
                .with_information(lba.max(info.block_count)))
        }
    }
}

/// Bytes of a transfer, checked against MAXIMUM TRANSFER LENGTH.
pub(super) fn transfer_bytes(info: &VolumeInfo, block_count: u32) -> Result<u32, Sense> {
    let len_bytes = u64::from(block_count) * u64::from(info.block_bytes);
    match u32::try_from(len_bytes) {
        Ok(len_bytes) if len_bytes <= limits::TRANSFER_BYTES => Ok(len_bytes),
        _ => Err(Sense::illegal(SenseCode::INVALID_FIELD_IN_CDB)),
    }
}

/// Checks a transfer of a range.
pub(super) fn range_bytes(info: &VolumeInfo, blocks: &Blocks) -> Result<u32, Sense> {
    check_range(info, blocks.lba, blocks.block_count.into())?;
    transfer_bytes(info, blocks.block_count)
}

pub(super) fn plan_read(info: &VolumeInfo, blocks: &Blocks) -> Result<Transfer, Sense> {
    range_bytes(info, blocks).map(to_host)
}

pub(super) fn plan_write(info: &VolumeInfo, blocks: &Blocks) -> Result<Transfer, Sense> {
    range_bytes(info, blocks).map(from_host)
}

/// One request of the volume: two would not be atomic.
pub(super) fn plan_or(info: &VolumeInfo, blocks: &Blocks) -> Result<Transfer, Sense> {
    let len_bytes = range_bytes(info, blocks)?;
    if len_bytes as usize > MAX_REQUEST_BYTES {
        return Err(Sense::invalid_cdb(10, None));
    }
    Ok(from_host(len_bytes))
}

/// Boundaries inside which a write would be atomic are not supported: MAXIMUM ATOMIC BOUNDARY SIZE
/// is 0.
pub(super) fn plan_atomic(
    info: &VolumeInfo,
    blocks: &Blocks,
    boundary_blocks: u16,
) -> Result<Transfer, Sense> {
    check_range(info, blocks.lba, blocks.block_count.into())?;
    if boundary_blocks != 0 {
        return Err(Sense::invalid_cdb(10, None));
    }
    if blocks.block_count > limits::atomic_blocks(info) {
        return Err(Sense::invalid_cdb(12, None));
    }
    range_bytes(info, blocks).map(from_host)
}

pub(super) async fn read(nexus: &Rc<Nexus>, blocks: Blocks) -> Outcome {
    let (lba, block_count, fua) = (blocks.lba, blocks.block_count, blocks.fua);
    let volume = nexus.unit().volume();
    if block_count == 0 {
        return Outcome::good();
    }
    let read = if long::is_long(volume, block_count) {
        Box::pin(long::read(volume, lba, block_count, fua)).await
    } else {
        let command = Command::Read { lba, block_count };
        volume.execute(Request { command, fua }).await
    };
    match read {
        Ok(Some(data)) => Outcome::with_data(data),
        Ok(None) => Outcome::status(Status::BUSY),
        Err(error) => status::of_error(&error, Access::Reads).into(),
    }
}

pub(super) async fn write(nexus: &Rc<Nexus>, blocks: Blocks, data: Option<Buf>) -> Outcome {
    let (lba, block_count) = (blocks.lba, blocks.block_count);
    if block_count == 0 {
        return Outcome::good();
    }
    let Some(data) = data else {
        return Outcome::internal();
    };
    let volume = nexus.unit().volume();
    let fua = blocks.fua || nexus.unit().mode.get().write_through;
    let write = |lba, data| Command::Write { lba, data };
    let written = if long::is_long(volume, block_count) {
        Box::pin(long::each_part(volume, lba, data, fua, write)).await
    } else {
        let command = write(lba, data);
        volume.execute(Request { command, fua }).await.map(|_| ())
    };
    match written {
        Ok(()) => Outcome::good(),
        Err(error) => status::of_error(&error, Access::Writes).into(),
    }
}

/// All or nothing, whatever happens.
pub(super) async fn write_atomic(nexus: &Rc<Nexus>, blocks: Blocks, data: Option<Buf>) -> Outcome {
    if blocks.block_count == 0 {
        return Outcome::good();
    }
    let Some(data) = data else {
        return Outcome::internal();
    };
    let command = Command::WriteAtomic {
        lba: blocks.lba,
        data,
    };
    let fua = blocks.fua || nexus.unit().mode.get().write_through;
    let volume = nexus.unit().volume();
    match volume.execute(Request { command, fua }).await {
        Ok(_) => Outcome::good(),
        Err(error) => status::of_error(&error, Access::Writes).into(),
    }
}

/// The bits of the data are set where they are not, atomically against every other request.
pub(super) async fn or(nexus: &Rc<Nexus>, blocks: Blocks, data: Option<Buf>) -> Outcome {
    if blocks.block_count == 0 {
        return Outcome::good();
    }
    let Some(data) = data else {
        return Outcome::internal();
    };
    // The volume changes the bytes in their place. Memory is not waited for while some is held.
    let Some(data) = own(data) else {
        return Outcome::status(Status::BUSY);
    };
    let command = Command::Or {
        lba: blocks.lba,
        data,
    };
    let fua = blocks.fua || nexus.unit().mode.get().write_through;
    let volume = nexus.unit().volume();
    match volume.execute(Request { command, fua }).await {
        Ok(_) => Outcome::good(),
        Err(error) => status::of_error(&error, Access::Writes).into(),
    }
}

/// The same bytes, shared with nobody.
fn own(data: Buf) -> Option<Buf> {
    if data.is_unique() {
        return Some(data);
    }
    let mut copy = reactor::buf::try_alloc(data.len())?;
    copy.as_mut().copy_from_slice(&data);
    Some(copy)
}
