//! What each block of a region may hold, given which writes were acknowledged when.
//!
//! A block may hold a write `w` unless some acknowledged write started after `w` had ended: such
//! a write is newer for every observer. Writes in flight at a crash never end, so they stay
//! possible until a read settles the block; from then on nothing else is possible.

use crate::stamp::Content;

/// One write that the block may hold.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    content: Content,
    started: u64,
    /// When it was acknowledged; `None` while in flight, and for ever after a crash.
    ended: Option<u64>,
}

/// Blocks of one region, all written by one client.
#[derive(Debug)]
pub struct Model {
    blocks: Vec<Vec<Candidate>>,
    clock: u64,
}

/// A write in flight.
#[derive(Clone, Debug)]
pub struct Ticket {
    first: usize,
    contents: Vec<Content>,
    started: u64,
}

impl Model {
    /// `count` blocks of zeroes.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let zero = Candidate {
            content: Content::Zero,
            started: 0,
            ended: Some(0),
        };
        Self {
            blocks: vec![vec![zero]; count],
            clock: 1,
        }
    }

    /// Blocks of the region.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True when there are no blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The content of a block, when only one is possible and nothing is in flight for it.
    #[must_use]
    pub fn settled(&self, block: usize) -> Option<Content> {
        match self.blocks[block].as_slice() {
            [only] if only.ended.is_some() => Some(only.content),
            _ => None,
        }
    }

    /// True when no write to any of the blocks is in flight.
    #[must_use]
    pub fn is_quiet(&self, first: usize, count: usize) -> bool {
        let all_ended = |block: &Vec<Candidate>| block.iter().all(|c| c.ended.is_some());
        self.blocks[first..first + count].iter().all(all_ended)
    }

    /// A write of `contents`, one a block from `first` on, is about to be sent.
    pub fn start(&mut self, first: usize, contents: Vec<Content>) -> Ticket {
        let started = self.tick();
        for (block, content) in self.blocks[first..].iter_mut().zip(&contents) {
            block.push(Candidate {
                content: *content,
                started,
                ended: None,
            });
        }
        Ticket {
            first,
            contents,
            started,
        }
    }

    /// The write was acknowledged: whatever ended before it started is gone.
    pub fn acknowledge(&mut self, ticket: &Ticket) {
        let now = self.tick();
        for block in &mut self.blocks[ticket.first..ticket.first + ticket.contents.len()] {
            for candidate in block.iter_mut().filter(|c| c.started == ticket.started) {
                candidate.ended = Some(now);
            }
            block.retain(|c| c.ended.is_none_or(|ended| ended > ticket.started));
        }
    }

    /// A read that nothing overlapped returned `content`: possible, and from now on the only one.
    pub fn observe(&mut self, block: usize, content: Content) -> Result<(), String> {
        let now = self.tick();
        let candidates = &mut self.blocks[block];
        if !candidates.iter().any(|c| c.content == content) {
            return Err(format!(
                "block {block} holds {content:?}, possible are {candidates:?}"
            ));
        }
        *candidates = vec![Candidate {
            content,
            started: now,
            ended: Some(now),
        }];
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Content::{Version, Zero};

    #[test]
    fn an_acknowledged_write_replaces_what_was_there() {
        let mut model = Model::new(4);
        let ticket = model.start(1, vec![Version(1), Version(1)]);
        assert_eq!(model.settled(1), None);
        model.acknowledge(&ticket);
        assert_eq!(model.settled(1), Some(Version(1)));
        assert!(model.observe(1, Zero).is_err());
        assert_eq!(model.observe(0, Zero), Ok(()));
        assert_eq!(model.observe(2, Version(1)), Ok(()));
    }

    #[test]
    fn a_write_in_flight_may_or_may_not_have_happened_and_reading_settles_it() {
        for happened in [Version(1), Version(2)] {
            let mut model = Model::new(1);
            let first = model.start(0, vec![Version(1)]);
            model.acknowledge(&first);
            let _lost = model.start(0, vec![Version(2)]);
            assert_eq!(model.observe(0, happened), Ok(()));
            let other = if happened == Version(1) {
                Version(2)
            } else {
                Version(1)
            };
            assert!(model.observe(0, other).is_err());
        }
    }

    #[test]
    fn writes_that_overlap_in_time_may_land_in_either_order() {
        for last in [Version(1), Version(2)] {
            let mut model = Model::new(1);
            let one = model.start(0, vec![Version(1)]);
            let two = model.start(0, vec![Version(2)]);
            model.acknowledge(&two);
            model.acknowledge(&one);
            assert!(model.observe(0, Zero).is_err());
            assert_eq!(model.observe(0, last), Ok(()));
        }
    }

    #[test]
    fn a_lost_write_is_impossible_once_a_later_one_is_acknowledged() {
        let mut model = Model::new(1);
        let lost = model.start(0, vec![Version(1)]);
        model.acknowledge(&lost);
        let later = model.start(0, vec![Zero]);
        model.acknowledge(&later);
        assert!(model.observe(0, Version(1)).is_err());
        assert_eq!(model.observe(0, Zero), Ok(()));
    }
}
