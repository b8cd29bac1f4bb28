//! Write path 3/9 continued: a write from request to records. Next: `store::journal` (4).
//!
//! 1. lock the pages;
//! 2. wait for room, and promise space in the pool;
//! 3. make whole pages (read-modify-write at the edges);
//! 4. large aligned parts go straight to their clusters, the rest to the journal;
//! 5. append, and wait for the batch; with FUA, flush the device.

use std::rc::Rc;

use reactor::JoinHandle;
use reactor::buf::{Buf, BufList};
use reactor::sync::Guard;
use store::Cluster;
use store::journal::RecordKind;

use crate::admission::Need;
use crate::commit::{Group, Hold, MAX_PARTS, Part};
use crate::core::{ClusterHold, Core};
use crate::error::VolumeError;
use crate::index::{Backing, DirtyCluster, Pending};
use crate::locks::PageLock;
use crate::metrics::add;
use crate::pages::{CLUSTER_PAGES, PAGE, PAGE_BYTES, PageRange, mask_in, part_in, slot_of};
use crate::request::{Completion, MAX_ATOMIC_BYTES, Span};

/// A part of a write inside one cluster goes straight there from this many pages on (64 KiB).
const DIRECT_MIN_PAGES: u64 = 16;

/// Where the pages of a write may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To the journal, or straight to their clusters.
    Best,
    /// To the journal.
    Journal,
}

/// The pages of a write.
struct Pages {
    buf: Buf,
    /// Its memory may be kept for reads and for the flusher.
    retain: bool,
    _scratch: Option<Guard>,
}

impl Core {
    /// Writes `data` at `lba`. See the module for the steps.
    pub async fn write(self: &Rc<Self>, lba: u64, data: Buf, fua: bool) -> Completion {
        let span = self.info().payload(lba, &data)?;
        let lock = self.locks.acquire(PageRange::covering(span)).await;
        self.write_locked(span, data, lock, fua).await
    }

    /// As `write`, all or nothing: the records of a request are in one batch, and a batch is there
    /// or not. Pages that went straight to their places could be lost one by one.
    pub async fn write_atomic(self: &Rc<Self>, lba: u64, data: Buf, fua: bool) -> Completion {
        let span = self.info().payload(lba, &data)?;
        let limit_bytes = MAX_ATOMIC_BYTES as u64;
        if span.len_bytes > limit_bytes {
            return Err(VolumeError::TooLarge {
                len_bytes: span.len_bytes,
                limit_bytes,
            });
        }
        let lock = self.locks.acquire(PageRange::covering(span)).await;
        self.write_by(Way::Journal, span, data, lock, fua).await
    }

    /// As `write`, for a caller that has the pages locked. The lock is let go when the data is in
    /// the index, whatever becomes of the caller.
    pub async fn write_locked(
        self: &Rc<Self>,
        span: Span,
        data: Buf,
        lock: PageLock,
        fua: bool,
    ) -> Completion {
        self.write_by(Way::Best, span, data, lock, fua).await
    }

    async fn write_by(
        self: &Rc<Self>,
        way: Way,
        span: Span,
        data: Buf,
        lock: PageLock,
        fua: bool,
    ) -> Completion {
        self.check_writable()?;
        let range = PageRange::covering(span);
        let clusters = range.clusters().count();
        let need = Need {
            journal_bytes: range.len_bytes() + PAGE,
            pages: range.count as usize,
            clusters,
        };
        let credit = self.admit(need).await?;
        let mut held = self.enter_clusters(range).await?;
        let pages = self.whole_pages(span, data).await?;
        let mut group = Group::default();
        if way == Way::Journal || range.count < DIRECT_MIN_PAGES {
            group.push(journal_part(range, range, &pages));
        } else {
            self.route(range, &pages, &mut held, &lock, &mut group)
                .await?;
        }
        let hold = Hold::new(lock, Some(held), credit);
        let batch = self.append(&mut group, hold).await?;
        batch.completed().await?;
        if fua {
            self.flush_device().await?;
        }
        Ok(None)
    }

