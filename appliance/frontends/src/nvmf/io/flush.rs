//! Flush. Source: base 2.0 section 7.1; VWC says that the broadcast namespace id is fine.

use volume::{Command, Request};
use wire::nvme::{Sqe, Status};

use super::{IoCommand, IoContext, IoPlan, any_namespace};
use crate::nvmf::plan::Transfer;

pub(super) fn plan(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    any_namespace(sqe, context)?;
    Ok(IoPlan {
        command: IoCommand::Flush,
        transfer: Transfer::None,
    })
}

pub(super) fn request() -> Request {
    Request::new(Command::Flush)
}
