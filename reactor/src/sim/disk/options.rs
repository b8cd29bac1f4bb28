//! What a simulated disk is and what may go wrong with it: one small struct per fault.
//!
//! Every default is "this fault never happens", except what a crash does to data that was not
//! promised to anybody: that is what crashes are for. Probabilities are parts per million of the
//! operations concerned; times are nanoseconds of virtual time.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// A disk to be added to the world.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Size; a multiple of `logical_block`.
    pub len_bytes: u64,
    /// Alignment of offsets and lengths, and the unit that a crash never cuts in two: 512 or 4096.
    pub logical_block: u32,
    /// Completed writes live in a cache that power loss may empty; only sync makes them durable.
    pub volatile_cache: bool,
    /// Bound of that cache; beyond it the oldest writes become durable on their own.
    pub cache_bytes: u64,
    /// Shown by `FileInfo`; a discard of a block device may leave the old data readable.
    pub block_device: bool,
    /// Discard works, or fails with EOPNOTSUPP.
    pub supports_discard: bool,
    /// What may go wrong.
    pub faults: DiskFaults,
    /// Where data may be damaged. Nowhere by default: a test that allows damage says where a good
    /// copy remains, so that every failure is a bug.
    pub atlas: FaultAtlas,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            len_bytes: 64 << 20,
            logical_block: 4096,
            volatile_cache: true,
            cache_bytes: 32 << 20,
            block_device: false,
            supports_discard: true,
            faults: DiskFaults::default(),
            atlas: FaultAtlas::Nowhere,
        }
    }
}

impl DiskOptions {
    /// Panics with the reason when the options describe no possible disk.
    pub(crate) fn check(&self) {
        let block = u64::from(self.logical_block);
        assert!(
            matches!(self.logical_block, 512 | 4096),
            "logical_block must be 512 or 4096"
        );
        assert!(
            self.len_bytes > 0 && self.len_bytes.is_multiple_of(block),
            "len_bytes {} must be a positive multiple of logical_block {block}",
            self.len_bytes
        );
    }
}

/// The byte ranges of a disk in which random damage (bit rot, misdirected and lost writes, latent
/// errors) is allowed. Damage done by hand through `DiskHandle` is not restricted.
#[derive(Clone, Default)]
pub enum FaultAtlas {
    /// No random damage.
    #[default]
    Nowhere,
    /// Damage anywhere.
    Everywhere,
    /// Damage inside one of these ranges only.
    Ranges(Vec<Range<u64>>),
    /// Damage where the test says so, asked at the moment of the fault.
    Predicate(Rc<dyn Fn(Range<u64>) -> bool>),
}

impl FaultAtlas {
    /// Whether all of `range` may be damaged.
    #[must_use]
    pub fn allows(&self, range: Range<u64>) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::Ranges(ranges) => ranges
                .iter()
                .any(|r| r.start <= range.start && range.end <= r.end),
            Self::Predicate(allows) => allows(range),
        }
    }
}

impl fmt::Debug for FaultAtlas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => write!(f, "nowhere"),
            Self::Everywhere => write!(f, "everywhere"),
            Self::Ranges(ranges) => write!(f, "{ranges:?}"),
            Self::Predicate(_) => write!(f, "predicate"),
        }
    }
}

/// All faults of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// How long operations take.
    pub latency: Latency,
    /// What power loss does to completed writes that were not synced.
    pub unsynced: UnsyncedFate,
    /// What a crash does to writes in flight.
    pub in_flight: InFlightFate,
    /// Reads that overlap a write in flight may see parts of it.
    pub early_visible: EarlyVisible,
    /// EIO that goes away by itself.
    pub transient: TransientError,
    /// What a failed sync does to the data.
    pub sync_failure: SyncFailure,
    /// Sectors that become unreadable until they are rewritten. Atlas only.
    pub latent: LatentError,
    /// Flipped bits in durable data. Atlas only.
    pub bit_rot: BitRot,
    /// I/O that goes to the wrong place. Atlas only.
    pub misdirect: Misdirect,
    /// Acknowledged writes that never happen. Atlas only.
    pub lost_write: LostWrite,
    /// Operations that stand still for long.
    pub stall: Stall,
    /// Operations that move fewer bytes than asked.
    pub short_io: ShortIo,
}

