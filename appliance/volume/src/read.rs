//! Reads: page by page from index memory, journal, pending cluster, map, or as zeros.
//!
//! Pages that lie together on the device are read together. Every page that comes off the device
//! is verified. Between lookup and read the flusher may move a page, or the journal space may be
//! used again: the checksum finds that out, and the page is looked up again. Only a page whose
//! lookup stays the same and whose checksum is wrong twice is corrupt.

use std::cell::RefCell;
use std::rc::Rc;

use reactor::JoinHandle;
use reactor::buf::Buf;
use reactor::sync::Guard;
use store::{Entry, crc32c};

use crate::core::Core;
use crate::error::{Corruption, VolumeError};
use crate::index::{Lookup, PayloadId, Source};
use crate::metrics::add;
use crate::mutation::{self, Mutation};
use crate::pages::{PAGE, PAGE_BYTES, PageRange, cluster_of, mask_in, part_in, slot_of};
use crate::request::{Completion, MAX_REQUEST_BYTES};

/// Device reads of one request at the same time.
const MAX_PARALLEL: usize = 8;
/// Pages of one device read into scratch memory: 256 KiB.
const MAX_SCRATCH_PAGES: usize = 64;
/// How often a page may move under a reader. Each move takes a flush cycle, so this is never
/// reached unless something is wrong.
const MAX_MOVES: u32 = 64;
/// Verify reads this much at a time.
const VERIFY_PAGES: u64 = 64;
/// How often a page that is about to be moved or judged is read before it counts as lost.
pub(crate) const READ_TRIES: usize = 3;

/// Where a page's newest data was when it was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageSource {
    Zeros,
    Memory { payload: PayloadId, lsn: u64 },
    Device { offset: u64, crc: u32 },
}

/// Adjacent pages of the request that lie together on the device.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Index of the first page in the request.
    at: usize,
    /// Number of pages.
    count: usize,
    /// Where they are on the device.
    offset: u64,
}

/// How to read a range.
#[derive(Default)]
struct ReadPlan {
    segments: Vec<Segment>,
    /// Expected checksum of each page that comes off the device.
    crcs: Vec<u32>,
}

/// Plans for reuse.
#[derive(Default)]
pub(crate) struct PlanPool(RefCell<Vec<ReadPlan>>);

impl PlanPool {
    fn take(&self) -> ReadPlan {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give(&self, mut plan: ReadPlan) {
        plan.segments.clear();
        plan.crcs.clear();
        self.0.borrow_mut().push(plan);
    }
}

impl ReadPlan {
    fn push_device(&mut self, at: usize, offset: u64) {
        if let Some(last) = self.segments.last_mut()
            && last.at + last.count == at
            && last.offset + last.count as u64 * PAGE == offset
        {
            last.count += 1;
            return;
        }
        self.segments.push(Segment {
            at,
            count: 1,
            offset,
        });
    }

    /// The segments, cut so that each fits scratch memory.
    fn pieces(&self) -> impl Iterator<Item = Segment> + '_ {
        self.segments.iter().flat_map(|segment| {
            (0..segment.count)
                .step_by(MAX_SCRATCH_PAGES)
                .map(|skip| Segment {
                    at: segment.at + skip,
                    count: (segment.count - skip).min(MAX_SCRATCH_PAGES),
                    offset: segment.offset + skip as u64 * PAGE,
                })
        })
    }
}

impl Core {
    /// Reads `block_count` blocks from `lba`.
    pub async fn read(self: &Rc<Self>, lba: u64, block_count: u32, fua: bool) -> Completion {
        let span = self.info().transfer(lba, block_count.into())?;
        let range = PageRange::covering(span);
        let buf = reactor::buf::alloc(range.len_bytes() as usize).await;
        let buf = match range.count {
            1 => self.read_page(range.first, buf).await?,
            _ => self.read_range(range, buf).await?,
        };
        if fua {
            self.flush_device().await?;
        }
        let start = (span.offset_bytes - range.first * PAGE) as usize;
        Ok(Some(buf.slice(start..start + span.len_bytes as usize)))
    }

