//! Sockets that have not proved to be hosts yet: a bounded number, of which the oldest goes first.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use reactor::sync::Notify;

/// Those of one core.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// Those that were told to go included.
    count: Cell<usize>,
    /// Those that may stay, by age.
    staying: RefCell<BTreeSet<u64>>,
    last: Cell<u64>,
    crowded: Notify,
}

impl Guests {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Counts one more; none when there are too many.
    ///
    /// Above `limit` the oldest has to go: who says nothing for long must not keep a host out that
    /// does.
    pub fn admit(self: &Rc<Self>, limit: usize) -> Option<Guest> {
        let count = self.count.get();
        if count >= 2 * limit {
            return None;
        }
        let id = self.last.get() + 1;
        self.last.set(id);
        let mut staying = self.staying.borrow_mut();
        staying.insert(id);
        if staying.len() > limit {
            staying.pop_first();
            self.crowded.notify_all();
        }
        self.count.set(count + 1);
        Some(Guest {
            guests: Rc::clone(self),
            id,
        })
    }
}

/// One of them; dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Rc<Guests>,
    id: u64,
}

impl Guest {
    /// Returns when newer sockets need the place.
    pub async fn crowded_out(&self) {
        while self.guests.staying.borrow().contains(&self.id) {
            self.guests.crowded.notified().await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.staying.borrow_mut().remove(&self.id);
        self.guests.count.set(self.guests.count.get() - 1);
    }
}
