//! What the guest was told is durable: the newest acknowledged record of every stream.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// The newest record each stream had acknowledged, as the machine saw it on the console.
///
/// The line `ACK STREAM N` says that the write (and, for a file, the fsync) of record `N` returned
/// in the guest; records of a stream are written in order, so all up to `N` are durable.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Acks {
    newest: BTreeMap<String, u64>,
}

impl Acks {
    /// Takes `line` in; `Ok(false)` when it is not about acknowledgements.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it begins with `ACK` and goes on wrongly, or goes back.
    pub fn take(&mut self, line: &str) -> Result<bool> {
        let Some(rest) = line.strip_prefix("ACK ") else {
            return Ok(false);
        };
        let (stream, number) = parse(line, rest)?;
        let newest = self.newest.entry(stream.to_owned()).or_insert(0);
        if number <= *newest {
            return Err(Error::Protocol {
                line: line.to_owned(),
                expected: "above every earlier number of its stream",
            });
        }
        *newest = number;
        Ok(true)
    }

    /// The newest acknowledged record of `stream`; 0 when there is none yet.
    #[must_use]
    pub fn newest(&self, stream: &str) -> u64 {
        self.newest.get(stream).copied().unwrap_or(0)
    }

    /// The streams seen, in order.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.newest.keys().map(String::as_str)
    }

    /// Compares what the guest found afterwards, a line `FOUND STREAM N`, with what was
    /// acknowledged; `Ok(None)` when the line says something else, else the stream.
    ///
    /// # Errors
    /// [`Error::Lost`] when less was found than acknowledged.
    pub fn check_found<'a>(&self, line: &'a str) -> Result<Option<&'a str>> {
        let Some(rest) = line.strip_prefix("FOUND ") else {
            return Ok(None);
        };
        let (stream, found) = parse(line, rest)?;
        let acked = self.newest(stream);
        if found < acked {
            return Err(Error::Lost {
                stream: stream.to_owned(),
                acked,
                found,
            });
        }
        Ok(Some(stream))
    }
}

fn parse<'a>(line: &str, rest: &'a str) -> Result<(&'a str, u64)> {
    let parsed = rest.split_once(' ').and_then(|(stream, number)| {
        let number = number.parse().ok()?;
        (!stream.is_empty()).then_some((stream, number))
    });
    parsed.ok_or_else(|| Error::Protocol {
        line: line.to_owned(),
        expected: "a stream and a number",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_of_each_stream_is_kept() {
        let mut acks = Acks::default();
        for line in ["ACK a 1", "ACK b 1", "ACK a 2", "ACK a 7"] {
            assert!(acks.take(line).unwrap());
        }
        assert!(!acks.take("BEDPLATE-VM: mark x").unwrap());
        assert_eq!(
            (acks.newest("a"), acks.newest("b"), acks.newest("c")),
            (7, 1, 0)
        );
        assert_eq!(acks.streams().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn broken_and_backward_lines_are_refused() {
        let mut acks = Acks::default();
        acks.take("ACK a 5").unwrap();
        for line in [
            "ACK ", "ACK a", "ACK a x", "ACK a -1", "ACK  3", "ACK a 5", "ACK a 4",
        ] {
            assert!(
                matches!(acks.take(line), Err(Error::Protocol { .. })),
                "{line}"
            );
        }
        assert_eq!(acks.newest("a"), 5);
    }

    #[test]
    fn a_missing_record_is_found_out() {
        let mut acks = Acks::default();
        acks.take("ACK a 5").unwrap();
        assert_eq!(acks.check_found("FOUND a 6").unwrap(), Some("a"));
        assert_eq!(acks.check_found("FOUND a 5").unwrap(), Some("a"));
        assert_eq!(acks.check_found("other").unwrap(), None);
        let lost = acks.check_found("FOUND a 4");
        assert!(matches!(
            lost,
            Err(Error::Lost {
                acked: 5,
                found: 4,
                ..
            })
        ));
    }
}
