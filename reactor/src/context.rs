//! One core's state, and the thread-local that leads free functions and wakers to it.
//!
//! The thread-local is set only while an executor runs a turn, so a test can run many cores of
//! many nodes on one thread. No state cell of a core stays borrowed while foreign code (a task, a
//! destructor of a task, a waker) runs.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crate::backend::Backend;
use crate::buf::BufPool;
use crate::cores::{CoreId, Spin};
use crate::op::OpTable;
use crate::remote::Place;
use crate::stats::CoreStats;
use crate::sync::wait_queue::WaitQueue;
use crate::task::{JoinHandle, Tasks};
use crate::time::Instant;
use crate::timer::Timers;
use crate::waker::TaskWord;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Everything one executor owns.
pub(crate) struct Core {
    pub(crate) id: CoreId,
    pub(crate) name: String,
    pub(crate) spin: Spin,
    pub(crate) is_sim: bool,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) place: Place,
    pub(crate) tasks: RefCell<Tasks>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) ops: RefCell<OpTable>,
    pub(crate) op_admission: RefCell<WaitQueue>,
    pub(crate) backend: RefCell<Backend>,
    next_turn: RefCell<Vec<Waker>>,
    turn_end: RefCell<Vec<Waker>>,
    now: Cell<Instant>,
    pub(crate) io_pool: BufPool,
    pub(crate) engine_pool: BufPool,
}

/// What a core is made from.
pub(crate) struct CoreParts {
    pub(crate) id: CoreId,
    pub(crate) name: String,
    pub(crate) spin: Spin,
    pub(crate) io_pool: BufPool,
    pub(crate) engine_pool: BufPool,
}

impl Core {
    pub(crate) fn new(parts: CoreParts, place: Place, mut backend: Backend) -> Rc<Core> {
        let now = backend.now();
        Rc::new(Core {
            id: parts.id,
            name: parts.name,
            spin: parts.spin,
            is_sim: backend.is_sim(),
            stats: Arc::new(CoreStats::default()),
            tasks: RefCell::new(Tasks::new(place.index())),
            place,
            timers: RefCell::default(),
            ops: RefCell::new(OpTable::new()),
            op_admission: RefCell::default(),
            backend: RefCell::new(backend),
            next_turn: RefCell::default(),
            turn_end: RefCell::default(),
            now: Cell::new(now),
            io_pool: parts.io_pool,
            engine_pool: parts.engine_pool,
        })
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn refresh_now(&self) -> Instant {
        let now = self.backend().now().max(self.now.get());
        self.now.set(now);
        now
    }

    pub(crate) fn backend(&self) -> RefMut<'_, Backend> {
        self.backend.borrow_mut()
    }

    #[inline(always)]
    pub(crate) fn spawn<F, T>(self: &Rc<Core>, make: impl FnOnce() -> F) -> JoinHandle<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let word = self.tasks.borrow_mut().insert(make);
        JoinHandle::new(self.clone(), word)
    }

    pub(crate) fn wake_next_turn(&self, waker: Waker) {
        self.next_turn.borrow_mut().push(waker);
    }

    pub(crate) fn wake_turn_end(&self, waker: Waker) {
        self.turn_end.borrow_mut().push(waker);
    }

    /// Moves the tasks that asked for the next turn to the ready queue. Returns how many.
    pub(crate) fn release_next_turn(&self, scratch: &mut Vec<Waker>) -> usize {
        release(&self.next_turn, scratch)
    }

    /// As `release_next_turn`, for the end of this turn.
    pub(crate) fn release_turn_end(&self, scratch: &mut Vec<Waker>) -> usize {
        release(&self.turn_end, scratch)
    }
}

fn release(waiting: &RefCell<Vec<Waker>>, scratch: &mut Vec<Waker>) -> usize {
    std::mem::swap(&mut *waiting.borrow_mut(), scratch);
    let count = scratch.len();
    scratch.drain(..).for_each(Waker::wake);
    count
}

/// Restores the previous executor of this thread when dropped.
pub(crate) struct Entered {
    previous: Option<Rc<Core>>,
}

/// Makes `core` the current executor of this thread until the guard is dropped.
pub(crate) fn enter(core: &Rc<Core>) -> Entered {
    let previous = CURRENT.with(|current| current.replace(Some(core.clone())));
    Entered { previous }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = CURRENT.with(|current| current.replace(self.previous.take()));
        drop(left);
    }
}

/// Runs `f` on the current executor; panics outside of one.
#[track_caller]
pub(crate) fn with_core<R>(f: impl FnOnce(&Core) -> R) -> R {
    CURRENT.with(|current| match &*current.borrow() {
        Some(core) => f(core),
        None => panic!("this function needs a running executor: call it from one of its tasks"),
    })
}

/// The current executor; panics outside of one.
#[track_caller]
pub(crate) fn current() -> Rc<Core> {
    let core = CURRENT.with(|current| current.borrow().clone());
    core.expect("this function needs a running executor: call it from one of its tasks")
}

/// The current executor, if this thread runs one now.
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// Wakes the task if it lives on the executor that runs on this thread now.
pub(crate) fn wake_if_local(word: TaskWord) -> bool {
    let woken = CURRENT.try_with(|current| match &*current.borrow() {
        Some(core) if core.place.index() == word.core() => {
            core.tasks.borrow_mut().make_ready(word);
            true
        }
        _ => false,
    });
    woken.unwrap_or(false)
}
