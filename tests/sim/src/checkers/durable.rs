//! Durability of what was acknowledged: which values of a block a crash may leave.
//!
//! After a kill everything acknowledged is there (and so is everything seen); what was not
//! acknowledged happened before the crash or never. After a power loss that empties a volatile
//! cache, at least what was in effect before the last completed Flush began, or what a FUA
//! request said, is there; of everything later, any one may be. The rule works on the values of a
//! block; whether the block then really holds one of them is for the observations after the crash
//! (`linear`) to show.

use super::linear::{Block, Moment, NEVER, Value};

/// What a volume was promised to survive power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The device has no volatile cache: what is acknowledged is durable.
    pub always: bool,
    /// The beginning of the last Flush that completed.
    pub flushed: Moment,
}

impl Promise {
    /// Whether power loss cannot take the block back to before this value.
    pub fn covers(&self, value: &Value) -> bool {
        let is_there = value.established < NEVER;
        is_there
            && (self.always || value.forced || value.survivor || value.established < self.flushed)
    }
}

/// The process died at `now`; device caches live on.
pub fn after_kill(block: &mut Block, now: Moment) {
    if block.is_untouched() {
        return;
    }
    for value in block.values_mut() {
        if value.established == NEVER {
            value.deadline = value.deadline.min(now);
        }
    }
}

/// The power failed at `now`, and with it whatever was not durable.
pub fn after_power_loss(block: &mut Block, promise: &Promise, now: Moment) {
    if block.is_untouched() {
        return;
    }
    if promise.always {
        return after_kill(block, now);
    }
    let values = block.values_mut();
    let durable: Vec<Value> = values
        .iter()
        .filter(|v| promise.covers(v))
        .copied()
        .collect();
    values.retain(|value| !durable.iter().any(|later| value.precedes(later)));
    let is_known = values.len() == 1;
    for value in values {
        value.deadline = value.deadline.min(now);
        value.forced = is_known;
        value.survivor = true;
        // What replaced it may be gone.
        value.consumed = false;
        if !is_known {
            value.established = NEVER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Seen;

    const VOLATILE: Promise = Promise {
        always: false,
        flushed: 0,
    };

    /// Version n is written from 10n to 10n + 1.
    fn written(count: u64) -> Block {
        let mut block = Block::default();
        for op in 1..=count {
            block.begin(Value::begun(Seen::Version(op), op, op * 10));
            block.acknowledge(op, op * 10 + 1, false);
        }
        block
    }

    fn possible(block: &Block, at: Moment) -> Vec<u64> {
        let all = 0..=9u64;
        all.filter(|version| {
            let seen = if *version == 0 {
                Seen::Zeros
            } else {
                Seen::Version(*version)
            };
            block.clone().observe(seen, at, at + 1, false).is_ok()
        })
        .collect()
    }

    #[test]
    fn a_kill_loses_nothing_acknowledged() {
        let mut block = written(3);
        after_kill(&mut block, 50);
        assert_eq!(possible(&block, 60), [3]);
    }

    #[test]
    fn a_kill_decides_what_was_under_way() {
        let mut block = written(2);
        block.begin(Value::begun(Seen::Version(3), 3, 40));
        after_kill(&mut block, 50);
        assert_eq!(possible(&block, 60), [2, 3]);
        block.observe(Seen::Version(2), 60, 61, false).unwrap();
        assert_eq!(possible(&block, 70), [2]);
    }

    #[test]
    fn power_loss_keeps_what_was_flushed() {
        let mut block = written(4);
        after_power_loss(
            &mut block,
            &Promise {
                flushed: 25,
                ..VOLATILE
            },
            50,
        );
        assert_eq!(possible(&block, 60), [2, 3, 4]);
        block.observe(Seen::Version(3), 60, 61, false).unwrap();
        assert_eq!(possible(&block, 70), [3]);
    }

    #[test]
    fn a_lost_flushed_write_is_caught() {
        let mut block = written(3);
        after_power_loss(
            &mut block,
            &Promise {
                flushed: 35,
                ..VOLATILE
            },
            50,
        );
        assert!(block.observe(Seen::Version(2), 60, 61, false).is_err());
        assert!(block.observe(Seen::Zeros, 60, 61, false).is_err());
        assert!(block.observe(Seen::Version(3), 60, 61, false).is_ok());
    }

    #[test]
    fn a_write_acknowledged_after_the_flush_began_is_not_covered() {
        let mut block = written(2);
        after_power_loss(
            &mut block,
            &Promise {
                flushed: 21,
                ..VOLATILE
            },
            50,
        );
        assert_eq!(possible(&block, 60), [1, 2]);
    }

    #[test]
    fn without_a_flush_anything_may_be_left() {
        let mut block = written(3);
        after_power_loss(&mut block, &VOLATILE, 50);
        assert_eq!(possible(&block, 60), [0, 1, 2, 3]);
    }

    #[test]
    fn fua_is_a_floor() {
        let mut block = written(1);
        block.begin(Value::begun(Seen::Version(2), 2, 20));
        block.acknowledge(2, 21, true);
        block.begin(Value::begun(Seen::Version(3), 3, 30));
        after_power_loss(&mut block, &VOLATILE, 50);
        assert_eq!(possible(&block, 60), [2, 3]);
    }

    #[test]
    fn without_a_volatile_cache_power_loss_is_a_kill() {
        let mut block = written(3);
        after_power_loss(
            &mut block,
            &Promise {
                always: true,
                flushed: 0,
            },
            50,
        );
        assert_eq!(possible(&block, 60), [3]);
    }

    #[test]
    fn what_survived_a_power_loss_and_was_seen_survives_the_next() {
        let mut block = written(3);
        after_power_loss(&mut block, &VOLATILE, 50);
        block.observe(Seen::Version(2), 60, 61, false).unwrap();
        after_power_loss(&mut block, &VOLATILE, 70);
        assert_eq!(possible(&block, 80), [2]);
    }

    #[test]
    fn what_survived_unseen_stays_open() {
        let mut block = written(2);
        after_power_loss(&mut block, &VOLATILE, 50);
        block.begin(Value::begun(Seen::Version(3), 3, 60));
        after_power_loss(&mut block, &VOLATILE, 70);
        assert_eq!(possible(&block, 80), [0, 1, 2, 3]);
    }
}
