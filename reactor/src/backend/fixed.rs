//! Places in the ring's table of registered files: an operation on one skips the lookup (and the
//! atomic count) of its descriptor.
//!
//! Bound: [`FIXED_FILES`] per ring; a file beyond that uses its plain descriptor.

use std::cell::RefCell;
use std::rc::Rc;

/// Registered files per ring.
pub(super) const FIXED_FILES: u32 = 1024;

pub(super) struct FixedTable {
    free: RefCell<Vec<u32>>,
    // Places whose file is gone here but still registered in the kernel.
    stale: RefCell<Vec<u32>>,
}

/// A file's place in the table.
pub(crate) struct FixedSlot {
    index: u32,
    table: Rc<FixedTable>,
}

impl FixedTable {
    pub(super) fn new() -> Rc<FixedTable> {
        let free = RefCell::new((0..FIXED_FILES).rev().collect());
        let stale = RefCell::new(Vec::with_capacity(FIXED_FILES as usize));
        Rc::new(FixedTable { free, stale })
    }

    pub(super) fn take(self: &Rc<FixedTable>) -> Option<FixedSlot> {
        let index = self.free.borrow_mut().pop()?;
        Some(FixedSlot {
            index,
            table: self.clone(),
        })
    }

    /// Hands every stale place to `unregister`, then counts it as free.
    pub(super) fn sweep(&self, mut unregister: impl FnMut(u32)) {
        loop {
            let next = self.stale.borrow_mut().pop();
            let Some(index) = next else { return };
            unregister(index);
            self.free.borrow_mut().push(index);
        }
    }
}

impl FixedSlot {
    pub(super) fn index(&self) -> u32 {
        self.index
    }
}

impl Drop for FixedSlot {
    fn drop(&mut self) {
        self.table.stale.borrow_mut().push(self.index);
    }
}
