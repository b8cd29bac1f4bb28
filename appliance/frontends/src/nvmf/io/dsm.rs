//! Dataset Management: deallocate. Source: NVM command set 1.0 section 3.2.3.

use reactor::buf::Buf;
use volume::{BlockRange, Command, Ranges, Request, VolumeInfo};
use wire::nvme::command::DatasetManagement;
use wire::nvme::dsm::{DsmRange, decode_ranges};
use wire::nvme::{Sqe, Status};

use super::{IoCommand, IoContext, IoPlan, check_range, namespace, need};
use crate::nvmf::plan::Length;

pub(super) fn plan(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    namespace(sqe, context)?;
    let fields = DatasetManagement::decode(sqe).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
    let range_count = u16::from(fields.nr_zero_based) + 1;
    let len_bytes = u64::from(range_count) * DsmRange::SIZE as u64;
    // Linux sends a buffer for 256 ranges whatever their number.
    let transfer = context.data_from_host(sqe, len_bytes, Length::AtLeast)?;
    let limit = u64::from(context.max_io_bytes);
    if transfer.from_host_bytes() > limit {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let command = match fields.deallocate {
        true => IoCommand::Deallocate { range_count },
        false => IoCommand::Hints,
    };
    Ok(IoPlan { command, transfer })
}

/// Checks every range before the first one takes effect.
pub(super) async fn request(
    data: Option<Buf>,
    range_count: usize,
    info: &VolumeInfo,
) -> Result<Request, Status> {
    let data = need(data)?;
    let wire_ranges = decode_ranges(&data, range_count)
        .map_err(|_| Status::SGL_DATA_LENGTH_INVALID.with_dnr())?;
    for range in wire_ranges {
        check_range(info, range.slba.get(), u64::from(range.block_count.get()))?;
    }
    let mut ranges = Ranges::new(reactor::buf::alloc(Ranges::STORAGE_BYTES).await);
    for range in wire_ranges {
        let (lba, block_count) = (range.slba.get(), range.block_count.get());
        let pushed = ranges.push(BlockRange { lba, block_count });
        debug_assert!(pushed, "a command has no more ranges than a request holds");
    }
    Ok(Request::new(Command::Deallocate { ranges }))
}
