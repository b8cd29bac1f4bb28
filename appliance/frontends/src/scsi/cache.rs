//! SYNCHRONIZE CACHE and PRE-FETCH.
//!
//! Source: SBC-3 sections 5.24, 5.25, 5.9, 5.10.

use std::rc::Rc;

use volume::{Command, Request, VolumeInfo};
use wire::scsi::Sense;
use wire::scsi::cdb::Blocks;

use super::rw::check_range;
use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer};

/// Checks the range; 0 blocks means up to the end. There is no limit: no data moves.
pub(super) fn plan(info: &VolumeInfo, blocks: &Blocks) -> Result<Transfer, Sense> {
    check_range(info, blocks.lba, blocks.block_count.into())?;
    Ok(Transfer::None)
}

/// Flushes the whole device: less cannot be flushed. IMMED only allows an early status; a host
/// that gets it when the data is safe loses nothing.
pub(super) async fn synchronize(nexus: &Rc<Nexus>) -> Outcome {
    match nexus
        .unit()
        .volume()
        .execute(Request::new(Command::Flush))
        .await
    {
        Ok(_) => Outcome::good(),
        Err(error) => status::of_error(&error, Access::Writes).into(),
    }
}
