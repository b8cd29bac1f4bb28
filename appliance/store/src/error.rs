//! Everything that can go wrong with a pool, as data.

use std::path::PathBuf;
use std::sync::Arc;

use block::BlockError;

use crate::types::{Cluster, VolumeId};

/// What the first blocks of something that is not a pool look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Nothing but zeros: never formatted.
    Zeros,
    /// An ext2, ext3 or ext4 file system.
    Ext4,
    /// An XFS file system.
    Xfs,
    /// A btrfs file system.
    Btrfs,
    /// A GUID partition table.
    Gpt,
    /// A DOS partition table or boot sector.
    Mbr,
    /// A LUKS encrypted container.
    Luks,
    /// An LVM physical volume.
    Lvm,
    /// Swap space.
    Swap,
    /// None of the above.
    Unknown,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Foreign::Zeros => "nothing but zeros",
            Foreign::Ext4 => "an ext2/3/4 file system",
            Foreign::Xfs => "an XFS file system",
            Foreign::Btrfs => "a btrfs file system",
            Foreign::Gpt => "a GPT partition table",
            Foreign::Mbr => "a DOS partition table",
            Foreign::Luks => "a LUKS container",
            Foreign::Lvm => "an LVM physical volume",
            Foreign::Swap => "swap space",
            Foreign::Unknown => "data of an unknown kind",
        })
    }
}

