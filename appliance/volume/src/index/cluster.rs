//! What the index says of a cluster.

use smallvec::SmallVec;
use store::{Cluster, Reservation};

use crate::pages::{CLUSTER_PAGES, slot_of};

/// Adjacent pages whose entries lie together.
pub(super) const GROUP_PAGES: usize = 4;
/// Groups of a cluster.
const GROUPS: usize = CLUSTER_PAGES as usize / GROUP_PAGES;

/// The promise that a dirty cluster will have a place.
#[derive(Debug)]
pub(crate) enum Backing {
    /// Nothing promised: only zeros so far.
    None,
    /// The map has a cluster for it, which stays while this entry is in the index.
    Mapped,
    /// One cluster of the pool is reserved.
    Reserved(Reservation),
}

/// The cluster that direct writes go to before the map says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub cluster: Cluster,
    /// Pages that a direct write or the flusher has used; each is used once.
    pub used: u64,
    /// Highest LSN of a record that refers to it.
    pub last_lsn: u64,
    /// Pages the device may be writing.
    pub writing: u64,
    /// Pages of requests between decision and index.
    pub deciding: u64,
    /// Takes the place of all there was: no further direct writes until folded.
    pub replaces: bool,
}

impl Pending {
    /// A cluster that nobody has used yet.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            used: 0,
            last_lsn: 0,
            writing: 0,
            deciding: 0,
            replaces: false,
        }
    }

    /// Pages of direct writes that are not in the index yet.
    pub fn in_flight(&self) -> u64 {
        self.writing | self.deciding
    }
}

/// One cluster with something that the map does not say yet.
#[derive(Debug)]
pub(crate) struct DirtyCluster {
    /// Pages with an entry.
    pub data: u64,
    /// Where the entries of each group of pages are, see `super::table::Pages`.
    pub(super) groups: [u32; GROUPS],
    /// Pages zeroed before the current cut.
    pub zero_old: u64,
    /// Pages zeroed after it.
    pub zero_new: u64,
    pub pending: Option<Pending>,
    /// Places that were pending until a direct write of all pages took another one. Entries may
    /// name them, and a cycle that runs may be putting one of them into the map.
    pub superseded: SmallVec<[Cluster; 2]>,
    pub backing: Backing,
    /// Requests between admission and index.
    pub in_flight: u32,
    /// The cycle that runs takes the cluster out of the map: count on no place there.
    pub unmapping: bool,
}

impl DirtyCluster {
    pub(super) fn new() -> Self {
        Self {
            data: 0,
            groups: [0; GROUPS],
            zero_old: 0,
            zero_new: 0,
            pending: None,
            superseded: SmallVec::new(),
            backing: Backing::None,
            in_flight: 0,
            unmapping: false,
        }
    }

    /// The group of a page, and its place in it.
    pub(super) fn group_of(page: u64) -> (usize, usize) {
        let slot = slot_of(page);
        (slot / GROUP_PAGES, slot % GROUP_PAGES)
    }

    /// The bits of a group's pages.
    pub(super) fn group_mask(group: usize) -> u64 {
        ((1 << GROUP_PAGES) - 1) << (group * GROUP_PAGES)
    }

    /// Pages that read as zeros whatever the map says.
    pub fn zero(&self) -> u64 {
        self.zero_old | self.zero_new
    }

    pub(super) fn is_idle(&self) -> bool {
        let is_clean = self.data | self.zero() == 0;
        is_clean && self.pending.is_none() && self.superseded.is_empty() && self.in_flight == 0
    }
}
