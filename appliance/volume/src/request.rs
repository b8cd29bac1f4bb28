//! Write path 3/9: one request, checked and routed. Next: `store::journal` (4), the record format.
//!
//! A frontend turns a command of its protocol into a [`Request`] and awaits
//! [`Volume::execute`](crate::Volume::execute), which consumes it: a request completes exactly
//! once. When the future is dropped first, the request is counted as dropped; what has already
//! reached the journal completes all the same.

use reactor::buf::Buf;
pub use store::VolumeId;

use crate::error::VolumeError;

/// The most data one request carries, in bytes. Hosts learn it as MDTS.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The most data that is written all or nothing: it is one record in the journal, and never goes
/// straight to its place.
pub const MAX_ATOMIC_BYTES: usize = 128 << 10;

/// What never changes while the volume exists, except by deleting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Identifies the volume inside its pool.
    pub id: VolumeId,
    /// Unique in the pool; part of the NQN.
    pub name: std::sync::Arc<str>,
    /// RFC 4122 UUID, stable for ever.
    pub uuid: [u8; 16],
    /// Namespace globally unique identifier, stable for ever.
    pub nguid: [u8; 16],
    /// ASCII, space padded; stable for ever.
    pub serial: [u8; 20],
    /// Capacity in logical blocks.
    pub block_count: u64,
    /// 512 or 4096.
    pub block_bytes: u32,
    /// A completed write may be lost by power failure until a Flush or FUA: the truth about the
    /// device below.
    pub volatile_cache: bool,
}

impl VolumeInfo {
    /// Capacity in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.block_count * u64::from(self.block_bytes)
    }
}

/// Whether a volume takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Reads and writes.
    Live,
    /// Writes are refused (reads still go on when the data is reachable); `why` tells the
    /// operator what happened and what to do.
    Failed {
        /// What stopped the volume.
        why: std::sync::Arc<str>,
    },
    /// New requests are refused; those in flight finish.
    Deleting,
}

/// One request of a host. Units of `lba` and counts are logical blocks of the volume.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Force unit access: complete only when the effect survives power loss. For a read: what is
    /// returned survives power loss.
    pub fua: bool,
}

impl Request {
    /// A request without FUA.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            fua: false,
        }
    }

    /// The same request with FUA.
    pub fn with_fua(command: Command) -> Self {
        Self { command, fua: true }
    }
}

/// What a request does.
#[derive(Debug)]
pub enum Command {
    /// Returns the data. Blocks never written, or deallocated, read as zeros.
    Read {
        /// First block.
        lba: u64,
        /// Number of blocks, at least 1.
        block_count: u32,
    },
    /// Writes `data`, a whole number of blocks, at most [`MAX_REQUEST_BYTES`].
    Write {
        /// First block.
        lba: u64,
        /// The payload. Kept (shared, not copied) until it is on its extent.
        data: Buf,
    },
    /// As `Write`, and after a crash or power loss all of the data is there or none of it. At most
    /// [`MAX_ATOMIC_BYTES`].
    WriteAtomic {
        /// First block.
        lba: u64,
        /// The payload, as for `Write`.
        data: Buf,
    },
    /// Everything completed before this request was issued survives power loss afterwards.
    Flush,
    /// The blocks read as zeros afterwards.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// Number of blocks; may be the whole volume.
        block_count: u64,
        /// Space may be given back to the pool. Without it the blocks read as zeros just the same;
        /// a thin volume needs no space for zeros either way.
        deallocate: bool,
    },
    /// Gives space back. Whole logical blocks read as zeros afterwards.
    Deallocate {
        /// At most [`Ranges::MAX`] ranges.
        ranges: Ranges,
    },
    /// Succeeds when the blocks equal `data`.
    Compare {
        /// First block.
        lba: u64,
        /// What to compare with.
        data: Buf,
    },
    /// Writes `write` if the blocks equal `compare`, atomically against every other request.
    CompareAndWrite {
        /// First block.
        lba: u64,
        /// What to compare with.
        compare: Buf,
        /// What to write; as long as `compare`.
        write: Buf,
    },
    /// Writes what the blocks hold or'ed with `data`, atomically against every other request.
    Or {
        /// First block.
        lba: u64,
        /// The bits to set. Nobody else may share it.
        data: Buf,
    },
    /// Reads and verifies the checksums, returns no data.
    Verify {
        /// First block.
        lba: u64,
        /// Number of blocks.
        block_count: u32,
    },
}

/// `Ok(Some(buf))` for Read: exactly the bytes asked for, a slice of a 4 KiB-aligned pool buffer.
/// `Ok(None)` for everything else.
pub type Completion = Result<Option<Buf>, VolumeError>;

/// One range of a [`Command::Deallocate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// First block.
    pub lba: u64,
    /// Number of blocks; 0 does nothing.
    pub block_count: u32,
}

/// Up to 256 ranges, kept in one 4 KiB pool buffer, so that a TRIM allocates nothing.
#[derive(Debug)]
pub struct Ranges {
    storage: Buf,
    count: usize,
}

impl Ranges {
    /// The most ranges one request carries.
    pub const MAX: usize = 256;
    /// Bytes a range takes in the storage buffer.
    const STRIDE: usize = 16;
    /// Length of the storage buffer to pass to [`Ranges::new`].
    pub const STORAGE_BYTES: usize = Self::MAX * Self::STRIDE;

