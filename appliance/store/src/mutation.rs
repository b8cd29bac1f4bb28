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

/// Which bug of one crate's list is planted in this process, as its number (from 1 on).
///
/// Every crate that has such a list keeps one of these beside it. Cost: nothing without the feature.
#[derive(Debug)]
pub struct Planted {
    #[cfg(feature = "mutations")]
    number: std::sync::atomic::AtomicU8,
}

#[cfg(feature = "mutations")]
impl Planted {
    /// None yet.
    pub const fn none() -> Planted {
        let number = std::sync::atomic::AtomicU8::new(0);
        Planted { number }
    }

    /// Plants this bug instead of the one before, or none.
    pub fn set(&self, number: Option<u8>) {
        self.number
            .store(number.unwrap_or(0), std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether it is this one.
    pub fn is(&self, number: u8) -> bool {
        self.number.load(std::sync::atomic::Ordering::Relaxed) == number
    }
}

#[cfg(not(feature = "mutations"))]
impl Planted {
    /// None, ever.
    pub const fn none() -> Planted {
        Planted {}
    }

    /// No, in this build.
    #[inline]
    pub const fn is(&self, _number: u8) -> bool {
        false
    }
}
