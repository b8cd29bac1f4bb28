//! Write path 6/9: the index of what is not in the map yet. Next: `volume::flush::cycle` (7).
//!
//! Per page: the LSN, the checksum and where the newest data is (journal, with the payload kept in
//! memory within a budget; or already in a cluster, for direct writes). Per cluster: which pages
//! are dirty, which read as zeros, the cluster direct writes go to, and the promise of space.
//! Updated only when a batch has completed, in LSN order. Bounded by admission.

mod cluster;
mod payloads;
mod table;

use std::rc::Rc;

use reactor::buf::Buf;
use store::Cluster;
use store::journal::{Record, RecordKind};

pub(crate) use self::cluster::{Backing, DirtyCluster, Pending};
use self::payloads::Payloads;
pub(crate) use self::payloads::{PayloadBudget, PayloadId};
use self::table::{Clusters, Pages};
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
    pages: Pages,
    clusters: Clusters,
    payloads: Payloads,
}

impl PageEntry {
    /// Where there is nothing.
    const NONE: PageEntry = PageEntry {
        lsn: 0,
        crc: 0,
        source: Source::Direct {
            cluster: Cluster(0),
        },
    };

    /// The cluster that a direct write put it into.
    pub fn direct_place(&self) -> Option<Cluster> {
        match self.source {
            Source::Direct { cluster } => Some(cluster),
            Source::Journal { .. } => None,
        }
    }
}

impl Index {
    /// An index for a volume of this many clusters, with room for so many dirty pages and clusters,
    /// and payload memory out of `budget`.
    pub fn new(
        cluster_count: usize,
        (page_limit, cluster_limit): (usize, usize),
        budget: Rc<PayloadBudget>,
    ) -> Self {
        Self {
            pages: Pages::new(page_limit),
            clusters: Clusters::new(cluster_count, cluster_limit),
            payloads: Payloads::new(budget),
        }
    }

    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    pub fn cluster_count(&self) -> usize {
        self.clusters.len()
    }

    /// Whether a flush cycle should give back memory: a payload for which there is none has to be
    /// read from the journal later.
    pub fn is_short_of_memory(&self) -> bool {
        self.payloads.is_short()
    }

    /// How many payloads could not be kept since the volume was opened.
    pub fn payloads_refused(&self) -> u64 {
        self.payloads.refused
    }

    pub fn payload_bytes(&self) -> usize {
        self.payloads.bytes
    }

    pub fn is_clean(&self) -> bool {
        self.clusters.len() == 0
    }

    pub fn lookup(&self, page: u64) -> Lookup {
        let Some(cluster) = self.clusters.get(cluster_of(page)) else {
            return Lookup::Clean;
        };
        if let Some(entry) = self.pages.get(cluster, page) {
            return Lookup::Dirty(*entry);
        }
        if cluster.zero() & bit_of(page) != 0 {
            Lookup::Zero
        } else {
            Lookup::Clean
        }
    }

    pub fn page(&self, page: u64) -> Option<PageEntry> {
        let cluster = self.clusters.get(cluster_of(page))?;
        self.pages.get(cluster, page).copied()
    }

    pub fn cluster(&self, cluster: u64) -> Option<&DirtyCluster> {
        self.clusters.get(cluster)
    }

    pub fn cluster_mut(&mut self, cluster: u64) -> Option<&mut DirtyCluster> {
        self.clusters.get_mut(cluster)
    }

    /// Whether an entry of this cluster says that its data is in `place`.
    pub fn names(&self, cluster: u64, place: Cluster) -> bool {
        let data = self.cluster(cluster).map_or(0, |state| state.data);
        let mut pages = bits(data).map(|slot| cluster * CLUSTER_PAGES + slot as u64);
        pages.any(|page| self.page(page).and_then(|entry| entry.direct_place()) == Some(place))
    }

    pub fn clusters(&self) -> impl Iterator<Item = (u64, &DirtyCluster)> {
        self.clusters.iter()
    }

    /// Whether a payload is retained.
    pub fn has_payload(&self, id: PayloadId) -> bool {
        self.payloads.holds(id)
    }

    /// The bytes of a page, when its payload is retained.
    pub fn payload(&self, page: u64, id: PayloadId) -> Option<Buf> {
        self.payloads.page(page, id)
    }

