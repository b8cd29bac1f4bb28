//! Sizes, all fixed when a card or a pair is made.

use std::time::Duration;

/// Bytes at the front of every message that go to their own place: an NVMe submission queue entry.
pub const HEADER_BYTES: usize = 64;

/// Longest message that is copied into its work request.
pub const INLINE_BYTES: usize = 64;

/// Sizes of a core's card.
#[derive(Clone, Debug)]
pub struct CardOptions {
    /// Receives of the shared receive queue: messages that may be on the way or in use at once.
    pub receive_entries: u32,
    /// Bytes after the header of a message: in-capsule data. 0 for none.
    pub receive_data_bytes: u32,
    /// Entries of the completion queue: at least all receives and the send queues of all pairs that
    /// are to be connected at once; pairs beyond it are refused.
    pub completion_entries: u32,
    /// Whether buffers of this process may be exposed to peers (initiators). A target does not.
    pub exposes_memory: bool,
    /// Longest wait for the card to give back what was posted on a pair that ends.
    pub flush_timeout: Duration,
}

impl Default for CardOptions {
    fn default() -> Self {
        Self {
            receive_entries: 1024,
            receive_data_bytes: 4096,
            completion_entries: 32 << 10,
            exposes_memory: false,
            flush_timeout: Duration::from_secs(30),
        }
    }
}

/// Sizes of one queue pair.
#[derive(Clone, Copy, Debug)]
pub struct PairOptions {
    /// Work that may be posted and not completed.
    pub send_entries: u32,
    /// Reads that may be on the way at once; the card's and the peer's limits apply beside it.
    pub read_depth: u8,
}
