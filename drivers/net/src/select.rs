//! Waiting for one of two things.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

/// Runs `work` until it ends or `stop` does; none when `stop` was first. Both ready is work done.
/// Cancel safe if both are; whichever was not first is dropped.
pub async fn first<W: Future, S: Future<Output = ()>>(work: W, stop: S) -> Option<W::Output> {
    let mut work = pin!(work);
    let mut stop = pin!(stop);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        stop.as_mut().poll(context).map(|()| None)
    })
    .await
}
