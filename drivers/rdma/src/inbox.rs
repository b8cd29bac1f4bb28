//! Completions of one pair, between the core's completion queue and the pair's user.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use reactor::sync::Notify;

use crate::completion::Completion;
use crate::error::Lost;

/// Filled by a card, emptied by the user of the pair. Bounded by what can be posted: the pair's send
/// queue and the card's receives.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: RefCell<VecDeque<Completion>>,
    bell: Notify,
    lost: Cell<Option<Lost>>,
}

impl Inbox {
    /// Room for `entries` completions; more make it grow once.
    pub fn new(entries: usize) -> Self {
        Self {
            waiting: RefCell::new(VecDeque::with_capacity(entries)),
            ..Self::default()
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

    /// Why nothing more comes.
    pub fn lost(&self) -> Option<Lost> {
        self.lost.get()
    }

    /// The next completion if there is one; the end only after all of them.
    pub fn try_next(&self) -> Option<Result<Completion, Lost>> {
        let next = self.waiting.borrow_mut().pop_front();
        match next {
            Some(completion) => Some(Ok(completion)),
            None => self.lost.get().map(Err),
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
