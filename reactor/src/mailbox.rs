//! Bounded lock-free mailboxes between cores, and from the slow plane to a core.
//!
//! Sending never waits: a full mailbox gives the message back, and the sender slows down or
//! refuses its own caller. Messages of one sender arrive in order.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll, Waker};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

/// A mailbox for up to `capacity` messages; at least one.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        senders: AtomicUsize::new(1),
        receiver_gone: AtomicBool::new(false),
        is_waiting: CachePadded::new(AtomicBool::new(false)),
        waker: std::sync::Mutex::new(None),
    });
    (
        Sender {
            shared: shared.clone(),
        },
        Receiver { shared },
    )
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    senders: AtomicUsize,
    receiver_gone: AtomicBool,
    // True while the receiver sleeps with its waker in place. The lock below is taken only by the
    // receiver before it sleeps and by the one sender that wakes it.
    is_waiting: CachePadded<AtomicBool>,
    waker: std::sync::Mutex<Option<Waker>>,
}

impl<T> Shared<T> {
    fn wake_receiver(&self) {
        // Pairs with the fence in `poll_recv`: either we see it waiting or it sees the message.
        fence(Ordering::SeqCst);
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::AcqRel)
        {
            let waker = self.lock_waker().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn clear(&self) {
        while self.queue.pop().is_some() {}
    }

    fn lock_waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Why a message was not taken; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Full<T> {
    /// No room now: slow down, try later or refuse.
    NoRoom(T),
    /// The receiver is gone for good.
    Closed(T),
}

impl<T> Full<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Full::NoRoom(message) | Full::Closed(message) => message,
        }
    }

    /// Whether trying again is pointless.
    pub fn is_closed(&self) -> bool {
        matches!(self, Full::Closed(_))
    }
}

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_closed() { "Closed" } else { "NoRoom" })
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Full::NoRoom(_) => "the mailbox is full: try later",
            Full::Closed(_) => "the mailbox has no receiver any more",
        })
    }
}

impl<T> std::error::Error for Full<T> {}

/// Sends from any thread. Clones send to the same mailbox.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Puts a message in, or gives it back. One that the receiver leaves behind when it goes is
    /// dropped. Cost: no lock, no allocation; one system call when the
    /// receiver's core sleeps.
    pub fn try_send(&self, message: T) -> Result<(), Full<T>> {
        if self.is_closed() {
            return Err(Full::Closed(message));
        }
        self.shared.queue.push(message).map_err(Full::NoRoom)?;
        self.shared.wake_receiver();
        // Pairs with the fence in the receiver's drop: one of the two empties the box, so that what
        // the message holds is not kept for as long as there are senders.
        if self.is_closed() {
            self.shared.clear();
        }
        Ok(())
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.receiver_gone.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Sender {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.wake_receiver();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sender({} of {})",
            self.shared.queue.len(),
            self.shared.queue.capacity()
        )
    }
}

/// Receives on one core; may be sent there before its first use.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// A message if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// The next message; `None` when every sender is gone and the box is empty.
    /// Cancel: no message is lost.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(Some(message));
        }
        *self.shared.lock_waker() = Some(cx.waker().clone());
        self.shared.is_waiting.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        // A message, or the end of the last sender, may have come before we were seen waiting.
        let closed = self.shared.senders.load(Ordering::Acquire) == 0;
        match self.try_recv() {
            Some(message) => Poll::Ready(Some(message)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_gone.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.shared.clear();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Receiver({} of {})",
            self.shared.queue.len(),
            self.shared.queue.capacity()
        )
    }
}
