//! Dataset Management ranges.
//!
//! Source: NVM command set 1.0 section 3.2.3 (Dataset Management, range definition).

use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

use crate::Error;

/// Most ranges that one command can carry.
pub const MAX_RANGES: usize = 256;

wire_struct! {
    /// One 16-byte range.
    DsmRange[16] {
        0 attributes: U32, "Context attributes: hints that may be ignored.";
        4 block_count: U32, "Length in logical blocks, not 0-based; 0 is an empty range.";
        8 slba: U64, "First logical block.";
    }
}

/// Views `bytes` as the `count` ranges that the command announced.
///
/// Errors: `InvalidField` when `count` is 0 or above [`MAX_RANGES`], `Truncated` when the data is
/// shorter than `count` ranges. Bytes after the last range are ignored.
pub fn decode_ranges(bytes: &[u8], count: usize) -> Result<&[DsmRange], Error> {
    if count == 0 || count > MAX_RANGES {
        return Err(Error::InvalidField {
            what: "DsmRange",
            field: "count",
            value: count as u64,
        });
    }
    match <[DsmRange]>::ref_from_prefix_with_elems(bytes, count) {
        Ok((ranges, _rest)) => Ok(ranges),
        Err(_) => Err(Error::Truncated {
            what: "DsmRange",
            need_bytes: count * DsmRange::SIZE,
            have_bytes: bytes.len(),
        }),
    }
}
