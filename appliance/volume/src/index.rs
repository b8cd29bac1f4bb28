//! Write path 6/9: the index of what is not in the map yet. Next: `volume::flush::cycle` (7).
//!
//! Per page: the LSN, the checksum and where the newest data is (journal, with the payload kept in
//! memory within a budget; or already in a cluster, for direct writes). Per cluster: which pages
//! are dirty, which read as zeros, the cluster direct writes go to, and the promise of space.
//! Updated only when a batch has completed, in LSN order. Bounded by admission.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use reactor::buf::Buf;
use rustc_hash::FxHashMap;
use store::journal::{Record, RecordKind};
use store::{Cluster, Reservation};

use crate::mutation::{self, Mutation};
use crate::pages::{
    CLUSTER_PAGES, PAGE, PAGE_BYTES, PageRange, bit_of, bits, cluster_masks, cluster_of,
};

/// The newest data of a page that is not in the map yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageEntry {
    pub lsn: u64,
    pub crc: u32,
    pub source: Source,
}

/// Where a dirty page's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the journal at this position; also in memory while the payload is retained.
    Journal { position: u64, payload: PayloadId },
    /// In its place in this cluster, which the map does not say yet.
    Direct { cluster: Cluster },
}

/// Names a retained payload, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadId(u32);

impl PayloadId {
    pub const NONE: PayloadId = PayloadId(u32::MAX);
}

/// What the index says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Dirty(PageEntry),
    /// Zeroed since the map was published.
    Zero,
    /// Not here: ask the map.
    Clean,
}

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
    /// Takes the place of a cluster the map has: no further direct writes until folded.
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
    /// Pages zeroed before the current cut.
    pub zero_old: u64,
    /// Pages zeroed after it.
    pub zero_new: u64,
    pub pending: Option<Pending>,
    pub backing: Backing,
    /// Requests between admission and index.
    pub in_flight: u32,
    /// The cycle that runs takes the cluster out of the map: count on no place there.
    pub unmapping: bool,
}

impl DirtyCluster {
    fn new() -> Self {
        Self {
            data: 0,
            zero_old: 0,
            zero_new: 0,
            pending: None,
            backing: Backing::None,
            in_flight: 0,
            unmapping: false,
        }
    }

    /// Pages that read as zeros whatever the map says.
    pub fn zero(&self) -> u64 {
        self.zero_old | self.zero_new
    }

