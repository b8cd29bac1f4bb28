//! CRC32C digests.
//!
//! Source: NVMe/TCP 1.0 section 3.5 (header and data digest): CRC32C over the header without the
//! digest, or over the data without padding; sent little-endian.

use super::PduError;
use crate::Error;
pub use crate::crc::{Crc32c, DIGEST_BYTES, crc32c};

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
