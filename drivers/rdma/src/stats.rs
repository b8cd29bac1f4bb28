//! Counters of a card.

/// What a core has of RDMA now, and what happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardStats {
    /// Queue pairs there are, those that end included.
    pub queue_pairs: u64,
    /// Memory regions that this process has registered, all cores together.
    pub memory_regions: u64,
    /// Bytes in them.
    pub registered_bytes: u64,
    /// Receives posted and not taken.
    pub receives_posted: u64,
    /// Times that the pool had no memory for a receive; the shared receive queue was one shorter
    /// until it had.
    pub receives_short: u64,
    /// Completions taken.
    pub completions: u64,
    /// Work that failed, flushed work not counted.
    pub failed: u64,
    /// Times that the completion queue was armed.
    pub armed: u64,
    /// Times that the link of a port went down.
    pub links_down: u64,
}
