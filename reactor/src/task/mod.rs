//! Tasks: a table of type-erased futures in recycled memory, and the ready queue.
//!
//! A task's memory holds first its future, then its output, until the handle takes it. Memory
//! comes in size classes and goes back to its class, so once the largest number of tasks of a
//! class has lived, spawning allocates nothing.
//!
//! A task is in the ready queue at most once, so the queue is as bounded as the table.
//! Bound: [`MAX_TASKS`] live tasks per core; one more panics, because callers bound what they
//! spawn.

mod body;
mod handle;

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::task::{Context, Waker};

use crate::context::Core;
use crate::waker::TaskWord;
use body::{Body, Memory};
pub use handle::JoinHandle;

/// Live tasks per core.
pub(crate) const MAX_TASKS: usize = 1 << 17;

const _: () = assert!(MAX_TASKS <= TaskWord::MAX_SLOTS);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Vacant,
    /// Waits for a wake or in the ready queue.
    Idle,
    /// Being polled now.
    Running,
    /// Its future is being dropped; nothing may be done to it until that is over.
    Clearing,
    /// The output waits for the handle.
    Finished,
}

struct Slot {
    generation: u32,
    stage: Stage,
    queued: bool,
    has_handle: bool,
    aborted: bool,
    // Away while the task is polled or dropped.
    body: Option<Body>,
    join_waker: Option<Waker>,
}

impl Slot {
    /// Takes the content out to drop it; the slot is released after that.
    fn take_to_clear(&mut self) -> Body {
        self.stage = Stage::Clearing;
        self.body
            .take()
            .expect("a task that is not polled has its body")
    }
}

/// All tasks of one core.
pub(crate) struct Tasks {
    core: u16,
    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
    memory: Memory,
    live: usize,
}

/// A task taken off the ready queue to be polled.
pub(crate) struct Turn {
    word: TaskWord,
    body: Body,
}

