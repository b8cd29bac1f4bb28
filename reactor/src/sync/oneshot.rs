//! One value from one task to another of the same core.
//!
//! Cost: one small allocation per channel. Hot paths that cannot have it keep their own slot and a
//! [`super::Notify`].

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

enum State<T> {
    Empty(Option<Waker>),
    Sent(T),
    SenderGone,
    ReceiverGone,
}

/// A channel for one value.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = Rc::new(RefCell::new(State::Empty(None)));
    (
        Sender {
            state: state.clone(),
        },
        Receiver { state },
    )
}

/// The sender was dropped without sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canceled;

impl fmt::Display for Canceled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender went away without sending")
    }
}

impl std::error::Error for Canceled {}

/// Sends once.
pub struct Sender<T> {
    state: Rc<RefCell<State<T>>>,
}

impl<T> Sender<T> {
    /// Hands the value over, or gives it back when nobody waits for it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::ReceiverGone) {
            return Err(value);
        }
        let before = std::mem::replace(&mut *state, State::Sent(value));
        drop(state);
        if let State::Empty(Some(waker)) = before {
            waker.wake();
        }
        Ok(())
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::ReceiverGone)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        if !matches!(*state, State::Empty(_)) {
            return;
        }
        let before = std::mem::replace(&mut *state, State::SenderGone);
        drop(state);
        if let State::Empty(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// Await it for the value.
pub struct Receiver<T> {
    state: Rc<RefCell<State<T>>>,
}

impl<T> Receiver<T> {
    /// The value if it is there.
    pub fn try_recv(&mut self) -> Option<T> {
        let mut state = self.state.borrow_mut();
        if !matches!(*state, State::Sent(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::SenderGone) {
            State::Sent(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Canceled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.try_recv() {
            return Poll::Ready(Ok(value));
        }
        match &mut *self.state.borrow_mut() {
            State::Empty(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Err(Canceled)),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.state.borrow_mut(), State::ReceiverGone);
        drop(before);
    }
}
