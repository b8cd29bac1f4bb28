//! Promises of clusters, and reads that hold clusters back, as values that end by being dropped.

use std::cell::RefCell;
use std::rc::Rc;

use crate::alloc::Allocator;
use crate::error::StoreError;

/// Clusters promised to somebody: allocating from it cannot fail. Dropped, the rest is available
/// to others again.
pub struct Reservation {
    alloc: Rc<RefCell<Allocator>>,
    count: u32,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Reservation {
    pub(crate) fn new(
        alloc: &Rc<RefCell<Allocator>>,
        count: u32,
    ) -> Result<Reservation, StoreError> {
        alloc.borrow_mut().reserve(count)?;
        Ok(Reservation {
            alloc: alloc.clone(),
            count,
        })
    }

    /// A promise that had been given before a restart.
    pub(crate) fn again(
        alloc: &Rc<RefCell<Allocator>>,
        count: u32,
    ) -> Result<Reservation, StoreError> {
        alloc.borrow_mut().reserve_again(count)?;
        let alloc = alloc.clone();
        Ok(Reservation { alloc, count })
    }

    /// Clusters still promised.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Moves `count` of the promised clusters into a reservation of their own. Panics when there
    /// are fewer.
    pub fn split(&mut self, count: u32) -> Reservation {
        assert!(
            self.count >= count,
            "{count} clusters of a reservation of {}",
            self.count
        );
        self.count -= count;
        Reservation {
            alloc: self.alloc.clone(),
            count,
        }
    }

    /// Adds the clusters of another reservation of the same pool.
    pub fn absorb(&mut self, mut other: Reservation) {
        assert!(
            Rc::ptr_eq(&self.alloc, &other.alloc),
            "reservations of different pools"
        );
        self.count += std::mem::take(&mut other.count);
    }

    pub(crate) fn use_one(&mut self) {
        assert!(self.count > 0, "the reservation is used up");
        self.count -= 1;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Zero when absorbed, and then the allocator may be borrowed by who does it.
        if self.count > 0 {
            self.alloc.borrow_mut().unreserve(self.count);
        }
    }
}

/// A read in progress: clusters that are in use now are not written again until it is dropped.
pub struct ReadGuard {
    alloc: Rc<RefCell<Allocator>>,
    parity: usize,
}

impl ReadGuard {
    pub(crate) fn new(alloc: &Rc<RefCell<Allocator>>) -> ReadGuard {
        let parity = alloc.borrow_mut().epochs.begin();
        ReadGuard {
            alloc: alloc.clone(),
            parity,
        }
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        self.alloc.borrow_mut().end_read(self.parity);
    }
}
