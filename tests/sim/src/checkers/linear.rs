//! Per-block linearizability: every observation of a block is of a write that could be current.
//!
//! A block is a register. Every value it may have had is kept with the interval in which it came
//! into effect and the moments at which it was seen. Value a comes before value b when a was in
//! effect for certain before something that saw b (or wrote b) began. An observation of a is wrong
//! when some b is known to be in effect before the observer began and a comes before b. With
//! unique values this pairwise rule is all there is (Gibbons and Korach, "Testing shared
//! memories", SIAM J. Comput. 26, 1997); zeros are not unique, so an observation of zeros is
//! right when any of the operations that made zeros could be seen, and teaches something only
//! when there is one such operation.

use crate::stamp::Seen;

/// A moment: the position in the order of everything that begins or ends in a run.
pub type Moment = u64;

/// Later than everything.
pub const NEVER: Moment = Moment::MAX;

/// A value that a block has had, has, or may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What reads of it look like.
    pub seen: Seen,
    /// The operation that made it; 0 is the volume's creation.
    pub op: u64,
    /// When that operation began.
    pub invoked: Moment,
    /// The first moment at which it was known to be in effect: acknowledged, or seen.
    pub established: Moment,
    /// If it came into effect at all, it did before this moment (the end of the process).
    pub deadline: Moment,
    /// The last beginning of an operation that saw it, or of the one that made it.
    pub last_start: Moment,
    /// Known to be on durable media.
    pub forced: bool,
    /// One of those that a power loss may have left: durable if it is seen.
    pub survivor: bool,
    /// A compare-and-write that succeeded has replaced it.
    pub consumed: bool,
}

impl Value {
    /// The zeros that every volume begins with.
    pub const INITIAL: Value = Value {
        seen: Seen::Zeros,
        op: 0,
        invoked: 0,
        established: 0,
        deadline: 0,
        last_start: 0,
        forced: true,
        survivor: false,
        consumed: false,
    };

    /// A value whose operation begins now.
    pub fn begun(seen: Seen, op: u64, now: Moment) -> Self {
        Self {
            seen,
            op,
            invoked: now,
            established: NEVER,
            deadline: NEVER,
            last_start: now,
            forced: false,
            survivor: false,
            consumed: false,
        }
    }

    /// By then it was in effect, or will never be.
    pub fn latest(&self) -> Moment {
        self.established.min(self.deadline)
    }

    /// Whether this one was in effect before `other`, for certain, if both ever were.
    pub fn precedes(&self, other: &Value) -> bool {
        self.op != other.op && self.latest() < other.last_start
    }
}

/// Why an observation is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing that was ever begun here looks like this, or it was superseded long ago.
    Unknown,
    /// It was there once, and this one has replaced it.
    Superseded(Value),
}

/// Everything one block may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Empty for a block nothing was ever done to: the initial zeros.
    values: Vec<Value>,
}

impl Block {
    /// The values that may matter, oldest operation first.
    pub fn values(&self) -> &[Value] {
        if self.values.is_empty() {
            &[Value::INITIAL]
        } else {
            &self.values
        }
    }

    /// As `values`, to change them.
    pub fn values_mut(&mut self) -> &mut Vec<Value> {
        if self.values.is_empty() {
            self.values.push(Value::INITIAL);
        }
        &mut self.values
    }

    /// Whether nothing was ever done to it.
    pub fn is_untouched(&self) -> bool {
        self.values.is_empty()
    }

    /// An operation that makes a value begins.
    pub fn begin(&mut self, value: Value) {
        self.values_mut().push(value);
    }

    /// It was acknowledged.
    pub fn acknowledge(&mut self, op: u64, now: Moment, forced: bool) {
        if let Some(value) = self.find(op) {
            value.established = value.established.min(now);
            value.forced |= forced;
        }
    }

    /// It was refused, so it never happened. Wrong when somebody has seen it.
    pub fn refuse(&mut self, op: u64) -> Result<(), Wrong> {
        let Some(value) = self.find(op).copied() else {
            return Ok(());
        };
        self.values_mut().retain(|value| value.op != op);
        if value.established == NEVER {
            Ok(())
        } else {
            Err(Wrong::Superseded(value))
        }
    }

    fn find(&mut self, op: u64) -> Option<&mut Value> {
        self.values.iter_mut().find(|value| value.op == op)
    }

