//! Wakes that come from another core or from the slow plane.
//!
//! Each live executor holds one place in a table of the process. A wake pushes the task's word on
//! that place's lock-free queue and, when the core is parked, writes its eventfd. Places and their
//! eventfds are recycled, never freed, so a stale waker cannot reach freed memory or a foreign
//! descriptor; a word for the place's former owner has an old generation or wakes a task once too
//! often, which is harmless.
//!
//! Bounds: [`MAX_CORES`] live executors per process; [`QUEUE_WORDS`] words per queue. When a queue
//! is full the wake becomes "wake everything": no wake is ever lost and nothing grows.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::context;
use crate::waker::TaskWord;

/// Live executors per process, simulated ones included.
pub(crate) const MAX_CORES: usize = 1024;

const QUEUE_WORDS: usize = 4096;

const _: () = assert!(MAX_CORES <= TaskWord::MAX_CORES);

/// One core's place in the table.
pub(crate) struct Remote {
    words: ArrayQueue<u64>,
    overflow: AtomicBool,
    parked: AtomicBool,
    event: EventFd,
    received: AtomicU64,
}

static TABLE: [OnceLock<Remote>; MAX_CORES] = [const { OnceLock::new() }; MAX_CORES];
static FREE: Mutex<FreePlaces> = Mutex::new(FreePlaces {
    never_used: 0,
    returned: Vec::new(),
});

struct FreePlaces {
    never_used: u16,
    returned: Vec<u16>,
}

/// A held place; given back when dropped.
pub(crate) struct Place {
    index: u16,
    remote: &'static Remote,
}

impl Place {
    /// Takes a free place. Fails when all are taken or no eventfd can be made.
    pub(crate) fn take() -> std::io::Result<Place> {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = free.returned.pop() {
            let remote = TABLE[index as usize]
                .get()
                .expect("a returned place was made before");
            remote.clear();
            return Ok(Place { index, remote });
        }
        let index = free.never_used;
        if index as usize >= MAX_CORES {
            return Err(std::io::Error::other("all places for executors are taken"));
        }
        let remote = Remote::new()?;
        free.never_used += 1;
        Ok(Place {
            index,
            remote: TABLE[index as usize].get_or_init(|| remote),
        })
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }
}

impl std::ops::Deref for Place {
    type Target = Remote;

    fn deref(&self) -> &Remote {
        self.remote
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.returned.push(self.index);
    }
}

impl Remote {
    fn new() -> std::io::Result<Remote> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Remote {
            words: ArrayQueue::new(QUEUE_WORDS),
            overflow: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            event: EventFd::from_value_and_flags(0, flags)?,
            received: AtomicU64::new(0),
        })
    }

    fn clear(&self) {
        while self.words.pop().is_some() {}
        self.overflow.store(false, Ordering::Relaxed);
        self.parked.store(false, Ordering::Relaxed);
        self.received.store(0, Ordering::Relaxed);
        self.drain_event();
    }

    /// From any thread: hands over a wake, and rings the bell if the core sleeps.
    fn push(&self, word: TaskWord) {
        if self.words.push(word.bits()).is_err() {
            self.overflow.store(true, Ordering::Relaxed);
        }
        self.received.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `park`: either this thread sees `parked`, or the core sees the
        // word before it sleeps.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            // A failed write means that the counter is full: the bell is ringing already.
            let _ = self.event.write(1);
        }
    }

    /// The next word, in order of arrival.
    pub(crate) fn pop(&self) -> Option<TaskWord> {
        self.words.pop().map(TaskWord::from_bits)
    }

    /// Whether words were dropped since the last call: then every task must be woken.
    pub(crate) fn take_overflow(&self) -> bool {
        self.overflow.load(Ordering::Relaxed) && self.overflow.swap(false, Ordering::Acquire)
    }

    /// Whether a wake waits to be taken.
    pub(crate) fn has_words(&self) -> bool {
        !self.words.is_empty() || self.overflow.load(Ordering::Relaxed)
    }

    /// Announces that the core is about to sleep. False when a wake came first: do not sleep.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.has_words() {
            self.unpark();
            return false;
        }
        true
    }

    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Wakes that came from elsewhere.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn event_fd(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    pub(crate) fn drain_event(&self) {
        // WouldBlock: nothing was there.
        let _ = self.event.read();
    }
}

/// Wakes a task from wherever the caller is: directly on its own core, else by its queue.
pub(crate) fn wake(word: TaskWord) {
    if context::wake_if_local(word) {
        return;
    }
    if let Some(remote) = TABLE.get(word.core() as usize).and_then(OnceLock::get) {
        remote.push(word);
    }
}
