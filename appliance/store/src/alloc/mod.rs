//! Who uses which cluster: in memory, ahead of what is published.
//!
//! Two bitmaps: `published` is what the allocator on disk says and what the published maps,
//! journals and map nodes use, exactly; `used` adds what was allocated since and what was freed but
//! may not be written yet. A crash forgets `used`, so it leaks nothing and frees nothing early.

mod bitmap;
mod epochs;
mod guards;
mod map_blocks;
mod stage;

pub use guards::{ReadGuard, Reservation};

pub(crate) use bitmap::Bitmap;
pub(crate) use stage::Staged;

use crate::error::StoreError;
use crate::format::alloc_page::{BITS_PER_PAGE, TABLE_ENTRIES_PER_PAGE, TableEntry};
use crate::pool::{PoolGeometry, Space};
use crate::types::{CLUSTER_BLOCKS, Cluster, ClusterRun};

use epochs::ReadEpochs;
use map_blocks::MapBlocks;

/// Most runs of a journal.
pub const JOURNAL_RUNS_MAX: usize = 8;
/// Fewest clusters of a run: the largest batch (1 MiB of payload and its header) must fit.
pub const JOURNAL_RUN_CLUSTERS_MIN: u32 = 16;

/// Data clusters whose map nodes fit into one cluster at worst: each may need a leaf of its own
/// and, in a very sparse volume, four inner nodes.
const CLUSTERS_PER_MAP_CLUSTER: u32 = CLUSTER_BLOCKS as u32 / NODES_PER_LEAF_MAX as u32;
/// Nodes a dirty leaf may cause to be written: itself and four levels of ancestors.
const NODES_PER_LEAF_MAX: u64 = 5;
/// Bounds of the part of the pool that is kept for map nodes.
const METADATA_RESERVE_MIN: u32 = 32;
const METADATA_RESERVE_MAX: u32 = 8192;

/// The allocator of an open pool.
#[derive(Debug)]
pub struct Allocator {
    first: u32,
    used: Bitmap,
    published: Bitmap,
    total: u32,
    free: u32,
    /// Promised by reservations, not allocated.
    reserved: u32,
    /// Allocated or claimed, not published.
    unpublished: u32,
    /// Where the next search begins, so that what is written together lies together.
    cursor: u32,
    epochs: ReadEpochs,
    map_blocks: MapBlocks,
}

impl Allocator {
    /// An allocator in which nothing is used.
    pub(crate) fn new(geometry: &PoolGeometry) -> Allocator {
        let total = geometry.cluster_count;
        let capacity = geometry.table_pages * TABLE_ENTRIES_PER_PAGE as u32;
        Allocator {
            first: geometry.first_cluster(),
            used: Bitmap::new(total),
            published: Bitmap::new(total),
            total,
            free: total,
            reserved: 0,
            unpublished: 0,
            cursor: 0,
            epochs: ReadEpochs::default(),
            map_blocks: MapBlocks::new(capacity),
        }
    }

    /// Takes over the bits of one published bitmap page; false when it says the impossible.
    pub(crate) fn load_bitmap_page(&mut self, page: u32, bytes: &[u8]) -> bool {
        self.published.load_page(page, bytes)
    }

    /// Takes over one published map cluster; false when it says the impossible.
    pub(crate) fn load_table_entry(&mut self, slot: u32, entry: TableEntry) -> bool {
        if entry.cluster.0 == 0 {
            return entry.mask == 0 && self.map_blocks.load(slot, entry);
        }
        let used = self
            .index(entry.cluster)
            .is_some_and(|index| self.published.test(index));
        used && entry.mask != 0 && self.map_blocks.load(slot, entry)
    }

    /// All pages are loaded: what is published is in use.
    pub(crate) fn loaded(&mut self) {
        self.used = self.published.clone();
        self.free = self.total - self.used.count_ones();
    }

    fn index(&self, cluster: Cluster) -> Option<u32> {
        cluster
            .0
            .checked_sub(self.first)
            .filter(|&index| index < self.total)
    }

    fn index_of(&self, cluster: Cluster) -> u32 {
        self.index(cluster)
            .unwrap_or_else(|| panic!("{cluster} is outside of the pool"))
    }

    fn cluster(&self, index: u32) -> Cluster {
        Cluster(self.first + index)
    }

