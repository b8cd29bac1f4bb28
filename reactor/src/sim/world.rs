//! The world as a test holds it: build it, start programs, let time pass, break things, look.
//!
//! One step: take the next event from the queue, jump the clock to it, handle it. The turn of a
//! core is such an event; everything else (a write finishing, bytes arriving) only puts results
//! into a core's inbox and plans a turn for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::backend::{CLOCK_BASE_NS, WorldBackend};
use super::crash::CrashUnwind;
use super::options::WorldOptions;
use super::state::{Happening, State};
use super::trace::{EventKind, FaultKind};
use crate::buf::BufPool;
use crate::context::CoreParts;
use crate::cores::CoreId;
use crate::executor::{Executor, TurnReport};
use crate::task::JoinHandle;

/// One run call lets at most this much time pass (70 years), so that time never overflows.
const LONGEST_NS: u64 = 1 << 61;

type Main = Box<dyn Fn(usize) -> Pin<Box<dyn Future<Output = ()>>>>;
type Boot = Rc<dyn Fn() -> Main>;

thread_local! {
    static TEARING_DOWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling destructor runs because its node crashed or its world ends, not because the
/// program dropped the value. Such a program is dead: checks like "a request must be completed
/// before it is dropped" do not apply.
#[must_use]
pub fn is_tearing_down() -> bool {
    TEARING_DOWN.get() || std::thread::panicking()
}

/// Marks destructors that run on behalf of a dead program, also when one of them panics.
struct TearingDown;

impl TearingDown {
    fn begin() -> Self {
        TEARING_DOWN.set(true);
        Self
    }
}

impl Drop for TearingDown {
    fn drop(&mut self) {
        TEARING_DOWN.set(false);
    }
}

/// How a node's process is started, again and again.
struct Program {
    core_count: usize,
    boot: Boot,
}

/// One core of a running process.
pub(super) struct Running {
    pub(super) node: usize,
    // Dropped before the executor that it refers to.
    main: Option<JoinHandle<()>>,
    pub(super) executor: Executor,
}

/// A seeded world. See the module documentation.
///
/// When a test panics while a world exists, the world prints its seed, options, faults and last
/// events.
pub struct World {
    pub(super) state: Rc<RefCell<State>>,
    programs: BTreeMap<usize, Program>,
    pub(super) running: BTreeMap<usize, Running>,
    turns_left: u64,
}

enum Step {
    Happened,
    /// The next event is beyond the limit.
    Limit,
    /// Nothing will ever happen again.
    Empty,
}

impl World {
    /// An empty world whose every decision follows from `seed` and `options`.
    #[must_use]
    pub fn new(seed: u64, options: WorldOptions) -> Self {
        let turns_left = options.turns_max;
        let state = Rc::new(RefCell::new(State::new(seed, options)));
        Self {
            state,
            programs: BTreeMap::new(),
            running: BTreeMap::new(),
            turns_left,
        }
    }

    /// The seed it was made from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.state.borrow().seed
    }

    /// Starts a process: `main(core_index)` runs on each of `core_count` cores. It is started
    /// again, with the same `main`, by `restart`. The process ends when every core's main returns.
    pub fn start<F>(&mut self, node: &str, core_count: usize, main: impl Fn(usize) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let main = Rc::new(main);
        self.start_with(node, core_count, move || {
            let main = main.clone();
            move |core| main(core)
        });
    }

    /// As `start`, for processes whose cores share something (mailboxes): `boot` is called once
    /// per start of the process and returns the `main` of its cores.
    pub fn start_with<G, F>(
        &mut self,
        node: &str,
        core_count: usize,
        boot: impl Fn() -> G + 'static,
    ) where
        G: Fn(usize) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let boot: Boot = Rc::new(move || {
            let main = boot();
            Box::new(move |core| Box::pin(main(core)))
        });
        let index = self.state.borrow_mut().add_node(node);
        self.programs.insert(index, Program { core_count, boot });
        self.boot(index);
    }

    /// Starts a node's process again after a crash or exit. Panics when it is running or was never
    /// started.
    pub fn restart(&mut self, node: &str) {
        let index = self.node_index(node);
        self.boot(index);
    }

    fn boot(&mut self, node: usize) {
        let Some(program) = self.programs.get(&node) else {
            panic!(
                "node {} was never started",
                self.state.borrow().node_name(node)
            );
        };
        let (boot, core_count) = (program.boot.clone(), program.core_count);
        let cores = self.state.borrow_mut().start_node(node, core_count);
        let main = boot();
        for (index, core) in cores.into_iter().enumerate() {
            let executor = self.executor(node, core, index);
            let handle = executor.spawn(|| main(index));
            self.running.insert(
                core,
                Running {
                    node,
                    main: Some(handle),
                    executor,
                },
            );
            let mut state = self.state.borrow_mut();
            let at_ns = state.now_ns + state.cpu_prng.between(1, 10_000);
            state.turn_at(core, at_ns);
        }
    }

    fn executor(&self, node: usize, core: usize, index: usize) -> Executor {
        let (name, options) = {
            let state = self.state.borrow();
            (
                format!("{}/{index}", state.node_name(node)),
                state.options.core.clone(),
            )
        };
        let pool = |bytes: usize, kind: &str| match BufPool::new(bytes, &format!("{name}/{kind}")) {
            Ok(pool) => pool,
            Err(error) => panic!("no memory for the buffer pool of {name}: {error}"),
        };
        let parts = CoreParts {
            id: CoreId(index as u16),
            io_pool: pool(options.io_pool_bytes, "io"),
            engine_pool: pool(options.engine_pool_bytes, "engine"),
            spin: options.spin,
            name: name.clone(),
        };
        let backend = WorldBackend::new(self.state.clone(), node, core);
        match Executor::simulated(parts, Box::new(backend)) {
            Ok(executor) => executor,
            Err(error) => panic!("no executor for {name}: {error}"),
        }
    }

    /// Drops the code of a dead process: its tasks are dropped, never polled.
    pub(super) fn tear_down(&mut self, node: usize) {
        let dead: Vec<usize> = self
            .running
            .iter()
            .filter(|(_, r)| r.node == node)
            .map(|(core, _)| *core)
            .collect();
        let _marked = TearingDown::begin();
        for core in dead {
            self.running.remove(&core);
        }
    }

    /// Lets `duration` of virtual time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let limit_ns = self.limit_ns(duration);
        self.wake_woken();
        while matches!(self.step(limit_ns), Step::Happened) {}
        self.state.borrow_mut().now_ns = limit_ns;
    }

    /// Runs until `predicate` holds; panics with a report when it does not within `limit`, or when
    /// nothing can happen any more.
    pub fn run_until(&mut self, limit: Duration, predicate: impl FnMut(&World) -> bool) {
        if !self.try_run_until(limit, predicate) {
            self.stalled(limit);
        }
    }

    /// As `run_until`, but says whether the predicate came to hold.
    pub fn try_run_until(
        &mut self,
        limit: Duration,
        mut predicate: impl FnMut(&World) -> bool,
    ) -> bool {
        let limit_ns = self.limit_ns(limit);
        loop {
            if predicate(self) {
                return true;
            }
            self.wake_woken();
            match self.step(limit_ns) {
                Step::Happened => {}
                Step::Empty => return false,
                Step::Limit => {
                    self.state.borrow_mut().now_ns = limit_ns;
                    return predicate(self);
                }
            }
        }
    }

    /// Runs until every process has ended; panics with a report when that takes more than `limit`.
    pub fn run(&mut self, limit: Duration) {
        self.run_until(limit, |world| {
            world.running.is_empty() && !world.has_pending_restart()
        });
    }

    fn has_pending_restart(&self) -> bool {
        let state = self.state.borrow();
        let crashed = |node: &super::state::Node| !node.up && node.restart_planned;
        state.nodes.iter().any(crashed)
    }

    /// Starts a one-core process on a node, runs the world until its main returns, and gives its
    /// output; `None` when the node crashed before. Panics after `limit`.
    pub fn run_once<F, T>(
        &mut self,
        node: &str,
        limit: Duration,
        main: impl Fn() -> F + 'static,
    ) -> Option<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let output = Rc::new(RefCell::new(None));
        let slot = output.clone();
        self.start(node, 1, move |_| {
            let (future, slot) = (main(), slot.clone());
            async move {
                let value = future.await;
                *slot.borrow_mut() = Some(value);
            }
        });
        let node = node.to_owned();
        self.run_until(limit, |world| !world.is_up(&node));
        output.take()
    }

    fn limit_ns(&mut self, duration: Duration) -> u64 {
        let state = self.state.borrow();
        self.turns_left = state.options.turns_max;
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        state.now_ns.saturating_add(ns.min(LONGEST_NS))
    }

    fn step(&mut self, limit_ns: u64) -> Step {
        let happening = {
            let mut state = self.state.borrow_mut();
            state.bury();
            match state.next_event_ns() {
                None => return Step::Empty,
                Some(at_ns) if at_ns > limit_ns => return Step::Limit,
                Some(_) => state.pop_event(),
            }
        };
        match happening {
            Some(Happening::Turn { core }) => self.turn(core),
            Some(Happening::CrashByChance { node, incarnation }) => {
                self.crash_by_chance(node, incarnation);
            }
            Some(Happening::Restart { node, incarnation }) => {
                let state = self.state.borrow();
                let entry = &state.nodes[node];
                let due = !entry.up && entry.incarnation == incarnation;
                drop(state);
                if due {
                    self.boot(node);
                }
            }
            Some(other) => self.state.borrow_mut().happen(other),
            None => return Step::Empty,
        }
        Step::Happened
    }

    fn crash_by_chance(&mut self, node: usize, incarnation: u64) {
        let mut state = self.state.borrow_mut();
        let entry = &state.nodes[node];
        if !entry.up || entry.incarnation != incarnation || !state.may_crash_by_chance() {
            return;
        }
        let crash = state.draw_crash();
        state.crash_node(node, crash);
        drop(state);
        self.tear_down(node);
    }

    /// One turn of one core.
    fn turn(&mut self, core: usize) {
        let Some(running) = self.running.get_mut(&core) else {
            return;
        };
        let node = running.node;
        self.turns_left -= 1;
        {
            let mut state = self.state.borrow_mut();
            let now_ns = state.now_ns;
            state.log.turn(now_ns, core as u64);
        }
        // A crash point unwinds to here. Everything else that unwinds is a bug of the program and
        // goes on to the test. The executor is not used again in either case.
        match catch_unwind(AssertUnwindSafe(|| running.executor.turn())) {
            Ok(report) => self.after_turn(core, node, report),
            Err(payload) if payload.is::<CrashUnwind>() => self.tear_down(node),
            Err(payload) => resume_unwind(payload),
        }
        if self.turns_left == 0 {
            self.livelocked();
        }
    }

    fn after_turn(&mut self, core: usize, node: usize, report: TurnReport) {
        self.plan_turn(core, report);
        self.wake_siblings(core, node);
        let Some(running) = self.running.get_mut(&core) else {
            return;
        };
        let ended = running
            .main
            .as_mut()
            .is_some_and(|main| main.try_take().is_some());
        if !ended {
            return;
        }
        running.main = None;
        let is_last = self
            .running
            .values()
            .all(|r| r.node != node || r.main.is_none());
        let mut state = self.state.borrow_mut();
        let name = state.node_name(node);
        state.trace(EventKind::MainEnd, &name, [core as u64, 0, 0]);
        if is_last {
            state.exit_node(node);
            drop(state);
            self.tear_down(node);
        }
    }

    /// When the core wants to run next.
    fn plan_turn(&mut self, core: usize, report: TurnReport) {
        let mut state = self.state.borrow_mut();
        let cpu = state.options.cpu.clone();
        let mut took_ns = cpu.turn_ns.max(1) + state.cpu_prng.between(0, cpu.turn_jitter_ns);
        if state.cpu_prng.chance_ppm(cpu.pause_ppm) {
            let pause_ns = state.cpu_prng.between(0, cpu.pause_ns);
            took_ns += pause_ns;
            let name = state.node_name(state.core_node(core));
            state.fault(FaultKind::Pause, &name, (pause_ns, 0));
        }
        let free_ns = state.now_ns + took_ns;
        state.cores[core].busy_until_ns = free_ns;
        if report.is_ready || !state.cores[core].inbox.is_empty() {
            state.turn_at(core, free_ns);
        } else if let Some(timer) = report.next_timer {
            let timer_ns = timer.as_nanos().saturating_sub(CLOCK_BASE_NS);
            state.turn_at(core, timer_ns.max(free_ns));
        }
    }

    /// Cores of the same process that were woken by this one (mailboxes).
    fn wake_siblings(&self, core: usize, node: usize) {
        self.wake(|other, running| other != core && running.node == node);
    }

    /// Cores that the test itself woke, as the slow plane does: by a mailbox.
    fn wake_woken(&self) {
        self.wake(|_, _| true);
    }

    fn wake(&self, concerns: impl Fn(usize, &Running) -> bool) {
        let woken = self
            .running
            .iter()
            .filter(|(core, running)| concerns(**core, running) && running.executor.is_ready());
        for (core, _) in woken {
            let mut state = self.state.borrow_mut();
            if !state.has_turn(*core) {
                let longest_ns = state.options.cpu.wake_ns.max(1);
                let at_ns = state.now_ns + state.cpu_prng.between(1, longest_ns);
                state.turn_at(*core, at_ns);
            }
        }
    }

    fn stalled(&self, limit: Duration) -> ! {
        panic!(
            "what the test waits for did not happen within {limit:?}\n{}",
            self.snapshots()
        );
    }

    fn livelocked(&self) -> ! {
        panic!(
            "the cores ran more turns than WorldOptions::turns_max\n{}",
            self.snapshots()
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
            // A second panic in some destructor would hide the first.
            std::mem::forget(std::mem::take(&mut self.running));
            return;
        }
        let _marked = TearingDown::begin();
        for core in &mut self.state.borrow_mut().cores {
            core.alive = false;
        }
        self.running.clear();
    }
}
