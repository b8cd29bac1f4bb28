//! One bit per cluster.

/// A fixed number of bits, with searches that skip full words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    len: u32,
}

impl Bitmap {
    /// All bits clear.
    pub(crate) fn new(len: u32) -> Bitmap {
        Bitmap {
            words: vec![0; (len as usize).div_ceil(64)],
            len,
        }
    }

    pub(crate) fn test(&self, index: u32) -> bool {
        assert!(index < self.len);
        self.words[index as usize / 64] & (1 << (index % 64)) != 0
    }

    /// Sets a bit; true when it was clear.
    pub(crate) fn set(&mut self, index: u32) -> bool {
        assert!(index < self.len);
        let (word, bit) = (&mut self.words[index as usize / 64], 1 << (index % 64));
        let was_clear = *word & bit == 0;
        *word |= bit;
        was_clear
    }

    /// Clears a bit; true when it was set.
    pub(crate) fn clear(&mut self, index: u32) -> bool {
        assert!(index < self.len);
        let (word, bit) = (&mut self.words[index as usize / 64], 1 << (index % 64));
        let was_set = *word & bit != 0;
        *word &= !bit;
        was_set
    }

    pub(crate) fn count_ones(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The first clear bit at or after `from`.
    pub(crate) fn next_clear(&self, from: u32) -> Option<u32> {
        self.search(from, |word| !word)
    }

    /// The first set bit at or after `from`.
    pub(crate) fn next_set(&self, from: u32) -> Option<u32> {
        self.search(from, |word| word)
    }

    fn search(&self, from: u32, view: impl Fn(u64) -> u64) -> Option<u32> {
        let mut mask = u64::MAX << (from % 64);
        for index in from as usize / 64..self.words.len() {
            let found = view(self.words[index]) & mask;
            if found != 0 {
                let bit = index as u32 * 64 + found.trailing_zeros();
                return (bit < self.len).then_some(bit);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Runs of clear bits as (first, count), ascending.
    pub(crate) fn clear_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = (from < self.len).then(|| self.next_clear(from)).flatten()?;
            from = self.next_set(first).unwrap_or(self.len);
            Some((first, from - first))
        })
    }

    /// Copies the bits of a page out, as little-endian words; what is beyond the end is zero.
    pub(crate) fn page_bytes(&self, page: u32, bytes: &mut [u8]) {
        assert!(bytes.len().is_multiple_of(8));
        let first = page as usize * (bytes.len() / 8);
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            let word = self.words.get(first + index).copied().unwrap_or(0);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Takes the bits of a page in; false when a bit beyond the end is set.
    pub(crate) fn load_page(&mut self, page: u32, bytes: &[u8]) -> bool {
        let first = page as usize * (bytes.len() / 8);
        for (index, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
            match self.words.get_mut(first + index) {
                Some(target) => *target = word,
                None if word != 0 => return false,
                None => {}
            }
        }
        let tail = self.len % 64;
        let last = self.words.last().copied().unwrap_or(0);
        tail == 0 || last >> tail == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_cross_words_and_stop_at_the_end() {
        let mut bits = Bitmap::new(130);
        assert_eq!(bits.next_clear(0), Some(0));
        assert_eq!(bits.next_set(0), None);
        for index in 0..130 {
            assert!(bits.set(index));
        }
        assert_eq!(bits.next_clear(0), None);
        assert!(bits.clear(129));
        assert!(!bits.clear(129));
        assert_eq!(bits.next_clear(3), Some(129));
        assert_eq!(bits.count_ones(), 129);
    }

    #[test]
    fn runs_are_maximal() {
        let mut bits = Bitmap::new(200);
        for index in [0, 5, 6, 199] {
            bits.set(index);
        }
        assert_eq!(bits.clear_runs().collect::<Vec<_>>(), [(1, 4), (7, 192)]);
        assert_eq!(Bitmap::new(64).clear_runs().collect::<Vec<_>>(), [(0, 64)]);
    }

    #[test]
    fn pages_round_trip_and_refuse_bits_beyond_the_end() {
        let mut bits = Bitmap::new(100);
        bits.set(99);
        bits.set(3);
        let mut bytes = [0; 64];
        bits.page_bytes(0, &mut bytes);
        let mut copy = Bitmap::new(100);
        assert!(copy.load_page(0, &bytes));
        assert_eq!(copy, bits);
        bytes[12] |= 0x10;
        assert!(!copy.load_page(0, &bytes), "bit 100 of 100");
        bytes[12] = 0;
        bytes[16] = 1;
        assert!(!copy.load_page(0, &bytes), "bit 128 of 100");
    }
}
