//! Durations, written with a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Units from large to small, with their length in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A length of time, written as "5s", "50us" or "2ms".
///
/// Units: ns, us, ms, s, min, h. A number without a unit is refused, as is a fraction. Holds up to
/// 584 years. `Display` uses the largest unit that divides the value, and parses back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timespan {
    ns: u64,
}

impl Timespan {
    /// No time at all.
    pub const ZERO: Self = Self::from_nanos(0);

    /// Exactly `ns` nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Self { ns }
    }

    /// `us` microseconds. For constants: overflow is a compile-time or debug error.
    pub const fn from_micros(us: u64) -> Self {
        Self { ns: us * 1_000 }
    }

    /// `s` seconds. See [`Timespan::from_micros`] for overflow.
    pub const fn from_secs(s: u64) -> Self {
        Self {
            ns: s * 1_000_000_000,
        }
    }

    /// The length in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.ns
    }

    /// The same length as the standard library's type.
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.ns)
    }
}

impl From<Timespan> for Duration {
    fn from(span: Timespan) -> Self {
        span.as_duration()
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, ns)| self.ns >= *ns && self.ns.is_multiple_of(*ns));
        match unit {
            Some((name, ns)) => write!(f, "{}{name}", self.ns / ns),
            None => f.write_str("0s"),
        }
    }
}

impl From<Timespan> for String {
    fn from(span: Timespan) -> Self {
        span.to_string()
    }
}

impl TryFrom<String> for Timespan {
    type Error = InvalidTimespan;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Timespan {
    type Err = InvalidTimespan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidTimespan {
            text: text.to_owned(),
            meant: guess(text),
        })
    }
}

/// Text that is not a duration. `meant` is the nearest text that is one, when there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write {}", suggestion(.meant))]
pub struct InvalidTimespan {
    /// The text as given.
    pub text: String,
    /// What was probably meant.
    pub meant: Option<Timespan>,
}

fn suggestion(meant: &Option<Timespan>) -> String {
    match meant {
        Some(span) => format!("\"{span}\""),
        None => "a whole number and a unit, for example \"50us\" or \"5s\"".to_owned(),
    }
}

fn parse(text: &str) -> Option<Timespan> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)
        .map(Timespan::from_nanos)
}

/// Reads what people write by habit: "50 us", "50µs", "5sec", "2 minutes".
fn guess(text: &str) -> Option<Timespan> {
    let plain: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .flat_map(char::to_lowercase)
        .map(|c| if matches!(c, 'µ' | 'μ') { 'u' } else { c })
        .collect();
    let digits_end = plain.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = plain.split_at(digits_end);
    let unit = match unit {
        "hour" | "hours" | "hr" => "h",
        "m" | "minute" | "minutes" => "min",
        "sec" | "secs" | "second" | "seconds" => "s",
        "msec" | "millis" | "milliseconds" => "ms",
        "usec" | "micros" | "microseconds" => "us",
        "nsec" | "nanos" | "nanoseconds" => "ns",
        other => other,
    };
    parse(&format!("{digits}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        let table = [
            ("0s", 0),
            ("7ns", 7),
            ("50us", 50_000),
            ("2ms", 2_000_000),
            ("5s", 5_000_000_000),
            ("3min", 180_000_000_000),
            ("1h", 3_600_000_000_000),
        ];
        for (text, ns) in table {
            assert_eq!(text.parse(), Ok(Timespan::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn refuses_and_says_what_was_meant() {
        let table = [
            ("50 us", Some("50us")),
            ("50µs", Some("50us")),
            ("5sec", Some("5s")),
            ("2m", Some("2min")),
            ("5", None),
            ("1.5s", None),
            ("-1s", None),
            ("", None),
            ("s", None),
            ("99999999999h", None),
        ];
        for (text, meant) in table {
            let error = text.parse::<Timespan>().unwrap_err();
            assert_eq!(
                error.meant.map(|span| span.to_string()).as_deref(),
                meant,
                "{text}"
            );
        }
    }

    #[test]
    fn display_picks_the_largest_exact_unit() {
        assert_eq!(Timespan::ZERO.to_string(), "0s");
        assert_eq!(Timespan::from_micros(2_000).to_string(), "2ms");
        assert_eq!(Timespan::from_micros(1_500).to_string(), "1500us");
        assert_eq!(Timespan::from_secs(120).to_string(), "2min");
    }

    proptest! {
        #[test]
        fn display_round_trips(ns: u64) {
            let span = Timespan::from_nanos(ns);
            prop_assert_eq!(span.to_string().parse::<Timespan>(), Ok(span));
            prop_assert_eq!(span.as_duration().as_nanos(), u128::from(ns));
        }

        #[test]
        fn display_round_trips_for_round_values(count in 0u64..1_000, unit in 0usize..6) {
            let span = Timespan::from_nanos(count * UNITS[unit].1);
            prop_assert_eq!(span.to_string().parse::<Timespan>(), Ok(span));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            if let Ok(span) = text.parse::<Timespan>() {
                prop_assert_eq!(span.to_string().parse::<Timespan>(), Ok(span));
            }
        }
    }
}
