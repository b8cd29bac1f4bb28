//! Ratios of paired measurements, and their spread.

use serde::Serialize;

/// candidate / reference over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// First quartile.
    pub q1: f64,
    /// Third quartile.
    pub q3: f64,
    /// Largest.
    pub max: f64,
    /// The ratio of each round.
    pub rounds: Vec<f64>,
    /// The candidate's figure in each round: IOPS or nanoseconds.
    pub candidate: Vec<f64>,
    /// The reference's figure in each round.
    pub reference: Vec<f64>,
}

impl Ratio {
    /// From (candidate, reference) of each round. A reference of 0 counts as the smallest figure
    /// that can be divided by, so that no ratio is lost.
    pub fn new(pairs: &[(f64, f64)]) -> Self {
        let ratio = |(candidate, reference): &(f64, f64)| candidate / reference.max(1e-9);
        let rounds: Vec<f64> = pairs.iter().map(ratio).collect();
        let at = |share| quantile(&rounds, share);
        Self {
            median: at(0.5),
            min: at(0.0),
            q1: at(0.25),
            q3: at(0.75),
            max: at(1.0),
            candidate: pairs.iter().map(|pair| pair.0).collect(),
            reference: pairs.iter().map(|pair| pair.1).collect(),
            rounds,
        }
    }

    /// Median of the candidate's figures and of the reference's.
    pub fn levels(&self) -> (f64, f64) {
        (
            quantile(&self.candidate, 0.5),
            quantile(&self.reference, 0.5),
        )
    }
}

/// The value below which `share` of the values lie, interpolated; 0 when there are none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().saturating_sub(1) as f64;
    let below = sorted.get(place.floor() as usize).copied();
    let above = sorted.get(place.ceil() as usize).copied();
    let (Some(below), Some(above)) = (below, above) else {
        return 0.0;
    };
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_ratios_not_of_levels() {
        // The machine became four times as fast in the last round; the ratio did not change.
        let ratio = Ratio::new(&[(110.0, 100.0), (220.0, 200.0), (440.0, 400.0)]);
        assert!((ratio.median - 1.1).abs() < 1e-12);
        assert!((ratio.max - ratio.min).abs() < 1e-12);
        assert_eq!(ratio.levels(), (220.0, 200.0));
    }

    #[test]
    fn the_spread_shows_an_outlier_that_the_median_does_not() {
        let pairs: Vec<(f64, f64)> = [1.0, 1.1, 1.2, 1.3, 9.0].map(|c| (c, 1.0)).to_vec();
        let ratio = Ratio::new(&pairs);
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.2, 1.0, 9.0));
        assert_eq!((ratio.q1, ratio.q3), (1.1, 1.3));
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[2.0, 1.0], 0.5), 1.5);
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[4.0], 0.99), 4.0);
    }

    #[test]
    fn a_dead_reference_does_not_divide_by_zero() {
        assert!(Ratio::new(&[(1.0, 0.0)]).median.is_finite());
    }
}
