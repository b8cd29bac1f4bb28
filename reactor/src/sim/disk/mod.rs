//! A simulated disk: operations begin, take virtual time, and take effect when they finish.
//!
//! Fault model, the contract that store code is tested against:
//! * A write is atomic per logical block unless `UnsyncedFate::cut_bytes` says otherwise; larger
//!   writes may be torn by a crash at any block border, in any combination of blocks.
//! * A completed write is seen by every later read. It is durable only after a sync that began
//!   after the write completed and that succeeded (at once, when there is no volatile cache).
//! * Two writes in flight over the same block may be applied in either order.
//! * A failed sync promises nothing, and the data it was about may be gone even though a later sync
//!   succeeds; syncs that were in flight at that moment fail too.
//! * A failed write may have been applied, partly applied or not at all.
//! * A killed process leaves the disk running: completed writes stay, writes in flight may be
//!   applied, partly applied or lost. Power loss also decides over each un-synced write.
//! * Silent damage (bit rot, misdirected and lost writes) and latent errors happen only inside the
//!   fault atlas, or where a test asks for them by hand.

mod cache;
mod control;
mod effects;
mod image;
mod options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

pub use self::image::Image;
pub use self::options::{
    BitRot, DiskFaults, DiskOptions, EarlyVisible, FaultAtlas, InFlightFate, Latency, LatentError,
    LostWrite, Misdirect, ShortIo, Stall, SyncFailure, TransientError, UnsyncedFate,
};

use self::cache::{Change, Media};
use super::prng::Prng;
use super::trace::{EventKind, FaultKind, Log, hash_bytes};

/// Operations a disk accepts at once before the submitter has a bug: far above any queue depth.
const IN_FLIGHT_MAX: usize = 100_000;

/// What the models need from the world for the length of one call.
pub(crate) struct Cx<'a> {
    pub(crate) now_ns: u64,
    pub(crate) prng: &'a mut Prng,
    pub(crate) log: &'a mut Log,
}

/// An operation as a disk takes it.
#[derive(Debug)]
pub(crate) enum DiskOp {
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Vec<u8> },
    Sync,
    Discard { offset: u64, len: u64 },
}

impl DiskOp {
    /// The bytes it is about. A nonsensical end saturates and is refused later as out of range.
    fn range(&self) -> Range<u64> {
        let (offset, len) = match self {
            Self::Read { offset, len } => (*offset, *len as u64),
            Self::Write { offset, data } => (*offset, data.len() as u64),
            Self::Sync => (0, 0),
            Self::Discard { offset, len } => (*offset, *len),
        };
        offset..offset.saturating_add(len)
    }
}

/// How an operation ended: bytes moved or an errno, and the data of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DiskDone {
    pub(crate) result: Result<usize, i32>,
    pub(crate) data: Vec<u8>,
}

#[derive(Debug)]
enum Flying {
    Read(Range<u64>),
    Change {
        offset: u64,
        change: Change,
    },
    /// `drops` tells whether data vanished while the sync was in flight.
    Sync {
        mark: u64,
        drops: u64,
    },
}

#[derive(Debug)]
struct InFlight {
    node: usize,
    op: Flying,
}

/// Damage requested by the test for the next operation that fits.
#[derive(Clone, Debug)]
enum OneShot {
    MisdirectWrite { to: u64 },
    LoseWrite,
    FailWrite,
    FailRead,
    FailSync { drop: bool },
}

/// One disk of the world.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) options: DiskOptions,
    media: Media,
    in_flight: BTreeMap<u64, InFlight>,
    latent: BTreeSet<u64>,
    one_shots: VecDeque<OneShot>,
    gone: bool,
    full: bool,
    extra_ns: u64,
    /// The node whose crash empties the cache: the last one that opened the disk.
    pub(crate) attached_to: Option<usize>,
    /// The open file that holds the exclusive lock.
    pub(crate) locked_by: Option<u64>,
    pub(crate) writes_total: u64,
    pub(crate) syncs_total: u64,
    pub(crate) reads_total: u64,
}

impl Disk {
    pub(crate) fn new(name: &str, options: DiskOptions) -> Self {
        options.check();
        Self {
            name: name.to_owned(),
            media: Media::new(options.volatile_cache, options.cache_bytes),
            options,
            in_flight: BTreeMap::new(),
            latent: BTreeSet::new(),
            one_shots: VecDeque::new(),
            gone: false,
            full: false,
            extra_ns: 0,
            attached_to: None,
            locked_by: None,
            writes_total: 0,
            syncs_total: 0,
            reads_total: 0,
        }
    }

