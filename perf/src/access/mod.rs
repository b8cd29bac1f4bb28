//! Which command comes next: kind, place, flushes, FUA, and the data of verified writes.

mod ledger;
mod random;
mod stamp;
mod zipf;

pub use ledger::Ledger;
pub use random::Random;
pub use stamp::Stamp;
use zipf::{Shuffle, Zipf};

use crate::queue::{Done, Kind};

/// How units are picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every unit equally often.
    Uniform,
    /// Few units often: rank k with a share proportional to 1 / k^theta, spread over the span.
    Zipf {
        /// Skew: above 0, below 10.
        theta: f64,
    },
    /// One after the other, from the start again after the end.
    Sequential,
}

/// What the queues of a run do.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Share of reads, 0 to 100.
    pub read_percent: u32,
    /// Share of writes with FUA, 0 to 100.
    pub fua_percent: u32,
    /// A Flush after every so many completed writes of a queue; 0 is never.
    pub flush_every: u32,
    /// How units are picked.
    pub distribution: Distribution,
}

/// The next command of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    /// What it does.
    pub kind: Kind,
    /// Where.
    pub unit: u64,
    /// Force Unit Access.
    pub fua: bool,
    /// Bits that choose the place of a write's data in the pattern.
    pub choice: u64,
    /// What a verified write carries.
    pub stamp: Option<Stamp>,
}

#[derive(Debug)]
enum Picker {
    Uniform,
    Zipf(Zipf, Shuffle),
    Sequential { next: u64 },
}

/// The stream of commands of one queue.
#[derive(Debug)]
pub struct Access {
    mix: Mix,
    random: Random,
    picker: Picker,
    first: u64,
    count: u64,
    writes_since_flush: u32,
    ledger: Option<Ledger>,
}

impl Access {
    /// A stream over `count` units from `first` on.
    pub fn new(mix: Mix, random: Random, first: u64, count: u64, ledger: Option<Ledger>) -> Self {
        let picker = match mix.distribution {
            Distribution::Uniform => Picker::Uniform,
            Distribution::Zipf { theta } => {
                Picker::Zipf(Zipf::new(count, theta), Shuffle::new(count))
            }
            Distribution::Sequential => Picker::Sequential { next: 0 },
        };
        Self {
            mix,
            random,
            picker,
            first,
            count,
            writes_since_flush: 0,
            ledger,
        }
    }

    /// The next command.
    pub fn next(&mut self) -> Next {
        let choice = self.random.next();
        if self.flush_is_due() {
            self.writes_since_flush -= self.mix.flush_every;
            return Next {
                kind: Kind::Flush,
                unit: 0,
                fua: false,
                choice,
                stamp: None,
            };
        }
        let reads = chance(&mut self.random, self.mix.read_percent);
        let kind = if reads { Kind::Read } else { Kind::Write };
        let fua = !reads && chance(&mut self.random, self.mix.fua_percent);
        let picked = self.first + self.pick();
        let unit = match &mut self.ledger {
            Some(ledger) => ledger.reserve(picked),
            None => picked,
        };
        let stamp = match &mut self.ledger {
            Some(ledger) if kind == Kind::Write => Some(ledger.stamp(unit)),
            _ => None,
        };
        Next {
            kind,
            unit,
            fua,
            choice,
            stamp,
        }
    }

    /// The next read of what this run wrote, once all commands are done; `None` at the end.
    pub fn read_back(&mut self) -> Option<Next> {
        let unit = self.ledger.as_mut()?.read_back()?;
        Some(Next {
            kind: Kind::Read,
            unit,
            fua: false,
            choice: 0,
            stamp: None,
        })
    }

