//! What a written block says of itself: volume, address, version, checksum.
//!
//! Layout, little-endian: volume UUID 16, LBA u64, version u64, CRC32C u32 of the whole block with
//! this field zero, 4 bytes zero, then words that follow from version and place. So a block that is
//! torn, misplaced, of another volume or invented is told apart from every block ever written.

use std::ops::Range;

/// What a block holds, as far as it can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// All zeros: never written, zeroed or deallocated.
    Zeros,
    /// What the request of this number wrote.
    Version(u64),
}

/// Names the block a stamp is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// UUID of the volume.
    pub uuid: [u8; 16],
    /// Logical block.
    pub lba: u64,
}

const HEADER_BYTES: usize = 40;
const CRC: Range<usize> = 32..36;

fn filler(version: u64, lba: u64) -> u64 {
    (version.rotate_left(32) ^ lba).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

/// Fills one logical block with the stamp of `version` (not 0).
pub fn write(block: &mut [u8], place: Place, version: u64) {
    let word = filler(version, place.lba);
    block[..16].copy_from_slice(&place.uuid);
    block[16..24].copy_from_slice(&place.lba.to_le_bytes());
    block[24..32].copy_from_slice(&version.to_le_bytes());
    block[32..HEADER_BYTES].fill(0);
    for (index, chunk) in block[HEADER_BYTES..].chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&word.wrapping_add(index as u64).to_le_bytes());
    }
    let crc = store::crc32c(block);
    block[CRC].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a block's stamp. Errors: what is wrong with it, for people.
pub fn read(block: &[u8], place: Place) -> Result<Seen, String> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(Seen::Zeros);
    }
    let number = |range: Range<usize>| {
        block[range]
            .iter()
            .rev()
            .fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    let (lba, version, crc) = (number(16..24), number(24..32), number(CRC) as u32);
    let actual = store::crc32c_parts(&[&block[..CRC.start], &[0; 4], &block[CRC.end..]]);
    if actual != crc {
        return Err(format!(
            "torn or invented: lba {lba}, version {version}, wrong checksum"
        ));
    }
    if block[..16] != place.uuid {
        return Err(format!(
            "data of another volume: lba {lba}, version {version}"
        ));
    }
    if lba != place.lba {
        return Err(format!("data of lba {lba}, version {version}"));
    }
    Ok(Seen::Version(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        uuid: [7; 16],
        lba: 12,
    };

    fn stamped(block_bytes: usize) -> Vec<u8> {
        let mut block = vec![0xEE; block_bytes];
        write(&mut block, PLACE, 99);
        block
    }

    #[test]
    fn a_stamp_is_read_back() {
        for block_bytes in [512, 4096] {
            assert_eq!(read(&stamped(block_bytes), PLACE), Ok(Seen::Version(99)));
        }
        assert_eq!(read(&[0; 512], PLACE), Ok(Seen::Zeros));
    }

    #[test]
    fn every_single_bit_is_covered() {
        let good = stamped(512);
        for bit in 0..512 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, PLACE).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_block_is_found() {
        let mut new = stamped(4096);
        let mut old = vec![0; 4096];
        write(&mut old, PLACE, 98);
        new[512..1024].copy_from_slice(&old[512..1024]);
        assert!(read(&new, PLACE).is_err());
        let mut half_zero = stamped(4096);
        half_zero[..2048].fill(0);
        assert!(read(&half_zero, PLACE).is_err());
    }

    #[test]
    fn another_place_is_found() {
        let block = stamped(512);
        assert!(read(&block, Place { lba: 13, ..PLACE }).is_err());
        assert!(
            read(
                &block,
                Place {
                    uuid: [8; 16],
                    ..PLACE
                }
            )
            .is_err()
        );
    }
}
