//! Giving way to others: for the rest of this turn, or until the next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::context::with_core;

/// Goes to the back of the ready queue.
pub async fn yield_now() {
    GiveWay {
        done: false,
        whole_turn: false,
    }
    .await;
}

/// Resumes in the next turn of the loop, after completed I/O was reaped: how a hot socket is
/// polled. The core does not park while a task waits here, so callers stop after [`crate::spin`].
pub async fn next_turn() {
    GiveWay {
        done: false,
        whole_turn: true,
    }
    .await;
}

struct GiveWay {
    done: bool,
    whole_turn: bool,
}

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.done {
            return Poll::Ready(());
        }
        self.done = true;
        if self.whole_turn {
            with_core(|core| core.wake_next_turn(cx.waker().clone()));
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
