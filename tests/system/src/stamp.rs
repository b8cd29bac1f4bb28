//! What the checking client writes: every 512-byte sector says whose it is.
//!
//! ```text
//! 0 magic | 8 volume | 16 sector | 24 version | 32 filler from these | 508 CRC32C of 0..508
//! ```

use wire::tcp::digest::crc32c;

use crate::Random;

/// Bytes of one sector, the smallest unit a device may tear.
pub const SECTOR_BYTES: usize = 512;
const MAGIC: u64 = 0x6265_6470_6c61_7465;
const CRC_AT: usize = SECTOR_BYTES - 4;

/// What a logical block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeroes: never written, or zeroed, or deallocated.
    Zero,
    /// The write of this version.
    Version(u64),
}

/// Writes the stamp of each sector of `block`, whose first sector is `sector` of the volume.
pub fn fill(block: &mut [u8], volume: u64, sector: u64, version: u64) {
    for (index, bytes) in block.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        fill_sector(bytes, volume, sector + index as u64, version);
    }
}

fn fill_sector(bytes: &mut [u8], volume: u64, sector: u64, version: u64) {
    for (at, word) in [MAGIC, volume, sector, version].into_iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    Random::new(version ^ sector.rotate_left(32)).fill(&mut bytes[32..CRC_AT]);
    let crc = crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

/// Says what a logical block holds, or why it cannot be anything that was ever written there.
pub fn inspect(block: &[u8], volume: u64, sector: u64) -> Result<Content, String> {
    let mut seen = None;
    for (index, bytes) in block.chunks_exact(SECTOR_BYTES).enumerate() {
        let sector = sector + index as u64;
        let content = inspect_sector(bytes, volume, sector)?;
        match seen {
            None => seen = Some(content),
            Some(first) if first == content => {}
            Some(first) => {
                return Err(format!(
                    "torn: {first:?}, then {content:?} from sector {sector} on"
                ));
            }
        }
    }
    seen.ok_or_else(|| "an empty block".to_owned())
}

fn inspect_sector(bytes: &[u8], volume: u64, sector: u64) -> Result<Content, String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Content::Zero);
    }
    let word = |at: usize| {
        let bytes: [u8; 8] = bytes[at..at + 8].try_into().expect("8 bytes");
        u64::from_le_bytes(bytes)
    };
    let stored: [u8; 4] = bytes[CRC_AT..].try_into().expect("4 bytes");
    if crc32c(&bytes[..CRC_AT]) != u32::from_le_bytes(stored) || word(0) != MAGIC {
        return Err(format!(
            "sector {sector} is no stamp: {:02x?}...",
            &bytes[..32]
        ));
    }
    if (word(8), word(16)) != (volume, sector) {
        return Err(format!(
            "sector {sector} of volume {volume} holds sector {} of volume {}, version {}",
            word(16),
            word(8),
            word(24)
        ));
    }
    Ok(Content::Version(word(24)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_what_was_written() {
        let mut block = [0u8; 4096];
        assert_eq!(inspect(&block, 1, 80), Ok(Content::Zero));
        fill(&mut block, 1, 80, 7);
        assert_eq!(inspect(&block, 1, 80), Ok(Content::Version(7)));
    }

    #[test]
    fn damage_misplacement_and_tearing_are_found() {
        let mut block = [0u8; 4096];
        fill(&mut block, 1, 80, 7);
        assert!(
            inspect(&block, 2, 80)
                .unwrap_err()
                .contains("holds sector 80 of volume 1")
        );
        assert!(
            inspect(&block, 1, 88)
                .unwrap_err()
                .contains("holds sector 80")
        );
        let mut torn = block;
        fill(&mut torn[2048..], 1, 84, 8);
        assert!(inspect(&torn, 1, 80).unwrap_err().contains("torn"));
        torn[2048..].fill(0);
        assert!(inspect(&torn, 1, 80).unwrap_err().contains("torn"));
        block[700] ^= 1;
        assert!(inspect(&block, 1, 80).unwrap_err().contains("no stamp"));
    }
}