    fn is_idle(&self) -> bool {
        self.data | self.zero() == 0 && self.pending.is_none() && self.in_flight == 0
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// See the module. Plain data: all I/O is elsewhere.
pub(crate) struct Index {
    pages: FxHashMap<u64, PageEntry>,
    clusters: FxHashMap<u64, DirtyCluster>,
    payloads: Payloads,
}

impl Index {
    /// An index with room for this many pages and clusters, and payload memory out of `budget`.
    pub fn new(page_limit: usize, cluster_limit: usize, budget: Rc<PayloadBudget>) -> Self {
        let mut pages = FxHashMap::default();
        pages.reserve(page_limit);
        let mut clusters = FxHashMap::default();
        clusters.reserve(cluster_limit);
        Self {
            pages,
            clusters,
            payloads: Payloads::new(budget),
        }
    }

    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    pub fn cluster_count(&self) -> usize {
        self.clusters.len()
    }

    pub fn payload_bytes(&self) -> usize {
        self.payloads.bytes
    }

    pub fn is_clean(&self) -> bool {
        self.clusters.is_empty()
    }

    pub fn lookup(&self, page: u64) -> Lookup {
        let Some(cluster) = self.clusters.get(&cluster_of(page)) else {
            return Lookup::Clean;
        };
        let bit = bit_of(page);
        if cluster.data & bit != 0
            && let Some(entry) = self.pages.get(&page)
        {
            return Lookup::Dirty(*entry);
        }
        if cluster.zero() & bit != 0 {
            Lookup::Zero
        } else {
            Lookup::Clean
        }
    }

    pub fn page(&self, page: u64) -> Option<PageEntry> {
        self.pages.get(&page).copied()
    }

    pub fn cluster(&self, cluster: u64) -> Option<&DirtyCluster> {
        self.clusters.get(&cluster)
    }

    pub fn cluster_mut(&mut self, cluster: u64) -> Option<&mut DirtyCluster> {
        self.clusters.get_mut(&cluster)
    }

    pub fn clusters(&self) -> impl Iterator<Item = (u64, &DirtyCluster)> {
        self.clusters
            .iter()
            .map(|(cluster, state)| (*cluster, state))
    }

    /// Whether a payload is retained.
    pub fn has_payload(&self, id: PayloadId) -> bool {
        self.payloads
            .slots
            .get(id.0 as usize)
            .is_some_and(|slot| slot.buf.is_some())
    }

    /// The bytes of a page, when its payload is retained.
    pub fn payload(&self, page: u64, id: PayloadId) -> Option<Buf> {
        self.payloads.page(page, id)
    }

    /// Copies the bytes of a page, when its payload is retained. False when not.
    pub fn copy_payload(&self, page: u64, id: PayloadId, into: &mut [u8]) -> bool {
        self.payloads.copy_page(page, id, into)
    }

    /// A request is about to write here: keeps the cluster's entry until `leave`.
    pub fn enter(&mut self, cluster: u64) -> &mut DirtyCluster {
        let state = self
            .clusters
            .entry(cluster)
            .or_insert_with(DirtyCluster::new);
        state.in_flight += 1;
        state
    }

    /// The request is in the index, or gave up.
    pub fn leave(&mut self, cluster: u64) {
        let Some(state) = self.clusters.get_mut(&cluster) else {
            return;
        };
        assert!(
            state.in_flight > 0,
            "cluster {cluster}: more requests left than entered"
        );
        state.in_flight -= 1;
        self.drop_if_idle(cluster);
    }

    /// Removes the entry of a cluster that has nothing left to say.
    pub fn drop_if_idle(&mut self, cluster: u64) {
        if self
            .clusters
            .get(&cluster)
            .is_some_and(DirtyCluster::is_idle)
        {
            self.clusters.remove(&cluster);
        }
    }

    /// Keeps a journaled payload in memory for `first_page..`, until its pages are flushed or
    /// replaced, or the budget needs the memory.
    #[cfg(test)]
    fn retain(&mut self, first_page: u64, buf: &Buf) -> PayloadId {
        self.payloads.add(first_page, buf)
    }

    /// Tells the index what one record says; the only way in for data and zeros.
    ///
    /// `position` is where a write's payload is in the ring, `crc` gives its checksums by page,
    /// `payload` its data if that may stay in memory. `is_zero` says whether the map is known to
    /// have zeros there, asked only for clusters that are not in the index.
    pub fn apply(
        &mut self,
        record: &Record,
        lsn: u64,
        position: u64,
        crc: impl Fn(usize) -> u32,
        payload: Option<&Buf>,
        is_zero: impl Fn(u64, u64) -> bool,
    ) {
        let range = PageRange {
            first: record.first_page,
            count: record.page_count.into(),
        };
        if record.kind == RecordKind::Zero {
            for (cluster, mask) in cluster_masks(range) {
                if self.clusters.contains_key(&cluster) || !is_zero(cluster, mask) {
                    self.put_zero(cluster, mask);
                }
            }
            return;
        }
        let payload = payload.map_or(PayloadId::NONE, |buf| self.payloads.add(range.first, buf));
        for (offset, page) in (range.first..range.end()).enumerate() {
            let source = match record.kind {
                RecordKind::Direct => Source::Direct {
                    cluster: record.cluster,
                },
                _ => Source::Journal {
                    position: position + offset as u64 * PAGE,
                    payload,
                },
            };
            self.put(
                page,
                PageEntry {
                    lsn,
                    crc: crc(offset),
                    source,
                },
            );
        }
        let pending = self.clusters.get_mut(&cluster_of(range.first));
        if record.kind == RecordKind::Direct
            && let Some(pending) = pending.and_then(|cluster| cluster.pending.as_mut())
        {
            pending.last_lsn = lsn;
        }
    }

    /// A page's new data. Takes a reference of the payload it names.
    pub fn put(&mut self, page: u64, entry: PageEntry) {
        let state = self
            .clusters
            .entry(cluster_of(page))
            .or_insert_with(DirtyCluster::new);
        let bit = bit_of(page);
        state.data |= bit;
        state.zero_old &= !bit;
        state.zero_new &= !bit;
        if let Source::Journal { payload, .. } = entry.source {
            self.payloads.take(payload);
        }
        if let Some(old) = self.pages.insert(page, entry) {
            assert!(
                old.lsn < entry.lsn,
                "page {page}: LSN {} after {}",
                entry.lsn,
                old.lsn
            );
            self.release_source(old.source);
        }
    }

    /// The masked pages of a cluster read as zeros from now on.
    pub fn put_zero(&mut self, cluster: u64, mask: u64) {
        let state = self
            .clusters
            .entry(cluster)
            .or_insert_with(DirtyCluster::new);
        let gone = state.data & mask;
        state.data &= !mask;
        state.zero_new |= mask;
        self.remove_pages(cluster, gone);
    }

    /// Everything in the index now belongs to the cut: zeros of later requests are told apart.
    pub fn cut_zeros(&mut self, cluster: u64) -> u64 {
        let Some(state) = self.clusters.get_mut(&cluster) else {
            return 0;
        };
        state.zero_old |= state.zero_new;
        state.zero_new = 0;
        state.zero_old
    }

    /// The map says what `page` was at `lsn`: forgets the entry unless it is newer.
    pub fn settle_page(&mut self, page: u64, lsn: u64) {
        let Some(entry) = self.pages.get(&page).copied() else {
            return;
        };
        if entry.lsn != lsn && !mutation::enabled(Mutation::DropLsnCompareInIndex) {
            return;
        }
        self.pages.remove(&page);
        self.release_source(entry.source);
        if let Some(state) = self.clusters.get_mut(&cluster_of(page)) {
            state.data &= !bit_of(page);
        }
    }

    /// The map says that these pages are zeros.
    pub fn settle_zeros(&mut self, cluster: u64, mask: u64) {
        if let Some(state) = self.clusters.get_mut(&cluster) {
            state.zero_old &= !mask;
        }
    }

    fn remove_pages(&mut self, cluster: u64, mask: u64) {
        for slot in bits(mask) {
            let page = cluster * CLUSTER_PAGES + slot as u64;
            if let Some(old) = self.pages.remove(&page) {
                self.release_source(old.source);
            }
        }
    }

    fn release_source(&mut self, source: Source) {
        if let Source::Journal { payload, .. } = source {
            self.payloads.release(payload);
        }
    }
}

/// Payload memory that the volumes of a pool share.
#[derive(Debug, Default)]
pub(crate) struct PayloadBudget {
    used_bytes: Cell<usize>,
    limit_bytes: usize,
}

impl PayloadBudget {
    pub fn new(limit_bytes: usize) -> Rc<Self> {
        Rc::new(Self {
            used_bytes: Cell::new(0),
            limit_bytes,
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used_bytes.get() + bytes;
        let fits = used <= self.limit_bytes;
        if fits {
            self.used_bytes.set(used);
        }
        fits
    }

    fn give(&self, bytes: usize) {
        self.used_bytes.set(self.used_bytes.get() - bytes);
    }
}

/// Payloads kept in memory, oldest dropped first when over budget.
struct Payloads {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots in order of age, with the generation they had.
    oldest: VecDeque<(u32, u32)>,
    bytes: usize,
    budget: Rc<PayloadBudget>,
}

struct Slot {
    buf: Option<Buf>,
    first_page: u64,
    /// Page entries that name it.
    refs: u32,
    generation: u32,
}

impl Payloads {
    fn new(budget: Rc<PayloadBudget>) -> Self {
        Self {
            slots: Vec::with_capacity(1024),
            free: Vec::with_capacity(1024),
            oldest: VecDeque::with_capacity(1024),
            bytes: 0,
            budget,
        }
    }

    fn add(&mut self, first_page: u64, buf: &Buf) -> PayloadId {
        let cost = memory_cost(buf);
        while !self.budget.take(cost) {
            if !self.evict_oldest() {
                return PayloadId::NONE;
            }
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                buf: None,
                first_page: 0,
                refs: 0,
                generation: 0,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.buf = Some(buf.clone());
        slot.first_page = first_page;
        slot.refs = 0;
        self.oldest.push_back((index, slot.generation));
        self.bytes += cost;
        PayloadId(index)
    }

    fn take(&mut self, id: PayloadId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.refs += 1;
        }
    }

    fn release(&mut self, id: PayloadId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        slot.refs -= 1;
        if slot.refs > 0 {
            return;
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.drop_memory(id.0);
        self.free.push(id.0);
        self.forget_stale();
    }

    /// Drops the memory of this volume's oldest payload; false when it has none. Its entries stay,
    /// and are read from the journal from now on.
    fn evict_oldest(&mut self) -> bool {
        let Some((index, generation)) = self.oldest.pop_front() else {
            return false;
        };
        if self.slots[index as usize].generation == generation {
            self.drop_memory(index);
        }
        true
    }

    fn drop_memory(&mut self, index: u32) {
        let cost = self.slots[index as usize]
            .buf
            .take()
            .as_ref()
            .map_or(0, memory_cost);
        self.bytes -= cost;
        self.budget.give(cost);
    }

    /// Keeps the queue of ages no longer than the live slots need.
    fn forget_stale(&mut self) {
        while let Some((index, generation)) = self.oldest.front().copied() {
            let slot = &self.slots[index as usize];
            if slot.generation == generation && slot.buf.is_some() {
                return;
            }
            self.oldest.pop_front();
        }
    }

    fn page(&self, page: u64, id: PayloadId) -> Option<Buf> {
        let (buf, at) = self.find(page, id)?;
        Some(buf.slice(at..at + PAGE_BYTES))
    }

    fn copy_page(&self, page: u64, id: PayloadId, into: &mut [u8]) -> bool {
        let Some((buf, at)) = self.find(page, id) else {
            return false;
        };
        into.copy_from_slice(&buf[at..at + PAGE_BYTES]);
        true
    }

    fn find(&self, page: u64, id: PayloadId) -> Option<(&Buf, usize)> {
        let slot = self.slots.get(id.0 as usize)?;
        let buf = slot.buf.as_ref()?;
        Some((buf, (page - slot.first_page) as usize * PAGE_BYTES))
    }
}

/// What a retained slice costs: the buffer it keeps away from its pool. Buffers come in powers of
/// four from 4 KiB; a slice is assumed to be most of its buffer.
fn memory_cost(buf: &Buf) -> usize {
    let mut class = PAGE_BYTES;
    while class < buf.len() {
        class *= 4;
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::buf::BufPool;

    fn journal(lsn: u64, payload: PayloadId) -> PageEntry {
        let source = Source::Journal {
            position: lsn * 4096,
            payload,
        };
        PageEntry {
            lsn,
            crc: lsn as u32,
            source,
        }
    }

    fn buf(pool: &BufPool, fill: u8, len: usize) -> Buf {
        let mut buf = pool.try_alloc(len).expect("room");
        buf.as_mut().fill(fill);
        buf
    }

    #[test]
    fn the_newest_wins_and_older_settling_is_ignored() {
        let mut index = Index::new(100, 100, PayloadBudget::new(0));
        index.put(70, journal(5, PayloadId::NONE));
        index.put(70, journal(9, PayloadId::NONE));
        index.settle_page(70, 5);
        assert_eq!(index.lookup(70), Lookup::Dirty(journal(9, PayloadId::NONE)));
        index.settle_page(70, 9);
        assert_eq!(index.lookup(70), Lookup::Clean);
        index.drop_if_idle(1);
        assert!(index.is_clean());
    }

    #[test]
    fn zeros_hide_data_and_data_hides_zeros() {
        let mut index = Index::new(100, 100, PayloadBudget::new(0));
        index.put(1, journal(1, PayloadId::NONE));
        index.put_zero(0, 0b110);
        assert_eq!(
            (index.lookup(1), index.lookup(2)),
            (Lookup::Zero, Lookup::Zero)
        );
        assert_eq!(index.cut_zeros(0), 0b110);
        index.put(2, journal(3, PayloadId::NONE));
        index.put_zero(0, 0b1000);
        index.settle_zeros(0, 0b110);
        assert_eq!(index.lookup(1), Lookup::Clean);
        assert_eq!(index.lookup(2), Lookup::Dirty(journal(3, PayloadId::NONE)));
        assert_eq!(index.lookup(3), Lookup::Zero, "zeroed after the cut");
    }

    #[test]
    fn an_entry_stays_while_requests_are_on_their_way() {
        let mut index = Index::new(100, 100, PayloadBudget::new(0));
        index.enter(4);
        index.enter(4);
        index.leave(4);
        assert!(index.cluster(4).is_some());
        index.leave(4);
        assert!(index.cluster(4).is_none());
    }

    #[test]
    fn payload_memory_is_dropped_oldest_first() {
        let pool = BufPool::new(8 << 20, "test").expect("memory");
        let mut index = Index::new(100, 100, PayloadBudget::new(2 * 4096));
        for page in 0..3u64 {
            let id = index.retain(page, &buf(&pool, page as u8, 4096));
            index.put(page, journal(page + 1, id));
        }
        let found: Vec<_> = (0..3)
            .map(|page| match index.lookup(page) {
                Lookup::Dirty(PageEntry {
                    source: Source::Journal { payload, .. },
                    ..
                }) => index.payload(page, payload).map(|buf| buf[0]),
                _ => panic!("page {page} is dirty"),
            })
            .collect();
        assert_eq!(found, [None, Some(1), Some(2)]);
        assert_eq!(pool.in_use_bytes(), 2 * 4096);
        for page in 0..3 {
            index.settle_page(page, page + 1);
        }
        assert_eq!((pool.in_use_bytes(), index.payload_bytes()), (0, 0));
    }

    #[test]
    fn a_shared_payload_lives_until_its_last_page_is_settled() {
        let pool = BufPool::new(8 << 20, "test").expect("memory");
        let mut index = Index::new(100, 100, PayloadBudget::new(1 << 20));
        let id = index.retain(10, &buf(&pool, 7, 3 * 4096));
        for page in 10..13 {
            index.put(page, journal(page, id));
        }
        index.settle_page(10, 10);
        index.put_zero(0, 1 << 11);
        assert!(index.copy_payload(12, id, &mut [0; 4096]));
        assert!(pool.in_use_bytes() > 0);
        index.put(12, journal(50, PayloadId::NONE));
        assert_eq!((pool.in_use_bytes(), index.payload_bytes()), (0, 0));
    }
}
