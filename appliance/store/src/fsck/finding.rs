//! What a check can find, one line each.

use std::fmt;

use crate::error::StoreError;
use crate::types::{Cluster, VolumeId};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A part of the pool that is needed to go on; the error says which.
    Unusable(StoreError),
    /// One superblock slot is unusable, the other is intact. Normal after a crash.
    SuperblockSlot {
        /// The slot.
        slot: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A map node that cannot be used, or not be read.
    Node(StoreError),
    /// A map node uses a block that is not listed as one, or that another node uses.
    NodeBlock {
        /// The volume.
        volume: VolumeId,
        /// The block.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A leaf maps something that its volume does not have.
    BeyondVolume {
        /// The volume.
        volume: VolumeId,
        /// The cluster within the volume.
        cluster_index: u64,
    },
    /// A page does not have the checksum its map (or a journal record that was durable) says.
    Page {
        /// The volume.
        volume: VolumeId,
        /// The first logical block of the page.
        lba: u64,
        /// Where the page is on the device, in bytes.
        device_offset: u64,
        /// The checksum it should have.
        expected: u32,
        /// The checksum it has.
        actual: u32,
    },
    /// A page cannot be read.
    PageUnreadable {
        /// The volume.
        volume: VolumeId,
        /// The first logical block of the page.
        lba: u64,
        /// What the device said.
        error: StoreError,
    },
    /// A volume claims to hold another number of clusters than its map has.
    MappedCount {
        /// The volume.
        volume: VolumeId,
        /// What its record says.
        recorded: u64,
        /// What its map has.
        counted: u64,
    },
    /// Two users of one cluster.
    UsedTwice {
        /// The cluster.
        cluster: Cluster,
        /// The second user found.
        by: ClusterUser,
    },
    /// A cluster is in use and the allocator says it is free.
    NotAllocated {
        /// The cluster.
        cluster: Cluster,
        /// Its user.
        by: ClusterUser,
    },
    /// The allocator says these are in use, and nobody uses them.
    Leaked {
        /// The first one.
        first: Cluster,
        /// How many.
        count: u32,
    },
    /// Blocks of a map cluster are marked as used and hold no node.
    LeakedBlocks {
        /// The map cluster.
        cluster: Cluster,
        /// Which of its blocks.
        mask: u64,
    },
    /// A journal whose log breaks off where it was durable once.
    Journal {
        /// The volume.
        volume: VolumeId,
        /// Position of the batch that should come next.
        position: u64,
        /// What that means.
        what: &'static str,
    },
    /// What a volume keeps of its reservations cannot be used, or not be read.
    Reservations {
        /// The volume.
        volume: VolumeId,
        /// Why.
        error: StoreError,
    },
    /// Space could not be compared, because a map or the allocator could not be read in full.
    SpaceUnchecked,
}

/// Who uses a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterUser {
    /// The data of a cluster of a volume.
    Data(VolumeId, u64),
    /// The journal of a volume.
    Journal(VolumeId),
    /// What a volume keeps of its reservations.
    Reservations(VolumeId),
    /// Map nodes.
    MapNodes,
}

impl fmt::Display for ClusterUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterUser::Data(volume, index) => write!(f, "{volume}, its cluster {index}"),
            ClusterUser::Journal(volume) => write!(f, "{volume}, its journal"),
            ClusterUser::Reservations(volume) => write!(f, "{volume}, its reservations"),
            ClusterUser::MapNodes => f.write_str("map nodes"),
        }
    }
}

impl Finding {
    /// The volume it is about, if it is about just one.
    pub fn volume(&self) -> Option<VolumeId> {
        match self {
            Finding::Node(StoreError::MapDamaged { volume, .. })
            | Finding::NodeBlock { volume, .. }
            | Finding::BeyondVolume { volume, .. }
            | Finding::Page { volume, .. }
            | Finding::PageUnreadable { volume, .. }
            | Finding::MappedCount { volume, .. }
            | Finding::Reservations { volume, .. }
            | Finding::Journal { volume, .. } => Some(*volume),
            _ => None,
        }
    }

    /// Whether something is wrong, not only worth a note.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            Finding::SuperblockSlot { .. } | Finding::SpaceUnchecked
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Unusable(error) | Finding::Node(error) => write!(f, "{error}"),
            Finding::SuperblockSlot { slot, what } => {
                write!(
                    f,
                    "note: superblock slot {slot}: {what}; the other slot is intact"
                )
            }
            Finding::NodeBlock {
                volume,
                block,
                what,
            } => {
                write!(f, "{volume}: map node at block {block}: {what}")
            }
            Finding::BeyondVolume {
                volume,
                cluster_index,
            } => {
                write!(
                    f,
                    "{volume}: maps cluster {cluster_index}, which is beyond its end"
                )
            }
            Finding::Page {
                volume,
                lba,
                device_offset,
                expected,
                actual,
            } => write!(
                f,
                "{volume}: lba {lba} (device offset {device_offset}): checksum {actual:08x}, \
                 expected {expected:08x}"
            ),
            Finding::Reservations { volume, error } => write!(f, "{volume}: {error}"),
            Finding::PageUnreadable { volume, lba, error } => {
                write!(f, "{volume}: lba {lba}: {error}")
            }
            Finding::MappedCount {
                volume,
                recorded,
                counted,
            } => {
                write!(
                    f,
                    "{volume}: {counted} clusters mapped, its record says {recorded}"
                )
            }
            Finding::UsedTwice { cluster, by } => {
                write!(f, "{cluster}: used again by {by}")
            }
            Finding::NotAllocated { cluster, by } => {
                write!(f, "{cluster}: used by {by}, but marked free")
            }
            Finding::Leaked { first, count } => {
                write!(
                    f,
                    "{first}: {count} clusters from here on are marked used by nobody"
                )
            }
            Finding::LeakedBlocks { cluster, mask } => {
                write!(
                    f,
                    "{cluster}: blocks {mask:016x} are marked used and hold no map node"
                )
            }
            Finding::Journal {
                volume,
                position,
                what,
            } => {
                write!(f, "{volume}: journal at position {position}: {what}")
            }
            Finding::SpaceUnchecked => {
                f.write_str("note: use of space was not compared: not everything could be read")
            }
        }
    }
}
