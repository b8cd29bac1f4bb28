//! The loop of one core. Each turn, in this order:
//!
//! 1. drain wakes from other cores (mailboxes wake through them);
//! 2. run ready tasks, and those that they wake, up to a budget, so that I/O is never starved by
//!    tasks that wake each other; last the tasks that asked for the end of the turn;
//! 3. submit what the tasks queued;
//! 4. reap completions into a list, then wake their tasks (no task code runs while reaping);
//! 5. fire timers, and release the tasks that asked for the next turn;
//! 6. park in the kernel until the next completion, wake or timer, but only if nothing is ready,
//!    nothing has happened for the spin time (several, with a disk at work), and no device is being
//!    polled.
//!
//! Steps 1 to 5 are [`Executor::turn`], which never blocks: a simulated world calls it alone.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::backend::{Backend, Op, SimBackend};
use crate::context::{self, Core, CoreParts};
use crate::cores::Spin;
use crate::op::{Completions, OpKey};
use crate::remote::Place;
use crate::task::{JoinHandle, TaskSnapshot};
use crate::time::Instant;

/// Task polls per turn.
const TASK_BUDGET: usize = 256;

/// Task polls after which the time is read again, so that latencies within a long turn are known.
const POLLS_A_READING: usize = 32;

/// Wakes taken from other cores per turn.
const REMOTE_BUDGET: usize = 512;

/// Timers fired per turn.
const TIMER_BUDGET: usize = 1024;

/// With a disk at work, a core polls for this many times its spin time before it parks: most disks
/// answer sooner than that, and a parked core wakes late. Measured on a disk at depth 32: 4 KiB reads
/// +17 % [9 - 22] and their p99 412 us in place of 738, random writes beyond the journal +4 % [2 - 6].
const DISK_PATIENCE: u32 = 6;

/// How long a dropped executor waits for the kernel to give back the buffers of operations in
/// flight. After that their memory is leaked, never reused.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// One core's executor.
pub(crate) struct Executor {
    core: Rc<Core>,
    wakers: Vec<Waker>,
    orphans: Vec<Op>,
    last_work: Instant,
}

/// What a turn did and what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TurnReport {
    /// Something happened besides tasks that poll every turn.
    pub(crate) worked: bool,
    /// Another turn has something to do right now.
    pub(crate) is_ready: bool,
    /// When the next timer is due.
    pub(crate) next_timer: Option<Instant>,
    /// Operations the backend has not completed.
    pub(crate) in_flight: usize,
}

impl Executor {
    /// Makes an executor on a backend. Fails when the process has too many.
    pub(crate) fn new(parts: CoreParts, backend: Backend) -> io::Result<Executor> {
        let place = Place::take()?;
        let core = Core::new(parts, place, backend);
        let last_work = core.now();
        let (wakers, orphans) = (Vec::with_capacity(256), Vec::with_capacity(64));
        Ok(Executor {
            core,
            wakers,
            orphans,
            last_work,
        })
    }

    /// An executor of a simulated node.
    pub(crate) fn simulated(
        parts: CoreParts,
        backend: Box<dyn SimBackend>,
    ) -> io::Result<Executor> {
        Executor::new(parts, Backend::Sim(backend))
    }