    /// What proves that `value` was replaced before `at`.
    fn successor(&self, value: &Value, at: Moment) -> Option<Value> {
        let replaced = |other: &&Value| other.established < at && value.precedes(other);
        self.values().iter().find(replaced).copied()
    }

    /// The operations whose value an observer that began at `began` may have seen.
    fn candidates(&self, began: Moment) -> impl Iterator<Item = Value> {
        self.values()
            .iter()
            .filter(move |v| self.successor(v, began).is_none())
            .copied()
    }

    /// Somebody who began at `began` saw `seen`, and says so at `now`; `forced`: what was seen is
    /// durable now.
    pub fn observe(
        &mut self,
        seen: Seen,
        began: Moment,
        now: Moment,
        forced: bool,
    ) -> Result<(), Wrong> {
        if self.is_untouched() && seen == Seen::Zeros {
            return Ok(());
        }
        let mut right = self.candidates(began).filter(|value| value.seen == seen);
        let Some(first) = right.next() else {
            return Err(self.explain(seen, began));
        };
        let is_only = right.next().is_none();
        drop(right);
        if is_only && let Some(value) = self.values_mut().iter_mut().find(|v| v.op == first.op) {
            value.established = value.established.min(now);
            value.last_start = value.last_start.max(began);
            value.forced |= forced;
        }
        Ok(())
    }

    fn explain(&self, seen: Seen, began: Moment) -> Wrong {
        let last = self.values().iter().rfind(|value| value.seen == seen);
        let successor = last.and_then(|value| self.successor(value, began));
        successor.map_or(Wrong::Unknown, Wrong::Superseded)
    }

    /// Somebody who began at `began` was told that the block is not `seen`.
    pub fn observe_other(&self, seen: Seen, began: Moment) -> Result<(), Wrong> {
        let mut others = self.candidates(began).filter(|value| value.seen != seen);
        if others.next().is_some() {
            Ok(())
        } else {
            Err(Wrong::Unknown)
        }
    }

    /// A compare-and-write replaced `seen`. Two of them cannot have replaced the same write.
    pub fn consume(&mut self, seen: Seen) -> Result<(), Wrong> {
        let Seen::Version(_) = seen else {
            return Ok(());
        };
        let Some(value) = self
            .values_mut()
            .iter_mut()
            .find(|value| value.seen == seen)
        else {
            return Ok(());
        };
        if std::mem::replace(&mut value.consumed, true) {
            return Err(Wrong::Superseded(*value));
        }
        Ok(())
    }

    /// Forgets values that nobody can see any more: replaced before `watermark` (the beginning of
    /// the oldest operation still running) by one that `is_durable`.
    pub fn prune(&mut self, watermark: Moment, is_durable: impl Fn(&Value) -> bool) {
        let keep: Vec<bool> = (self.values.iter())
            .map(|value| {
                let replaced = |other: &Value| {
                    other.established < watermark && value.precedes(other) && is_durable(other)
                };
                !self.values.iter().any(replaced)
            })
            .collect();
        let mut keep = keep.into_iter();
        self.values.retain(|_| keep.next().unwrap_or(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins a write of version `op` at `from`; acknowledged at `to` unless that is NEVER.
    fn write(block: &mut Block, op: u64, from: Moment, to: Moment) {
        block.begin(Value::begun(Seen::Version(op), op, from));
        if to != NEVER {
            block.acknowledge(op, to, false);
        }
    }

    fn zero(block: &mut Block, op: u64, from: Moment, to: Moment) {
        block.begin(Value::begun(Seen::Zeros, op, from));
        block.acknowledge(op, to, false);
    }

    fn read(block: &mut Block, version: u64, from: Moment, to: Moment) -> Result<(), Wrong> {
        let seen = if version == 0 {
            Seen::Zeros
        } else {
            Seen::Version(version)
        };
        block.observe(seen, from, to, false)
    }

    #[test]
    fn the_last_write_is_read() {
        let mut block = Block::default();
        assert_eq!(read(&mut block, 0, 1, 2), Ok(()));
        write(&mut block, 1, 3, 4);
        write(&mut block, 2, 5, 6);
        assert_eq!(read(&mut block, 2, 7, 8), Ok(()));
    }

    #[test]
    fn a_stale_read_is_caught() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        write(&mut block, 2, 3, 4);
        assert!(matches!(read(&mut block, 1, 5, 6), Err(Wrong::Superseded(v)) if v.op == 2));
        assert!(matches!(
            read(&mut block, 0, 5, 6),
            Err(Wrong::Superseded(_))
        ));
    }

    #[test]
    fn an_invented_value_is_caught() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        assert_eq!(read(&mut block, 7, 3, 4), Err(Wrong::Unknown));
        assert_eq!(read(&mut Block::default(), 7, 3, 4), Err(Wrong::Unknown));
    }

    #[test]
    fn concurrent_writes_may_go_either_way_and_then_stay() {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut block = Block::default();
            write(&mut block, 1, 1, NEVER);
            write(&mut block, 2, 2, NEVER);
            block.acknowledge(1, 3, false);
            block.acknowledge(2, 4, false);
            assert_eq!(read(&mut block, first, 5, 6), Ok(()));
            assert_eq!(read(&mut block, first, 7, 8), Ok(()));
            assert!(
                read(&mut block, second, 9, 10).is_err(),
                "{first} then {second}"
            );
        }
    }