    /// An empty list in `storage` (at least 16 bytes a range; must not be shared).
    pub fn new(storage: Buf) -> Self {
        Self { storage, count: 0 }
    }

    /// Adds a range at the end. False, and nothing changed, when the list is full.
    pub fn push(&mut self, range: BlockRange) -> bool {
        let start = self.count * Self::STRIDE;
        let end = start + Self::STRIDE;
        if self.count == Self::MAX || end > self.storage.len() {
            return false;
        }
        let slot = &mut self.storage.as_mut()[start..end];
        slot[..8].copy_from_slice(&range.lba.to_le_bytes());
        slot[8..12].copy_from_slice(&range.block_count.to_le_bytes());
        self.count += 1;
        true
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Range `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<BlockRange> {
        if index >= self.count {
            return None;
        }
        let slot = &self.storage[index * Self::STRIDE..][..Self::STRIDE];
        let (lba, rest) = slot.split_first_chunk::<8>()?;
        let (count, _) = rest.split_first_chunk::<4>()?;
        Some(BlockRange {
            lba: u64::from_le_bytes(*lba),
            block_count: u32::from_le_bytes(*count),
        })
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = BlockRange> + '_ {
        (0..self.count).filter_map(|index| self.get(index))
    }
}

/// Whether adjacent blocks hold data: see [`crate::Volume::block_status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// They hold data. Else they read as zeros and need no space.
    pub is_mapped: bool,
    /// Number of blocks for which this holds, at least 1; the next ones may be alike.
    pub block_count: u64,
}

/// What kind of request, for counters and histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpKind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Write Zeroes.
    WriteZeroes,
    /// Deallocate.
    Deallocate,
    /// Compare.
    Compare,
    /// Fused compare and write.
    CompareAndWrite,
    /// Or.
    Or,
    /// Verify.
    Verify,
}

impl OpKind {
    /// Every kind, in the order of [`OpKind::index`].
    pub const ALL: [OpKind; 9] = [
        OpKind::Read,
        OpKind::Write,
        OpKind::Flush,
        OpKind::WriteZeroes,
        OpKind::Deallocate,
        OpKind::Compare,
        OpKind::CompareAndWrite,
        OpKind::Or,
        OpKind::Verify,
    ];

    /// Position in [`OpKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word metrics use as a label.
    pub fn label(self) -> &'static str {
        match self {
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Flush => "flush",
            OpKind::WriteZeroes => "write_zeroes",
            OpKind::Deallocate => "deallocate",
            OpKind::Compare => "compare",
            OpKind::CompareAndWrite => "compare_and_write",
            OpKind::Or => "or",
            OpKind::Verify => "verify",
        }
    }
}

impl Command {
    /// What kind of command this is.
    pub fn kind(&self) -> OpKind {
        match self {
            Command::Read { .. } => OpKind::Read,
            Command::Write { .. } | Command::WriteAtomic { .. } => OpKind::Write,
            Command::Flush => OpKind::Flush,
            Command::WriteZeroes { .. } => OpKind::WriteZeroes,
            Command::Deallocate { .. } => OpKind::Deallocate,
            Command::Compare { .. } => OpKind::Compare,
            Command::CompareAndWrite { .. } => OpKind::CompareAndWrite,
            Command::Or { .. } => OpKind::Or,
            Command::Verify { .. } => OpKind::Verify,
        }
    }
}

/// A block range already checked against the volume, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Byte offset in the volume.
    pub offset_bytes: u64,
    /// Length in bytes, not zero.
    pub len_bytes: u64,
}

impl VolumeInfo {
    /// Checks that `block_count` blocks from `lba` lie in the volume.
    pub(crate) fn span(&self, lba: u64, block_count: u64) -> Result<Span, VolumeError> {
        let end = lba.checked_add(block_count);
        if block_count == 0 || end.is_none_or(|end| end > self.block_count) {
            let capacity_blocks = self.block_count;
            return Err(VolumeError::OutOfRange {
                lba,
                block_count,
                capacity_blocks,
            });
        }
        let block_bytes = u64::from(self.block_bytes);
        Ok(Span {
            offset_bytes: lba * block_bytes,
            len_bytes: block_count * block_bytes,
        })
    }

    /// As [`VolumeInfo::span`], for a transfer: also bounded by [`MAX_REQUEST_BYTES`].
    pub(crate) fn transfer(&self, lba: u64, block_count: u64) -> Result<Span, VolumeError> {
        let span = self.span(lba, block_count)?;
        check_size(span.len_bytes)?;
        Ok(span)
    }

    /// The span a payload covers.
    pub(crate) fn payload(&self, lba: u64, data: &Buf) -> Result<Span, VolumeError> {
        let len_bytes = data.len() as u64;
        check_size(len_bytes)?;
        let block_bytes = u64::from(self.block_bytes);
        if len_bytes == 0 || !len_bytes.is_multiple_of(block_bytes) {
            return Err(VolumeError::BadLength {
                len_bytes,
                block_bytes: self.block_bytes,
            });
        }
        self.span(lba, len_bytes / block_bytes)
    }
}

fn check_size(len_bytes: u64) -> Result<(), VolumeError> {
    let limit_bytes = MAX_REQUEST_BYTES as u64;
    if len_bytes > limit_bytes {
        return Err(VolumeError::TooLarge {
            len_bytes,
            limit_bytes,
        });
    }
    Ok(())
}