    pub(crate) fn space(&self) -> Space {
        let pending = self.reserved + self.unpublished;
        let base = (self.total / 64).clamp(METADATA_RESERVE_MIN, METADATA_RESERVE_MAX);
        Space {
            clusters_total: self.total,
            free: self.free,
            reserved: self.reserved,
            metadata_reserve: base + pending.div_ceil(CLUSTERS_PER_MAP_CLUSTER),
        }
    }

    pub(crate) fn publish_budget_leaves(&self) -> u64 {
        let base = (self.total / 64).clamp(METADATA_RESERVE_MIN, METADATA_RESERVE_MAX);
        u64::from(base) * CLUSTER_BLOCKS as u64 / NODES_PER_LEAF_MAX
    }

    pub(crate) fn is_published(&self, cluster: Cluster) -> bool {
        self.index(cluster)
            .is_some_and(|index| self.published.test(index))
    }

    fn reserve(&mut self, count: u32) -> Result<(), StoreError> {
        if count > self.total {
            return Err(StoreError::PoolFull {
                wanted: count,
                available: self.space().available(),
            });
        }
        // What is promised may need map nodes of its own: ask with the promise made.
        self.reserved += count;
        let space = self.space();
        if space.free >= space.reserved.saturating_add(space.metadata_reserve) {
            return Ok(());
        }
        self.reserved -= count;
        Err(StoreError::PoolFull {
            wanted: count,
            available: self.space().available(),
        })
    }

    /// As `reserve`, for what was promised before a restart: map nodes may have taken of their
    /// reserve since, which must not take the promise back.
    fn reserve_again(&mut self, count: u32) -> Result<(), StoreError> {
        if self.free.saturating_sub(self.reserved) < count {
            let available = self.space().available();
            return Err(StoreError::PoolFull {
                wanted: count,
                available,
            });
        }
        self.reserved += count;
        Ok(())
    }

    fn unreserve(&mut self, count: u32) {
        assert!(self.reserved >= count);
        self.reserved -= count;
    }

    pub(crate) fn allocate(
        &mut self,
        from: Option<&mut Reservation>,
    ) -> Result<Cluster, StoreError> {
        match from {
            Some(reservation) => reservation.use_one(),
            None => self.reserve(1)?,
        }
        self.unreserve(1);
        let cluster = self.take_next().expect("promised clusters are free");
        self.unpublished += 1;
        Ok(cluster)
    }

    fn take_next(&mut self) -> Option<Cluster> {
        let index = self
            .used
            .next_clear(self.cursor)
            .or_else(|| self.used.next_clear(0))?;
        self.take(index);
        self.cursor = if index + 1 == self.total {
            0
        } else {
            index + 1
        };
        Some(self.cluster(index))
    }

    fn take(&mut self, index: u32) {
        assert!(self.used.set(index), "cluster is taken twice");
        self.free -= 1;
    }

    fn give_back(used: &mut Bitmap, free: &mut u32, index: u32) {
        assert!(used.clear(index), "cluster is freed twice");
        *free += 1;
    }

    pub(crate) fn claim(&mut self, cluster: Cluster) -> Result<(), StoreError> {
        let index = self
            .index(cluster)
            .ok_or(StoreError::ClusterOutOfRange { cluster })?;
        if self.used.test(index) {
            return Err(StoreError::ClusterInUse { cluster });
        }
        self.take(index);
        self.unpublished += 1;
        Ok(())
    }

    pub(crate) fn discard_unpublished(&mut self, cluster: Cluster) {
        let index = self.index_of(cluster);
        let fresh = self.used.test(index) && !self.published.test(index);
        assert!(
            fresh && self.unpublished > 0,
            "{cluster} is not an unpublished one"
        );
        self.unpublished -= 1;
        self.retire([cluster]);
    }

    /// Nothing refers to these any more: free when the reads of now are over.
    fn retire(&mut self, clusters: impl IntoIterator<Item = Cluster>) {
        let (used, free, first) = (&mut self.used, &mut self.free, self.first);
        self.epochs.retire(clusters, |cluster| {
            Self::give_back(used, free, cluster.0 - first)
        });
    }

    fn end_read(&mut self, parity: usize) {
        let (used, free, first) = (&mut self.used, &mut self.free, self.first);
        self.epochs.end(parity, |cluster| {
            Self::give_back(used, free, cluster.0 - first)
        });
    }