    /// Fills `buf`, which nobody shares, with one page: as `read_range`, without a plan.
    async fn read_page(&self, page: u64, mut buf: Buf) -> Result<Buf, VolumeError> {
        let _reading = self.pool.read_guard();
        let (offset, crc) = match self.look_up(page).await? {
            PageSource::Device { offset, crc } => (offset, crc),
            PageSource::Zeros => {
                buf.zero_fill();
                return Ok(buf);
            }
            PageSource::Memory { payload, .. } => {
                self.copy_payload(page, payload, buf.as_mut());
                return Ok(buf);
            }
        };
        let (result, mut buf) = self.device.read(offset, buf).await;
        if result.is_err() || !is_intact(&buf, crc) {
            self.fill_page(page, buf.as_mut()).await?;
        }
        Ok(buf)
    }

    /// Reads everything and keeps nothing: errors where a checksum is wrong.
    pub async fn verify(self: &Rc<Self>, lba: u64, block_count: u32) -> Completion {
        let span = self.info().span(lba, block_count.into())?;
        let range = PageRange::covering(span);
        let mut buf = reactor::buf::alloc((VERIFY_PAGES * PAGE) as usize).await;
        let mut first = range.first;
        while first < range.end() {
            let count = VERIFY_PAGES.min(range.end() - first);
            buf.set_len((count * PAGE) as usize);
            buf = self.read_range(PageRange { first, count }, buf).await?;
            first += count;
        }
        Ok(None)
    }

    /// Fills `buf`, which nobody shares, with the pages of `range`.
    pub async fn read_range(
        self: &Rc<Self>,
        range: PageRange,
        mut buf: Buf,
    ) -> Result<Buf, VolumeError> {
        assert!(
            buf.len() <= MAX_REQUEST_BYTES + PAGE_BYTES && buf.len() as u64 == range.len_bytes()
        );
        // Clusters named by the lookups are not used for anything else until this is dropped.
        let _reading = self.pool.read_guard();
        let mut plan = self.read_plans.take();
        let planned = self.plan_read(range, buf.as_mut(), &mut plan).await;
        let result = match planned {
            Ok(()) => self.run_plan(range, buf, &plan).await,
            Err(error) => Err(error),
        };
        self.read_plans.give(plan);
        result
    }

    /// Looks every page up, fills in what needs no device, and plans the rest.
    async fn plan_read(
        &self,
        range: PageRange,
        into: &mut [u8],
        plan: &mut ReadPlan,
    ) -> Result<(), VolumeError> {
        for cluster in range.clusters() {
            let part = part_in(range, cluster);
            self.bring_in(part).await?;
            // No await from here on: map entry and index belong together.
            self.map.with_cached(cluster, |entry| {
                self.plan_part(range, part, entry.unwrap_or(&Entry::EMPTY), into, plan);
            });
        }
        Ok(())
    }

    /// The part of `plan_read` that is in one cluster, whose entry is `entry`.
    fn plan_part(
        &self,
        range: PageRange,
        part: PageRange,
        entry: &Entry,
        into: &mut [u8],
        plan: &mut ReadPlan,
    ) {
        for page in part.first..part.end() {
            let at = (page - range.first) as usize;
            let target = &mut into[at * PAGE_BYTES..][..PAGE_BYTES];
            plan.crcs.push(0);
            match self.source_of(page, entry) {
                PageSource::Zeros => target.fill(0),
                PageSource::Memory { payload, .. } => self.copy_payload(page, payload, target),
                PageSource::Device { offset, crc } => {
                    plan.crcs[at] = crc;
                    plan.push_device(at, offset);
                }
            }
        }
    }

    /// Brings the map's entry for a cluster to memory, unless the index alone decides.
    async fn bring_in(&self, part: PageRange) -> Result<(), VolumeError> {
        let cluster = cluster_of(part.first);
        let wanted = mask_in(part, cluster);
        let known = self
            .index
            .borrow()
            .cluster(cluster)
            .map_or(0, |state| state.data | state.zero());
        if wanted & !known == 0 {
            return Ok(());
        }
        self.map
            .bring_in(cluster)
            .await
            .map_err(|error| self.store_error("map lookup", error))
    }

