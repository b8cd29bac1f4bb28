//! The end of a target, for those who would otherwise wait beyond it.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use reactor::sync::Notify;

/// Whether a target shuts down.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    has_begun: Cell<bool>,
    begun: Notify,
}

impl Closing {
    /// From now on the target shuts down.
    pub fn begin(&self) {
        self.has_begun.set(true);
        self.begun.notify_all();
    }

    /// True once it shuts down.
    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Runs `future` unless the target shuts down first.
    pub async fn until<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut begun = pin!(self.begun.notified());
        std::future::poll_fn(|context| {
            if self.has_begun() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            begun.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}