    /// Finds a place for a journal: one run if possible, else at most eight large ones.
    ///
    /// The clusters are in use afterwards, unpublished. Errors: `PoolFull`, `Fragmented`.
    pub(crate) fn allocate_runs(&mut self, wanted: u32) -> Result<Vec<ClusterRun>, StoreError> {
        self.reserve(wanted)?;
        self.unreserve(wanted);
        let runs = choose_runs(self.used.clear_runs(), wanted).ok_or(StoreError::Fragmented {
            wanted,
            runs: JOURNAL_RUNS_MAX as u32,
        })?;
        for &(first, count) in &runs {
            (first..first + count).for_each(|index| self.take(index));
        }
        self.unpublished += wanted;
        let run = |(first, count)| ClusterRun {
            first: self.cluster(first),
            count,
        };
        Ok(runs.into_iter().map(run).collect())
    }

    /// Blocks for `count` map nodes, all or none. They may come out of the metadata reserve but
    /// never out of what is promised. Errors: `MetadataFull`.
    pub(crate) fn allocate_blocks(&mut self, count: u64) -> Result<Vec<u64>, StoreError> {
        let missing = count
            .saturating_sub(self.map_blocks.spare())
            .div_ceil(CLUSTER_BLOCKS as u64);
        let room = u64::from(self.free - self.reserved.min(self.free));
        if missing > room.min(u64::from(self.map_blocks.spare_slots())) {
            return Err(StoreError::MetadataFull { wanted: count });
        }
        for _ in 0..missing {
            let cluster = self.take_next().expect("counted as free");
            self.map_blocks.add_cluster(cluster);
        }
        let block = |_| self.map_blocks.allocate().expect("counted as spare");
        Ok((0..count).map(block).collect())
    }

    /// Published map clusters with the mask of their used blocks.
    pub(crate) fn map_clusters(&self) -> impl Iterator<Item = TableEntry> {
        self.map_blocks.entries()
    }

    /// Pages of the bitmap; pages of the map cluster table are numbered behind them.
    pub(crate) fn bitmap_pages(&self) -> u32 {
        self.total.div_ceil(BITS_PER_PAGE as u32)
    }
}

/// The smallest run that holds all, or the largest ones until it is enough. Runs come out in
/// ascending order, none shorter than `JOURNAL_RUN_CLUSTERS_MIN`.
fn choose_runs(free: impl Iterator<Item = (u32, u32)>, wanted: u32) -> Option<Vec<(u32, u32)>> {
    assert!(wanted >= JOURNAL_RUN_CLUSTERS_MIN);
    let mut best: Option<(u32, u32)> = None;
    let mut largest: Vec<(u32, u32)> = Vec::with_capacity(JOURNAL_RUNS_MAX + 1);
    for (first, count) in free.filter(|&(_, count)| count >= JOURNAL_RUN_CLUSTERS_MIN) {
        if count >= wanted && best.is_none_or(|(_, smallest)| count < smallest) {
            best = Some((first, count));
        }
        largest.push((first, count));
        largest.sort_by_key(|&(first, count)| (std::cmp::Reverse(count), first));
        largest.truncate(JOURNAL_RUNS_MAX);
    }
    if let Some((first, _)) = best {
        return Some(vec![(first, wanted)]);
    }
    let mut missing = wanted;
    let mut chosen: Vec<(u32, u32)> = Vec::new();
    for (first, count) in largest {
        let take = count.min(missing);
        chosen.push((first, take));
        missing -= take;
        if missing == 0 {
            break;
        }
    }
    if missing > 0 {
        return None;
    }
    lengthen_last(&mut chosen)?;
    chosen.sort_unstable();
    Some(chosen)
}

/// The last run took only what was missing: make it long enough at the cost of a longer one.
fn lengthen_last(chosen: &mut [(u32, u32)]) -> Option<()> {
    let (last, before) = chosen.split_last_mut()?;
    let short = JOURNAL_RUN_CLUSTERS_MIN.saturating_sub(last.1);
    if short == 0 {
        return Some(());
    }
    let donor = before
        .iter_mut()
        .find(|run| run.1 >= JOURNAL_RUN_CLUSTERS_MIN + short)?;
    donor.1 -= short;
    last.1 += short;
    Some(())
}

#[cfg(test)]
mod tests;