    /// The payload as whole pages in aligned memory. Missing parts of the first and last page are
    /// read, under the caller's lock.
    async fn whole_pages(self: &Rc<Self>, span: Span, data: Buf) -> Result<Pages, VolumeError> {
        let range = PageRange::covering(span);
        let is_whole = span.len_bytes == range.len_bytes();
        if is_whole && data.as_ptr().addr().is_multiple_of(PAGE_BYTES) {
            return Ok(Pages {
                buf: data,
                retain: true,
                _scratch: None,
            });
        }
        let (mut buf, scratch) = self.scratch_pages(range.len_bytes() as usize).await;
        let start = (span.offset_bytes - range.first * PAGE) as usize;
        let end = start + data.len();
        if start > 0 {
            self.fill_page(range.first, &mut buf.as_mut()[..PAGE_BYTES])
                .await?;
        }
        let last_start = (range.len_bytes() - PAGE) as usize;
        if end < buf.len() && (start == 0 || range.count > 1) {
            self.fill_page(range.end() - 1, &mut buf.as_mut()[last_start..])
                .await?;
        }
        buf.as_mut()[start..end].copy_from_slice(&data);
        let retain = scratch.is_none();
        Ok(Pages {
            buf,
            retain,
            _scratch: scratch,
        })
    }

    /// Memory for a request that already holds some: never waits for the hosts' pool, where all
    /// others might wait too. Engine memory is bounded by credits and not kept afterwards.
    pub async fn scratch_pages(&self, len_bytes: usize) -> (Buf, Option<Guard>) {
        if let Some(buf) = reactor::buf::try_alloc(len_bytes) {
            return (buf, None);
        }
        let credits = len_bytes.next_power_of_two().min(self.scratch.total());
        let guard = self.scratch.acquire(credits).await;
        (reactor::buf::engine_alloc(len_bytes).await, Some(guard))
    }

    /// Decides for each cluster where its part goes, and writes the direct parts.
    async fn route(
        self: &Rc<Self>,
        range: PageRange,
        pages: &Pages,
        held: &mut ClusterHold,
        lock: &PageLock,
        group: &mut Group,
    ) -> Result<(), VolumeError> {
        let mut tasks: [Option<JoinHandle<_>>; MAX_PARTS] = Default::default();
        let mut journal: Option<PageRange> = None;
        for (offset, cluster) in range.clusters().enumerate() {
            let part = part_in(range, cluster);
            match self.choose_direct(part, held).await {
                Some(target) => {
                    if let Some(run) = journal.take() {
                        group.push(journal_part(run, range, pages));
                    }
                    let direct = direct_part(part, range, pages, target);
                    tasks[offset] = Some(self.start_direct(&direct, lock.share()));
                    group.push(direct);
                }
                None => match &mut journal {
                    Some(run) => run.count += part.count,
                    None => journal = Some(part),
                },
            }
        }
        if let Some(run) = journal {
            group.push(journal_part(run, range, pages));
        }
        for task in tasks.into_iter().flatten() {
            task.await?;
        }
        Ok(())
    }

    /// The cluster a part may be written to before its record, or None for the journal.
    async fn choose_direct(&self, part: PageRange, held: &mut ClusterHold) -> Option<Cluster> {
        if part.count < DIRECT_MIN_PAGES {
            return None;
        }
        let cluster = part.first / CLUSTER_PAGES;
        // An unreadable map is no reason to refuse a write to the journal.
        self.map.bring_in(cluster).await.ok()?;
        let entry = self.map.lookup_cached(cluster)?;
        let mut index = self.index.borrow_mut();
        let state = index.cluster_mut(cluster)?;
        let mask = mask_in(part, cluster);
        let target = self.direct_target(state, &entry, mask)?;
        if let Some(old) = state.pending.filter(|old| old.cluster != target.cluster) {
            state.superseded.push(old.cluster);
        }
        let pending = state.pending.insert(target);
        pending.used |= mask;
        pending.deciding |= mask;
        held.add_direct(cluster);
        Some(pending.cluster)
    }

    /// The rules for direct writes. The pages are locked by the caller, so whatever is not dirty
    /// now does not become dirty until this write is in the index.
    fn direct_target(
        &self,
        state: &mut DirtyCluster,
        entry: &store::Entry,
        mask: u64,
    ) -> Option<Pending> {
        // The flusher may be about to write dirty pages to the place they have.
        let is_clean = state.data & mask == 0;
        let shared = is_clean.then(|| self.shared_place(state, entry, mask));
        shared.flatten().or_else(|| {
            let is_whole = (entry.valid | state.data) & !mask == 0;
            is_whole.then(|| self.another_place(state)).flatten()
        })
    }

