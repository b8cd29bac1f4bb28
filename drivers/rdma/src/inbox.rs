//! Completions of one pair, between the core's completion queue and the pair's user.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use reactor::sync::Notify;

use crate::completion::Completion;
use crate::error::Lost;

/// What a card does when a message was taken out of an inbox: only then may its receive be posted
/// again, or a user who takes nothing would be sent more than there are receives.
pub(crate) trait Receives {
    /// The messages of `count` receives have left an inbox.
    fn taken(&self, count: usize);
}

/// Filled by a card, emptied by the user of the pair. Bounded by what can be posted: the pair's send
/// queue and the card's receives.
pub(crate) struct Inbox {
    waiting: RefCell<VecDeque<Completion>>,
    bell: Notify,
    lost: Cell<Option<Lost>>,
    receives: Rc<dyn Receives>,
}

impl Inbox {
    /// Room for `entries` completions; more make it grow once. `receives` hears of every message
    /// that leaves, also when the inbox is dropped with messages in it.
    pub fn new(entries: usize, receives: Rc<dyn Receives>) -> Self {
        Self {
            waiting: RefCell::new(VecDeque::with_capacity(entries)),
            bell: Notify::new(),
            lost: Cell::new(None),
            receives,
        }
    }

    /// A completion for the user.
    pub fn push(&self, completion: Completion) {
        self.waiting.borrow_mut().push_back(completion);
        self.bell.notify_one();
    }

    /// Nothing comes after what is here. The first reason stays.
    pub fn lose(&self, why: Lost) {
        if self.lost.get().is_none() {
            self.lost.set(Some(why));
            self.bell.notify_one();
        }
    }

    /// The next completion if there is one; the end only after all of them.
    pub fn try_next(&self) -> Option<Result<Completion, Lost>> {
        let next = self.waiting.borrow_mut().pop_front();
        match next {
            Some(completion) => {
                self.count_taken(&completion);
                Some(Ok(completion))
            }
            None => self.lost.get().map(Err),
        }
    }

    fn count_taken(&self, completion: &Completion) {
        if let Completion::Received(_) = completion {
            self.receives.taken(1);
        }
    }

    /// Waits for one. Cancel: nothing is lost.
    pub async fn next(&self) -> Result<Completion, Lost> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.bell.notified().await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        while let Some(Ok(_)) = self.try_next() {}
    }
}
