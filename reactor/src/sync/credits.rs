//! A counting semaphore: n units, handed out in FIFO order.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::wait_queue::{Ticket, WaitQueue};

/// A number of units. Clones share them.
#[derive(Clone)]
pub struct Credits {
    inner: Rc<Inner>,
}

struct Inner {
    total: Cell<usize>,
    available: Cell<usize>,
    waiters: RefCell<WaitQueue>,
}

impl Credits {
    /// `total` units, all available.
    pub fn new(total: usize) -> Credits {
        let (total, available) = (Cell::new(total), Cell::new(total));
        Credits {
            inner: Rc::new(Inner {
                total,
                available,
                waiters: RefCell::default(),
            }),
        }
    }

    /// Waits for `units`, in FIFO order: a large request is not overtaken by small ones.
    /// Panics when `units` is more than there will ever be. Cancel: nothing is taken.
    pub fn acquire(&self, units: usize) -> Acquire {
        let total = self.inner.total.get();
        assert!(
            units <= total,
            "{units} units were asked for, there are only {total}"
        );
        Acquire {
            credits: self.clone(),
            units,
            ticket: None,
        }
    }

    /// Takes `units` if they are available and nobody waits.
    pub fn try_acquire(&self, units: usize) -> Option<Guard> {
        let free = self.inner.available.get();
        if units > free || !self.inner.waiters.borrow().is_empty() {
            return None;
        }
        self.inner.available.set(free - units);
        Some(Guard {
            credits: self.clone(),
            units,
        })
    }

    /// Units nobody holds.
    pub fn available(&self) -> usize {
        self.inner.available.get()
    }

    /// All units, held or not.
    pub fn total(&self) -> usize {
        self.inner.total.get()
    }

    /// Makes `units` more.
    pub fn add(&self, units: usize) {
        self.inner.total.set(self.inner.total.get() + units);
        self.give_back(units);
    }

    fn give_back(&self, units: usize) {
        self.inner.available.set(self.inner.available.get() + units);
        self.wake_head();
    }

    fn wake_head(&self) {
        let head = self.inner.waiters.borrow().head_waker();
        if let Some(waker) = head {
            waker.wake();
        }
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credits({} of {})", self.available(), self.total())
    }
}

/// See [`Credits::acquire`].
pub struct Acquire {
    credits: Credits,
    units: usize,
    ticket: Option<Ticket>,
}

impl Future for Acquire {
    type Output = Guard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Guard> {
        let this = &mut *self;
        let inner = &this.credits.inner;
        let mut waiters = inner.waiters.borrow_mut();
        let free = inner.available.get();
        if this.units > free || waiters.is_queued_behind(this.ticket) {
            waiters.enqueue(&mut this.ticket, cx.waker());
            return Poll::Pending;
        }
        waiters.leave(&mut this.ticket);
        drop(waiters);
        inner.available.set(free - this.units);
        // What is left may be enough for the next in line.
        if free > this.units {
            this.credits.wake_head();
        }
        Poll::Ready(Guard {
            credits: this.credits.clone(),
            units: this.units,
        })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.credits
                .inner
                .waiters
                .borrow_mut()
                .leave(&mut self.ticket);
            self.credits.wake_head();
        }
    }
}

/// Held units; they go back when it is dropped.
#[derive(Debug)]
pub struct Guard {
    credits: Credits,
    units: usize,
}

impl Guard {
    /// How many.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Gives `units` back early. Panics when fewer are held.
    pub fn release(&mut self, units: usize) {
        assert!(
            units <= self.units,
            "{units} units to release, {} held",
            self.units
        );
        self.units -= units;
        self.credits.give_back(units);
    }

    /// Takes over what another guard of the same credits holds.
    pub fn merge(&mut self, mut other: Guard) {
        assert!(
            Rc::ptr_eq(&self.credits.inner, &other.credits.inner),
            "guards of other credits"
        );
        self.units += std::mem::take(&mut other.units);
    }

    /// Splits `units` off into a guard of their own. Panics when fewer are held.
    pub fn split(&mut self, units: usize) -> Guard {
        assert!(
            units <= self.units,
            "{units} units to split off, {} held",
            self.units
        );
        self.units -= units;
        Guard {
            credits: self.credits.clone(),
            units,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.units > 0 {
            self.credits.give_back(self.units);
        }
    }
}
