//! Sizes in bytes, written with binary units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Units from large to small, as written after the number.
const UNITS: [(&str, u64); 7] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes, written as "8GiB", "512MiB" or "4096".
///
/// Units: B, KiB, MiB, GiB, TiB, PiB, EiB, all powers of 1024; no unit means bytes. Fractions and
/// decimal units ("8GB") are refused, because people disagree about what they mean.
/// `Display` uses the largest unit that divides the value, and parses back to the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// A size of exactly `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `count` KiB. For constants: overflow is a compile-time or debug error, never a wrapped size.
    pub const fn kib(count: u64) -> Self {
        Self(count * (1 << 10))
    }

    /// `count` MiB. See [`ByteSize::kib`] for overflow.
    pub const fn mib(count: u64) -> Self {
        Self(count * (1 << 20))
    }

    /// `count` GiB. See [`ByteSize::kib`] for overflow.
    pub const fn gib(count: u64) -> Self {
        Self(count * (1 << 30))
    }

    /// `count` TiB. See [`ByteSize::kib`] for overflow.
    pub const fn tib(count: u64) -> Self {
        Self(count * (1 << 40))
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whether the size is a whole number of `unit`s. False when `unit` is zero.
    pub const fn is_multiple_of(self, unit: ByteSize) -> bool {
        unit.0 != 0 && self.0.is_multiple_of(unit.0)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) if *factor > 1 => write!(f, "{}{name}", self.0 / factor),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidSize {
            text: text.to_owned(),
            meant: guess(text),
        })
    }
}

/// Text that is not a size. `meant` is the nearest text that is one, when there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size; write {}", suggestion(.meant))]
pub struct InvalidSize {
    /// The text as given.
    pub text: String,
    /// What was probably meant.
    pub meant: Option<ByteSize>,
}

fn suggestion(meant: &Option<ByteSize>) -> String {
    match meant {
        Some(size) => format!("\"{size}\""),
        None => "a whole number and a unit, for example \"512MiB\" or \"8GiB\"".to_owned(),
    }
}

fn parse(text: &str) -> Option<ByteSize> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor = match unit {
        "" => 1,
        _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let count: u64 = digits.parse().ok()?;
    count.checked_mul(factor).map(ByteSize)
}

/// Reads what people write by habit: "8G", "8gb", "8 GiB", "8_192 KiB".
fn guess(text: &str) -> Option<ByteSize> {
    let plain: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let digits_end = plain.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = plain.split_at(digits_end);
    let matches_unit = |name: &str| {
        let name = name.to_ascii_lowercase();
        let letter = &name[..1];
        unit == name || unit == letter || unit == format!("{letter}b")
    };
    let (_, factor) = UNITS.iter().find(|(name, _)| matches_unit(name))?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)
        .map(ByteSize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        let table = [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("8KiB", 8 << 10),
            ("512MiB", 512 << 20),
            ("8GiB", 8 << 30),
            ("3TiB", 3 << 40),
            ("2PiB", 2 << 50),
            ("15EiB", 15 << 60),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_and_says_what_was_meant() {
        let table = [
            ("8GB", Some("8GiB")),
            ("8G", Some("8GiB")),
            ("8 GiB", Some("8GiB")),
            ("64mib", Some("64MiB")),
            ("1_024KiB", Some("1MiB")),
            ("16EiB", None),
            ("1.5GiB", None),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("GiB", None),
            ("18446744073709551616", None),
        ];
        for (text, meant) in table {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert_eq!(
                error.meant.map(|size| size.to_string()).as_deref(),
                meant,
                "{text}"
            );
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn error_text_names_the_remedy() {
        let error = "8GB".parse::<ByteSize>().unwrap_err();
        assert_eq!(error.to_string(), "\"8GB\" is not a size; write \"8GiB\"");
    }

    #[test]
    fn display_picks_the_largest_exact_unit() {
        assert_eq!(ByteSize(0).to_string(), "0");
        assert_eq!(ByteSize(1000).to_string(), "1000");
        assert_eq!(ByteSize::kib(1024).to_string(), "1MiB");
        assert_eq!(ByteSize(1536 << 10).to_string(), "1536KiB");
    }

    proptest! {
        #[test]
        fn display_round_trips(bytes: u64) {
            let size = ByteSize(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn display_round_trips_for_round_values(count in 0u64..16, shift in 0u32..60) {
            let size = ByteSize(count << shift);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            if let Ok(size) = text.parse::<ByteSize>() {
                prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
            }
        }

        #[test]
        fn number_and_suffix_agree_with_arithmetic(count in 0u64..1 << 20, unit in 0usize..7) {
            let (name, factor) = UNITS[unit];
            let expected = count.checked_mul(factor).map(ByteSize);
            prop_assert_eq!(format!("{count}{name}").parse::<ByteSize>().ok(), expected);
        }
    }
}
