//! Timers: a binary heap that knows where each timer is, so that removing one is as cheap as
//! adding it and a cancelled timer leaves nothing behind.
//!
//! Bound: [`MAX_TIMERS`] per core; one more panics, because each belongs to a live future and
//! those are bounded by whoever made them. No allocation once the heap has had its largest size.

use std::task::Waker;

use crate::time::Instant;

/// Live timers per core.
pub(crate) const MAX_TIMERS: usize = 1 << 20;

/// Names a live timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

struct Timer {
    deadline: Instant,
    // Timers of one deadline fire in the order they were made.
    sequence: u64,
    generation: u32,
    place: u32,
    waker: Option<Waker>,
}

#[derive(Default)]
pub(crate) struct Timers {
    timers: Vec<Timer>,
    free: Vec<u32>,
    heap: Vec<u32>,
    next_sequence: u64,
}

impl Timers {
    pub(crate) fn insert(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            assert!(
                self.timers.len() < MAX_TIMERS,
                "more than {MAX_TIMERS} timers on one core"
            );
            self.timers.push(Timer {
                deadline,
                sequence,
                generation: 0,
                place: 0,
                waker: None,
            });
            (self.timers.len() - 1) as u32
        });
        let place = self.heap.len() as u32;
        let timer = &mut self.timers[index as usize];
        let generation = timer.generation;
        *timer = Timer {
            deadline,
            sequence,
            generation,
            place,
            waker: Some(waker),
        };
        self.heap.push(index);
        self.sift_up(place as usize);
        TimerKey { index, generation }
    }

    /// Replaces the waker. False when the timer has fired already.
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let timer = &mut self.timers[key.index as usize];
        if timer.generation != key.generation {
            return false;
        }
        match &mut timer.waker {
            Some(current) => current.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        true
    }

    /// Removes a timer; nothing happens when it has fired already.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        let timer = &self.timers[key.index as usize];
        if timer.generation != key.generation {
            return None;
        }
        self.take_at(timer.place as usize)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap
            .first()
            .map(|&index| self.timers[index as usize].deadline)
    }

    /// Takes the earliest timer if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        if self.next_deadline()? > now {
            return None;
        }
        self.take_at(0)
    }

    fn take_at(&mut self, place: usize) -> Option<Waker> {
        let index = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.timers[self.heap[place] as usize].place = place as u32;
            self.sift_down(place);
            self.sift_up(place);
        }
        let timer = &mut self.timers[index as usize];
        timer.generation = timer.generation.wrapping_add(1);
        self.free.push(index);
        timer.waker.take()
    }

    fn order(&self, place: usize) -> (Instant, u64) {
        let timer = &self.timers[self.heap[place] as usize];
        (timer.deadline, timer.sequence)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.timers[self.heap[a] as usize].place = a as u32;
        self.timers[self.heap[b] as usize].place = b as u32;
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.order(parent) <= self.order(place) {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let right = left + 1;
            if left >= self.heap.len() {
                return;
            }
            let takes_right = right < self.heap.len() && self.order(right) < self.order(left);
            let child = if takes_right { right } else { left };
            if self.order(place) <= self.order(child) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    /// Removal from every place of the heap keeps the order of the rest.
    #[test]
    fn removal_keeps_order() {
        for removed in 0..50u64 {
            let mut timers = Timers::default();
            let deadlines: Vec<u64> = (0..50).map(|i| i * 37 % 50).collect();
            let keys: Vec<TimerKey> = deadlines
                .iter()
                .map(|&ns| timers.insert(at(ns), Waker::noop().clone()))
                .collect();
            let victim = deadlines.iter().position(|&ns| ns == removed).unwrap();
            assert!(timers.remove(keys[victim]).is_some());
            assert!(
                timers.remove(keys[victim]).is_none(),
                "a second removal finds nothing"
            );
            let mut fired = Vec::new();
            while let Some(deadline) = timers.next_deadline() {
                assert!(timers.pop_due(deadline).is_some());
                fired.push(deadline.as_nanos());
            }
            let expected: Vec<u64> = (0..50).filter(|&ns| ns != removed).collect();
            assert_eq!(fired, expected);
        }
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut timers = Timers::default();
        timers.insert(at(10), Waker::noop().clone());
        assert!(timers.pop_due(at(9)).is_none());
        assert!(timers.pop_due(at(10)).is_some());
        assert!(timers.pop_due(at(11)).is_none());
    }

    #[test]
    fn a_recycled_timer_is_not_reached_by_its_old_key() {
        let mut timers = Timers::default();
        let old = timers.insert(at(1), Waker::noop().clone());
        timers.pop_due(at(1));
        let new = timers.insert(at(2), Waker::noop().clone());
        assert_eq!(old.index, new.index);
        assert!(!timers.set_waker(old, Waker::noop()));
        assert!(timers.remove(old).is_none());
        assert_eq!(timers.next_deadline(), Some(at(2)));
    }
}
