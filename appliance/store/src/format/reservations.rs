//! What a volume keeps of its reservations: a header and bytes that only the frontends understand.
//!
//! The volume's record in the root has the place and the checksum of all blocks.
//! Source: docs/format.md, "Reservations of a volume".

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Block;
use crate::types::BLOCK_BYTES;

/// First bytes of the first block.
pub const MAGIC: [u8; 8] = *b"BPRESV01";
/// Most blocks: one device write.
pub const BLOCKS_MAX: usize = 16;

/// The header, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    volume_uuid: [u8; 16],
    generation: U64,
    len_bytes: U32,
    reserved: [u8; 28],
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const _: () = assert!(HEADER_BYTES == 64);

/// Most bytes that can be kept.
pub const BYTES_MAX: usize = BLOCKS_MAX * BLOCK_BYTES - HEADER_BYTES;

/// Where a volume keeps them, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationsPointer {
    /// The cluster they have to themselves; they begin with its first block.
    pub cluster: u32,
    /// CRC of the blocks.
    pub crc: u32,
}

/// The blocks to write, padded with zeros. Panics when there are more than `BYTES_MAX` bytes.
pub fn encode(volume_uuid: [u8; 16], generation: u64, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() <= BYTES_MAX, "the caller checks the length");
    let header = RawHeader {
        magic: MAGIC,
        volume_uuid,
        generation: generation.into(),
        len_bytes: (bytes.len() as u32).into(),
        reserved: [0; 28],
    };
    let mut blocks = Vec::from(header.as_bytes());
    blocks.extend_from_slice(bytes);
    blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
    blocks
}

/// How many blocks there are, by the first one.
pub fn block_count(first: &Block, volume_uuid: [u8; 16]) -> Result<usize, &'static str> {
    let len = header(first, volume_uuid)?.len_bytes.get() as usize;
    if len > BYTES_MAX {
        return Err("length out of range");
    }
    Ok((HEADER_BYTES + len).div_ceil(BLOCK_BYTES))
}

/// Checks all blocks against the checksum that the volume's record has; gives the bytes kept.
pub fn decode(blocks: &[u8], volume_uuid: [u8; 16], crc: u32) -> Result<Vec<u8>, &'static str> {
    if crate::checksum::crc32c(blocks) != crc {
        return Err("checksum mismatch");
    }
    let first = blocks.first_chunk().ok_or("too short")?;
    let len = header(first, volume_uuid)?.len_bytes.get() as usize;
    let (_, rest) = blocks.split_at(HEADER_BYTES);
    let bytes = rest.get(..len).ok_or("too short")?;
    Ok(bytes.to_vec())
}

fn header(first: &Block, volume_uuid: [u8; 16]) -> Result<&RawHeader, &'static str> {
    let (header, _) = RawHeader::ref_from_prefix(&first[..]).map_err(|_| "too short")?;
    if header.magic != MAGIC || header.reserved != [0; 28] {
        return Err("not a volume's reservations");
    }
    if header.volume_uuid != volume_uuid {
        return Err("another volume's are in their place");
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] = *b"0123456789abcdef";

    /// Written down from docs/format.md, not from the encoder.
    #[test]
    fn the_bytes_are_as_documented() {
        let blocks = encode(UUID, 0x1122, &[0xaa; 3]);
        let mut expected = vec![0; BLOCK_BYTES];
        expected[..8].copy_from_slice(b"BPRESV01");
        expected[8..24].copy_from_slice(&UUID);
        expected[24..26].copy_from_slice(&[0x22, 0x11]);
        expected[32] = 3;
        expected[64..67].copy_from_slice(&[0xaa; 3]);
        assert_eq!(blocks, expected);
    }

    #[test]
    fn every_length_comes_back_and_every_flipped_bit_is_found() {
        for len in [0, 1, BLOCK_BYTES - 64, BLOCK_BYTES - 63, BYTES_MAX] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let blocks = encode(UUID, 7, &bytes);
            let first = blocks.first_chunk().expect("a block at least");
            assert_eq!(block_count(first, UUID), Ok(blocks.len() / BLOCK_BYTES));
            let crc = crate::checksum::crc32c(&blocks);
            assert_eq!(decode(&blocks, UUID, crc), Ok(bytes));
            assert!(decode(&blocks, UUID, crc ^ 1).is_err());
        }
        let blocks = encode(UUID, 7, b"keys");
        let crc = crate::checksum::crc32c(&blocks);
        for bit in 0..128 * 8 {
            let mut damaged = blocks.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, UUID, crc).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        let blocks = encode(UUID, 7, b"keys");
        let crc = crate::checksum::crc32c(&blocks);
        let refused = decode(&blocks, [0; 16], crc);
        assert_eq!(refused, Err("another volume's are in their place"));
        let mut long = blocks;
        long[35] = 1;
        let first = long.first_chunk().expect("a block");
        assert_eq!(block_count(first, UUID), Err("length out of range"));
    }
}
