//! UNMAP.
//!
//! Source: SBC-3 section 5.28.

use std::rc::Rc;

use reactor::buf::Buf;
use volume::{BlockRange, Command, Ranges, Request, VolumeInfo};
use wire::scsi::Sense;
use wire::scsi::data::provisioning::{UnmapRange, unmap_ranges};

use super::rw::check_range;
use super::status::{self, Access};
use super::{Nexus, Outcome};

/// Where the descriptor count is: UNMAP BLOCK DESCRIPTOR DATA LENGTH.
const LENGTH_AT: u16 = 2;

/// All ranges are checked before the first takes effect.
pub(super) async fn execute(nexus: &Rc<Nexus>, data: Option<Buf>) -> Outcome {
    let Some(list) = data else {
        return Outcome::good();
    };
    let unit = nexus.unit();
    let mut checked = [UnmapRange {
        lba: 0,
        block_count: 0,
    }; Ranges::MAX];
    let count = match check(unit.info(), &list, &mut checked) {
        Ok(count) => count,
        Err(sense) => return sense.into(),
    };
    // The list is not needed any more: nobody waits for memory while holding some.
    drop(list);
    let storage = reactor::buf::alloc(Ranges::STORAGE_BYTES).await;
    let mut ranges = Ranges::new(storage);
    for range in &checked[..count] {
        let (lba, block_count) = (range.lba, range.block_count);
        if !ranges.push(BlockRange { lba, block_count }) {
            return Outcome::internal();
        }
    }
    let request = Request {
        command: Command::Deallocate { ranges },
        fua: unit.mode.get().write_through,
    };
    match unit.volume().execute(request).await {
        Ok(_) => Outcome::good(),
        Err(error) => status::of_error(&error, Access::Writes).into(),
    }
}

/// Copies the ranges that are not empty to `checked`; returns how many.
fn check(
    info: &VolumeInfo,
    list: &[u8],
    checked: &mut [UnmapRange; Ranges::MAX],
) -> Result<usize, Sense> {
    let mut count = 0;
    for (index, range) in unmap_ranges(list)?.enumerate() {
        if index >= checked.len() {
            return Err(Sense::invalid_parameter(LENGTH_AT, None));
        }
        check_range(info, range.lba, range.block_count.into())?;
        if range.block_count > 0 {
            checked[count] = range;
            count += 1;
        }
    }
    Ok(count)
}