    /// Where the newest data of a page is. `entry` is the map's, as of now.
    fn source_of(&self, page: u64, entry: &Entry) -> PageSource {
        self.dirty_source(page)
            .unwrap_or_else(|| mapped_source(page, entry))
    }

    /// Where the data of a page is according to the index; None when the map decides.
    fn dirty_source(&self, page: u64) -> Option<PageSource> {
        let index = self.index.borrow();
        let dirty = match index.lookup(page) {
            Lookup::Clean => return None,
            Lookup::Zero => return Some(PageSource::Zeros),
            Lookup::Dirty(dirty) => dirty,
        };
        let (lsn, crc) = (dirty.lsn, dirty.crc);
        let offset = match dirty.source {
            Source::Journal { payload, .. } if index.has_payload(payload) => {
                return Some(PageSource::Memory { payload, lsn });
            }
            Source::Journal { position, .. } => self.ring.locate(position).device_offset,
            Source::Direct { cluster } => cluster.page_offset(slot_of(page)),
        };
        Some(PageSource::Device { offset, crc })
    }

    /// Looks one page up.
    pub async fn look_up(&self, page: u64) -> Result<PageSource, VolumeError> {
        let cluster = cluster_of(page);
        loop {
            // No await within one try: map entry and index belong together.
            let known = self.dirty_source(page).or_else(|| {
                self.map.with_cached(cluster, |entry| {
                    entry.map(|entry| mapped_source(page, entry))
                })
            });
            if let Some(source) = known {
                return Ok(source);
            }
            let brought = self.map.bring_in(cluster).await;
            brought.map_err(|error| self.store_error("map lookup", error))?;
        }
    }

    /// Copies a page that was looked up in memory a moment ago.
    fn copy_payload(&self, page: u64, payload: PayloadId, into: &mut [u8]) {
        let copied = self.index.borrow().copy_payload(page, payload, into);
        assert!(copied, "page {page}: looked up in memory a moment ago");
    }

    async fn run_plan(
        self: &Rc<Self>,
        range: PageRange,
        buf: Buf,
        plan: &ReadPlan,
    ) -> Result<Buf, VolumeError> {
        match plan.segments.as_slice() {
            [] => Ok(buf),
            [only] if only.count as u64 == range.count => {
                self.read_straight(range, buf, only.offset, plan).await
            }
            _ => self.read_pieces(range, buf, plan).await,
        }
    }

    /// One device read for the whole range, straight into the destination.
    async fn read_straight(
        self: &Rc<Self>,
        range: PageRange,
        buf: Buf,
        offset: u64,
        plan: &ReadPlan,
    ) -> Result<Buf, VolumeError> {
        let (result, mut buf) = self.device.read(offset, buf).await;
        let is_read = result.is_ok();
        for (at, page) in (range.first..range.end()).enumerate() {
            let target = &mut buf.as_mut()[at * PAGE_BYTES..][..PAGE_BYTES];
            if !is_read || !is_intact(target, plan.crcs[at]) {
                self.fill_page(page, target).await?;
            }
        }
        Ok(buf)
    }

    /// Several device reads through scratch memory, `MAX_PARALLEL` at a time.
    async fn read_pieces(
        self: &Rc<Self>,
        range: PageRange,
        mut buf: Buf,
        plan: &ReadPlan,
    ) -> Result<Buf, VolumeError> {
        let mut pieces = plan.pieces().peekable();
        while pieces.peek().is_some() {
            let mut running: [Option<(Segment, JoinHandle<Option<Scratch>>)>; MAX_PARALLEL] =
                Default::default();
            // Credits in the order of use: pieces that are done and wait for an earlier one keep
            // theirs, and that one must not wait for them.
            for (index, slot) in running.iter_mut().enumerate() {
                let Some(piece) = pieces.peek().copied() else {
                    break;
                };
                let wanted = (piece.count * PAGE_BYTES).min(self.scratch.total());
                let credits = match self.scratch.try_acquire(wanted) {
                    Some(credits) => credits,
                    None if index == 0 => self.scratch.acquire(wanted).await,
                    None => break,
                };
                pieces.next();
                *slot = Some((
                    piece,
                    reactor::spawn(self.clone().read_scratch(piece, credits)),
                ));
            }
            for (piece, task) in running.into_iter().flatten() {
                let scratch = task.await;
                for offset in 0..piece.count {
                    let at = piece.at + offset;
                    let target = &mut buf.as_mut()[at * PAGE_BYTES..][..PAGE_BYTES];
                    let found = scratch.as_ref().map(|scratch| scratch.page(offset));
                    match found.filter(|found| is_intact(found, plan.crcs[at])) {
                        Some(found) => target.copy_from_slice(found),
                        None => self.fill_page(range.first + at as u64, target).await?,
                    }
                }
            }
        }
        Ok(buf)
    }

