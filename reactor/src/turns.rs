//! Giving way to others: for a moment, until the end of this turn, or until the next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::context::with_core;

/// Goes to the back of the ready queue. Sockets and rings are not looked at meanwhile: long work
/// gives way with [`next_turn`].
pub async fn yield_now() {
    GiveWay(Some(Until::Others)).await;
}

/// Resumes when no other task of this turn is ready: for what is to go out together with all that
/// others add until then. Before the core parks; when the turn's budget is used up, behind those
/// that are ready by then.
pub async fn turn_end() {
    GiveWay(Some(Until::TurnEnd)).await;
}

/// Resumes in the next turn of the loop, after completed I/O was reaped: how a hot socket is
/// polled. The core does not park while a task waits here, so callers stop after [`crate::spin`].
pub async fn next_turn() {
    GiveWay(Some(Until::NextTurn)).await;
}

enum Until {
    Others,
    TurnEnd,
    NextTurn,
}

struct GiveWay(Option<Until>);

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker();
        match self.0.take() {
            None => return Poll::Ready(()),
            Some(Until::Others) => waker.wake_by_ref(),
            Some(Until::TurnEnd) => with_core(|core| core.wake_turn_end(waker.clone())),
            Some(Until::NextTurn) => with_core(|core| core.wake_next_turn(waker.clone())),
        }
        Poll::Pending
    }
}
