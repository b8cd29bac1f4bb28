//! Log lines about connections that go wrong: no more of them than somebody can read.
//!
//! Whoever reaches the port can cause such a line with every socket it opens. Without a limit it
//! could fill the disk with them, and bury what matters. The counters of the target miss nothing.

use std::cell::RefCell;
use std::time::Duration;

use reactor::Instant;

/// Lines of one kind that may come at once.
const BURST: u32 = 10;
/// After these, one more each time this has passed.
const PAUSE: Duration = Duration::from_secs(1);

/// What a line is about. Each kind has its own limit, so that one does not hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// A socket could not be accepted.
    Accept,
    /// More connections than there may be.
    Limit,
    /// A PDU that breaks the protocol, or a host that says ours does.
    Protocol,
    /// A Connect command that was refused.
    Connect,
    /// A connection that could not move to the core of its subsystem.
    Handover,
    /// A socket that ended before it was a connection.
    Unconnected,
    /// A connection that ended for a fault.
    Closed,
    /// A host that takes or gives no data.
    Stalled,
    /// A host that fell silent.
    KeepAlive,
    /// A login that was refused.
    Login,
    /// A task management function.
    Management,
}

const KINDS: usize = Complaint::Management as usize + 1;

/// The limits of one core's target.
#[derive(Debug, Default)]
pub(crate) struct Complaints([RefCell<Bucket>; KINDS]);

impl Complaints {
    /// Writes `line` to the log, unless too many of its kind came before. When a line passes again,
    /// another one says how many were left out. Cost: reads the time of the turn.
    pub fn about(&self, kind: Complaint, line: impl FnOnce()) {
        let admitted = self.0[kind as usize].borrow_mut().admit(reactor::now());
        let Some(left_out) = admitted else {
            return;
        };
        line();
        if left_out != 0 {
            tracing::warn!(about = ?kind, "{left_out} more like it were not logged");
        }
    }
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// Up to when passed time has been turned into tokens.
    counted: Instant,
    left_out: u64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            tokens: BURST,
            counted: Instant::from_nanos(0),
            left_out: 0,
        }
    }
}

impl Bucket {
    /// None: say nothing. Otherwise how many were left out since the last that passed.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.tokens == 0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.left_out))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted);
        let earned = passed.as_nanos() / PAUSE.as_nanos();
        let missing = BURST - self.tokens;
        if earned >= u128::from(missing) {
            // Full: what passed beyond is not saved up.
            self.tokens = BURST;
            self.counted = now;
        } else {
            self.tokens += earned as u32;
            self.counted += PAUSE * earned as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(5_000_000_000_000);

    fn passed(bucket: &mut Bucket, now: Instant, tries: u32) -> u32 {
        (0..tries).filter(|_| bucket.admit(now).is_some()).count() as u32
    }

    #[test]
    fn a_burst_passes_then_one_a_second() {
        let mut bucket = Bucket::default();
        assert_eq!(passed(&mut bucket, START, 1000), BURST);
        for second in 1..=20 {
            let now = START + PAUSE * second;
            assert_eq!(passed(&mut bucket, now, 50), 1, "second {second}");
        }
    }

    #[test]
    fn the_line_that_passes_again_knows_how_many_did_not() {
        let mut bucket = Bucket::default();
        passed(&mut bucket, START, BURST + 7);
        assert_eq!(bucket.admit(START + PAUSE), Some(7));
        assert_eq!(bucket.admit(START + PAUSE), None);
        assert_eq!(bucket.admit(START + PAUSE * 2), Some(1));
        assert_eq!(
            bucket.admit(START + PAUSE * 9),
            Some(0),
            "none were left out"
        );
    }

    #[test]
    fn quiet_time_is_saved_up_to_one_burst() {
        let mut bucket = Bucket::default();
        passed(&mut bucket, START, 1000);
        let later = START + PAUSE * 4 + PAUSE / 2;
        assert_eq!(passed(&mut bucket, later, 1000), 4);
        // The half second counts.
        assert_eq!(passed(&mut bucket, later + PAUSE / 2, 1000), 1);
        assert_eq!(passed(&mut bucket, later + PAUSE * 100_000, 1000), BURST);
    }

    #[test]
    fn a_time_before_the_last_one_changes_nothing() {
        let mut bucket = Bucket::default();
        passed(&mut bucket, START, 1000);
        assert_eq!(passed(&mut bucket, START - PAUSE * 3, 10), 0);
        assert_eq!(passed(&mut bucket, START + PAUSE, 10), 1);
    }
}
