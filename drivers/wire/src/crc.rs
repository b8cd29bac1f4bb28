//! CRC32C, the checksum of every digest here.
//!
//! Both transports send it least significant byte first.

use crc_fast::CrcAlgorithm;

/// Length of a digest in bytes.
pub const DIGEST_BYTES: usize = 4;

/// CRC32C (Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    low_half(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC32C of data that arrives in pieces. No allocation; 1 pass.
#[derive(Clone, Debug)]
pub struct Crc32c {
    state: crc_fast::Digest,
}

impl Crc32c {
    /// Nothing summed yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi),
        }
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// The CRC32C of everything so far; more may be added after.
    #[must_use]
    pub fn value(&self) -> u32 {
        low_half(self.state.finalize())
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// The library returns every width in 64 bits; a CRC-32 is in the lower half.
fn low_half(crc: u64) -> u32 {
    (crc & 0xffff_ffff) as u32
}