    /// Accepts an operation; the answer says when to call `finish`. Errors are immediate refusals
    /// (EINVAL for misaligned I/O, as O_DIRECT does; ENODEV when gone).
    pub(crate) fn begin(
        &mut self,
        id: u64,
        node: usize,
        op: DiskOp,
        cx: &mut Cx<'_>,
    ) -> Result<u64, i32> {
        if self.gone {
            self.fault(cx, FaultKind::Gone, 0..0);
            return Err(libc::ENODEV);
        }
        assert!(
            self.in_flight.len() < IN_FLIGHT_MAX,
            "{}: too many operations",
            self.name
        );
        let latency = &self.options.faults.latency;
        let (kind, base_ns) = match &op {
            DiskOp::Read { .. } => (EventKind::ReadStart, latency.read_ns),
            DiskOp::Write { .. } => (EventKind::WriteStart, latency.write_ns),
            DiskOp::Sync => (EventKind::SyncStart, latency.sync_ns),
            DiskOp::Discard { .. } => (EventKind::DiscardStart, latency.write_ns),
        };
        let range = op.range();
        let len = range.end - range.start;
        cx.log
            .event(cx.now_ns, kind, &self.name, [id, range.start, len]);
        let block = u64::from(self.options.logical_block);
        if !range.start.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(libc::EINVAL);
        }
        let moved = if kind == EventKind::DiscardStart {
            0
        } else {
            len
        };
        let took_ns = self.duration_ns(base_ns, moved, cx);
        let op = self.take_off(op);
        self.in_flight.insert(id, InFlight { node, op });
        Ok(cx.now_ns + took_ns)
    }

    fn take_off(&self, op: DiskOp) -> Flying {
        match op {
            DiskOp::Read { .. } => Flying::Read(op.range()),
            DiskOp::Write { offset, data } => Flying::Change {
                offset,
                change: Change::Write(data.into()),
            },
            DiskOp::Sync => Flying::Sync {
                mark: self.media.mark(),
                drops: self.media.drops(),
            },
            DiskOp::Discard { offset, len } => Flying::Change {
                offset,
                change: Change::Zero(len),
            },
        }
    }

    fn duration_ns(&self, base_ns: u64, moved_bytes: u64, cx: &mut Cx<'_>) -> u64 {
        let faults = &self.options.faults;
        let latency = &faults.latency;
        let mut ns = base_ns + moved_bytes * 1_000 / latency.bytes_per_us.max(1);
        ns += cx.prng.between(0, latency.jitter_ns) + self.extra_ns;
        if cx.prng.chance_ppm(latency.spike_ppm) {
            ns += cx.prng.between(0, latency.spike_ns);
        }
        if cx.prng.chance_ppm(faults.stall.ppm) {
            self.fault(cx, FaultKind::Stall, 0..0);
            ns += faults.stall.stall_ns;
        }
        ns.max(1)
    }

    /// The operation takes effect. `None` when it is no longer in flight (its node crashed).
    pub(crate) fn finish(&mut self, id: u64, cx: &mut Cx<'_>) -> Option<DiskDone> {
        let flying = self.in_flight.remove(&id)?;
        let mut data = Vec::new();
        let written = match &flying.op {
            Flying::Change { change, .. } => change.hash(),
            _ => 0,
        };
        let (kind, result) = match flying.op {
            Flying::Read(range) => {
                self.reads_total += 1;
                (EventKind::ReadEnd, self.read(range, &mut data, cx))
            }
            Flying::Change {
                offset,
                change: Change::Zero(len),
            } => (
                EventKind::DiscardEnd,
                self.discard(offset..offset + len, cx),
            ),
            Flying::Change { offset, change } => {
                self.writes_total += 1;
                (EventKind::WriteEnd, self.write(offset, &change, cx))
            }
            Flying::Sync { mark, drops } => {
                self.syncs_total += 1;
                (EventKind::SyncEnd, self.sync(mark, drops, cx))
            }
        };
        let errno = result.err().unwrap_or(0) as u64;
        let detail = match (kind, result) {
            (EventKind::ReadEnd, Ok(_)) => hash_bytes(&data),
            (EventKind::WriteEnd, _) => written,
            (_, Ok(count)) => count as u64,
            (_, Err(_)) => 0,
        };
        cx.log
            .event(cx.now_ns, kind, &self.name, [id, errno, detail]);
        Some(DiskDone { result, data })
    }

    fn fault(&self, cx: &mut Cx<'_>, kind: FaultKind, range: Range<u64>) {
        cx.log.fault(
            cx.now_ns,
            kind,
            &self.name,
            (range.start, range.end - range.start),
        );
    }
}
