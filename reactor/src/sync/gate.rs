//! A gate: lets work in until it is closed, and tells when the last work is out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Counts work in flight. Clones share it.
#[derive(Clone, Default)]
pub struct Gate {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    closed: Cell<bool>,
    inside: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

/// The gate is closed: no new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed: no new work is taken")
    }
}

impl std::error::Error for Closed {}

impl Gate {
    /// An open gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Goes in; the work counts until the pass is dropped.
    pub fn enter(&self) -> Result<Pass, Closed> {
        if self.inner.closed.get() {
            return Err(Closed);
        }
        self.inner.inside.set(self.inner.inside.get() + 1);
        Ok(Pass { gate: self.clone() })
    }

    /// Lets nobody in from now on.
    pub fn close(&self) {
        self.inner.closed.set(true);
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.get()
    }

    /// Work inside.
    pub fn in_flight(&self) -> usize {
        self.inner.inside.get()
    }

    /// Closes and waits until nobody is inside. Any number of tasks may wait.
    pub async fn close_and_wait(&self) {
        self.close();
        self.drained().await;
    }

    /// Waits until nobody is inside, without closing.
    pub async fn drained(&self) {
        poll_fn(|cx| {
            if self.inner.inside.get() == 0 {
                return Poll::Ready(());
            }
            let mut waiting = self.inner.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_closed() { "closed" } else { "open" };
        write!(f, "Gate({state}, {} inside)", self.in_flight())
    }
}

/// Work inside a [`Gate`].
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let inner = &self.gate.inner;
        inner.inside.set(inner.inside.get() - 1);
        if inner.inside.get() > 0 {
            return;
        }
        loop {
            let next = inner.waiting.borrow_mut().pop();
            let Some(waker) = next else { return };
            waker.wake();
        }
    }
}
