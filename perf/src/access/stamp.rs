//! What verified blocks hold: who wrote them, where, and which write it was.
//!
//! Every 512 bytes carry the stamp, so a misplaced or torn part of a block is seen as well.

use super::random::mix;

/// Bytes that carry one stamp: the smallest logical block.
const CHUNK_BYTES: usize = 512;
const WORD_BYTES: usize = 8;

/// The identity of one write of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// This run; no two runs share it.
    pub run: u64,
    /// The unit of the block size of the run.
    pub unit: u64,
    /// Which write of this queue it was, from 1.
    pub version: u32,
}

impl Stamp {
    /// Fills `data`, whole chunks of 512 bytes.
    pub fn fill(&self, data: &mut [u8]) {
        for (index, chunk) in data.chunks_exact_mut(CHUNK_BYTES).enumerate() {
            let head = self.head(index);
            let seed = head.iter().fold(0, |seed, word| mix(seed ^ word));
            for (place, to) in chunk.chunks_exact_mut(WORD_BYTES).enumerate() {
                to.copy_from_slice(&word(&head, seed, place).to_le_bytes());
            }
        }
    }

    /// Compares `data` with what [`Self::fill`] gives.
    ///
    /// Errors: the first wrong byte and a sentence about it.
    pub fn check(&self, data: &[u8]) -> Result<(), (usize, String)> {
        for (index, chunk) in data.chunks_exact(CHUNK_BYTES).enumerate() {
            let head = self.head(index);
            let seed = head.iter().fold(0, |seed, word| mix(seed ^ word));
            for (place, bytes) in chunk.chunks_exact(WORD_BYTES).enumerate() {
                let expected = word(&head, seed, place).to_le_bytes();
                if bytes != expected {
                    let offset = index * CHUNK_BYTES + place * WORD_BYTES;
                    return Err((offset, self.explain(chunk, index)));
                }
            }
        }
        Ok(())
    }

    fn head(&self, index: usize) -> [u64; 3] {
        [
            self.run,
            self.unit,
            u64::from(self.version) | (index as u64) << 32,
        ]
    }

    /// Says what the chunk looks like instead.
    fn explain(&self, chunk: &[u8], index: usize) -> String {
        let found = |place: usize| {
            let bytes = chunk.chunks_exact(WORD_BYTES).nth(place);
            u64::from_le_bytes(bytes.and_then(|b| b.try_into().ok()).unwrap_or_default())
        };
        let expected = format!("expected write {} of unit {}", self.version, self.unit);
        if chunk.iter().all(|byte| *byte == 0) {
            return format!("{expected}, found zeroes");
        }
        if found(0) != self.run {
            return format!("{expected}, found bytes that this run did not write");
        }
        let (unit, version, part) = (found(1), found(2) & 0xffff_ffff, found(2) >> 32);
        if (unit, version, part) == (self.unit, u64::from(self.version), index as u64) {
            return format!("{expected}, found its stamp with damaged bytes after it");
        }
        format!("{expected} part {index}, found write {version} of unit {unit} part {part}")
    }
}

fn word(head: &[u64; 3], seed: u64, place: usize) -> u64 {
    match head.get(place) {
        Some(word) => *word,
        None => mix(seed.wrapping_add(place as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xfeed,
        unit: 77,
        version: 5,
    };

    fn filled(stamp: Stamp) -> Vec<u8> {
        let mut data = vec![0; 4096];
        stamp.fill(&mut data);
        data
    }

    #[test]
    fn what_was_filled_passes() {
        assert_eq!(STAMP.check(&filled(STAMP)), Ok(()));
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        let good = filled(STAMP);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let (offset, _) = STAMP.check(&bad).unwrap_err();
            assert_eq!(offset, at / 8 * 8);
        }
    }

    #[test]
    fn old_foreign_and_moved_data_are_named() {
        let old = filled(Stamp {
            version: 4,
            ..STAMP
        });
        let (_, said) = STAMP.check(&old).unwrap_err();
        assert!(said.contains("found write 4 of unit 77"), "{said}");
        let moved = filled(Stamp { unit: 78, ..STAMP });
        let (_, said) = STAMP.check(&moved).unwrap_err();
        assert!(said.contains("of unit 78"), "{said}");
        let (_, said) = STAMP.check(&[0; 4096]).unwrap_err();
        assert!(said.contains("zeroes"), "{said}");
        let foreign = filled(Stamp { run: 1, ..STAMP });
        let (_, said) = STAMP.check(&foreign).unwrap_err();
        assert!(said.contains("did not write"), "{said}");
    }

    #[test]
    fn a_torn_unit_is_seen_where_it_tears() {
        let mut torn = filled(STAMP);
        let old = filled(Stamp {
            version: 4,
            ..STAMP
        });
        torn[2048..].copy_from_slice(&old[2048..]);
        let (offset, _) = STAMP.check(&torn).unwrap_err();
        assert_eq!(offset, 2048 + 16, "the version is the third word");
    }
}
