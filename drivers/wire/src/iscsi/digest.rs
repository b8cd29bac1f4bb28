//! Digests of the header segments, and of the data with its padding.
//!
//! Source: RFC 7143 section 13.1 (CRC32C, and the order of its bytes) and 11.2.3.

use super::PduError;
use crate::crc::crc32c;
pub use crate::crc::{Crc32c, DIGEST_BYTES};

/// The padding that can follow data; what is sent is zero.
pub const PADDING: [u8; 3] = [0; 3];

/// The digest of `header` (BHS and AHS) as sent.
#[must_use]
pub fn header_digest(header: &[u8]) -> [u8; DIGEST_BYTES] {
    crc32c(header).to_le_bytes()
}

/// The digest of `data` with zero padding as sent.
#[must_use]
pub fn data_digest(data: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut crc = Crc32c::new();
    crc.update(data);
    let padding = data.len().next_multiple_of(4) - data.len();
    crc.update(PADDING.get(..padding).unwrap_or_default());
    crc.value().to_le_bytes()
}

/// Compares a received header digest with the header segments.
///
/// Errors: `HeaderDigest`: nothing of the PDU can be trusted, close the connection.
pub fn check_header(header: &[u8], received: [u8; DIGEST_BYTES]) -> Result<(), PduError> {
    let (computed, received) = (crc32c(header), u32::from_le_bytes(received));
    if computed == received {
        return Ok(());
    }
    Err(PduError::HeaderDigest { received, computed })
}

/// Compares a received data digest with the CRC32C of the data and its padding as received.
///
/// Errors: `DataDigest`: the PDU is rejected, its task fails, the connection goes on.
pub fn check_data(computed: u32, received: [u8; DIGEST_BYTES]) -> Result<(), PduError> {
    let received = u32::from_le_bytes(received);
    if computed == received {
        return Ok(());
    }
    Err(PduError::DataDigest { received, computed })
}
