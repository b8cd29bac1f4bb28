//! One executor per core: loop, tasks, in-flight operations, timers, buffers, on io_uring or in a
//! seeded simulation.
//!
//! The crate knows no storage protocol. It owns all non-determinism of the system (clock, random
//! bytes, threads, the kernel), so that everything above runs the same in a simulated world.
//!
//! Where things are: `executor` is the loop, `task` the tasks, `op` the operations in flight,
//! [`backend`] the seam to the kernel or the simulation. The free functions below act on the
//! executor that is polling the calling task; outside of one they panic.
//!
//! Everything is bounded; the bounds are constants next to what they bound:
//! `task::MAX_TASKS`, `op::MAX_OPS`, `timer::MAX_TIMERS`, `remote::MAX_CORES`, the sizes of the
//! buffer pools and the capacities of mailboxes.

pub mod backend;
pub mod buf;
pub mod cores;
pub mod fs;
pub mod mailbox;
pub mod net;
pub mod readiness;
pub mod sim;
pub mod stats;
pub mod sync;
pub mod time;

mod clock;
mod context;
mod executor;
mod op;
mod probe;
mod remote;
mod task;
mod timer;
mod turns;
mod waker;

use std::future::Future;
use std::sync::Arc;

pub use cores::{CoreId, ReactorError, Spin};
pub use op::{Completions, OpKey};
pub use stats::CoreStats;
pub use task::JoinHandle;
pub use time::Instant;
pub use turns::{next_turn, turn_end, yield_now};

use context::with_core;

/// Starts a task on this core and returns a handle to its result.
///
/// Awaiting the handle gives the output; dropping it lets the task run on by itself.
/// Panics at `task::MAX_TASKS` live tasks: callers bound what they spawn.
/// Cost: no heap allocation once a task of the same size class has come and gone.
#[inline(always)]
pub fn spawn<F, T>(future: F) -> JoinHandle<T>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    context::current().spawn(|| future)
}

/// The time as of this turn of the loop: read once per turn, before timers fire and tasks run, and
/// after parking. Simulated in a world.
pub fn now() -> Instant {
    with_core(|core| core.now())
}

/// Turns of this core's loop before this one: tells whether others had their chance since.
pub fn turn() -> u64 {
    with_core(|core| core.stats.turns.get())
}

/// A fresh reading of the clock. Not for the per-operation path unless it measures something.
pub fn precise_now() -> Instant {
    with_core(|core| core.backend().now())
}

/// Milliseconds since 1970 by the wall clock, which may step.
pub fn wall_clock_ms() -> u64 {
    with_core(|core| core.backend().wall_clock_ms())
}

/// A random number, from the kernel or from the world's seed.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Fills `bytes` with random bytes, from the kernel or from the world's seed.
pub fn random_bytes(bytes: &mut [u8]) {
    with_core(|core| core.backend().fill_random(bytes));
}

/// Whether this thread runs an executor now: what the other functions here need. For destructors.
pub fn is_running() -> bool {
    context::try_current().is_some()
}

/// The number this core was given when it was started.
pub fn core_id() -> CoreId {
    with_core(|core| core.id)
}

/// How long a hot connection polls before it arms a poll in the ring.
pub fn spin() -> Spin {
    with_core(|core| core.spin)
}

/// This core's counters; they can be read from any thread.
pub fn stats() -> Arc<CoreStats> {
    with_core(|core| core.stats.clone())
}

/// Names a point where a crash is interesting. Does nothing in production; a simulated world may
/// end the node here, chosen by its seed.
pub fn crash_point(name: &'static str) {
    with_core(|core| {
        if core.is_sim {
            core.backend().crash_point(name);
        }
    });
}
