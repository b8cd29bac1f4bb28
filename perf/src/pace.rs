//! When the next command is due.
//!
//! A closed loop issues as soon as there is room. An open loop issues at times fixed beforehand,
//! and a command's latency counts from the time it was due, not from the time it could be sent:
//! a target that stalls is charged for everything that should have happened meanwhile.

use crate::access::Random;

/// The schedule of one queue.
#[derive(Debug)]
pub enum Pace {
    /// Whenever there is room.
    Closed,
    /// At a rate.
    Open {
        /// When the next command is due, in nanoseconds of the run's clock.
        next_ns: f64,
        /// Mean distance between two commands.
        step_ns: f64,
        /// Random distances instead of equal ones: Poisson arrivals.
        poisson: Option<Random>,
    },
}

impl Pace {
    /// A rate per second for one queue of `queues`, shifted so that queues take turns.
    pub fn open(rate: f64, index: usize, queues: usize, poisson: Option<Random>) -> Self {
        let step_ns = 1e9 / rate * queues as f64;
        Self::Open {
            next_ns: step_ns * index as f64 / queues as f64,
            step_ns,
            poisson,
        }
    }

    /// The intended start of the next command when it is due by `now_ns`. Each due command is
    /// given once.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        match self {
            Self::Closed => Some(now_ns),
            Self::Open {
                next_ns,
                step_ns,
                poisson,
            } => {
                let due = *next_ns;
                if due > now_ns as f64 {
                    return None;
                }
                let stretch = match poisson {
                    Some(random) => -(1.0 - random.fraction()).ln(),
                    None => 1.0,
                };
                *next_ns += *step_ns * stretch;
                Some(due as u64)
            }
        }
    }

    /// When the next command is due; `None` in a closed loop.
    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Self::Closed => None,
            Self::Open { next_ns, .. } => Some(*next_ns as u64),
        }
    }

    /// The commands that were due from `start_ns` to before `end_ns` and never given; `None` when
    /// there are none. Random distances count with their mean.
    pub fn backlog(&self, start_ns: u64, end_ns: u64) -> Option<Backlog> {
        let Self::Open {
            next_ns, step_ns, ..
        } = self
        else {
            return None;
        };
        let (start_ns, end_ns) = (start_ns as f64, end_ns as f64);
        let before = ((start_ns - next_ns) / step_ns).ceil().max(0.0);
        let first_ns = next_ns + before * step_ns;
        let count = ((end_ns - first_ns) / step_ns).ceil().max(0.0) as u64;
        (count > 0).then_some(Backlog {
            first_ns,
            step_ns: *step_ns,
            count,
        })
    }
}

/// Commands that an open loop never issued, in equal distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// When the first was due.
    pub first_ns: f64,
    /// Distance of two.
    pub step_ns: f64,
    /// How many.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_loop_is_always_due() {
        let mut pace = Pace::Closed;
        assert_eq!(pace.take(5), Some(5));
        assert_eq!(pace.take(5), Some(5));
        assert_eq!(pace.backlog(0, 1_000_000), None);
    }

    #[test]
    fn an_open_loop_keeps_its_schedule_whatever_happens() {
        let mut pace = Pace::open(1e6, 0, 1, None);
        assert_eq!(pace.take(0), Some(0));
        assert_eq!(pace.take(999), None);
        // Nothing was asked for 5 us: the commands keep the times at which they were due.
        let late: Vec<u64> = std::iter::from_fn(|| pace.take(5_000)).collect();
        assert_eq!(late, [1_000, 2_000, 3_000, 4_000, 5_000]);
        assert_eq!(pace.next_ns(), Some(6_000));
        let count = |start, end| pace.backlog(start, end).map(|backlog| backlog.count);
        assert_eq!(count(0, 10_000), Some(4), "due at 6, 7, 8 and 9 us");
        assert_eq!(count(7_500, 10_000), Some(2), "due at 8 and 9 us");
        assert_eq!(count(0, 6_000), None);
    }

    #[test]
    fn queues_take_turns_at_the_common_rate() {
        let mut paces: Vec<Pace> = (0..4).map(|i| Pace::open(1e6, i, 4, None)).collect();
        let firsts: Vec<u64> = paces.iter_mut().map(|p| p.take(1 << 40).unwrap()).collect();
        assert_eq!(firsts, [0, 1_000, 2_000, 3_000]);
        assert_eq!(paces[0].next_ns(), Some(4_000));
    }

    #[test]
    fn poisson_arrivals_have_the_right_mean_and_vary() {
        let mut pace = Pace::open(1e6, 0, 1, Some(Random::new(4, 0)));
        let times: Vec<u64> = std::iter::from_fn(|| pace.take(100_000_000)).collect();
        assert!((98_500..101_500).contains(&times.len()), "{}", times.len());
        let long = times.windows(2).filter(|w| w[1] - w[0] > 2_000).count();
        assert!((12_500..14_600).contains(&long), "e^-2 of all: {long}");
    }
}
