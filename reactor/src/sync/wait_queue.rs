//! A FIFO line of wakers. Tickets grow, so a waiter finds its place by binary search, and one that
//! gives up leaves nothing behind.

use std::collections::VecDeque;
use std::task::Waker;

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    next: u64,
    line: VecDeque<(Ticket, Waker)>,
}

impl WaitQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Joins the end of the line, or refreshes the waker of a place already held.
    pub(crate) fn enqueue(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) {
        if let Some(place) = ticket.and_then(|mine| self.place(mine)) {
            self.line[place].1.clone_from(waker);
            return;
        }
        let mine = Ticket(self.next);
        self.next += 1;
        self.line.push_back((mine, waker.clone()));
        *ticket = Some(mine);
    }

    /// Whether someone else is first. Without a ticket: whether anyone waits.
    pub(crate) fn is_queued_behind(&self, ticket: Option<Ticket>) -> bool {
        self.line
            .front()
            .is_some_and(|(first, _)| Some(*first) != ticket)
    }

    /// Whether the ticket still has a place in the line.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.place(ticket).is_some()
    }

    /// Leaves the line; no effect without a place in it.
    pub(crate) fn leave(&mut self, ticket: &mut Option<Ticket>) {
        if let Some(place) = ticket.take().and_then(|mine| self.place(mine)) {
            self.line.remove(place);
        }
    }

    /// The waker of the first in line, who stays there.
    pub(crate) fn head_waker(&self) -> Option<Waker> {
        self.line.front().map(|(_, waker)| waker.clone())
    }

    /// Takes the first out of the line.
    pub(crate) fn pop(&mut self) -> Option<Waker> {
        self.line.pop_front().map(|(_, waker)| waker)
    }

    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.line
            .binary_search_by_key(&ticket, |(ticket, _)| *ticket)
            .ok()
    }
}