    /// The place of the cluster's other pages, where this write's are unused.
    fn shared_place(
        &self,
        state: &mut DirtyCluster,
        entry: &store::Entry,
        mask: u64,
    ) -> Option<Pending> {
        if let Some(pending) = state.pending {
            let elsewhere = entry
                .location
                .is_some_and(|location| location != pending.cluster);
            let used = pending.used | if elsewhere { u64::MAX } else { entry.valid };
            return (!pending.replaces && used & mask == 0).then_some(pending);
        }
        if let Some(location) = entry.location.filter(|_| !state.unmapping) {
            let is_unused = entry.valid & mask == 0 && state.zero() == 0;
            return is_unused.then(|| Pending::new(location));
        }
        let Backing::Reserved(reservation) = &mut state.backing else {
            return None;
        };
        let cluster = self.pool.allocate(Some(reservation)).ok()?;
        state.backing = Backing::Mapped;
        Some(Pending::new(cluster))
    }

    /// A fresh cluster for a write of all pages that have data: whatever the flusher does to the
    /// old places cannot touch it. One at a time: what was promised for the old data stays.
    fn another_place(&self, state: &DirtyCluster) -> Option<Pending> {
        let is_busy = state
            .pending
            .is_some_and(|pending| pending.in_flight() != 0);
        if is_busy || !state.superseded.is_empty() {
            return None;
        }
        let mut extra = self.pool.reserve(1).ok()?;
        let cluster = self.pool.allocate(Some(&mut extra)).ok()?;
        Some(Pending {
            replaces: true,
            ..Pending::new(cluster)
        })
    }

    /// Writes a direct part in a task of its own: a dropped request must not let go of the pages
    /// while the kernel may still write them.
    fn start_direct(
        self: &Rc<Self>,
        part: &Part,
        lock: PageLock,
    ) -> JoinHandle<Result<(), VolumeError>> {
        let offset = part.cluster.page_offset(slot_of(part.range.first));
        let list = part.buf.clone().map(BufList::from).unwrap_or_default();
        let guard = DirectGuard::new(self.clone(), part.range, lock);
        let core = self.clone();
        reactor::spawn(async move {
            reactor::crash_point("direct::write");
            // crash here: no record refers to the pages; the old mapping stays.
            let len_bytes = list.len_bytes() as u64;
            let result = core.write_with_retries(offset, list).await;
            drop(guard);
            add(&core.metrics.direct_bytes, len_bytes);
            result.map_err(|error| core.device_error("direct write", error))
        })
    }
}

/// Keeps the place and the pages of a direct write while the device may be writing them, also
/// when the request is gone.
struct DirectGuard {
    core: Rc<Core>,
    range: PageRange,
    _lock: PageLock,
}

impl DirectGuard {
    fn new(core: Rc<Core>, range: PageRange, lock: PageLock) -> Self {
        let cluster = range.first / CLUSTER_PAGES;
        {
            let mut index = core.index.borrow_mut();
            let pending = index.enter(cluster).pending.as_mut();
            pending.expect("a direct write has a place").writing |= mask_in(range, cluster);
        }
        Self {
            core,
            range,
            _lock: lock,
        }
    }
}

impl Drop for DirectGuard {
    fn drop(&mut self) {
        let cluster = self.range.first / CLUSTER_PAGES;
        let mut index = self.core.index.borrow_mut();
        if let Some(pending) = index
            .cluster_mut(cluster)
            .and_then(|state| state.pending.as_mut())
        {
            pending.writing &= !mask_in(self.range, cluster);
        }
        index.leave(cluster);
    }
}

fn slice_of(part: PageRange, range: PageRange, pages: &Pages) -> Buf {
    let start = ((part.first - range.first) * PAGE) as usize;
    pages.buf.slice(start..start + part.len_bytes() as usize)
}

fn journal_part(part: PageRange, range: PageRange, pages: &Pages) -> Part {
    Part {
        kind: RecordKind::Write,
        range: part,
        buf: Some(slice_of(part, range, pages)),
        cluster: Cluster(0),
        retain: pages.retain,
    }
}

fn direct_part(part: PageRange, range: PageRange, pages: &Pages, cluster: Cluster) -> Part {
    let kind = RecordKind::Direct;
    let buf = Some(slice_of(part, range, pages));
    Part {
        kind,
        range: part,
        buf,
        cluster,
        retain: false,
    }
}
