//! Recovery of one volume at open: the log is read, its records go to a fresh index, then the
//! volume continues exactly where the log ended.
//!
//! Phase 1 (`replay`) writes nothing and allocates nothing; it runs for every volume of the pool
//! before phase 2 (`Replayed::into_core`) of any, so that clusters that a log refers to are never
//! given to somebody else. A volume whose log is damaged claims all that any of its records ever
//! said, is refused, and stays as it is. Source: docs/format.md, "Recovery".

mod replay;
mod resume;

use std::rc::Rc;

use rustc_hash::FxHashMap;
use store::journal::{Identity, LogEnd, Ring};
use store::{Cluster, Map, Pool, StoreError, VolumeRecord};

pub(crate) use self::replay::replay;
use crate::core::Limits;
use crate::index::Index;

/// Why a volume is not served. The volume is left as it is on the device.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Damage {
    /// Its journal cannot be used: runs too short.
    #[error("the journal's place in the pool is damaged; run fsck")]
    Ring,
    /// The journal is damaged where it was durable once.
    #[error(
        "the journal is damaged at position {position} (sequence {sequence}): the volume \
         record or a later batch proves that it once was whole; restore the device from a copy, \
         or delete the volume"
    )]
    Journal {
        /// Where the batch should be.
        position: u64,
        /// Which batch.
        sequence: u64,
    },
    /// The device cannot read the journal.
    #[error(
        "the device cannot read the journal at position {position}; repair the device and start \
         again"
    )]
    JournalRead {
        /// Where the batch should be.
        position: u64,
    },
    /// A record says something that cannot be.
    #[error("journal record {lsn}: {rule}; run fsck")]
    Record {
        /// LSN of the record.
        lsn: u64,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The map or the pool refused.
    #[error("{0}")]
    Store(StoreError),
}

/// What replay of one volume found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Batches replayed.
    pub batches: u64,
    /// Pages in the index afterwards.
    pub dirty_pages: u64,
    /// Something unacknowledged and incomplete was found behind the end, and left out.
    pub torn: bool,
    /// Pages of large writes that were durable once and are damaged now, or that the device cannot
    /// read: reads of them fail.
    pub damaged_pages: u64,
    /// Pages of large writes that were never durable: the data before them stays.
    pub undone_pages: u64,
    /// Unused journal blocks the device cannot read.
    pub unreadable_blocks: u64,
}

/// A volume after phase 1.
pub(crate) struct Replayed {
    record: Rc<VolumeRecord>,
    map: Map,
    ring: Ring,
    identity: Identity,
    limits: Limits,
    index: Index,
    end: LogEnd,
    claims: Claims,
    pub report: ReplayReport,
}

/// A volume that phase 1 refused, with the clusters it may refer to.
pub(crate) struct Refused {
    pub damage: Damage,
    pub claimed: Vec<Cluster>,
}

/// Clusters that direct records name, with the pages they use.
#[derive(Default)]
struct Claims {
    used: FxHashMap<Cluster, u64>,
    /// Those that were free until we claimed them.
    claimed: Vec<Cluster>,
    /// The one that the latest direct record of each cluster of the volume names.
    latest: FxHashMap<u64, Cluster>,
    /// The cluster of the volume that the latest direct record to each of them was for.
    owner: FxHashMap<Cluster, u64>,
}

impl Claims {
    fn add(&mut self, pool: &Pool, cluster: Cluster, mask: u64) {
        let is_new = !self.used.contains_key(&cluster);
        *self.used.entry(cluster).or_default() |= mask;
        // In use already: by our own map, or by others because a later record gave it up.
        if is_new && pool.claim(cluster).is_ok() {
            self.claimed.push(cluster);
        }
    }
}
