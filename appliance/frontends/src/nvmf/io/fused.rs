//! Fused Compare and Write: one request, two completions.
//!
//! Source: base 2.0 section 3.4.2 (fused operations); NVM command set 1.0 section 2.1.3.

use reactor::buf::Buf;
use volume::{Command, ErrorKind, Request, Volume};
use wire::nvme::Status;

use super::IoCommand;
use crate::nvmf::controller::Controller;
use crate::nvmf::status::{self, Access};
use crate::reservation::Access as Reserved;

/// The statuses of the two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairStatus {
    /// Of the Compare.
    pub first: Status,
    /// Of the Write.
    pub second: Status,
}

impl PairStatus {
    /// Both halves failed alike.
    pub fn failed(status: Status) -> Self {
        Self {
            first: status,
            second: status,
        }
    }
}

/// Checks that the halves belong together: same blocks, in the right order.
pub fn check_pair(first: IoCommand, second: IoCommand) -> Result<(), Status> {
    match (first, second) {
        (
            IoCommand::Compare {
                lba, block_count, ..
            },
            IoCommand::Write {
                lba: write_lba,
                block_count: write_count,
                ..
            },
        ) if lba == write_lba && block_count == write_count => Ok(()),
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// Executes a checked pair whose data is here: what to compare with, and what to write.
pub async fn execute(
    write: IoCommand,
    (compare, data): (Buf, Buf),
    volume: &Volume,
    controller: &Controller,
) -> PairStatus {
    let IoCommand::Write { lba, fua, .. } = write else {
        return PairStatus::failed(Status::INTERNAL_ERROR);
    };
    if let Err(status) = controller.check(Reserved::Write) {
        return PairStatus {
            first: Status::ABORTED_FAILED_FUSED,
            second: status,
        };
    }
    let _inside = controller.fence.enter();
    let command = Command::CompareAndWrite {
        lba,
        compare,
        write: data,
    };
    match volume.execute(Request { command, fua }).await {
        Ok(_) => PairStatus {
            first: Status::SUCCESS,
            second: Status::SUCCESS,
        },
        Err(error) => failed(error.kind()),
    }
}

/// A failed compare fails the first half; the second is then aborted. Any other failure may have
/// come from the write, so it is reported there, and the first half says that its partner failed.
fn failed(kind: ErrorKind) -> PairStatus {
    match kind {
        ErrorKind::CompareMismatch | ErrorKind::Corrupt => PairStatus {
            first: status::of_kind(kind, Access::Reads),
            second: Status::ABORTED_FAILED_FUSED.with_dnr(),
        },
        _ => PairStatus {
            first: Status::ABORTED_FAILED_FUSED,
            second: status::of_kind(kind, Access::Writes),
        },
    }
}
