//! A command at work.

use std::rc::Rc;

use super::{Link, Queue};

/// A command at work: counted for its connection and its subsystem as long as this lives, so that
/// also a task that is dropped leaves the counts right.
pub(super) struct Running<L: Link>(Rc<Queue<L>>);

impl<L: Link> Running<L> {
    pub fn queue(&self) -> &Rc<Queue<L>> {
        &self.0
    }

    pub fn new(queue: &Rc<Queue<L>>) -> Self {
        queue.executing.set(queue.executing.get() + 1);
        if let Some(subsystem) = queue.owner.subsystem() {
            subsystem.begin();
        }
        Self(Rc::clone(queue))
    }
}

impl<L: Link> Drop for Running<L> {
    fn drop(&mut self) {
        let queue = &self.0;
        queue.executing.set(queue.executing.get() - 1);
        if let Some(subsystem) = queue.owner.subsystem() {
            subsystem.end(queue.orphans.get());
        }
        if queue.executing.get() == 0 {
            queue.idle.notify_all();
        }
    }
}
