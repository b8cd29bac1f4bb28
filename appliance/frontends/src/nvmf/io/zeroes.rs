//! Write Zeroes, with and without deallocation. Source: NVM command set 1.0 section 3.2.8.

use volume::{Command, Request};
use wire::nvme::command::WriteZeroes;
use wire::nvme::{Sqe, Status};

use super::{IoCommand, IoContext, IoPlan, check_range, namespace};
use crate::nvmf::plan::Transfer;

pub(super) fn plan(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    let info = namespace(sqe, context)?;
    let fields = WriteZeroes::decode(sqe).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
    let (lba, block_count) = (fields.slba, fields.block_count());
    check_range(info, lba, u64::from(block_count))?;
    let (deallocate, fua) = (fields.deallocate, fields.fua);
    let command = IoCommand::WriteZeroes {
        lba,
        block_count,
        deallocate,
        fua,
    };
    Ok(IoPlan {
        command,
        transfer: Transfer::None,
    })
}

pub(super) fn request(lba: u64, block_count: u32, deallocate: bool, fua: bool) -> Request {
    let block_count = u64::from(block_count);
    Request {
        command: Command::WriteZeroes {
            lba,
            block_count,
            deallocate,
        },
        fua,
    }
}
