//! READ CAPACITY data and REPORT LUNS data.
//!
//! Source: SBC-3 sections 5.15 and 5.16; SPC-4 section 6.33.

use crate::scsi::Writer;

/// Capacity of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of logical blocks, not 0.
    pub block_count: u64,
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// A physical block is 2^n logical ones.
    pub physical_exponent: u8,
}

impl Capacity {
    /// READ CAPACITY (10): the last block, all ones when its number needs more than 32 bits.
    pub fn write_short(&self, out: &mut Writer<'_>) {
        let last = self.block_count.saturating_sub(1);
        out.u32(u32::try_from(last).unwrap_or(u32::MAX));
        out.u32(self.block_bytes);
    }

    /// READ CAPACITY (16): thin (LBPME), unmapped blocks read as zeros (LBPRZ).
    pub fn write_long(&self, out: &mut Writer<'_>) {
        out.u64(self.block_count.saturating_sub(1));
        out.u32(self.block_bytes);
        out.bytes(&[0, self.physical_exponent & 0xf, 0xc0, 0]);
        out.zeros(16);
    }

    /// Reads READ CAPACITY (16) data, as a host does.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; 14] = bytes.first_chunk()?;
        let (last, rest) = head.split_first_chunk::<8>()?;
        let (block_bytes, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            block_count: u64::from_be_bytes(*last).checked_add(1)?,
            block_bytes: u32::from_be_bytes(*block_bytes),
            physical_exponent: rest.get(1)? & 0xf,
        })
    }
}

/// REPORT LUNS data: unit 0 alone, or none.
pub fn write_luns(has_unit: bool, out: &mut Writer<'_>) {
    out.u32(if has_unit { 8 } else { 0 });
    out.zeros(4);
    if has_unit {
        out.zeros(8);
    }
}
