//! A connected queue pair.

use std::rc::Rc;

use crate::card::PairBackend;
use crate::completion::Completion;
use crate::error::{Lost, PostError};
use crate::work::Work;

/// One end of a reliable connection. Clones share it; it stays on its core.
///
/// The end of a pair: [`QueuePair::disconnect`], or the peer's, or a failure; then whatever was
/// posted comes back as flushed; then [`QueuePair::next`] says why it is lost; then the last clone
/// is dropped, which gives the card's resources back. Dropping the last clone earlier is fine too:
/// the card goes through the same steps by itself and holds the memory until they are done.
#[derive(Clone)]
pub struct QueuePair(Rc<dyn PairBackend>);

impl QueuePair {
    pub(crate) fn new(backend: Rc<dyn PairBackend>) -> Self {
        Self(backend)
    }

    /// Puts work on the send queue. It leaves with the next [`QueuePair::kick`], together with what
    /// else is posted until then. Errors give the work back; no work is done partly.
    /// Cost: no allocation.
    pub fn post(&self, tag: u64, work: Work) -> Result<(), PostError> {
        self.0.post(tag, work)
    }

    /// Rings the card's doorbell for what was posted since. Cost: one for any number.
    pub fn kick(&self) {
        self.0.kick();
    }

    /// The next completion. Only one task waits at a time. Cancel: nothing is lost.
    /// Errors: the pair has ended and everything has come back.
    pub async fn next(&self) -> Result<Completion, Lost> {
        self.0.inbox().next().await
    }

    /// The next completion if it is here.
    pub fn try_next(&self) -> Option<Result<Completion, Lost>> {
        self.0.inbox().try_next()
    }

    /// Work that may still be posted now.
    pub fn room(&self) -> u32 {
        self.0.room()
    }

    /// Ends the connection; the peer is told. Returns at once.
    pub fn disconnect(&self) {
        self.0.disconnect();
    }

    /// A number for logs: the card's for this pair.
    pub fn number(&self) -> u32 {
        self.0.number()
    }
}

impl std::fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueuePair({})", self.number())
    }
}
