//! Planted bugs, to prove that the tests would notice them.
//!
//! Without the cargo feature `mutations` every question is answered "no" at compile time.

/// A bug that can be planted in this crate. The store has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A write completes before its journal batch is on the device.
    AckBeforeJournal = 1,
    /// Data from the device is served without checking its checksum.
    SkipPageCrcOnRead = 2,
    /// The flusher forgets an index entry although a newer write replaced it.
    DropLsnCompareInIndex = 3,
    /// A page is overwritten in place while its journal record may still be in the cache.
    SkipFlushBeforeInPlace = 4,
    /// Recovery leaves out the last batch of the log.
    ReplayStopsEarly = 5,
    /// Writes with FUA, and Flush, complete without a device flush.
    NoFlushOnFua = 6,
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
