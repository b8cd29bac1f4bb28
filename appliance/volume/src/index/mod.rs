//! Write path 6/9: the index of what is not in the map yet. Next: `volume::flush::cycle` (7).
//!
//! Per page: the LSN, the checksum and where the newest data is (journal, with the payload kept in
//! memory within a budget; or already in a cluster, for direct writes). Per cluster: which pages
//! are dirty, which read as zeros, the cluster direct writes go to, and the promise of space.
//! Updated only when a batch has completed, in LSN order. Bounded by admission.

mod cluster;
mod payloads;

use std::rc::Rc;

use reactor::buf::Buf;
use rustc_hash::FxHashMap;
use store::Cluster;
use store::journal::{Record, RecordKind};

pub(crate) use self::cluster::{Backing, DirtyCluster, Pending};
use self::payloads::Payloads;
pub(crate) use self::payloads::{PayloadBudget, PayloadId};
use crate::mutation::{self, Mutation};
use crate::pages::{CLUSTER_PAGES, PAGE, PageRange, bit_of, bits, cluster_masks, cluster_of};

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

/// What the index says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Dirty(PageEntry),
    /// Zeroed since the map was published.
    Zero,
    /// Not here: ask the map.
    Clean,
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
        self.payloads.holds(id)
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

#[cfg(test)]
mod tests;
