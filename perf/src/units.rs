//! Numbers with units on the command line.
//!
//! Sizes are binary (`4k`, `4KiB`, `1G`), as every block size is; rates are decimal (`100k`).

use std::time::Duration;

/// Parses a size in bytes: `512`, `4k`, `4KiB`, `1M`, `2GiB`.
///
/// Errors: a sentence that says what to write instead.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(format!("unknown unit {unit:?}: write 4096, 4k, 1MiB or 1G")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not a whole number with a unit: write 4096, 4k, 1MiB or 1G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "must be above 0 and below 16 EiB".to_owned())
}

/// Parses the length of a burst of iSCSI in bytes.
///
/// Errors: a sentence that says what to write instead.
pub fn burst_bytes(text: &str) -> Result<u64, String> {
    let bytes = size_bytes(text)?;
    if bytes.is_multiple_of(512) && bytes < 1 << 24 {
        return Ok(bytes);
    }
    Err("must be a multiple of 512 bytes below 16 MiB".to_owned())
}

/// Parses a time: `5s`, `500ms`, `50us`, `2m`.
///
/// Errors: a sentence that says what to write instead.
pub fn timespan(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let scale_s = match unit {
        "s" | "" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: write 5s, 500ms or 2m")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "not a number with a unit: write 5s, 500ms or 2m".to_owned())?;
    let seconds = number * scale_s;
    if seconds.is_finite() && (0.0..=86_400.0 * 7.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("must be from 0 to 7 days".to_owned())
}

/// Parses a rate per second: `5000`, `100k`, `1.5M`.
///
/// Errors: a sentence that says what to write instead.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        _ => return Err(format!("unknown unit {unit:?}: write 5000, 100k or 1.5M")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "not a number: write 5000, 100k or 1.5M".to_owned())?;
    let rate = number * scale;
    if rate.is_finite() && (1e-3..=1e9).contains(&rate) {
        return Ok(rate);
    }
    Err("must be from 0.001 to 1 billion a second".to_owned())
}

/// A size for people: the largest binary unit that divides it.
pub fn show_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |&&(shift, _): &&(u32, &str)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match units.iter().find(fits) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

/// A count per second for people.
pub fn show_rate(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.3} M", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k", r / 1e3),
        r => format!("{r:.1} "),
    }
}

/// Nanoseconds as microseconds for people.
pub fn show_us(nanoseconds: u64) -> String {
    let us = nanoseconds as f64 / 1e3;
    match us {
        us if us >= 1e4 => format!("{us:.0}"),
        us if us >= 1e2 => format!("{us:.1}"),
        us => format!("{us:.2}"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size_bytes("512"), Ok(512));
        assert_eq!(size_bytes("4k"), Ok(4096));
        assert_eq!(size_bytes("4 KiB"), Ok(4096));
        assert_eq!(size_bytes("2G"), Ok(2 << 30));
    }

    #[test]
    fn bad_sizes_are_refused() {
        for text in [
            "",
            "k",
            "0",
            "-4k",
            "4kb",
            "1.5k",
            "16777216T",
            "99999999999999999999",
        ] {
            assert!(size_bytes(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(timespan("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(timespan("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(timespan("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5 weeks", "-1s", "1e9s", "nans", "999999h"] {
            assert!(timespan(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn rates_are_decimal() {
        assert_eq!(rate("100k"), Ok(100_000.0));
        assert_eq!(rate("1.5M"), Ok(1_500_000.0));
        for text in ["", "0", "-5", "1e5", "5G"] {
            assert!(rate(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(show_bytes(4096), "4 KiB");
        assert_eq!(show_bytes(4097), "4097 B");
        assert_eq!(show_bytes(0), "0 B");
        assert_eq!(show_rate(950_000.0), "950.0 k");
        assert_eq!(show_us(12_345), "12.35");
    }
}