    /// Takes a completion; `data` is what a verified read brought.
    ///
    /// Errors: the first wrong byte of a verified read and a sentence about it.
    pub fn done(&mut self, done: &Done, data: &[u8]) -> Result<(), (usize, String)> {
        if done.io.kind == Kind::Write {
            self.writes_since_flush = self.writes_since_flush.saturating_add(1);
        }
        match &mut self.ledger {
            Some(ledger) => ledger.done(done, data),
            None => Ok(()),
        }
    }

    /// Reads that were compared.
    pub fn checked(&self) -> u64 {
        self.ledger.as_ref().map_or(0, Ledger::checked)
    }

    fn flush_is_due(&self) -> bool {
        self.mix.flush_every > 0 && self.writes_since_flush >= self.mix.flush_every
    }

    fn pick(&mut self) -> u64 {
        match &mut self.picker {
            Picker::Uniform => self.random.below(self.count),
            Picker::Zipf(zipf, shuffle) => shuffle.place(zipf.next(&mut self.random)),
            Picker::Sequential { next } => {
                let unit = *next;
                *next = (unit + 1) % self.count;
                unit
            }
        }
    }
}

/// True in `percent` of the cases; the ends cost no random number.
fn chance(random: &mut Random, percent: u32) -> bool {
    match percent {
        0 => false,
        100.. => true,
        percent => random.below(100) < u64::from(percent),
    }
}

#[cfg(test)]
mod tests {
    use wire::nvme::Status;

    use super::*;
    use crate::queue::Io;

    const MIX: Mix = Mix {
        read_percent: 0,
        fua_percent: 0,
        flush_every: 0,
        distribution: Distribution::Uniform,
    };

    fn access(mix: Mix) -> Access {
        Access::new(mix, Random::new(1, 0), 1000, 50, None)
    }

    fn finish(access: &mut Access, next: Next) {
        let io = Io {
            kind: next.kind,
            unit: next.unit,
            fua: next.fua,
            intended_ns: 0,
            issued_ns: 0,
        };
        let done = Done {
            cid: 0,
            io,
            status: Status::SUCCESS.into(),
        };
        access.done(&done, &[]).unwrap();
    }

    #[test]
    fn units_stay_in_their_part() {
        for distribution in [
            Distribution::Uniform,
            Distribution::Zipf { theta: 0.9 },
            Distribution::Sequential,
        ] {
            let mut access = access(Mix {
                distribution,
                ..MIX
            });
            assert!((0..1000).all(|_| (1000..1050).contains(&access.next().unit)));
        }
    }

    #[test]
    fn sequential_wraps() {
        let distribution = Distribution::Sequential;
        let mut access = access(Mix {
            distribution,
            ..MIX
        });
        let units: Vec<u64> = (0..52).map(|_| access.next().unit).collect();
        assert_eq!(units[..3], [1000, 1001, 1002]);
        assert_eq!(units[49..], [1049, 1000, 1001]);
    }

    #[test]
    fn shares_are_kept() {
        let mut access = access(Mix {
            read_percent: 70,
            fua_percent: 50,
            ..MIX
        });
        let next: Vec<Next> = (0..20_000).map(|_| access.next()).collect();
        let reads = next.iter().filter(|n| n.kind == Kind::Read).count();
        let fua = next.iter().filter(|n| n.fua).count();
        assert!((13_600..14_400).contains(&reads), "{reads}");
        assert!((2_800..3_200).contains(&fua), "{fua}");
        assert!(next.iter().all(|n| n.kind == Kind::Write || !n.fua));
    }

    #[test]
    fn a_flush_follows_completed_writes_only() {
        let mut access = access(Mix {
            flush_every: 2,
            ..MIX
        });
        let writes: Vec<Next> = (0..5).map(|_| access.next()).collect();
        assert!(writes.iter().all(|n| n.kind == Kind::Write));
        for write in writes {
            finish(&mut access, write);
        }
        let kinds: Vec<Kind> = (0..3).map(|_| access.next().kind).collect();
        assert_eq!(kinds, [Kind::Flush, Kind::Flush, Kind::Write]);
    }
}