/// Why an operation on a pool failed. Cloneable, so that every waiter can be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The device failed.
    #[error(transparent)]
    Device(BlockError),
    /// The file or disk is not a pool.
    #[error(
        "{path}: not a Bedplate pool: it holds {found}; check the path, or create a pool there"
    )]
    NotAPool {
        /// What was opened.
        path: PathBuf,
        /// What it looks like.
        found: Foreign,
    },
    /// What a volume keeps of its reservations is damaged.
    #[error(
        "{volume}: reservations at block {block}: {what}; every access of hosts conflicts until an \
         operator clears them"
    )]
    ReservationsDamaged {
        /// The volume.
        volume: VolumeId,
        /// The first block.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// More than a volume can keep for its reservations.
    #[error("{volume}: {len_bytes} bytes of reservations are more than a volume keeps")]
    ReservationsTooLong {
        /// The volume.
        volume: VolumeId,
        /// Their length.
        len_bytes: usize,
    },
    /// Creating a pool would overwrite something.
    #[error("{path}: holds {found}; nothing was written; clear it first if it is not needed")]
    NotEmpty {
        /// What was to become a pool.
        path: PathBuf,
        /// What it looks like.
        found: Foreign,
    },
    /// Creating a pool would overwrite a pool.
    #[error("{path}: already a pool; nothing was written; open it, or clear it first")]
    AlreadyAPool {
        /// What was to become a pool.
        path: PathBuf,
    },
    /// Too small or too large for a pool.
    #[error("{path}: {len_bytes} bytes cannot be a pool; it takes {min_bytes} to {max_bytes}")]
    PoolSize {
        /// What was to become a pool.
        path: PathBuf,
        /// Its length.
        len_bytes: u64,
        /// Smallest pool.
        min_bytes: u64,
        /// Largest pool.
        max_bytes: u64,
    },
    /// The logical blocks of the device are larger than ours.
    #[error(
        "{path}: logical blocks of {logical_block_bytes} bytes are not supported (512 or 4096)"
    )]
    LogicalBlock {
        /// What was opened.
        path: PathBuf,
        /// Its logical block size.
        logical_block_bytes: u32,
    },
    /// Written by a later version.
    #[error(
        "{path}: format version {version} (readable from version {minimum} on), this program \
         reads up to {ours}; use a newer program; nothing was written"
    )]
    NewerFormat {
        /// What was opened.
        path: PathBuf,
        /// Its format version.
        version: u16,
        /// The version a reader needs.
        minimum: u16,
        /// The version of this program.
        ours: u16,
    },
    /// Written by an earlier version.
    #[error(
        "{path}: format version {version}, this program reads version {oldest} and later; copy the \
         volumes with the program that wrote them; nothing was written"
    )]
    OlderFormat {
        /// What was opened.
        path: PathBuf,
        /// Its format version.
        version: u16,
        /// The lowest version that is read.
        oldest: u16,
    },
    /// The device is shorter than when the pool was created.
    #[error(
        "{path}: {actual_bytes} bytes long, the pool was created with {expected_bytes}: \
         truncated; restore the rest of it; nothing was written"
    )]
    Truncated {
        /// What was opened.
        path: PathBuf,
        /// Length at creation.
        expected_bytes: u64,
        /// Length now.
        actual_bytes: u64,
    },
    /// Neither superblock can be used.
    #[error("{path}: both superblocks are damaged ({first}; {second}); nothing was written")]
    SuperblocksDamaged {
        /// What was opened.
        path: PathBuf,
        /// What is wrong with slot 0.
        first: &'static str,
        /// What is wrong with slot 1.
        second: &'static str,
    },
    /// The volume table cannot be used.
    #[error(
        "{path}: root slot {slot} of generation {generation} is damaged ({what}); nothing was written"
    )]
    RootDamaged {
        /// What was opened.
        path: PathBuf,
        /// The published slot.
        slot: u32,
        /// The published generation.
        generation: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A page of the allocator cannot be used.
    #[error(
        "{path}: allocator page {page} (block {block}) is damaged ({what}); nothing was written"
    )]
    AllocatorDamaged {
        /// What was opened.
        path: PathBuf,
        /// Index of the page.
        page: u32,
        /// Where it is.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Another process has it open.
    #[error("{path}: in use by another process; stop that one first")]
    Locked {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A node of a map is not what its parent says.
    #[error(
        "{volume} ({name}): map node {index} of level {level} at block {block} is damaged ({what}); \
         what it maps cannot be read"
    )]
    MapDamaged {
        /// The volume.
        volume: VolumeId,
        /// Its name.
        name: Arc<str>,
        /// Level of the node; 0 is a leaf.
        level: u16,
        /// Index of the node within its level.
        index: u64,
        /// Where it is.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// No cluster can be promised any more.
    #[error("pool is full: {wanted} clusters wanted, {available} available; delete or trim data")]
    PoolFull {
        /// Clusters asked for.
        wanted: u32,
        /// Clusters that can still be promised.
        available: u32,
    },
    /// No room for the journal of a new volume.
    #[error(
        "no room for a journal of {}MiB: {}MiB of the pool are free; configure a smaller journal, \
         or delete or trim data", wanted_bytes >> 20, available_bytes >> 20
    )]
    NoRoomForJournal {
        /// Length of the ring asked for.
        wanted_bytes: u64,
        /// Space that can still be promised.
        available_bytes: u64,
    },
    /// No room for map nodes: publish less at a time.
    #[error("no room for {wanted} map nodes; publish fewer changes at a time")]
    MetadataFull {
        /// Blocks asked for.
        wanted: u64,
    },
    /// A free place of the wanted shape does not exist.
    #[error("no {wanted} clusters in at most {runs} runs for a journal; use a smaller journal")]
    Fragmented {
        /// Clusters asked for.
        wanted: u32,
        /// Most runs a journal may have.
        runs: u32,
    },
    /// The cluster is not there.
    #[error("{cluster} is outside of the pool")]
    ClusterOutOfRange {
        /// The cluster.
        cluster: Cluster,
    },
    /// The cluster belongs to somebody.
    #[error("{cluster} is already in use")]
    ClusterInUse {
        /// The cluster.
        cluster: Cluster,
    },
    /// No volume of this id or name.
    #[error("no volume {volume}")]
    NoSuchVolume {
        /// What was asked for.
        volume: VolumeId,
    },
    /// The name is taken.
    #[error("a volume named {name:?} exists already; choose another name")]
    VolumeExists {
        /// The name.
        name: Arc<str>,
    },
    /// The volume is being deleted.
    #[error("{volume} is being deleted")]
    VolumeDeleting {
        /// The volume.
        volume: VolumeId,
    },
    /// The volume is live: it must be marked first.
    #[error("{volume} is not being deleted; begin that first")]
    VolumeLive {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume like this cannot be made.
    #[error("volume {name:?}: {rule}")]
    InvalidVolume {
        /// Its name.
        name: Arc<str>,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A pool like this cannot be made.
    #[error("pool {name:?}: {rule}")]
    InvalidPool {
        /// Its name.
        name: Arc<str>,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The volume table is full.
    #[error("the pool holds {limit} volumes, the most it can; delete one first")]
    TooManyVolumes {
        /// The limit.
        limit: u32,
    },
    /// Writing stopped after an earlier failure.
    #[error("the pool stopped writing: {why}; repair the device, then open the pool again")]
    Failed {
        /// The failure that stopped it.
        why: Arc<StoreError>,
    },
    /// Opened for reading only.
    #[error("the pool is opened read-only")]
    ReadOnly,
    /// Closed.
    #[error("the pool is closed")]
    Closed,
}

impl From<BlockError> for StoreError {
    fn from(error: BlockError) -> StoreError {
        match error {
            BlockError::Locked { path } => StoreError::Locked { path },
            other => StoreError::Device(other),
        }
    }
}

/// Errors go to other threads and into `anyhow`.
const _: () = {
    const fn travels<E: std::error::Error + Send + Sync + 'static>() {}
    travels::<StoreError>();
};
