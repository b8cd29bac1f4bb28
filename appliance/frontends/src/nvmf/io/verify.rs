//! Verify. Source: NVM command set 1.0 section 3.2.5.

use volume::{Command, Request};
use wire::nvme::command::ReadWrite;
use wire::nvme::{Sqe, Status};

use super::{IoCommand, IoContext, IoPlan, check_range, namespace, transfer_bytes};
use crate::nvmf::plan::Transfer;

pub(super) fn plan(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    let info = namespace(sqe, context)?;
    let fields = ReadWrite::decode(sqe).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
    let (lba, block_count) = (fields.slba, fields.block_count());
    check_range(info, lba, u64::from(block_count))?;
    // VSL announces the same limit as MDTS.
    transfer_bytes(info, context, block_count)?;
    Ok(IoPlan {
        command: IoCommand::Verify { lba, block_count },
        transfer: Transfer::None,
    })
}

pub(super) fn request(lba: u64, block_count: u32) -> Request {
    Request::new(Command::Verify { lba, block_count })
}
