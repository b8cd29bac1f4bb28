//! Read. Source: NVM command set 1.0 section 3.2.4.

use volume::{Command, Request};
use wire::nvme::command::ReadWrite;
use wire::nvme::{Sqe, Status};

use super::{IoCommand, IoContext, IoPlan, check_range, namespace, transfer_bytes};
use crate::nvmf::plan::Length;

pub(super) fn plan(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    let info = namespace(sqe, context)?;
    let fields = ReadWrite::decode(sqe).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
    let (lba, block_count) = (fields.slba, fields.block_count());
    check_range(info, lba, u64::from(block_count))?;
    let len_bytes = transfer_bytes(info, context, block_count)?;
    let transfer = context.data_to_host(sqe, len_bytes, Length::Exact)?;
    Ok(IoPlan {
        command: IoCommand::Read {
            lba,
            block_count,
            fua: fields.fua,
        },
        transfer,
    })
}

pub(super) fn request(lba: u64, block_count: u32, fua: bool) -> Request {
    Request {
        command: Command::Read { lba, block_count },
        fua,
    }
}
