//! Blocks for map nodes: 32 in a map cluster, each used by at most one node.
//!
//! Which blocks are used must be known when a pool is opened, without reading the maps. So the
//! pool keeps a table of its map clusters with a mask each; pages of the table are stored
//! beside the allocator's bitmap and in the same way (docs/format.md, "Map cluster table").

use std::collections::{BTreeMap, BTreeSet};

use crate::format::alloc_page::{TABLE_ENTRIES_PER_PAGE, TableEntry};
use crate::types::{ALL_BLOCKS, CLUSTER_BLOCKS, Cluster};

/// One map cluster.
#[derive(Clone, Copy, Debug)]
struct MapCluster {
    /// Its entry in the table.
    slot: u32,
    /// Blocks in use: by the published state, by a publish that is not through, or both.
    used: u64,
    /// Blocks that the published state uses.
    published: u64,
}

/// The map clusters of a pool.
#[derive(Debug)]
pub(crate) struct MapBlocks {
    clusters: BTreeMap<u32, MapCluster>,
    /// Clusters with a block that is not in use.
    partial: BTreeSet<u32>,
    /// As published, up to the highest entry ever used.
    table: Vec<TableEntry>,
    free_slots: BTreeSet<u32>,
    capacity: u32,
}

/// Splits a block number into its cluster and its place in it.
fn split(block: u64) -> (Cluster, u32) {
    let cluster = u32::try_from(block / CLUSTER_BLOCKS as u64).expect("a block of the pool");
    (Cluster(cluster), (block % CLUSTER_BLOCKS as u64) as u32)
}

impl MapBlocks {
    /// No map clusters yet, and room for `capacity` of them.
    pub(crate) fn new(capacity: u32) -> MapBlocks {
        MapBlocks {
            clusters: BTreeMap::new(),
            partial: BTreeSet::new(),
            table: Vec::new(),
            free_slots: BTreeSet::new(),
            capacity,
        }
    }

    /// Takes over one published entry; false when its cluster is there already.
    pub(crate) fn load(&mut self, slot: u32, entry: TableEntry) -> bool {
        assert!(slot < self.capacity);
        self.grow_table(slot);
        if entry.cluster.0 == 0 {
            return true;
        }
        self.free_slots.remove(&slot);
        self.table[slot as usize] = entry;
        let cluster = MapCluster {
            slot,
            used: entry.mask,
            published: entry.mask,
        };
        if cluster.used != ALL_BLOCKS {
            self.partial.insert(entry.cluster.0);
        }
        self.clusters.insert(entry.cluster.0, cluster).is_none()
    }

    fn grow_table(&mut self, slot: u32) {
        while self.table.len() as u32 <= slot {
            self.free_slots.insert(self.table.len() as u32);
            self.table.push(TableEntry::EMPTY);
        }
    }

    /// Takes a block out of a cluster that is there; none when all are full.
    pub(crate) fn allocate(&mut self) -> Option<u64> {
        let number = *self.partial.first()?;
        let cluster = self
            .clusters
            .get_mut(&number)
            .expect("partial clusters exist");
        let bit = (!cluster.used).trailing_zeros();
        cluster.used |= 1 << bit;
        if cluster.used == ALL_BLOCKS {
            self.partial.remove(&number);
        }
        Some(Cluster(number).first_block() + u64::from(bit))
    }

    /// Blocks that can be taken without another cluster.
    pub(crate) fn spare(&self) -> u64 {
        let spare = |number| u64::from((!self.clusters[number].used & ALL_BLOCKS).count_ones());
        self.partial.iter().map(spare).sum()
    }

    /// Map clusters the table still has room for.
    pub(crate) fn spare_slots(&self) -> u32 {
        self.capacity - self.clusters.len() as u32
    }

    /// Makes a cluster a map cluster. Panics when the table is full.
    pub(crate) fn add_cluster(&mut self, cluster: Cluster) {
        assert!(self.spare_slots() > 0, "map cluster table is full");
        if self.free_slots.is_empty() {
            self.grow_table(self.table.len() as u32);
        }
        let slot = self.free_slots.pop_first().expect("just grown");
        let fresh = MapCluster {
            slot,
            used: 0,
            published: 0,
        };
        assert!(
            self.clusters.insert(cluster.0, fresh).is_none(),
            "{cluster} is one already"
        );
        self.partial.insert(cluster.0);
    }