/// Time an operation takes: base + size / bandwidth + uniform jitter + sometimes a spike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Base time of a read.
    pub read_ns: u64,
    /// Base time of a write or discard.
    pub write_ns: u64,
    /// Base time of a sync.
    pub sync_ns: u64,
    /// Uniform extra, 0 to this.
    pub jitter_ns: u64,
    /// Bytes moved per microsecond (2000 = 2 GB/s).
    pub bytes_per_us: u64,
    /// How often a spike is added.
    pub spike_ppm: u32,
    /// Spike length, uniform from 0.
    pub spike_ns: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            read_ns: 70_000,
            write_ns: 15_000,
            sync_ns: 400_000,
            jitter_ns: 30_000,
            bytes_per_us: 2_000,
            spike_ppm: 1_000,
            spike_ns: 5_000_000,
        }
    }
}

/// Weights of what becomes of one un-synced write at power loss. Each write is decided on its own,
/// so later writes may survive where earlier ones do not: that is the reordering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsyncedFate {
    /// The write had reached the medium.
    pub kept_weight: u32,
    /// Nothing of it had.
    pub lost_weight: u32,
    /// Some of its blocks had, in any combination.
    pub torn_weight: u32,
    /// Where a write may be cut; `None` means the logical block. 512 models drives that report
    /// 4096 bytes over 512-byte sectors.
    pub cut_bytes: Option<u32>,
}

impl Default for UnsyncedFate {
    fn default() -> Self {
        Self {
            kept_weight: 1,
            lost_weight: 1,
            torn_weight: 1,
            cut_bytes: None,
        }
    }
}

/// Weights of what becomes of a write that had not completed when the node crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightFate {
    /// All of it is applied.
    pub applied_weight: u32,
    /// Nothing is applied.
    pub lost_weight: u32,
    /// Some blocks are applied, in any combination.
    pub torn_weight: u32,
}

impl Default for InFlightFate {
    fn default() -> Self {
        Self {
            applied_weight: 1,
            lost_weight: 1,
            torn_weight: 1,
        }
    }
}

/// A read may see some blocks of an overlapping write that is still in flight (and they stay).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EarlyVisible {
    /// How often, per overlapping pair.
    pub ppm: u32,
}

/// EIO once; a retry may work. A failed write may have been applied, partly applied or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransientError {
    /// Reads.
    pub read_ppm: u32,
    /// Writes and discards.
    pub write_ppm: u32,
    /// Syncs.
    pub sync_ppm: u32,
}

/// After a failed sync the un-synced data may be gone for good although a later sync succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncFailure {
    /// How often a failed sync drops data, in percent of failed syncs.
    pub drop_percent: u32,
}

/// A sector turns unreadable (EIO on every read) until it is written again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatentError {
    /// How often a read discovers a new one among the blocks it asks for.
    pub read_ppm: u32,
}

/// A bit of durable data flips and stays flipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitRot {
    /// How often a read finds one flipped bit in the blocks it asks for.
    pub read_ppm: u32,
}

/// I/O that goes to another aligned place of the same disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misdirect {
    /// Reads: the data of another place comes back.
    pub read_ppm: u32,
    /// Writes: another place is overwritten, the right one keeps the old data.
    pub write_ppm: u32,
}

/// A write that is acknowledged and never applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostWrite {
    /// How often.
    pub ppm: u32,
}

/// An operation that stands still before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// How often.
    pub ppm: u32,
    /// For how long.
    pub stall_ns: u64,
}

impl Default for Stall {
    fn default() -> Self {
        Self {
            ppm: 0,
            stall_ns: 2_000_000_000,
        }
    }
}

/// Fewer bytes than asked; the caller has to continue. The length is a multiple of the block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShortIo {
    /// Reads of more than one block.
    pub read_ppm: u32,
    /// Writes of more than one block.
    pub write_ppm: u32,
}

impl fmt::Display for DiskFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:?}", self.latency)?;
        writeln!(f, "  {:?} {:?}", self.unsynced, self.in_flight)?;
        writeln!(
            f,
            "  {:?} {:?} {:?}",
            self.early_visible, self.transient, self.sync_failure
        )?;
        writeln!(
            f,
            "  {:?} {:?} {:?}",
            self.latent, self.bit_rot, self.misdirect
        )?;
        write!(
            f,
            "  {:?} {:?} {:?}",
            self.lost_write, self.stall, self.short_io
        )
    }
}