    #[test]
    fn a_read_may_see_what_was_current_when_it_began() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        // The read runs from 3 to 6, the write inside of that.
        write(&mut block, 2, 4, 5);
        assert_eq!(read(&mut block, 1, 3, 6), Ok(()));
        assert_eq!(read(&mut block, 2, 7, 8), Ok(()));
    }

    #[test]
    fn once_seen_an_unacknowledged_write_stays() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        write(&mut block, 2, 3, NEVER);
        assert_eq!(read(&mut block, 1, 4, 5), Ok(()));
        assert_eq!(read(&mut block, 2, 6, 7), Ok(()));
        assert!(read(&mut block, 1, 8, 9).is_err());
    }

    #[test]
    fn a_write_of_an_ended_process_does_not_come_later() {
        let mut block = Block::default();
        write(&mut block, 1, 1, NEVER);
        block.values_mut()[1].deadline = 5;
        write(&mut block, 2, 6, 7);
        assert!(read(&mut block, 1, 8, 9).is_err());
        // Without the second write it may be there or not.
        let mut block = Block::default();
        write(&mut block, 1, 1, NEVER);
        block.values_mut()[1].deadline = 5;
        assert_eq!(read(&mut block.clone(), 0, 8, 9), Ok(()));
        assert_eq!(read(&mut block, 1, 8, 9), Ok(()));
        assert!(read(&mut block, 0, 10, 11).is_err());
    }

    #[test]
    fn zeros_come_from_any_operation_that_made_them() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        assert!(read(&mut block, 0, 3, 4).is_err());
        zero(&mut block, 2, 5, 6);
        assert_eq!(read(&mut block, 0, 7, 8), Ok(()));
        assert!(read(&mut block, 1, 9, 10).is_err());
    }

    #[test]
    fn a_refused_write_is_never_seen() {
        let mut block = Block::default();
        write(&mut block, 1, 1, NEVER);
        assert_eq!(block.refuse(1), Ok(()));
        assert_eq!(read(&mut block, 1, 3, 4), Err(Wrong::Unknown));
        let mut block = Block::default();
        write(&mut block, 1, 1, NEVER);
        assert_eq!(read(&mut block, 1, 2, 3), Ok(()));
        assert!(block.refuse(1).is_err());
    }

    #[test]
    fn a_difference_must_be_possible() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        assert!(block.observe_other(Seen::Version(1), 3).is_err());
        assert_eq!(block.observe_other(Seen::Zeros, 3), Ok(()));
        write(&mut block, 2, 4, NEVER);
        assert_eq!(block.observe_other(Seen::Version(1), 5), Ok(()));
    }

    #[test]
    fn one_write_is_replaced_by_one_compare_and_write() {
        let mut block = Block::default();
        write(&mut block, 1, 1, 2);
        assert_eq!(block.consume(Seen::Version(1)), Ok(()));
        assert!(block.consume(Seen::Version(1)).is_err());
        assert_eq!(block.consume(Seen::Zeros), Ok(()));
    }

    #[test]
    fn pruning_changes_no_verdict() {
        let mut block = Block::default();
        for op in 1..10 {
            write(&mut block, op, op * 2, op * 2 + 1);
        }
        block.prune(100, |_| false);
        assert_eq!(block.values().len(), 10);
        block.prune(100, |value| value.op < 9);
        assert_eq!(block.values().len(), 2);
        block.prune(100, |_| true);
        assert_eq!(block.values().len(), 1);
        assert_eq!(read(&mut block, 9, 101, 102), Ok(()));
        assert!(read(&mut block, 8, 103, 104).is_err());
    }
}
