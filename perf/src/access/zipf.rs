//! Zipf-distributed ranks, and a shuffle that spreads them over the namespace.
//!
//! Rejection-inversion needs no table, so a terabyte costs as little to set up as a megabyte.
//!
//! Source: Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone
//! discrete distributions", ACM TOMACS 6 (1996).

use super::random::{Random, mix};

/// Ranks 0 to `count` - 1, rank k with a probability proportional to 1 / (k + 1)^theta.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: u64,
    theta: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    /// A distribution over `count` ranks, 1 or more, with `theta` above 0.
    pub fn new(count: u64, theta: f64) -> Self {
        let mut zipf = Self {
            count,
            theta,
            integral_first: 0.0,
            integral_last: 0.0,
            shortcut: 0.0,
        };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(count as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// The next rank.
    pub fn next(&self, random: &mut Random) -> u64 {
        loop {
            let range = self.integral_first - self.integral_last;
            let u = self.integral_last + random.fraction() * range;
            let x = self.inverse(u);
            let rank = x.round().clamp(1.0, self.count as f64);
            let near = rank - x <= self.shortcut;
            if near || u >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// Integral of the weight: (x^(1 - theta) - 1) / (1 - theta), which is ln x at theta = 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_minus_one_over(log * (1.0 - self.theta)) * log
    }

    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.theta)).max(-1.0);
        (log_one_plus_over(t) * y).exp()
    }
}

/// (e^x - 1) / x, also near 0.
fn exp_minus_one_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// ln(1 + x) / x, also near 0.
fn log_one_plus_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

/// A fixed permutation of 0 to `count` - 1: popular ranks are not neighbours on the disk.
#[derive(Clone, Debug)]
pub struct Shuffle {
    count: u64,
    mask: u64,
}

impl Shuffle {
    /// A permutation of `count` numbers, 1 or more.
    pub fn new(count: u64) -> Self {
        let mask = count.next_power_of_two() - 1;
        Self { count, mask }
    }

    /// The place of `rank`. At most two steps on average: the walk stays within the next power of
    /// two until it falls below `count`, and since each step is a bijection, so is the whole.
    pub fn place(&self, rank: u64) -> u64 {
        let mut place = rank;
        loop {
            place = self.step(place);
            if place < self.count {
                return place;
            }
        }
    }

    fn step(&self, x: u64) -> u64 {
        let bits = self.mask.count_ones();
        let half = (bits / 2).max(1);
        let x = x.wrapping_mul(mix(1) | 1).wrapping_add(mix(2)) & self.mask;
        let x = x ^ (x >> half);
        let x = x.wrapping_mul(mix(3) | 1) & self.mask;
        x ^ (x >> half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed share of the ranks against the definition.
    fn check(theta: f64) {
        let (count, draws) = (1000u64, 400_000);
        let zipf = Zipf::new(count, theta);
        let mut random = Random::new(3, 0);
        let mut seen = vec![0u64; count as usize];
        for _ in 0..draws {
            seen[zipf.next(&mut random) as usize] += 1;
        }
        let weight = |rank: u64| 1.0 / ((rank + 1) as f64).powf(theta);
        let total: f64 = (0..count).map(weight).sum();
        for rank in [0, 1, 2, 9, 99] {
            let expected = draws as f64 * weight(rank) / total;
            let found = seen[rank as usize] as f64;
            let slack = 5.0 * expected.sqrt() + 1.0;
            assert!(
                (found - expected).abs() < slack,
                "theta {theta} rank {rank}: {found} of {expected}"
            );
        }
    }

    #[test]
    fn shares_follow_the_definition() {
        for theta in [0.5, 0.99, 1.0, 1.2, 2.0] {
            check(theta);
        }
    }

    #[test]
    fn one_rank_is_always_zero() {
        let zipf = Zipf::new(1, 0.9);
        let mut random = Random::new(1, 0);
        assert!((0..100).all(|_| zipf.next(&mut random) == 0));
    }

    #[test]
    fn ranks_stay_in_range_on_a_large_device() {
        let count = 1 << 40;
        let zipf = Zipf::new(count, 0.6);
        let mut random = Random::new(1, 0);
        assert!((0..10_000).all(|_| zipf.next(&mut random) < count));
    }

    #[test]
    fn the_shuffle_is_a_permutation() {
        for count in [1u64, 2, 3, 64, 1000, 4097] {
            let shuffle = Shuffle::new(count);
            let mut seen = vec![false; count as usize];
            for rank in 0..count {
                let place = shuffle.place(rank) as usize;
                assert!(
                    !std::mem::replace(&mut seen[place], true),
                    "{count}: {place} twice"
                );
            }
        }
    }
}
