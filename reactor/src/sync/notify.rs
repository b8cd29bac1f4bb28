//! A bell: wakes one waiter or all.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::wait_queue::{Ticket, WaitQueue};

/// Wakes tasks that wait for an event. `notify_one` without a waiter is kept (once) for the next
/// one; `notify_all` wakes those who wait now and is not kept.
#[derive(Debug, Default)]
pub struct Notify {
    waiters: RefCell<WaitQueue>,
    kept: Cell<bool>,
}

impl Notify {
    /// No waiter, nothing kept.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes the first waiter, or lets the next one pass at once.
    pub fn notify_one(&self) {
        let first = self.waiters.borrow_mut().pop();
        match first {
            Some(waker) => waker.wake(),
            None => self.kept.set(true),
        }
    }

    /// Wakes everyone who waits now.
    pub fn notify_all(&self) {
        loop {
            let first = self.waiters.borrow_mut().pop();
            let Some(waker) = first else { return };
            waker.wake();
        }
    }

    /// Waits for a notification. It joins the line when first polled. Cancel: a notification that
    /// had reached the dropped waiter alone (`notify_one`) goes to the next.
    pub fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            ticket: None,
            done: false,
        }
    }
}

/// See [`Notify::notified`].
pub struct Notified<'a> {
    notify: &'a Notify,
    ticket: Option<Ticket>,
    done: bool,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut waiters = this.notify.waiters.borrow_mut();
        let was_called = match this.ticket {
            Some(ticket) => !waiters.holds(ticket),
            None => this.notify.kept.replace(false),
        };
        if was_called {
            this.done = true;
            return Poll::Ready(());
        }
        waiters.enqueue(&mut this.ticket, cx.waker());
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if self.done {
            return;
        }
        let mut waiters = self.notify.waiters.borrow_mut();
        let was_called = !waiters.holds(ticket);
        waiters.leave(&mut self.ticket);
        drop(waiters);
        // After `notify_all` this wakes someone once too often, which every waiter must bear.
        if was_called {
            self.notify.notify_one();
        }
    }
}