    /// A flush cycle begins: payloads that it has yet to write stay in memory until it ends.
    pub fn hold_payloads(&mut self) {
        self.payloads.hold();
    }

    /// The flush cycle has ended.
    pub fn let_payloads_go(&mut self) {
        self.payloads.let_go();
    }

    /// The flush cycle has written a page to its place that was at `source`. When another payload
    /// has that one's number by now, it may be dropped instead: that costs a read, no more.
    pub fn note_written(&mut self, source: Source) {
        if let Source::Journal { payload, .. } = source {
            self.payloads.note_written(payload);
        }
    }

    /// Copies the bytes of a page, when its payload is retained. False when not.
    pub fn copy_payload(&self, page: u64, id: PayloadId, into: &mut [u8]) -> bool {
        self.payloads.copy_page(page, id, into)
    }

    /// A request is about to write here: keeps the cluster's entry until `leave`.
    pub fn enter(&mut self, cluster: u64) -> &mut DirtyCluster {
        let state = self.clusters.enter(cluster);
        state.in_flight += 1;
        state
    }

    /// The request is in the index, or gave up.
    pub fn leave(&mut self, cluster: u64) {
        let Some(state) = self.clusters.get_mut(cluster) else {
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
        let state = self.clusters.get(cluster);
        if state.is_some_and(DirtyCluster::is_idle) {
            self.clusters.remove(cluster);
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
                if self.clusters.get(cluster).is_some() || !is_zero(cluster, mask) {
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
        let pending = self.clusters.get_mut(cluster_of(range.first));
        if record.kind == RecordKind::Direct
            && let Some(pending) = pending.and_then(|cluster| cluster.pending.as_mut())
        {
            pending.last_lsn = lsn;
        }
    }

    /// A page's new data. Takes a reference of the payload it names.
    pub fn put(&mut self, page: u64, entry: PageEntry) {
        let state = self.clusters.enter(cluster_of(page));
        let bit = bit_of(page);
        state.zero_old &= !bit;
        state.zero_new &= !bit;
        if let Source::Journal { payload, .. } = entry.source {
            self.payloads.take(payload);
        }
        if let Some(old) = self.pages.set(state, page, entry) {
            assert!(
                old.lsn < entry.lsn,
                "page {page}: LSN {} after {}",
                entry.lsn,
                old.lsn
            );
            release_source(&mut self.payloads, old.source);
        }
    }

    /// The masked pages of a cluster read as zeros from now on.
    pub fn put_zero(&mut self, cluster: u64, mask: u64) {
        let state = self.clusters.enter(cluster);
        state.zero_new |= mask;
        for slot in bits(state.data & mask) {
            let page = cluster * CLUSTER_PAGES + slot as u64;
            if let Some(old) = self.pages.remove(state, page) {
                release_source(&mut self.payloads, old.source);
            }
        }
    }

    /// Everything in the index now belongs to the cut: zeros of later requests are told apart.
    pub fn cut_zeros(&mut self, cluster: u64) -> u64 {
        let Some(state) = self.clusters.get_mut(cluster) else {
            return 0;
        };
        state.zero_old |= state.zero_new;
        state.zero_new = 0;
        state.zero_old
    }

    /// The map says what `page` was at `lsn`: forgets the entry unless it is newer.
    pub fn settle_page(&mut self, page: u64, lsn: u64) {
        let Some(state) = self.clusters.get_mut(cluster_of(page)) else {
            return;
        };
        let is_newer = |entry: &PageEntry| entry.lsn != lsn;
        if self.pages.get(state, page).is_some_and(is_newer)
            && !mutation::enabled(Mutation::DropLsnCompareInIndex)
        {
            return;
        }
        if let Some(old) = self.pages.remove(state, page) {
            release_source(&mut self.payloads, old.source);
        }
    }

    /// The map says that these pages are zeros.
    pub fn settle_zeros(&mut self, cluster: u64, mask: u64) {
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.zero_old &= !mask;
        }
    }
}

fn release_source(payloads: &mut Payloads, source: Source) {
    if let Source::Journal { payload, .. } = source {
        payloads.release(payload);
    }
}

#[cfg(test)]
mod tests;
