//! Abort of a command that is with the volume.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Stops the command of one slot. Made with the slot; nothing is allocated afterwards.
#[derive(Debug, Default)]
pub struct AbortSignal {
    is_raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl AbortSignal {
    /// Stops the command; false when nothing runs, or it was stopped already.
    pub fn raise(&self) -> bool {
        let waker = self.waker.borrow_mut().take();
        let Some(waker) = waker else { return false };
        self.is_raised.set(true);
        waker.wake();
        true
    }

    /// Forgets earlier signals: the slot has a new command.
    pub fn arm(&self) {
        self.is_raised.set(false);
        self.waker.take();
    }

    /// Polls the command's future; ready with None when the signal was raised, and the caller drops
    /// the future.
    ///
    /// A write that is dropped in the volume may still happen, but not after anything that the
    /// host sends once it knows of the abort: see `volume::Volume::execute`, "Cancel".
    pub fn poll<F: Future>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        if self.is_raised.get() {
            return Poll::Ready(None);
        }
        let polled = future.poll(cx).map(Some);
        if polled.is_ready() {
            self.waker.take();
        } else if self.waker.borrow().is_none() {
            self.waker.replace(Some(cx.waker().clone()));
        }
        polled
    }
}
