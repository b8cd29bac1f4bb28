//! Cases by name: `4k-randread-qd32`, `4k-randwrite-qd32-flush1`, `8k-mix-read70-qd16-zipf0.99`.

use std::fs;
use std::str::FromStr;

use clap::ValueEnum;

use crate::cli::{CompareArgs, LoadArgs, ReadWrite};
use crate::error::PerfError;
use crate::units;

/// What is compared when nothing else is asked for.
const DEFAULT: &[&str] = &[
    "4k-randread-qd1",
    "4k-randread-qd32",
    "4k-randread-qd128",
    "4k-randwrite-qd1",
    "4k-randwrite-qd32",
    "4k-randwrite-qd128",
    "128k-read-qd32",
    "128k-write-qd32",
];

/// A named load.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub load: LoadArgs,
}

/// The cases of `--case` and `--case-file`, or the usual ones.
///
/// Errors: `Option` for a name that is none, `File`.
pub fn collect(args: &CompareArgs) -> Result<Vec<Case>, PerfError> {
    let mut names = args.cases.clone();
    if let Some(path) = &args.case_file {
        let text = fs::read_to_string(path).map_err(|source| PerfError::File {
            path: path.clone(),
            source,
        })?;
        names.extend(lines(&text));
    }
    if names.is_empty() {
        names = DEFAULT.iter().map(|name| (*name).to_owned()).collect();
    }
    names.iter().map(|name| parse(name)).collect()
}

/// The names in a file: one a line, `#` starts a comment.
fn lines(text: &str) -> Vec<String> {
    let bare = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    bare.map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Parses a name: size and kind, then parts in any order.
///
/// Errors: `Option` with the part that is wrong.
pub fn parse(name: &str) -> Result<Case, PerfError> {
    let bad = |problem: String| PerfError::option("--case", name, problem);
    let mut parts = name.split('-');
    let size = parts.next().unwrap_or_default();
    let bs = units::size_bytes(size).map_err(|problem| bad(format!("{size:?}: {problem}")))?;
    let kind = parts.next().unwrap_or_default();
    let rw = ReadWrite::from_str(kind, false).map_err(|_| {
        bad(format!(
            "{kind:?} is not read, write, randread, randwrite or mix"
        ))
    })?;
    let mut load = LoadArgs {
        rw,
        read_percent: None,
        bs,
        qd: 32,
        queues: None,
        distribution: None,
        flush_every: 0,
        fua_percent: 0,
        rate: None,
        poisson: false,
        span: None,
        seed: 1,
    };
    for part in parts {
        apply(&mut load, part).map_err(bad)?;
    }
    Ok(Case {
        name: name.to_owned(),
        load,
    })
}

fn apply(load: &mut LoadArgs, part: &str) -> Result<(), String> {
    let at = part
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(part.len());
    let (word, value) = part.split_at(at);
    match word {
        "qd" => load.qd = number(part, value, 1..=65_534)?,
        "q" => load.queues = Some(number(part, value, 1..=1024)?),
        "flush" => load.flush_every = number(part, value, 1..=1_000_000)?,
        "fua" => load.fua_percent = number(part, value, 0..=100)?,
        "read" => load.read_percent = Some(number(part, value, 0..=100)?),
        "zipf" => load.distribution = Some(format!("zipf:{value}")),
        "rate" => load.rate = Some(units::rate(value)?),
        _ => {
            let known = "qd32, q4, flush1, fua100, read70, zipf0.99, rate100k";
            return Err(format!("{part:?} is not a part: write one of {known}"));
        }
    }
    Ok(())
}

fn number<T>(part: &str, value: &str, range: std::ops::RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number = value.parse().ok().filter(|number| range.contains(number));
    let (low, high) = (range.start(), range.end());
    number.ok_or_else(|| format!("{part:?}: the number must be from {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_cases_parse() {
        for name in DEFAULT {
            parse(name).unwrap();
        }
    }

    #[test]
    fn every_part_is_understood() {
        let load = parse("8k-mix-qd16-q4-read25-flush3-fua10-zipf0.9-rate50k")
            .unwrap()
            .load;
        assert_eq!((load.bs, load.rw), (8192, ReadWrite::Mix));
        assert_eq!((load.qd, load.queues), (16, Some(4)));
        assert_eq!(
            (load.read_percent, load.flush_every, load.fua_percent),
            (Some(25), 3, 10)
        );
        assert_eq!(
            (load.distribution.as_deref(), load.rate),
            (Some("zipf:0.9"), Some(50_000.0))
        );
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for name in [
            "",
            "4k",
            "randread-4k",
            "4k-randread-qd0",
            "4k-randread-qd",
            "4k-randread-fast",
            "4k-randread-qd32-",
            "4k-readwrite-qd1",
            "4k-mix-read101",
        ] {
            assert!(parse(name).is_err(), "{name:?} was taken");
        }
    }

    #[test]
    fn files_have_comments() {
        let text = "# usual\n4k-randread-qd1\n\n  4k-randwrite-qd32 # the issue's\n";
        assert_eq!(lines(text), ["4k-randread-qd1", "4k-randwrite-qd32"]);
    }
}
