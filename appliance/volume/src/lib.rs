//! The volume: requests, index, group commit, flusher, recovery.
//!
//! A frontend holds a [`Volume`] and calls [`Volume::execute`]; the binary holds one [`Engine`] a
//! pool. Everything lives on the pool's home core and is `!Send`; snapshots for the slow plane are
//! plain data.
#![forbid(unsafe_code)]

mod admission;
mod commit;
mod compare;
mod core;
mod engine;
mod error;
mod flush;
mod index;
mod locks;
#[cfg(feature = "testing")]
mod memory;
mod metrics;
pub mod mutation;
mod pages;
mod read;
mod recovery;
mod request;
mod status;
#[cfg(feature = "testing")]
pub mod testing;
mod volume;
mod write;
mod zero;

pub use engine::{
    Engine, EngineOptions, EngineSnapshot, OpenReport, Outcome, PoolSpec, VolumeListing,
    VolumeReport, VolumeSpec,
};
pub use error::{Corruption, ErrorKind, VolumeError};
pub use metrics::{Gauges, MetricsSnapshot, OpSnapshot};
pub use recovery::{Damage, ReplayReport};
pub use request::{
    BlockRange, BlockStatus, Command, Completion, MAX_ATOMIC_BYTES, MAX_REQUEST_BYTES, OpKind,
    Ranges, Request, VolumeId, VolumeInfo, VolumeState,
};
pub use volume::Volume;