    fn remove(&mut self, cluster: Cluster) {
        let state = self.clusters.remove(&cluster.0).expect("a map cluster");
        self.partial.remove(&cluster.0);
        self.free_slots.insert(state.slot);
    }

    /// Clears the in-use bit of a block.
    fn release(&mut self, block: u64) {
        let (cluster, bit) = split(block);
        let state = self
            .clusters
            .get_mut(&cluster.0)
            .expect("block of a map cluster");
        assert!(state.used & (1 << bit) != 0, "block {block} is not in use");
        state.used &= !(1 << bit);
        self.partial.insert(cluster.0);
    }

    /// Moves the published masks to what the next publish says. Returns the table pages that
    /// changed, the clusters that became map clusters and those that hold no node any more (they
    /// are no map clusters from here on; their blocks need no `finish`).
    pub(crate) fn stage(&mut self, allocated: &[u64], freed: &[u64]) -> StagedBlocks {
        let mut staged = StagedBlocks::default();
        let mut touched = BTreeSet::new();
        for &block in allocated {
            let (cluster, bit) = split(block);
            let state = self
                .clusters
                .get_mut(&cluster.0)
                .expect("block of a map cluster");
            assert!(
                state.used & !state.published & (1 << bit) != 0,
                "block {block} not fresh"
            );
            if self.table[state.slot as usize].cluster.0 == 0 && touched.insert(cluster.0) {
                staged.added.push(cluster);
            }
            state.published |= 1 << bit;
            touched.insert(cluster.0);
        }
        for &block in freed {
            let (cluster, bit) = split(block);
            let state = self
                .clusters
                .get_mut(&cluster.0)
                .expect("block of a map cluster");
            assert!(
                state.published & (1 << bit) != 0,
                "block {block} is not published"
            );
            state.published &= !(1 << bit);
            touched.insert(cluster.0);
        }
        for number in touched {
            self.stage_cluster(Cluster(number), &mut staged);
        }
        let gone = |block: &&u64| !staged.emptied.contains(&split(**block).0);
        staged.freed = freed.iter().filter(gone).copied().collect();
        staged
    }

    fn stage_cluster(&mut self, cluster: Cluster, staged: &mut StagedBlocks) {
        let state = self.clusters[&cluster.0];
        let entry = &mut self.table[state.slot as usize];
        *entry = TableEntry {
            cluster,
            mask: state.published,
        };
        if state.published == 0 {
            *entry = TableEntry::EMPTY;
            staged.emptied.insert(cluster);
            self.remove(cluster);
        }
        staged
            .dirty_pages
            .insert(state.slot / TABLE_ENTRIES_PER_PAGE as u32);
    }

    /// The publish is through: the blocks it freed can be used.
    pub(crate) fn finish(&mut self, freed: &[u64]) {
        freed.iter().for_each(|&block| self.release(block));
    }

    /// The entries of one page of the table, as published next.
    pub(crate) fn table_page(&self, page: u32) -> &[TableEntry] {
        let first = page as usize * TABLE_ENTRIES_PER_PAGE;
        let end = (first + TABLE_ENTRIES_PER_PAGE).min(self.table.len());
        self.table.get(first..end).unwrap_or(&[])
    }

    /// The published entries that are in use.
    pub(crate) fn entries(&self) -> impl Iterator<Item = TableEntry> {
        self.table
            .iter()
            .copied()
            .filter(|entry| entry.cluster.0 != 0)
    }
}

/// What one publish changes among the map clusters.
#[derive(Debug, Default)]
pub(crate) struct StagedBlocks {
    pub(crate) dirty_pages: BTreeSet<u32>,
    pub(crate) added: Vec<Cluster>,
    pub(crate) emptied: BTreeSet<Cluster>,
    pub(crate) freed: Vec<u64>,
}
