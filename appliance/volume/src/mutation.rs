//! Planted bugs, to prove that the tests would notice them.
//!
//! Without the cargo feature `mutations` every question is answered "no" at compile time.

use store::mutation::Planted;

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

static PLANTED: Planted = Planted::none();

/// Whether this bug is planted.
pub fn enabled(mutation: Mutation) -> bool {
    PLANTED.is(mutation as u8)
}

/// Plants one bug in this process, or none.
#[cfg(feature = "mutations")]
pub fn select(mutation: Option<Mutation>) {
    PLANTED.set(mutation.map(|mutation| mutation as u8));
}