impl Tasks {
    pub(crate) fn new(core: u16) -> Tasks {
        Tasks {
            core,
            slots: Vec::with_capacity(256),
            free: Vec::with_capacity(256),
            ready: VecDeque::with_capacity(256),
            memory: Memory::default(),
            live: 0,
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Puts the future that `make` makes in a free slot and makes it ready.
    #[inline(always)]
    pub(crate) fn insert<F>(&mut self, make: impl FnOnce() -> F) -> TaskWord
    where
        F: Future<Output: 'static> + 'static,
    {
        let body = Body::new(&mut self.memory, make);
        self.insert_body(body)
    }

    fn insert_body(&mut self, body: Body) -> TaskWord {
        let index = self.free_slot();
        let slot = &mut self.slots[index as usize];
        *slot = Slot {
            generation: slot.generation,
            stage: Stage::Idle,
            queued: true,
            has_handle: true,
            aborted: false,
            body: Some(body),
            join_waker: None,
        };
        let word = TaskWord::new(self.core, index, slot.generation);
        self.live += 1;
        self.ready.push_back(index);
        word
    }

    fn free_slot(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        assert!(
            self.slots.len() < MAX_TASKS,
            "more than {MAX_TASKS} tasks on one core"
        );
        self.slots.push(Slot {
            generation: 0,
            stage: Stage::Vacant,
            queued: false,
            has_handle: false,
            aborted: false,
            body: None,
            join_waker: None,
        });
        (self.slots.len() - 1) as u32
    }

    fn slot_mut(&mut self, word: TaskWord) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(word.slot() as usize)?;
        (slot.generation == word.generation() && slot.stage != Stage::Vacant).then_some(slot)
    }

    /// A wake: puts the task in the ready queue unless it is there, gone or finished.
    pub(crate) fn make_ready(&mut self, word: TaskWord) {
        let Some(slot) = self.slot_mut(word) else {
            return;
        };
        let can_run = matches!(slot.stage, Stage::Idle | Stage::Running);
        if can_run && !mem::replace(&mut slot.queued, true) {
            self.ready.push_back(word.slot());
        }
    }

    pub(crate) fn make_all_ready(&mut self) {
        for index in 0..self.slots.len() as u32 {
            let word = TaskWord::new(self.core, index, self.slots[index as usize].generation);
            self.make_ready(word);
        }
    }

    /// Takes the ready task that `pick` chooses (of `ready_count()`); zero is the oldest.
    pub(crate) fn take_ready(&mut self, pick: usize) -> Option<Turn> {
        let index = match pick {
            0 => self.ready.pop_front(),
            _ => self.ready.remove(pick),
        }?;
        let slot = &mut self.slots[index as usize];
        slot.queued = false;
        if slot.stage != Stage::Idle {
            return None;
        }
        slot.stage = Stage::Running;
        let word = TaskWord::new(self.core, index, slot.generation);
        let body = slot.body.take().expect("an idle task has its body");
        Some(Turn { word, body })
    }

    /// Frees the slot, and the memory of its cleared body.
    fn release(&mut self, word: TaskWord, body: Body) -> Option<Waker> {
        self.memory.recycle(body);
        let slot = self.slot_mut(word)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.stage = Stage::Vacant;
        let waker = slot.join_waker.take();
        if mem::replace(&mut slot.queued, false) {
            self.ready.retain(|&index| index != word.slot());
        }
        self.free.push(word.slot());
        self.live -= 1;
        waker
    }

    /// The first live task from `start` on, for shutdown. One that panicked while it was polled is
    /// passed over: unwinding has dropped it.
    fn next_live(&mut self, start: usize) -> Option<(TaskWord, Body)> {
        let mut rest = self.slots.get_mut(start..)?.iter_mut();
        let index = start + rest.position(|slot| slot.body.is_some())?;
        let slot = &mut self.slots[index];
        let word = TaskWord::new(self.core, index as u32, slot.generation);
        Some((word, slot.take_to_clear()))
    }

    /// What is known about each live task, for the report of a stall.
    pub(crate) fn snapshot(&self) -> Vec<TaskSnapshot> {
        let live = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.stage != Stage::Vacant);
        live.map(|(index, slot)| TaskSnapshot {
            slot: index as u32,
            generation: slot.generation,
            is_ready: slot.queued,
            is_finished: slot.stage == Stage::Finished,
        })
        .collect()
    }
}

/// One line of a stall report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSnapshot {
    /// The task's place in the table.
    pub slot: u32,
    /// How many tasks had the place before.
    pub generation: u32,
    /// Whether it waits to be polled.
    pub is_ready: bool,
    /// Whether its output waits for its handle.
    pub is_finished: bool,
}

impl Core {
    /// Polls one task. No state of the core is borrowed while its code runs.
    pub(crate) fn run_task(&self, turn: Turn) {
        let Turn { word, mut body } = turn;
        let waker = word.waker();
        let polled = body.poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.slot_mut(word).expect("a running task keeps its slot");
        let goes_on = polled.is_pending() && !slot.aborted;
        let is_kept = goes_on || polled.is_ready() && slot.has_handle;
        if !is_kept {
            slot.stage = Stage::Clearing;
            drop(tasks);
            return self.clear_and_release(word, body);
        }
        slot.stage = if goes_on {
            Stage::Idle
        } else {
            Stage::Finished
        };
        slot.body = Some(body);
        let waiting = if goes_on {
            None
        } else {
            slot.join_waker.take()
        };
        drop(tasks);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Drops a task's content, which may run foreign code, then frees its slot.
    fn clear_and_release(&self, word: TaskWord, mut body: Body) {
        body.clear();
        let waker = self.tasks.borrow_mut().release(word, body);
        drop(waker);
    }

    /// Drops every task without polling it. Destructors may spawn: those tasks go too.
    pub(crate) fn drop_all_tasks(&self) {
        let mut start = 0;
        loop {
            let next = self.tasks.borrow_mut().next_live(start);
            match next {
                Some((word, body)) => {
                    start = word.slot() as usize + 1;
                    self.clear_and_release(word, body);
                }
                // One more round for what destructors spawned behind us.
                None if start > 0 => start = 0,
                None => return,
            }
        }
    }
}
