//! A load thread: one loop over its queues.
//!
//! One turn, for each queue: one receive, complete what it brought, issue what is due, one send.
//! The loop itself belongs to the transport: for sockets it is here, for RDMA in
//! [`verbs`](crate::verbs). Sockets get plain non-blocking calls, because they were the cheapest: against the null target, six
//! alternating rounds, the same client over io_uring (receive kept armed, receive and send in one
//! enter, DEFER_TASKRUN) had a median latency of 1.11 [1.09 - 1.12] times this one's at depth 1,
//! 1.02 [1.00 - 1.07] for reads and 1.02 [1.00 - 1.03] for writes at depth 32; without
//! DEFER_TASKRUN or COOP_TASKRUN 3.2 and 1.7.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use crate::cli::Wait;
use crate::error::PerfError;
use crate::lane::Lane;
use crate::queue::{Connection, Done, Link};
use crate::stats::{Stats, Window};

/// How often commands in flight are checked for their age.
const TIMEOUT_CHECK_NS: u64 = 100_000_000;
/// Empty turns before a polling thread sleeps: a busy target answers sooner.
const EMPTY_TURNS_MAX: u32 = 20;
/// Longest sleep of a polling thread.
const SLEEP_MAX_MS: u64 = 20;

/// What all threads of a run share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Zero of the run's clock.
    pub base: Instant,
    /// The measured part.
    pub window: Window,
    /// Set when a thread failed: the others stop.
    pub stop: Arc<AtomicBool>,
    /// Commands completed, one counter per thread.
    pub completed: Arc<Vec<AtomicU64>>,
    /// What an idle thread does.
    pub wait: Wait,
    /// Longest wait for one command.
    pub io_timeout: Duration,
    /// Failed commands after which the run goes on.
    pub max_errors: u64,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ramp,
    Measured,
    Drain,
    ReadBack,
    Over,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something to do.
    Worked,
    /// Nothing to do.
    Idle,
    /// The end of the run.
    Over,
}

/// One load thread.
#[derive(Debug)]
pub struct Worker<L> {
    index: usize,
    lanes: Vec<Lane<L>>,
    shared: Shared,
    stats: Stats,
    done: Vec<Done>,
    empty_turns: u32,
    next_check_ns: u64,
    phase: Phase,
    /// The phase had a turn.
    is_begun: bool,
    last_ns: u64,
    /// CPU times at the start of the measured part.
    before_us: (u64, u64),
}

impl Worker<Connection> {
    /// Puts on the load, pinned to `core`, until the window ends, waits for what is in flight, and
    /// reads back what was written when the run verifies. Every wait is bounded by the I/O timeout.
    ///
    /// Errors: whatever ends a queue; the other threads are told to stop.
    pub fn run(mut self, core: Option<usize>) -> Result<Stats, PerfError> {
        let result = core.map_or(Ok(()), pin).and_then(|()| self.steps());
        self.finish(result)
    }

    fn steps(&mut self) -> Result<(), PerfError> {
        loop {
            match self.step()? {
                Step::Over => return Ok(()),
                Step::Idle => {
                    if let Some(limit) = self.rest() {
                        self.sleep(limit)?;
                        self.rested();
                    }
                }
                Step::Worked => {}
            }
        }
    }

    /// Sleeps until a socket has something, `limit` at most.
    fn sleep(&self, limit: Duration) -> Result<(), PerfError> {
        let interests = self.lanes.iter().map(|lane| lane.link.interest());
        let mut sockets: Vec<PollFd<'_>> = interests.collect();
        let limit = PollTimeout::try_from(limit.as_millis() as u32).unwrap_or(PollTimeout::ZERO);
        match poll(&mut sockets, limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(PerfError::System {
                doing: "waiting for the target",
                source: errno.into(),
            }),
        }
    }
}

impl<L: Link> Worker<L> {
    /// A thread over `lanes`.
    pub fn new(index: usize, lanes: Vec<Lane<L>>, shared: Shared) -> Self {
        Self {
            index,
            lanes,
            stats: Stats::new(shared.window),
            last_ns: shared.now_ns(),
            shared,
            done: Vec::with_capacity(1024),
            empty_turns: 0,
            next_check_ns: TIMEOUT_CHECK_NS,
            phase: Phase::Ramp,
            is_begun: false,
            before_us: (0, 0),
        }
    }

    /// The queues.
    pub fn lanes(&mut self) -> &mut Vec<Lane<L>> {
        &mut self.lanes
    }

    /// One turn over all queues, of the phase that it is time for.
    ///
    /// Errors: whatever ends a queue.
    pub fn step(&mut self) -> Result<Step, PerfError> {
        self.advance();
        if self.phase == Phase::Over {
            return Ok(Step::Over);
        }
        self.is_begun = true;
        self.turn()
    }

    /// What the thread counted; when it failed the other threads are told to stop.
    pub fn finish(self, result: Result<(), PerfError>) -> Result<Stats, PerfError> {
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        result.map(|()| self.stats)
    }