    /// One piece into scratch memory; None when the device cannot read it.
    async fn read_scratch(self: Rc<Self>, piece: Segment, credits: Guard) -> Option<Scratch> {
        let len_bytes = piece.count * PAGE_BYTES;
        let buf = reactor::buf::engine_alloc(len_bytes).await;
        let (result, buf) = self.device.read(piece.offset, buf).await;
        result.is_ok().then_some(Scratch {
            buf,
            _credits: credits,
        })
    }

    /// Reads one page, looking it up again for as long as it moves.
    ///
    /// Errors: `Corrupt` when the place stays the same and its checksum is wrong twice; `Device`
    /// when it cannot be read twice.
    pub async fn fill_page(&self, page: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let mut before = None;
        for _ in 0..MAX_MOVES {
            let _reading = self.pool.read_guard();
            let source = self.look_up(page).await?;
            let (offset, crc) = match source {
                PageSource::Zeros => {
                    into.fill(0);
                    return Ok(());
                }
                PageSource::Memory { payload, .. } => {
                    self.copy_payload(page, payload, into);
                    return Ok(());
                }
                PageSource::Device { offset, crc } => (offset, crc),
            };
            let buf = reactor::buf::engine_alloc(PAGE_BYTES).await;
            let (result, buf) = self.device.read(offset, buf).await;
            if result.is_ok() && is_intact(&buf, crc) {
                into.copy_from_slice(&buf);
                return Ok(());
            }
            if before == Some(source) && self.look_up(page).await? == source {
                return Err(self.unreadable(page, offset, crc, result, &buf));
            }
            add(&self.metrics.read_retries, 1);
            before = Some(source);
        }
        let why = std::sync::Arc::from(format!("page {page} moved {MAX_MOVES} times under a read"));
        Err(VolumeError::Failed {
            volume: self.info().name.clone(),
            why,
        })
    }

    fn unreadable(
        &self,
        page: u64,
        offset: u64,
        expected: u32,
        result: Result<(), block::BlockError>,
        found: &[u8],
    ) -> VolumeError {
        if let Err(error) = result {
            return self.device_error("read", error);
        }
        add(&self.metrics.corrupt_reads, 1);
        let corruption = Corruption {
            lba: page * PAGE / u64::from(self.info().block_bytes),
            device_offset_bytes: offset,
            expected,
            actual: crc32c(found),
        };
        let volume = self.info().name.clone();
        tracing::error!(%volume, %corruption, "corrupt page");
        VolumeError::Corrupt { volume, corruption }
    }
}

/// A piece in scratch memory, and the credits for it.
struct Scratch {
    buf: Buf,
    _credits: Guard,
}

impl Scratch {
    fn page(&self, index: usize) -> &[u8] {
        &self.buf[index * PAGE_BYTES..][..PAGE_BYTES]
    }
}

/// The map's answer for a page that is not in the index.
fn mapped_source(page: u64, entry: &Entry) -> PageSource {
    let slot = slot_of(page);
    match entry.location {
        Some(cluster) if entry.valid & (1 << slot) != 0 => PageSource::Device {
            offset: cluster.page_offset(slot),
            crc: entry.crc[slot],
        },
        _ => PageSource::Zeros,
    }
}

/// Whether a page that came off the device is what was written.
pub(crate) fn is_intact(page: &[u8], crc: u32) -> bool {
    mutation::enabled(Mutation::SkipPageCrcOnRead) || crc32c(page) == crc
}
