//! UNMAP parameter list and GET LBA STATUS data.
//!
//! Source: SBC-3 sections 5.28 and 5.6.

use crate::scsi::{Sense, SenseCode, Writer};

/// One range of an UNMAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmapRange {
    /// First block.
    pub lba: u64,
    /// Number of blocks; 0 does nothing.
    pub block_count: u32,
}

const UNMAP_HEADER: usize = 8;
const UNMAP_RANGE: usize = 16;

/// The ranges of an UNMAP parameter list, in order.
///
/// Errors: PARAMETER LIST LENGTH ERROR when the list is shorter than its header, or than what the
/// header says.
pub fn unmap_ranges(list: &[u8]) -> Result<impl Iterator<Item = UnmapRange>, Sense> {
    let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
    let (header, rest) = list.split_first_chunk::<UNMAP_HEADER>().ok_or(short)?;
    let len_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let ranges = rest.get(..len_bytes).ok_or(short)?;
    if usize::from(u16::from_be_bytes([header[0], header[1]])) < len_bytes + UNMAP_HEADER - 2 {
        return Err(Sense::invalid_parameter(0, None));
    }
    // What is left over is shorter than a descriptor, and to be ignored.
    Ok(ranges.chunks_exact(UNMAP_RANGE).map(|range| {
        let (lba, rest) = range.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let (count, _) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        UnmapRange {
            lba: u64::from_be_bytes(*lba),
            block_count: u32::from_be_bytes(*count),
        }
    }))
}

/// Writes the parameter list, as a host does.
pub fn write_unmap(ranges: &[UnmapRange], out: &mut Writer<'_>) {
    let len_bytes = (ranges.len() * UNMAP_RANGE) as u16;
    out.u16(len_bytes + 6);
    out.u16(len_bytes);
    out.zeros(4);
    for range in ranges {
        out.u64(range.lba);
        out.u32(range.block_count);
        out.zeros(4);
    }
}

/// One range of GET LBA STATUS data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub block_count: u32,
    /// Deallocated: no space, reads as zeros.
    pub is_deallocated: bool,
}

impl StatusRange {
    /// Length of a descriptor.
    pub const SIZE: usize = 16;
    /// Length of the header before the descriptors.
    pub const HEADER_BYTES: usize = 8;

    /// Writes the descriptor.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.lba).u32(self.block_count);
        out.bytes(&[self.is_deallocated.into(), 0, 0, 0]);
    }

    /// Starts the data; [`StatusRange::end`] puts the length in.
    pub fn begin(out: &mut Writer<'_>) {
        out.zeros(Self::HEADER_BYTES);
    }

    /// Ends the data.
    pub fn end(out: &mut Writer<'_>) {
        out.patch_len32(0);
    }
}
