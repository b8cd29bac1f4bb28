//! Data for every block of a span, once.

use super::{FILL_BYTES, Geometry};
use crate::access::Random;

/// Writes that cover a span, with bytes that differ from block to block.
#[derive(Debug)]
pub struct Fill {
    random: Random,
    block_bytes: u64,
    /// Blocks of a write.
    step: u64,
    lba: u64,
    end: u64,
}

impl Fill {
    /// Covers the first `span` bytes.
    pub fn new(geometry: &Geometry, span: u64) -> Self {
        let most = geometry.max_transfer_bytes.unwrap_or(FILL_BYTES);
        let block_bytes = u64::from(geometry.block_bytes);
        Self {
            random: Random::new(span, 0),
            block_bytes,
            step: (FILL_BYTES.min(most) / block_bytes).max(1),
            lba: 0,
            end: (span / block_bytes).min(geometry.blocks),
        }
    }

    /// The next write: its first block and its data.
    pub fn next(&mut self) -> Option<(u64, Vec<u8>)> {
        let count = self.step.min(self.end.saturating_sub(self.lba));
        if count == 0 {
            return None;
        }
        let lba = self.lba;
        self.lba += count;
        let words =
            (0..count * self.block_bytes / 8).flat_map(|_| self.random.next().to_le_bytes());
        Some((lba, words.collect()))
    }
}