    /// Starts a task from outside. `make` runs on the executor, so it may use the free functions.
    pub(crate) fn spawn<F, T>(&self, make: impl FnOnce() -> F) -> JoinHandle<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let _entered = context::enter(&self.core);
        let future = make();
        self.core.spawn(|| future)
    }

    /// One turn: steps 1 to 5. Never blocks.
    pub(crate) fn turn(&mut self) -> TurnReport {
        let core = self.core.clone();
        let _entered = context::enter(&core);
        // On a kernel the time read before the last turn's timers, or after parking, is fresh: one
        // reading per turn is enough. A world jumps in time between turns.
        let started = if core.is_sim {
            core.refresh_now()
        } else {
            core.now()
        };
        let woken = self.drain_remote();
        let polled = self.run_ready();
        let reaped = self.reap();
        let now = core.refresh_now();
        let fired = self.fire_timers(now);
        let pollers = core.release_next_turn(&mut self.wakers);
        let worked = woken + reaped + fired > 0 || polled > pollers;
        self.record(started, now, polled, worked);
        TurnReport {
            worked,
            is_ready: core.tasks.borrow().ready_count() > 0 || core.place.has_words(),
            next_timer: core.timers.borrow().next_deadline(),
            in_flight: core.ops.borrow().in_flight(),
        }
    }

    fn drain_remote(&self) -> usize {
        let core = &self.core;
        if !core.place.has_words() {
            return 0;
        }
        let mut count = 0;
        let mut tasks = core.tasks.borrow_mut();
        if core.place.take_overflow() {
            tasks.make_all_ready();
            count += 1;
        }
        // Bounded: producers could refill the queue for as long as we drain it.
        for _ in 0..REMOTE_BUDGET {
            let Some(word) = core.place.pop() else { break };
            tasks.make_ready(word);
            count += 1;
        }
        core.stats.remote_wakes.set(core.place.received());
        count
    }

    /// Runs tasks until none is ready, so that a request goes as far as it can without a look at
    /// sockets and rings in between.
    fn run_ready(&mut self) -> usize {
        let mut left = TASK_BUDGET;
        self.run_some(&mut left);
        // What others said during the turn goes out together, also when the budget is used up.
        let ending = self.core.release_turn_end(&mut self.wakers);
        left += ending;
        self.run_some(&mut left);
        TASK_BUDGET + ending - left
    }

    fn run_some(&self, left: &mut usize) {
        let core = &self.core;
        while *left > 0 {
            let ready = core.tasks.borrow().ready_count();
            if ready == 0 {
                break;
            }
            let pick = if core.is_sim {
                core.backend().pick_ready(ready)
            } else {
                0
            };
            let next = core.tasks.borrow_mut().take_ready(pick);
            if let Some(turn) = next {
                core.run_task(turn);
            }
            *left -= 1;
            if left.is_multiple_of(POLLS_A_READING) && !core.is_sim {
                core.refresh_now();
            }
        }
    }

    fn reap(&mut self) -> usize {
        let core = self.core.clone();
        let mut ops = core.ops.borrow_mut();
        let mut completions = Completions::new(&mut ops);
        core.backend().reap(&mut completions);
        let count = completions.count();
        ops.take_finished(&mut self.wakers, &mut self.orphans);
        drop(ops);
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        // An orphan's buffers and handles are released here, with nothing borrowed.
        for op in self.orphans.drain(..) {
            drop(op);
            core.op_slot_freed();
        }
        count
    }

    fn fire_timers(&self, now: Instant) -> usize {
        let mut fired = 0;
        while fired < TIMER_BUDGET {
            let due = self.core.timers.borrow_mut().pop_due(now);
            let Some(waker) = due else { break };
            waker.wake();
            fired += 1;
        }
        fired
    }

    fn record(&mut self, started: Instant, now: Instant, polled: usize, worked: bool) {
        let stats = &self.core.stats;
        stats.turns.add(1);
        stats.polls.add(polled as u64);
        stats.tasks.set(self.core.tasks.borrow().live() as u64);
        stats
            .ops_in_flight
            .set(self.core.ops.borrow().in_flight() as u64);
        let spent_ns = now.duration_since(started).as_nanos() as u64;
        if worked {
            self.last_work = now;
            stats.busy_ns.add(spent_ns);
        } else {
            stats.idle_ns.add(spent_ns);
        }
    }

    /// How many spin times to wait for what is about to come.
    fn patience(&self) -> u32 {
        match self.core.ops.borrow().waits_for_disk() {
            true => DISK_PATIENCE,
            false => 1,
        }
    }

    /// Step 6. Sleeps until a completion, a wake or `deadline`, unless the spin time is not over
    /// or completions come only to those who look.
    fn park(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let now = self.core.now();
        let may_park = match self.core.spin {
            Spin::Always => false,
            Spin::For(spin) => now.duration_since(self.last_work) >= spin * self.patience(),
        };
        if !may_park || self.core.backend().is_polling() {
            return Ok(());
        }
        // Before we announce that we sleep: a bell that rings after that must not be silenced.
        self.core.backend().prepare_park(&self.core.place);
        if !self.core.place.park() {
            return Ok(());
        }
        let timeout = deadline.map(|deadline| deadline.duration_since(now));
        let slept = self.core.backend().park(timeout);
        self.core.place.unpark();
        let stats = &self.core.stats;
        stats.parks.add(1);
        let woke = self.core.refresh_now();
        stats
            .idle_ns
            .add(woke.duration_since(now).as_nanos() as u64);
        slept
    }

    /// Runs until `main` is done and returns its output.
    pub(crate) fn run<F, T>(&mut self, make: impl FnOnce() -> F) -> io::Result<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        self.core.refresh_now();
        let mut main = self.spawn(make);
        loop {
            let report = self.turn();
            if let Some(output) = main.try_take() {
                return Ok(output);
            }
            if !report.is_ready {
                self.park(report.next_timer)?;
            }
        }
    }

    /// What every task and operation is doing, for the report of a stall.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            core: self.core.name.clone(),
            tasks: self.core.tasks.borrow().snapshot(),
            ops: self.core.ops.borrow().snapshot(),
        }
    }

    /// The core's counters.
    pub(crate) fn stats(&self) -> std::sync::Arc<crate::CoreStats> {
        self.core.stats.clone()
    }

    /// Whether a turn would find something to do without any completion or timer.
    pub(crate) fn is_ready(&self) -> bool {
        self.core.tasks.borrow().ready_count() > 0 || self.core.place.has_words()
    }
}

/// The state of a core, for the report of a stall.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) core: String,
    pub(crate) tasks: Vec<TaskSnapshot>,
    pub(crate) ops: Vec<(OpKey, &'static str)>,
}

impl Drop for Executor {
    /// Drops every task, then waits until the kernel has given back all buffers.
    fn drop(&mut self) {
        let core = self.core.clone();
        let _entered = context::enter(&core);
        core.drop_all_tasks();
        if core.is_sim {
            core.ops.borrow_mut().forget_in_flight(&mut self.orphans);
            self.orphans.clear();
            return;
        }
        let limit = crate::clock::now() + DRAIN_LIMIT;
        for key in core.ops.borrow().cancellable() {
            core.backend().cancel(key);
        }
        while core.ops.borrow().in_flight() > 0 && crate::clock::now() < limit {
            self.reap();
            if core
                .backend()
                .park(Some(Duration::from_millis(10)))
                .is_err()
            {
                break;
            }
        }
        let lost = core.ops.borrow_mut().forget_in_flight(&mut self.orphans);
        if lost > 0 {
            tracing::error!(
                core = core.name,
                lost,
                "operations never completed: memory is leaked"
            );
            std::mem::forget(std::mem::take(&mut self.orphans));
        }
    }
}
