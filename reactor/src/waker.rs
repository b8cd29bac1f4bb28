//! Wakers that are one word: core, slot and generation of a task. There is no reference count, so
//! cloning and dropping one does nothing, and a stale one is harmless: its generation is old.
#![expect(unsafe_code, reason = "a waker is built from a table of functions")]

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// Which task to wake: 12 bits of core (index in `remote`'s table), 20 bits of slot, 32 bits of
/// generation. After 2^32 uses of a slot a stale waker may wake its new task once too often, which
/// every future must bear anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskWord(u64);

const SLOT_BITS: u32 = 20;

impl TaskWord {
    pub(crate) const MAX_CORES: usize = 1 << 12;
    pub(crate) const MAX_SLOTS: usize = 1 << SLOT_BITS;

    pub(crate) fn new(core: u16, slot: u32, generation: u32) -> TaskWord {
        debug_assert!((core as usize) < Self::MAX_CORES && (slot as usize) < Self::MAX_SLOTS);
        let place = u64::from(core) << SLOT_BITS | u64::from(slot);
        TaskWord(place << 32 | u64::from(generation))
    }

    pub(crate) fn from_bits(bits: u64) -> TaskWord {
        TaskWord(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn core(self) -> u16 {
        (self.0 >> (32 + SLOT_BITS)) as u16
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 >> 32) as u32 & (Self::MAX_SLOTS as u32 - 1)
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn waker(self) -> Waker {
        // SAFETY: the functions of VTABLE meet the contract of RawWaker: they are thread safe
        // (`wake` goes through thread-local or lock-free state), they own no resource, and the
        // data pointer is a number that is never dereferenced.
        unsafe { Waker::from_raw(self.raw()) }
    }

    fn raw(self) -> RawWaker {
        RawWaker::new(ptr::without_provenance(self.0 as usize), &VTABLE)
    }
}

const _: () = assert!(usize::BITS == 64, "a task word fills a pointer");

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop_nothing);

fn clone(data: *const ()) -> RawWaker {
    TaskWord(data.addr() as u64).raw()
}

fn wake(data: *const ()) {
    crate::remote::wake(TaskWord(data.addr() as u64));
}

fn drop_nothing(_: *const ()) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_three_parts() {
        for (core, slot, generation) in [
            (0, 0, 0),
            (4095, 0xF_FFFF, u32::MAX),
            (1, 0, u32::MAX),
            (7, 77, 777),
        ] {
            let word = TaskWord::new(core, slot, generation);
            assert_eq!(
                (word.core(), word.slot(), word.generation()),
                (core, slot, generation)
            );
            assert_eq!(TaskWord::from_bits(word.bits()), word);
        }
    }

    #[test]
    fn clones_wake_the_same_task() {
        let waker = TaskWord::new(3, 4, 5).waker();
        assert!(waker.will_wake(&waker.clone()));
        assert!(!waker.will_wake(&TaskWord::new(3, 4, 6).waker()));
    }
}