    /// Goes on to the phase that it is time for. What is in flight gets a turn at least.
    fn advance(&mut self) {
        let Window {
            start_ns, end_ns, ..
        } = self.shared.window;
        loop {
            let is_over = |end_ns| self.last_ns >= end_ns || self.is_stopped();
            let is_drained = || self.is_begun && (self.in_flight() == 0 || self.is_stopped());
            self.phase = match self.phase {
                Phase::Ramp if is_over(start_ns) => {
                    self.before_us = cpu_times_us();
                    Phase::Measured
                }
                Phase::Measured if is_over(end_ns) => {
                    self.end_window();
                    Phase::Drain
                }
                Phase::Drain if is_drained() => Phase::ReadBack,
                Phase::ReadBack if is_drained() => {
                    let checked = self.lanes.iter().map(|lane| lane.access.checked());
                    self.stats.verified = checked.sum();
                    Phase::Over
                }
                Phase::Ramp | Phase::Measured | Phase::Drain | Phase::ReadBack | Phase::Over => {
                    return;
                }
            };
            self.is_begun = false;
        }
    }

    fn end_window(&mut self) {
        let Window {
            start_ns, end_ns, ..
        } = self.shared.window;
        let (before, after) = (self.before_us, cpu_times_us());
        self.stats.effort.user_us = after.0.saturating_sub(before.0);
        self.stats.effort.system_us = after.1.saturating_sub(before.1);
        for lane in &self.lanes {
            if let Some(backlog) = lane.pace.backlog(start_ns, end_ns) {
                self.stats.not_issued(&backlog);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| lane.link.in_flight()).sum()
    }

    /// One turn over all queues.
    fn turn(&mut self) -> Result<Step, PerfError> {
        let mut worked = false;
        for index in 0..self.lanes.len() {
            worked |= self.turn_lane(index)?;
        }
        let now_ns = self.shared.now_ns();
        self.stats.turn(self.last_ns, now_ns, !worked);
        self.last_ns = now_ns;
        if now_ns >= self.next_check_ns {
            self.next_check_ns = now_ns + TIMEOUT_CHECK_NS;
            self.check_timeouts(now_ns)?;
        }
        if !worked {
            return Ok(Step::Idle);
        }
        self.empty_turns = 0;
        self.publish();
        Ok(Step::Worked)
    }

    /// True when there was something to do.
    fn turn_lane(&mut self, index: usize) -> Result<bool, PerfError> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(false);
        };
        let (stats, shared, phase) = (&mut self.stats, &self.shared, self.phase);
        let mut work = || {
            let received = lane.receive(&mut self.done)?;
            let now_ns = shared.now_ns();
            if received {
                stats.effort.receives += 1;
                lane.settle(&self.done, now_ns, stats, shared.max_errors)?;
                self.done.clear();
            }
            // What was received took time to handle: that is not the next command's latency.
            let now_ns = if received { shared.now_ns() } else { now_ns };
            let issued = match phase {
                Phase::Ramp | Phase::Measured => lane.issue(now_ns)?,
                Phase::Drain | Phase::Over => 0,
                Phase::ReadBack => lane.issue_read_back(now_ns)?,
            };
            stats.effort.sends += u64::from(lane.send()?);
            Ok(received || issued > 0)
        };
        work().map_err(|error: PerfError| error.on_queue(lane.address, lane.qid))
    }

    fn check_timeouts(&self, now_ns: u64) -> Result<(), PerfError> {
        for lane in &self.lanes {
            lane.check_timeout(now_ns, self.shared.io_timeout)
                .map_err(|error| error.on_queue(lane.address, lane.qid))?;
        }
        Ok(())
    }

    fn publish(&self) {
        if let Some(counter) = self.shared.completed.get(self.index) {
            counter.store(self.stats.ios(), Ordering::Relaxed);
        }
    }

    /// How long an idle thread may sleep: until a command is due. None when it is to look again at
    /// once.
    pub fn rest(&mut self) -> Option<Duration> {
        if self.shared.wait == Wait::Spin {
            return None;
        }
        self.empty_turns += 1;
        if self.empty_turns < EMPTY_TURNS_MAX {
            return None;
        }
        let now_ns = self.shared.now_ns();
        let due = self.lanes.iter().filter_map(|lane| lane.pace.next_ns());
        let due_ms = due.min().map(|due| due.saturating_sub(now_ns) / 1_000_000);
        let left_ms = due_ms.unwrap_or(SLEEP_MAX_MS).min(SLEEP_MAX_MS);
        Some(Duration::from_millis(left_ms))
    }

    /// Counts a sleep that is over.
    pub fn rested(&mut self) {
        let now_ns = self.shared.now_ns();
        self.stats.turn(self.last_ns, now_ns, true);
        self.last_ns = now_ns;
    }
}

/// Pins the calling thread to a core.
///
/// Errors: `Option` when the process may not use it.
pub fn pin(core: usize) -> Result<(), PerfError> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| {
            let problem = format!("{errno}; `taskset -p $$` shows the cores to choose from");
            PerfError::option("--cores", core, problem)
        })
}

/// CPU time of this thread so far in microseconds: user, system. 0 where the kernel does not say.
fn cpu_times_us() -> (u64, u64) {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else {
        return (0, 0);
    };
    let us = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    (us(usage.user_time()), us(usage.system_time()))
}
