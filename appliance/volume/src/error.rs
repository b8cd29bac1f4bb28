//! What can go wrong with a request, a volume or a pool, as data.

use std::sync::Arc;

/// A failed request or engine operation. Cheap to clone: one failed batch fails many requests.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VolumeError {
    /// The request reaches behind the end of the volume. Nothing was read or written.
    #[error(
        "blocks {lba}+{block_count} are behind the end of the volume ({capacity_blocks} blocks): \
         the host must stay inside the capacity it was told"
    )]
    OutOfRange {
        /// First logical block asked for.
        lba: u64,
        /// Number of logical blocks asked for.
        block_count: u64,
        /// Logical blocks the volume has.
        capacity_blocks: u64,
    },
    /// More data in one request than the engine takes. Nothing was read or written.
    #[error("{len_bytes} bytes in one request; the limit is {limit_bytes}: split the request")]
    TooLarge {
        /// Length asked for.
        len_bytes: u64,
        /// The most a request may carry.
        limit_bytes: u64,
    },
    /// The payload is empty or not a whole number of logical blocks, or two payloads differ in
    /// length. A defect of the caller; nothing was written.
    #[error("payload of {len_bytes} bytes does not fit blocks of {block_bytes} bytes")]
    BadLength {
        /// Length of the payload.
        len_bytes: u64,
        /// Size of a logical block.
        block_bytes: u32,
    },
    /// Compare found a difference. For compare-and-write nothing was written.
    #[error("block {lba} differs from the data to compare with")]
    CompareMismatch {
        /// First logical block that differs.
        lba: u64,
        /// Its first byte that differs.
        byte: u32,
    },
    /// Data came off the device with a wrong checksum, twice. Never served.
    #[error("volume {volume}: {corruption}; restore this range from a copy")]
    Corrupt {
        /// Name of the volume.
        volume: Arc<str>,
        /// Where, and what was found there.
        corruption: Corruption,
    },
    /// The pool has no cluster left for this write. The volume keeps serving reads, overwrites of
    /// space it owns, and deallocation.
    #[error("pool {pool} is full: delete or trim data, or add space, then retry")]
    PoolFull {
        /// Name of the pool.
        pool: Arc<str>,
    },
    /// The volume or its pool stopped accepting this kind of request.
    #[error("volume {volume} does not accept this request: {why}")]
    Failed {
        /// Name of the volume.
        volume: Arc<str>,
        /// What stopped it.
        why: Arc<str>,
    },
    /// The device below reported an error. A read may be retried; for a write the volume has
    /// stopped accepting writes when the error came from the journal.
    #[error("volume {volume}: {doing}: {error}")]
    Device {
        /// Name of the volume.
        volume: Arc<str>,
        /// What was attempted, in words.
        doing: &'static str,
        /// What the device said, and where.
        error: block::BlockError,
    },
    /// A map node or another piece of metadata could not be read.
    #[error("volume {volume}: {doing}: {error}")]
    Store {
        /// Name of the volume.
        volume: Arc<str>,
        /// What was attempted, in words.
        doing: &'static str,
        /// What the store said.
        error: Box<store::StoreError>,
    },
    /// The volume is being deleted or the engine is shutting down.
    #[error("volume {volume} is closed: {why}")]
    Closed {
        /// Name of the volume.
        volume: Arc<str>,
        /// Deleting, or shutting down.
        why: &'static str,
    },
    /// No volume of that name in this pool.
    #[error("no volume named {name} in pool {pool}")]
    NoSuchVolume {
        /// The name asked for.
        name: Arc<str>,
        /// The pool searched.
        pool: Arc<str>,
    },
    /// A create, delete or open that the pool refused.
    #[error("pool {pool}: {doing}: {error}")]
    Pool {
        /// Name or path of the pool.
        pool: Arc<str>,
        /// What was attempted, in words.
        doing: &'static str,
        /// What the store said.
        error: Box<store::StoreError>,
    },
    /// An option that cannot work.
    #[error("{option} = {value}: {advice}")]
    BadOption {
        /// Name of the option.
        option: &'static str,
        /// The value given.
        value: u64,
        /// What to write instead.
        advice: &'static str,
    },
}

/// Errors go to other threads and into `anyhow`.
const _: () = {
    const fn travels<E: std::error::Error + Send + Sync + 'static>() {}
    travels::<VolumeError>();
};

/// Where a checksum failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "block {lba} read from device offset {device_offset_bytes} has checksum {actual:#010x}, \
     expected {expected:#010x}"
)]
pub struct Corruption {
    /// First logical block of the damaged page.
    pub lba: u64,
    /// Byte offset on the device the page was read from.
    pub device_offset_bytes: u64,
    /// CRC32C kept for the page.
    pub expected: u32,
    /// CRC32C of the bytes that came off the device.
    pub actual: u32,
}

/// The classes of [`VolumeError`] a frontend tells apart, one status code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Outside the volume.
    OutOfRange,
    /// Over the size limit.
    TooLarge,
    /// Malformed request.
    Invalid,
    /// Compare difference.
    CompareMismatch,
    /// Unrecovered read: checksum.
    Corrupt,
    /// No space in the pool.
    PoolFull,
    /// Writes (or everything) refused after a failure.
    Failed,
    /// Device or metadata I/O error.
    Device,
    /// Deleting or shutting down.
    Closed,
    /// Name not known.
    NotFound,
}

impl VolumeError {
    /// The class a frontend maps to a status code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OutOfRange { .. } => ErrorKind::OutOfRange,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::BadLength { .. } | Self::BadOption { .. } => ErrorKind::Invalid,
            Self::CompareMismatch { .. } => ErrorKind::CompareMismatch,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::PoolFull { .. } => ErrorKind::PoolFull,
            Self::Failed { .. } => ErrorKind::Failed,
            Self::Device { .. } | Self::Store { .. } | Self::Pool { .. } => ErrorKind::Device,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::NoSuchVolume { .. } => ErrorKind::NotFound,
        }
    }
}
