//! One device flush serves everybody who asked before it started.

use std::cell::Cell;

use reactor::sync::Notify;

/// Who flushes next, and what has been flushed. Flushes are numbered from 1.
#[derive(Default)]
pub(crate) struct FlushQueue {
    started: Cell<u64>,
    finished: Cell<u64>,
    running: Cell<bool>,
    turn: Notify,
}

/// What a caller has to do next.
pub(crate) enum Step<'a> {
    /// A flush that started after the caller asked has completed.
    Done,
    /// Do the flush, then `complete` the lead.
    Lead(Lead<'a>),
    /// Another caller's flush is running.
    Wait,
}

/// The right to flush. Dropped without `complete` (failure, or a cancelled caller), the flush
/// counts for nobody and another caller takes over.
pub(crate) struct Lead<'a> {
    queue: &'a FlushQueue,
    number: u64,
}

impl FlushQueue {
    /// The number of the first flush that will start after now.
    pub(crate) fn ticket(&self) -> u64 {
        self.started.get() + 1
    }

    /// Decides for the caller with this ticket.
    pub(crate) fn step(&self, ticket: u64) -> Step<'_> {
        if self.finished.get() >= ticket {
            return Step::Done;
        }
        if self.running.get() {
            return Step::Wait;
        }
        self.running.set(true);
        self.started.set(self.started.get() + 1);
        Step::Lead(Lead {
            queue: self,
            number: self.started.get(),
        })
    }

    /// Resolves when a running flush ended, in whatever way.
    pub(crate) async fn wait(&self) {
        self.turn.notified().await;
    }
}

impl Lead<'_> {
    /// The flush completed.
    pub(crate) fn complete(self) {
        self.queue.finished.set(self.number);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.queue.running.set(false);
        self.queue.turn.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(queue: &FlushQueue, ticket: u64) -> Lead<'_> {
        match queue.step(ticket) {
            Step::Lead(lead) => lead,
            _ => panic!("expected to lead"),
        }
    }

    #[test]
    fn a_flush_that_already_started_does_not_count() {
        let queue = FlushQueue::default();
        let first = queue.ticket();
        let running = lead(&queue, first);
        let late = queue.ticket();
        assert!(matches!(queue.step(late), Step::Wait));
        running.complete();
        assert!(matches!(queue.step(first), Step::Done));
        lead(&queue, late).complete();
        assert!(matches!(queue.step(late), Step::Done));
    }

    #[test]
    fn callers_before_the_start_share_it() {
        let queue = FlushQueue::default();
        let (a, b) = (queue.ticket(), queue.ticket());
        lead(&queue, a).complete();
        assert!(matches!(queue.step(b), Step::Done));
    }

    #[test]
    fn a_dropped_lead_is_taken_over() {
        let queue = FlushQueue::default();
        let (a, b) = (queue.ticket(), queue.ticket());
        drop(lead(&queue, a));
        lead(&queue, b).complete();
        assert!(matches!(queue.step(a), Step::Done));
    }
}
