//! CRC32C digests.
//!
//! Source: NVMe/TCP 1.0 section 3.5 (header and data digest): CRC32C over the header without the
//! digest, or over the data without padding; sent little-endian.

use crc_fast::CrcAlgorithm;

use super::PduError;
use crate::Error;

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

/// The digest of a header (the first HLEN bytes of the PDU) as sent.
#[must_use]
pub fn header_digest(header: &[u8]) -> [u8; DIGEST_BYTES] {
    crc32c(header).to_le_bytes()
}

/// Compares a received header digest with the header.
///
/// Errors: `HeaderDigest`: nothing of the PDU can be trusted, terminate the connection.
pub fn check_header(header: &[u8], received: [u8; DIGEST_BYTES]) -> Result<(), PduError> {
    let (computed, received) = (crc32c(header), u32::from_le_bytes(received));
    if computed == received {
        return Ok(());
    }
    Err(PduError::HeaderDigest { received, computed })
}

/// Compares a received data digest with the CRC32C of the data.
///
/// Errors: `DataDigest`: only the command failed (Transient Transport Error), the connection
/// goes on.
pub fn check_data(computed: u32, received: [u8; DIGEST_BYTES]) -> Result<(), Error> {
    let received = u32::from_le_bytes(received);
    if computed == received {
        return Ok(());
    }
    Err(Error::DataDigest { received, computed })
}

/// The library returns every width in 64 bits; a CRC-32 is in the lower half.
fn low_half(crc: u64) -> u32 {
    (crc & 0xffff_ffff) as u32
}
