//! Counts heap allocations, for tests that demand none.
//!
//! A test binary that calls [`on_this_thread`] is linked with this crate, and with it comes the
//! global allocator that counts. It is installed here and not in each test, so that no test can
//! forget it and then count nothing. Nothing else may live in this crate: whoever links it is
//! counted.
#![expect(
    unsafe_code,
    reason = "a counting allocator implements an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often the calling thread has taken memory from the heap: allocations and reallocations, not
/// releases. What other threads do is not in it, so a data core is asked on its own thread.
pub fn on_this_thread() -> u64 {
    ALLOCATIONS.get()
}

/// The system's allocator, with a counter per thread before it.
struct Counting;

fn count() {
    // A thread that ends may allocate after its counter is gone; nobody can ask for it any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn each_way_to_take_memory_counts_once_and_releasing_does_not() {
        let before = on_this_thread();
        let mut bytes = black_box(Vec::<u8>::with_capacity(100));
        assert_eq!(on_this_thread() - before, 1, "alloc");
        bytes.resize(100, 1);
        bytes.reserve_exact(10_000);
        assert_eq!(on_this_thread() - before, 2, "realloc");
        let zeroes = black_box(vec![0u8; 100]);
        assert_eq!(on_this_thread() - before, 3, "alloc_zeroed");
        drop((bytes, zeroes));
        assert_eq!(on_this_thread() - before, 3, "dealloc");
    }

    #[test]
    fn another_thread_has_its_own_count() {
        let before = on_this_thread();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let first = on_this_thread();
                drop(black_box(vec![1u8; 100]));
                on_this_thread() - first
            });
            assert_eq!(other.join().unwrap(), 1);
        });
        let starting = on_this_thread() - before;
        assert!(starting < 100, "{starting} allocations to start a thread");
    }
}
