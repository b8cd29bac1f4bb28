//! Planted bugs, to prove that the tests would notice them.
//!
//! Without the cargo feature `mutations` every question is answered "no" at compile time.

/// A bug that can be planted in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// The superblock is written while nodes, allocator and root may still be in the cache.
    SkipFlushBeforeSuperblock = 1,
    /// Freed clusters are handed out again before the publish that frees them is through.
    FreeBeforePublish = 2,
    /// The journal scan takes batches of earlier lives for batches of this one.
    IgnoreEpochInScan = 3,
}

#[cfg(feature = "mutations")]
mod selected {
    use super::Mutation;
    use std::sync::atomic::{AtomicU8, Ordering};

    static SELECTED: AtomicU8 = AtomicU8::new(0);

    /// Plants one bug in this process, or none.
    pub fn select(mutation: Option<Mutation>) {
        SELECTED.store(mutation.map_or(0, |m| m as u8), Ordering::Relaxed);
    }

    /// Whether this bug is planted.
    pub fn enabled(mutation: Mutation) -> bool {
        SELECTED.load(Ordering::Relaxed) == mutation as u8
    }
}

#[cfg(feature = "mutations")]
pub use selected::{enabled, select};

/// Whether this bug is planted: never, in this build.
#[cfg(not(feature = "mutations"))]
pub const fn enabled(_mutation: Mutation) -> bool {
    false
}
