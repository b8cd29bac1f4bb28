//! A deterministic world: nodes, disks, network, clock and crashes, all from one seed.
//!
//! The same executor as in production runs on a simulated backend ([`crate::backend::SimBackend`]),
//! so the code under test is the code that ships. A world handles one event at a time, in one
//! thread, and jumps from event to event; time passes only that way. A loop turn costs a little
//! virtual time, so code that polls makes time pass too.
//!
//! ```
//! use std::time::Duration;
//! use reactor::sim::{DiskOptions, World, WorldOptions};
//!
//! let mut world = World::new(7, WorldOptions::default());
//! world.add_disk("disk", DiskOptions::default());
//! world.start("target", 1, |_core| async {
//!     reactor::time::sleep(Duration::from_secs(3600)).await;
//! });
//! world.run(Duration::from_secs(4000)); // returns at once
//! ```
//!
//! Files here: `world` drives, `control` is the test's hand, `crash` starts and ends nodes,
//! `state` is what programs reach, `backend` is how they reach it, `disk/` and `net/` are the
//! models (the fault model of each is its file header), `options` is everything a seed may vary,
//! `trace` remembers.
//!
//! What is not simulated: threads of the slow plane, preemption inside a task's poll, and clock
//! drift between cores.
#![forbid(unsafe_code)]

mod backend;
mod control;
mod crash;
mod disk;
mod handle;
mod net;
mod options;
mod prng;
mod state;
mod trace;
mod world;

pub use crash::Crash;
pub use disk::{
    BitRot, DiskFaults, DiskOptions, EarlyVisible, FaultAtlas, Image, InFlightFate, Latency,
    LatentError, LostWrite, Misdirect, ShortIo, Stall, SyncFailure, TransientError, UnsyncedFate,
};
pub use handle::DiskHandle;
pub use net::NetOptions;
pub use options::{CoreOptions, CpuOptions, CrashOptions, WorldOptions};
pub use prng::Prng;
pub use state::DiskBuffer;
pub use trace::{Event, EventKind, FaultKind, FaultRecord, TAIL_LEN};
pub use world::{World, is_tearing_down};
