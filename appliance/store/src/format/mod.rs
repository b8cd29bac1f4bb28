//! Bytes on the disk and what they mean. No I/O here; the tables are in docs/format.md.
//!
//! Every structure comes in two types: the bytes (`Raw…`, a `repr(C)` struct of little-endian
//! fields) and the meaning, which only exists once every rule was checked. Checks return what is
//! wrong as a short text, for the error that names the place.

pub mod alloc_page;
pub mod node;
pub mod reservations;
pub mod root;
pub mod superblock;

use crate::types::BLOCK_BYTES;

/// A block in memory.
pub type Block = [u8; BLOCK_BYTES];

/// The format version this program writes, and the highest it reads.
pub const FORMAT_VERSION: u16 = 3;
/// The lowest it reads: version 2 knew no reservations; version 1 had clusters of 256 KiB.
pub const OLDEST_VERSION: u16 = 2;

/// CRC of a block that carries it at `offset`, with that field taken as zero.
fn block_crc(block: &[u8], offset: usize) -> u32 {
    crate::checksum::crc32c_parts(&[&block[..offset], &[0; 4], &block[offset + 4..]])
}

/// Writes the CRC of a finished block into it.
fn seal(block: &mut [u8], offset: usize) -> u32 {
    let crc = block_crc(block, offset);
    block[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Reads a NUL-padded UTF-8 name. None when it is empty, not UTF-8, or has bytes behind a NUL.
fn decode_name(field: &[u8; 64]) -> Option<&str> {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    let padded = field[end..].iter().all(|&byte| byte == 0);
    let name = std::str::from_utf8(&field[..end]).ok()?;
    (padded && !name.is_empty()).then_some(name)
}

/// Writes a name of at most 64 bytes.
fn encode_name(name: &str) -> [u8; 64] {
    let mut field = [0; 64];
    field[..name.len()].copy_from_slice(name.as_bytes());
    field
}

/// Why a name cannot be stored, if so.
pub(crate) fn name_rule(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 64 {
        return Some("a name has 1 to 64 bytes");
    }
    name.contains('\0').then_some("a name has no NUL")
}

#[cfg(test)]
mod tests;
