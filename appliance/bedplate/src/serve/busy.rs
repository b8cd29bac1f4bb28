//! How busy a data core is: its share of work between two looks at its counters.

use std::time::{Duration, Instant};

use reactor::CoreStats;

/// What one look at a core's counters found.
#[derive(Clone, Copy, Debug)]
pub struct BusySample {
    at: Instant,
    busy_ns: u64,
    fraction: f64,
}

impl BusySample {
    /// The first look. What the core did before it, such as recovery, counts for no share.
    pub fn first(at: Instant, stats: &CoreStats) -> BusySample {
        BusySample {
            at,
            busy_ns: stats.busy_ns.get(),
            fraction: 0.0,
        }
    }

    /// Looks again: the share is that of the time since the look before.
    pub fn again(&mut self, at: Instant, stats: &CoreStats) {
        let busy_ns = stats.busy_ns.get();
        let worked = Duration::from_nanos(busy_ns.saturating_sub(self.busy_ns));
        let passed = at.saturating_duration_since(self.at);
        *self = BusySample {
            at,
            busy_ns,
            fraction: share(worked, passed).unwrap_or(self.fraction),
        };
    }

    /// Share of the time between the last two looks in which the core's loop found work, 0.0 to
    /// 1.0.
    pub fn fraction(&self) -> f64 {
        self.fraction
    }
}

/// None when no time passed. Of the clock's time, not of busy and idle nanoseconds: a core counts
/// the idle ones when it wakes, so that those of a long sleep would all fall into one second.
fn share(worked: Duration, passed: Duration) -> Option<f64> {
    // A turn counts when it ends, and may have begun before the look before.
    (!passed.is_zero()).then(|| (worked.as_secs_f64() / passed.as_secs_f64()).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_share_is_of_the_time_that_passed() {
        let millis = Duration::from_millis;
        assert_eq!(share(Duration::ZERO, SECOND), Some(0.0));
        assert_eq!(share(millis(250), SECOND), Some(0.25));
        assert_eq!(share(millis(250), millis(500)), Some(0.5));
    }

    #[test]
    fn a_turn_that_began_before_is_no_more_than_all_of_the_time() {
        assert_eq!(share(2 * SECOND, SECOND), Some(1.0));
    }

    #[test]
    fn two_looks_at_one_moment_say_nothing() {
        assert_eq!(share(Duration::ZERO, Duration::ZERO), None);
    }
}
