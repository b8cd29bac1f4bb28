//! The completion queue of one core's card: what happened on its pairs, in order, until a task
//! hands it to their inboxes. The task looks once a turn while anything is going on, and waits
//! after a spin time without.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::sync::Notify;
use reactor::time::sleep_until;
use reactor::{Instant, Spin};

use crate::completion::Completion;
use crate::error::Lost;
use crate::inbox::Inbox;

/// Entries that have room from the start; a busier card's queue grows once.
const ENTRIES: usize = 1024;
/// Entries handed out in one turn.
const BATCH: usize = 256;

/// What a pair's user hears.
pub(super) enum Event {
    Completion(Completion),
    Lost(Lost),
}

/// A pair's end of the queue.
pub(super) struct Line {
    pub inbox: Inbox,
    /// What was held back on purpose, and what came after it: order within a pair is kept.
    late: RefCell<VecDeque<(Instant, Event)>>,
}

impl Line {
    pub fn new(inbox: Inbox) -> Rc<Self> {
        Rc::new(Self {
            inbox,
            late: RefCell::default(),
        })
    }
}

/// See the file's documentation.
pub(super) struct CompletionQueue {
    waiting: RefCell<VecDeque<(Rc<Line>, Event)>>,
    bell: Rc<Notify>,
    taken: Cell<u64>,
    armed: Cell<u64>,
}

impl CompletionQueue {
    /// A queue, and the task that empties it for as long as the queue is there.
    pub fn start() -> Rc<Self> {
        let queue = Rc::new(Self {
            waiting: RefCell::new(VecDeque::with_capacity(ENTRIES)),
            bell: Rc::default(),
            taken: Cell::new(0),
            armed: Cell::new(0),
        });
        let (weak, bell) = (Rc::downgrade(&queue), queue.bell.clone());
        reactor::spawn(poll(weak, bell)).detach();
        queue
    }

    /// Completions handed out.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Times that the queue was armed.
    pub fn armed(&self) -> u64 {
        self.armed.get()
    }

    /// Something happened; the user hears of it `delay` later, and after all that happened before.
    pub fn push(self: &Rc<Self>, line: &Rc<Line>, event: Event, delay: Duration) {
        let mut late = line.late.borrow_mut();
        if delay.is_zero() && late.is_empty() {
            return self.push_now(line.clone(), event);
        }
        let is_first = late.is_empty();
        late.push_back((reactor::now() + delay, event));
        if is_first {
            reactor::spawn(trickle(self.clone(), line.clone())).detach();
        }
    }

    fn push_now(&self, line: Rc<Line>, event: Event) {
        self.waiting.borrow_mut().push_back((line, event));
        self.bell.notify_one();
    }

    /// Hands out what is there. Returns how much.
    fn hand_out(&self) -> usize {
        for count in 0..BATCH {
            let next = self.waiting.borrow_mut().pop_front();
            let Some((line, event)) = next else {
                return count;
            };
            match event {
                Event::Completion(completion) => {
                    self.taken.set(self.taken.get() + 1);
                    line.inbox.push(completion);
                }
                Event::Lost(why) => line.inbox.lose(why),
            }
        }
        BATCH
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        self.bell.notify_one();
    }
}

async fn poll(queue: Weak<CompletionQueue>, bell: Rc<Notify>) {
    let mut last = reactor::now();
    while let Some(queue) = queue.upgrade() {
        let now = reactor::now();
        let count = queue.hand_out();
        if count > 0 {
            last = now;
        }
        let is_hot = match reactor::spin() {
            Spin::Always => true,
            _ if count == BATCH => true,
            Spin::For(window) => now.saturating_duration_since(last) < window,
        };
        if !is_hot {
            queue.armed.set(queue.armed.get() + 1);
        }
        drop(queue);
        if is_hot {
            reactor::next_turn().await;
        } else {
            bell.notified().await;
            last = reactor::now();
        }
    }
}

/// Hands on what was held back, in order, each when its time has come.
async fn trickle(queue: Rc<CompletionQueue>, line: Rc<Line>) {
    loop {
        let due = line.late.borrow().front().map(|(due, _)| *due);
        let Some(due) = due else { return };
        sleep_until(due).await;
        let next = line.late.borrow_mut().pop_front();
        if let Some((_, event)) = next {
            queue.push_now(line.clone(), event);
        }
    }
}
