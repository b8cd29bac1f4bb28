//! The only source of chance in a simulated world.
//!
//! Each subsystem draws from its own stream (`fork`), so that adding one draw to the network model
//! does not shift every later decision of the disks: a failing seed stays close to itself while
//! the code around it changes.

/// xoshiro256**, seeded through splitmix64. Not for secrets.
///
/// Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators" (public domain).
#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 4],
}

/// One step of splitmix64: turns related inputs (1, 2, 3, ...) into unrelated outputs.
pub(crate) fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Prng {
    /// A generator whose whole future is fixed by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut s = seed;
        Self {
            state: std::array::from_fn(|_| splitmix64(&mut s)),
        }
    }

    /// An independent stream named by `stream`; does not advance `self`.
    #[must_use]
    pub fn fork(&self, stream: u64) -> Self {
        let mut mixed = stream;
        let salt = splitmix64(&mut mixed);
        Self::new(self.state[0] ^ self.state[3].rotate_left(17) ^ salt)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= t;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0. The bias is below 2^-32 for the bounds used
    /// here.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// `below` for slice indexes.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high, "empty range {low}..={high}");
        low.saturating_add(self.below((high.saturating_sub(low)).saturating_add(1)))
    }

    /// True with probability `ppm` in a million. Draws nothing when the answer is certain, so a
    /// fault class that is switched off leaves the stream as it was.
    pub fn chance_ppm(&mut self, ppm: u32) -> bool {
        match ppm {
            0 => false,
            1_000_000.. => true,
            _ => self.below(1_000_000) < u64::from(ppm),
        }
    }

    /// True with probability `percent` in a hundred.
    pub fn chance_percent(&mut self, percent: u32) -> bool {
        self.chance_ppm(percent.saturating_mul(10_000))
    }

    /// The index of one of `weights`, each as likely as its weight; 0 when all are zero.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut pick = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            if pick < u64::from(*weight) {
                return index;
            }
            pick -= u64::from(*weight);
        }
        0
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Fills `bytes` with random bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Prng;

    #[test]
    fn same_seed_same_stream_and_forks_differ() {
        let (mut a, mut b) = (Prng::new(7), Prng::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(a.fork(1).next_u64(), a.fork(2).next_u64());
        assert_ne!(Prng::new(1).next_u64(), Prng::new(2).next_u64());
    }

    #[test]
    fn below_stays_in_bounds_and_reaches_all() {
        let mut prng = Prng::new(3);
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[prng.index(5)] += 1;
        }
        assert!(
            seen.iter().all(|count| (800..1_200).contains(count)),
            "{seen:?}"
        );
        assert_eq!(prng.below(0), 0);
        assert_eq!(prng.between(4, 4), 4);
    }

    #[test]
    fn weights_and_chances_are_respected() {
        let mut prng = Prng::new(9);
        assert!((0..1_000).all(|_| prng.weighted(&[0, 3, 0]) == 1));
        let hits = (0..10_000).filter(|_| prng.chance_percent(25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!(!prng.chance_ppm(0) && prng.chance_ppm(1_000_000));
    }
}
