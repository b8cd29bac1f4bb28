//! The pool: superblock, allocator, map, journal, checkpoint, recovery, fsck.
//!
//! What is on the disk, and in which order it is written, is docs/format.md; this crate is that
//! page in code. A [`Pool`] and everything made from it live on one core (`Rc` inside). The
//! engine of a volume uses it like this:
//!
//! 1. admission: [`Pool::reserve`] promises clusters before a write is acknowledged;
//! 2. flush: [`Pool::allocate`] turns promises into clusters, the engine writes data to them;
//! 3. fold: [`Map::update`] says where the data is now (in memory);
//! 4. checkpoint: [`Pool::publish`] makes map, allocator and journal tail durable as one step;
//! 5. clusters in [`Changes::freed`] become reusable when the publish is through and every
//!    [`ReadGuard`] taken before its end is gone.
//!
//! The allocator on disk says exactly what the published state uses, so whatever was only
//! allocated is free again after a crash.
#![forbid(unsafe_code)]

mod alloc;
mod checksum;
mod error;
pub mod format;
pub mod fsck;
pub mod journal;
mod map;
pub mod mutation;
mod pool;
mod types;

pub use alloc::{ReadGuard, Reservation};
pub use checksum::{crc32c, crc32c_parts};
pub use error::{Foreign, StoreError};
pub use map::{Map, MapStats};
pub use pool::{
    Changes, CreateOptions, JournalMark, NewVolume, OpenOptions, Pool, Space, VolumeRecord,
};
pub use types::{
    ALL_BLOCKS, BLOCK_BYTES, CLUSTER_BLOCKS, CLUSTER_BYTES, Cluster, ClusterRun, Entry, VolumeId,
    VolumeState,
};
