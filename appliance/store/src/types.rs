//! The units of the pool: blocks, clusters, map entries, identifiers.

use std::fmt;

/// Bytes of a block: the unit of metadata, and of a page of a volume.
pub const BLOCK_BYTES: usize = 4096;
/// Blocks of a cluster, and bits of [`Entry::valid`].
pub const CLUSTER_BLOCKS: usize = 32;
/// A mask with the bit of every block of a cluster.
pub const ALL_BLOCKS: u64 = u64::MAX >> (u64::BITS - CLUSTER_BLOCKS as u32);
/// Bytes of a cluster: the unit of allocation.
pub const CLUSTER_BYTES: u64 = (BLOCK_BYTES * CLUSTER_BLOCKS) as u64;

/// A cluster of the pool, numbered from the start of the device: cluster `c` is the 128 KiB at
/// byte `c * 128 KiB`. The superblock is in cluster 0, so 0 is never data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cluster(pub u32);

impl Cluster {
    /// Offset of its first byte on the device.
    pub fn byte_offset(self) -> u64 {
        u64::from(self.0) * CLUSTER_BYTES
    }

    /// Offset on the device of one of its 32 pages. Panics when `page` is 32 or more.
    pub fn page_offset(self, page: usize) -> u64 {
        assert!(
            page < CLUSTER_BLOCKS,
            "page {page} of a cluster of {CLUSTER_BLOCKS} pages"
        );
        self.byte_offset() + (page * BLOCK_BYTES) as u64
    }

    /// Number of its first block on the device.
    pub fn first_block(self) -> u64 {
        u64::from(self.0) * CLUSTER_BLOCKS as u64
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}", self.0)
    }
}

/// Adjacent clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRun {
    /// The first one.
    pub first: Cluster,
    /// How many.
    pub count: u32,
}

impl ClusterRun {
    /// Its clusters in ascending order.
    pub fn clusters(self) -> impl Iterator<Item = Cluster> {
        (self.first.0..self.first.0 + self.count).map(Cluster)
    }

    /// Length on the device.
    pub fn len_bytes(self) -> u64 {
        u64::from(self.count) * CLUSTER_BYTES
    }
}

/// Names a volume within its pool. Never used again after the volume is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u64);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume #{}", self.0)
    }
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Serves I/O.
    Live,
    /// Being deleted: its space is given back step by step, also after a restart.
    Deleting,
}

/// What the map knows of one cluster (32 pages) of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its pages are, if it has any.
    pub location: Option<Cluster>,
    /// Bit p of [`ALL_BLOCKS`]: page p has data. A page whose bit is clear reads as zeros.
    pub valid: u64,
    /// CRC32C of each valid page; 0 for the others.
    pub crc: [u32; CLUSTER_BLOCKS],
}

impl Entry {
    /// A cluster of zeros that takes no space.
    pub const EMPTY: Entry = Entry {
        location: None,
        valid: 0,
        crc: [0; CLUSTER_BLOCKS],
    };

    /// Whether it takes no space and reads as zeros.
    pub fn is_empty(&self) -> bool {
        self.location.is_none() && self.valid == 0
    }
}
