//! Commands of a controller that are in the volume, counted so that a preemption with abort can
//! wait for those that began before it.
//!
//! Two counters take turns: an abort makes the other one current, and is settled when the one
//! before it is at zero. Cost on the path of a command: an increment and a decrement.

use std::cell::Cell;

/// The counters of one controller.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    counts: [Cell<u32>; 2],
    current: Cell<usize>,
    /// Another abort came before the last one was settled.
    again: Cell<bool>,
}

/// A command in the volume, as long as this lives.
pub(crate) struct Inside<'a>(&'a Cell<u32>);

impl Fence {
    /// A command enters the volume.
    #[inline]
    pub fn enter(&self) -> Inside<'_> {
        let count = &self.counts[self.current.get()];
        count.set(count.get() + 1);
        Inside(count)
    }

    /// The commands that are inside now shall end.
    pub fn close(&self) {
        match self.before().get() {
            0 => self.current.set(1 - self.current.get()),
            _ => self.again.set(true),
        }
    }

    /// Whether those that were inside at the last `close` have ended.
    pub fn is_settled(&self) -> bool {
        if self.before().get() == 0 && self.again.take() {
            self.current.set(1 - self.current.get());
        }
        self.before().get() == 0
    }

    fn before(&self) -> &Cell<u32> {
        &self.counts[1 - self.current.get()]
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_from_before_are_waited_for() {
        let fence = Fence::default();
        assert!(fence.is_settled());
        let (first, second) = (fence.enter(), fence.enter());
        fence.close();
        let later = fence.enter();
        assert!(!fence.is_settled());
        drop(first);
        assert!(!fence.is_settled());
        drop(second);
        assert!(fence.is_settled(), "the later one is not meant");
        drop(later);
    }

    #[test]
    fn an_abort_during_another_waits_for_both() {
        let fence = Fence::default();
        let first = fence.enter();
        fence.close();
        let second = fence.enter();
        fence.close();
        assert!(!fence.is_settled());
        drop(first);
        assert!(
            !fence.is_settled(),
            "the second began before the second abort"
        );
        let third = fence.enter();
        drop(second);
        assert!(fence.is_settled());
        drop(third);
    }
}
