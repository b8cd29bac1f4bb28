//! Ratios of the rounds, and how they are shown.

use std::fmt::Write as _;

use super::results::{Side, Turn};

/// Ours over the kernel's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Ratio {
    /// Of the pairs (ours, the kernel's), one a round; `None` of none at all.
    fn new(pairs: &[(f64, f64)]) -> Option<Self> {
        let mut ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_by(f64::total_cmp);
        Some(Self {
            median: median(&ratios)?,
            min: *ratios.first()?,
            max: *ratios.last()?,
        })
    }
}

/// Of values in order.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

/// One case over all rounds: of each figure (ours, the kernel's), a pair for each round.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Requests or transactions a second.
    pub per_s: Vec<(f64, f64)>,
    /// Latency, microseconds, as in [`Turn`].
    pub latency_us: Vec<(f64, f64)>,
    /// Share of the processors that did nothing.
    pub idle: Vec<(f64, f64)>,
    /// Processors that our process used in our turn.
    pub ours_cpus: Vec<f64>,
}

impl Case {
    /// Pairs the turns of the case `name` by round. A round with one side only does not count.
    #[must_use]
    pub fn new(name: &str, turns: &[Turn]) -> Self {
        let side = |side| {
            let of_side = move |turn: &&Turn| turn.case == name && turn.side == side;
            turns.iter().filter(of_side)
        };
        let pairs: Vec<(&Turn, &Turn)> = side(Side::Ours)
            .filter_map(|ours| {
                let theirs = side(Side::Nvmet).find(|theirs| theirs.round == ours.round)?;
                Some((ours, theirs))
            })
            .collect();
        let of = |figure: fn(&Turn) -> f64| {
            let pair = |(ours, theirs): &(&Turn, &Turn)| (figure(ours), figure(theirs));
            pairs.iter().map(pair).collect()
        };
        Self {
            name: name.to_owned(),
            per_s: of(|turn| turn.per_s),
            latency_us: of(|turn| turn.latency_us),
            idle: of(|turn| turn.idle),
            ours_cpus: pairs.iter().map(|(ours, _)| ours.ours_cpus).collect(),
        }
    }

    /// How the rates compare; `None` without a whole round.
    #[must_use]
    pub fn ratio(&self) -> Option<Ratio> {
        Ratio::new(&self.per_s)
    }

    fn line(&self) -> Option<String> {
        let ratio = self.ratio()?;
        let latency = Ratio::new(&self.latency_us)?;
        let rates = levels(&self.per_s)?;
        let idle = levels(&self.idle)?;
        let mut cpus = self.ours_cpus.clone();
        cpus.sort_by(f64::total_cmp);
        let text = format!(
            "| {:<14} | {} | {:>6.0} / {:<6.0} | {} | {:>3.0} % / {:>3.0} % | {:>4.2} |",
            self.name,
            spread(ratio),
            rates.0,
            rates.1,
            spread(latency),
            idle.0 * 100.0,
            idle.1 * 100.0,
            median(&cpus)?,
        );
        Some(text)
    }
}

fn spread(ratio: Ratio) -> String {
    let Ratio { median, min, max } = ratio;
    format!("{median:>5.2} [{min:.2} - {max:.2}]")
}

/// The median of each side.
fn levels(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let mut ours: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
    let mut theirs: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    median(&ours).zip(median(&theirs))
}

/// The table of all cases.
#[must_use]
pub fn render(cases: &[Case]) -> String {
    let mut text = String::from(
        "ours / kernel nvmet: median of the rounds' ratios [smallest - largest]\n\
         | case           | a second, ratio     | ours / nvmet    | latency, ratio      \
         | idle, ours / nvmet | CPUs of ours |\n|---|---|---|---|---|---|\n",
    );
    for case in cases {
        // Writing to a String cannot fail.
        let _ = match case.line() {
            Some(line) => writeln!(text, "{line}"),
            None => writeln!(text, "| {} | no whole round | | | | |", case.name),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(round: u32, side: Side, per_s: f64) -> Turn {
        Turn {
            round,
            case: "a".to_owned(),
            side,
            per_s,
            latency_us: 1e6 / per_s,
            idle: 0.25,
            ours_cpus: 0.5,
        }
    }

    #[test]
    fn rounds_are_compared_and_not_levels() {
        // The machine became twice as fast in between; the ratio did not change.
        let turns = [
            turn(1, Side::Ours, 110.0),
            turn(1, Side::Nvmet, 100.0),
            turn(2, Side::Nvmet, 200.0),
            turn(2, Side::Ours, 220.0),
            turn(3, Side::Ours, 999.0),
        ];
        let ratio = Case::new("a", &turns).ratio().unwrap();
        assert!((ratio.median - 1.1).abs() < 1e-9);
        assert!((ratio.max - ratio.min).abs() < 1e-9);
        assert_eq!(Case::new("b", &turns).ratio(), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 4.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_case_without_a_round_is_shown_as_such() {
        let text = render(&[Case::new("b", &[]), Case::new("a", &[])]);
        assert!(text.contains("| b | no whole round"), "{text}");
    }
}
