//! Abort of a command that is with the volume.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use wire::nvme::Status;

/// Stops the command of one slot. Made with the slot; nothing is allocated afterwards.
#[derive(Debug, Default)]
pub struct AbortSignal {
    raised: Cell<Option<Status>>,
    waker: RefCell<Option<Waker>>,
}

impl AbortSignal {
    /// Stops the command, which ends with `status`; false when nothing runs, or it was stopped
    /// already.
    pub fn raise(&self, status: Status) -> bool {
        let waker = self.waker.borrow_mut().take();
        let Some(waker) = waker else { return false };
        self.raised.set(Some(status));
        waker.wake();
        true
    }

    /// Stops the command, also when it has not been polled yet.
    pub fn stop(&self) {
        self.is_raised.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Forgets earlier signals: the slot has a new command.
    pub fn arm(&self) {
        self.raised.set(None);
        self.waker.take();
    }

    /// Polls the command's future; an error when the signal was raised, and the caller drops the
    /// future.
    ///
    /// A write that is dropped in the volume may still happen, but not after anything that the
    /// host sends once it knows of the abort: see `volume::Volume::execute`, "Cancel".
    pub fn poll<F: Future>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Status>> {
        if let Some(status) = self.raised.get() {
            return Poll::Ready(Err(status));
        }
        let polled = future.poll(cx).map(Ok);
        if polled.is_ready() {
            self.waker.take();
        } else if self.waker.borrow().is_none() {
            self.waker.replace(Some(cx.waker().clone()));
        }
        polled
    }
}
