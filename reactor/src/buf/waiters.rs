//! Who waits for a buffer, in order, per size class.
//!
//! The lock is taken only when a pool is empty: a pool with free buffers never touches it. A freed
//! buffer wakes the first in line of its own class, or of the next smaller class that has a line
//! (a larger buffer serves a smaller need). Only the first in line may take a buffer.
//!
//! No wake is lost: a waiter raises its count and then looks at the free list, whoever frees puts
//! the buffer on the list and then looks at the counts. All four steps are sequentially
//! consistent, so one of the two sees the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::arena::Buf;
use super::pool::CLASSES;

#[derive(Default)]
pub(super) struct Waiters {
    counts: [AtomicUsize; CLASSES],
    total: AtomicUsize,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    next_ticket: u64,
    lines: [VecDeque<(u64, Waker)>; CLASSES],
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether someone waits for this class.
    pub(super) fn any(&self, class: usize) -> bool {
        self.counts[class].load(Ordering::Relaxed) > 0
    }

    /// Queues (at the first call) and, when first in line, tries to take a buffer.
    pub(super) fn wait(
        &self,
        class: usize,
        ticket: &mut Option<u64>,
        waker: &Waker,
        take: impl FnOnce() -> Option<Buf>,
    ) -> Option<Buf> {
        let mut lines = self.lock();
        let mine = match *ticket {
            Some(mine) => mine,
            None => {
                let mine = lines.next_ticket;
                lines.next_ticket += 1;
                *ticket = Some(mine);
                lines.lines[class].push_back((mine, waker.clone()));
                self.counts[class].fetch_add(1, Ordering::SeqCst);
                self.total.fetch_add(1, Ordering::SeqCst);
                mine
            }
        };
        let line = &mut lines.lines[class];
        let place = line
            .binary_search_by_key(&mine, |(ticket, _)| *ticket)
            .ok()?;
        line[place].1.clone_from(waker);
        if place > 0 {
            return None;
        }
        let buf = take()?;
        line.pop_front();
        self.counts[class].fetch_sub(1, Ordering::SeqCst);
        self.total.fetch_sub(1, Ordering::SeqCst);
        *ticket = None;
        let heads = lines.heads();
        drop(lines);
        // More than one buffer may have come free for one wake.
        heads.into_iter().flatten().for_each(Waker::wake);
        Some(buf)
    }

    /// A waiter is gone; if it was first, its wake goes on to whoever could use the buffer.
    pub(super) fn leave(&self, class: usize, ticket: u64) {
        let mut lines = self.lock();
        let line = &mut lines.lines[class];
        let Ok(place) = line.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else {
            return;
        };
        let left = line.remove(place);
        self.counts[class].fetch_sub(1, Ordering::SeqCst);
        self.total.fetch_sub(1, Ordering::SeqCst);
        let heads = if place == 0 {
            lines.heads()
        } else {
            Default::default()
        };
        drop(lines);
        drop(left);
        heads.into_iter().flatten().for_each(Waker::wake);
    }

    /// A buffer of this class came free.
    pub(super) fn wake_for(&self, class: usize) {
        if self.total.load(Ordering::SeqCst) == 0 {
            return;
        }
        let first = self.lock().first_from(class);
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

impl Lines {
    /// The first waiter of every class.
    fn heads(&self) -> [Option<Waker>; CLASSES] {
        let first = |line: &VecDeque<(u64, Waker)>| line.front().map(|(_, waker)| waker.clone());
        std::array::from_fn(|class| first(&self.lines[class]))
    }

    /// The first waiter of this class, or of the nearest smaller one.
    fn first_from(&self, class: usize) -> Option<Waker> {
        let mut lines = self.lines[..=class].iter().rev();
        lines.find_map(|line| line.front().map(|(_, waker)| waker.clone()))
    }
}
