//! What the user of a pair holds.

use std::rc::Rc;

use crate::card::PairBackend;
use crate::error::PostError;
use crate::inbox::Inbox;
use crate::work::Work;

use super::pair::Pair;

/// The user's hold on a pair. Its drop ends the pair.
pub(super) struct Handle(pub Rc<Pair>);

impl PairBackend for Handle {
    fn post(&self, tag: u64, work: Work) -> Result<(), PostError> {
        let pair = &self.0;
        if pair.is_down() {
            return Err(PostError::Lost(work));
        }
        let mut queue = pair.queue.borrow_mut();
        if queue.room() == 0 {
            return Err(PostError::Full(work));
        }
        match &work {
            Work::Read { into, .. } => pair.card.faults.follow(true, into),
            Work::Write { data, .. } => pair.card.faults.follow(false, data),
            Work::Send { .. } => {}
        }
        let planned = pair.card.faults.plan(pair.number(), &work);
        queue.push(tag, work, planned).map_err(PostError::Full)
    }

    fn kick(&self) {
        self.0.queue.borrow_mut().ring();
        self.0.output.wake();
    }

    fn inbox(&self) -> &Inbox {
        self.0.inbox()
    }

    fn room(&self) -> u32 {
        self.0.queue.borrow().room() as u32
    }

    fn disconnect(&self) {
        self.0.disconnect();
    }

    fn number(&self) -> u32 {
        self.0.number()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // With a dead node nobody is left to say anything.
        if !reactor::sim::is_tearing_down() {
            self.0.disconnect();
        }
    }
}
