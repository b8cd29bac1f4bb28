//! VERIFY, WRITE AND VERIFY, COMPARE AND WRITE: what compares.
//!
//! Source: SBC-3 sections 5.29 to 5.31, 5.38 to 5.40, 5.2.

use std::rc::Rc;

use reactor::buf::Buf;
use volume::{Command, Request, VolumeError, VolumeInfo};
use wire::scsi::Sense;
use wire::scsi::cdb::{Blocks, ByteCheck, VerifyRange, WriteVerify};

use super::execute::IsAborted;
use super::plan::from_host;
use super::rw::{check_range, range_bytes};
use super::same::{Block, pieces};
use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer, limits, long};

/// BYTCHK in byte 1.
const RESERVED_CHECK: Sense = Sense::invalid_cdb(1, Some(2));

pub(super) fn plan_verify(info: &VolumeInfo, fields: &VerifyRange) -> Result<Transfer, Sense> {
    let blocks = &fields.blocks;
    check_range(info, blocks.lba, blocks.block_count.into())?;
    match fields.check {
        ByteCheck::Medium => Ok(Transfer::None),
        ByteCheck::Compare => range_bytes(info, blocks).map(from_host),
        ByteCheck::CompareOne if blocks.block_count == 0 => Ok(Transfer::None),
        ByteCheck::CompareOne => Ok(from_host(info.block_bytes)),
        ByteCheck::Reserved => Err(RESERVED_CHECK),
    }
}

pub(super) fn plan_write_verify(
    info: &VolumeInfo,
    fields: &WriteVerify,
) -> Result<Transfer, Sense> {
    let transfer = range_bytes(info, &fields.blocks).map(from_host)?;
    match fields.check {
        ByteCheck::Medium | ByteCheck::Compare => Ok(transfer),
        ByteCheck::CompareOne | ByteCheck::Reserved => Err(RESERVED_CHECK),
    }
}

pub(super) fn plan_compare_and_write(
    info: &VolumeInfo,
    blocks: &Blocks,
) -> Result<Transfer, Sense> {
    check_range(info, blocks.lba, blocks.block_count.into())?;
    if blocks.block_count > limits::COMPARE_AND_WRITE_BLOCKS {
        return Err(Sense::invalid_cdb(13, None));
    }
    Ok(from_host(2 * blocks.block_count * info.block_bytes))
}

pub(super) async fn verify(
    nexus: &Rc<Nexus>,
    fields: VerifyRange,
    data: Option<Buf>,
    is_aborted: IsAborted<'_>,
) -> Outcome {
    let (lba, count) = (fields.blocks.lba, u64::from(fields.blocks.block_count));
    let volume = nexus.unit().volume();
    let verified = match (fields.check, data) {
        _ if count == 0 => Ok(()),
        (ByteCheck::Medium, _) => check_medium(nexus, lba, count, is_aborted).await,
        (ByteCheck::CompareOne, Some(data)) => {
            let block = Block::new(&data);
            drop(data);
            block.compare(volume, (lba, count), is_aborted).await
        }
        (_, Some(data)) => {
            let compare = |lba, data| Command::Compare { lba, data };
            long::each_part(volume, lba, data, false, compare).await
        }
        (_, None) => return Outcome::internal(),
    };
    finish(nexus, lba, verified)
}

/// Reads the range and checks the checksums.
async fn check_medium(
    nexus: &Rc<Nexus>,
    lba: u64,
    count: u64,
    is_aborted: IsAborted<'_>,
) -> Result<(), VolumeError> {
    let unit = nexus.unit();
    let pieces = pieces(lba, count, unit.info().block_bytes.into());
    for piece in pieces.take_while(|_| !is_aborted()) {
        let command = Command::Verify {
            lba: piece.lba,
            block_count: piece.block_count,
        };
        unit.volume().execute(Request::new(command)).await?;
    }
    Ok(())
}

/// The write is on durable media before it is verified: else a cache would be.
pub(super) async fn write_verify(
    nexus: &Rc<Nexus>,
    fields: WriteVerify,
    data: Option<Buf>,
    is_aborted: IsAborted<'_>,
) -> Outcome {
    let (lba, count) = (fields.blocks.lba, u64::from(fields.blocks.block_count));
    if count == 0 {
        return Outcome::good();
    }
    let Some(data) = data else {
        return Outcome::internal();
    };
    let volume = nexus.unit().volume();
    let write = |lba, data| Command::Write { lba, data };
    let written = long::each_part(volume, lba, data.clone(), true, write).await;
    if let Err(error) = written {
        return status::of_error(&error, Access::Writes).into();
    }
    let verified = match fields.check {
        ByteCheck::Medium => check_medium(nexus, lba, count, is_aborted).await,
        _ => {
            let compare = |lba, data| Command::Compare { lba, data };
            long::each_part(volume, lba, data, false, compare).await
        }
    };
    finish(nexus, lba, verified)
}

/// One request of the volume, atomic against every other.
pub(super) async fn compare_and_write(
    nexus: &Rc<Nexus>,
    blocks: Blocks,
    data: Option<Buf>,
) -> Outcome {
    if blocks.block_count == 0 {
        return Outcome::good();
    }
    let Some(data) = data else {
        return Outcome::internal();
    };
    let half = data.len() / 2;
    let request = Request {
        command: Command::CompareAndWrite {
            lba: blocks.lba,
            compare: data.slice(..half),
            write: data.slice(half..),
        },
        fua: blocks.fua || nexus.unit().mode.get().write_through,
    };
    drop(data);
    let done = nexus.unit().volume().execute(request).await;
    match done {
        Err(error @ VolumeError::CompareMismatch { .. }) => finish(nexus, blocks.lba, Err(error)),
        Err(error) => status::of_error(&error, Access::Writes).into(),
        Ok(_) => Outcome::good(),
    }
}

/// A miscompare tells where: the offset in the data that was compared.
fn finish(nexus: &Nexus, lba: u64, done: Result<(), VolumeError>) -> Outcome {
    match done {
        Ok(()) => Outcome::good(),
        Err(error) => {
            let sense = status::of_error(&error, Access::Reads);
            let VolumeError::CompareMismatch { lba: found, byte } = error else {
                return sense.into();
            };
            let block_bytes = u64::from(nexus.unit().info().block_bytes);
            let offset = found.saturating_sub(lba) * block_bytes + u64::from(byte);
            sense.with_information(offset).into()
        }
    }
}
