//! The map of a volume: where each of its clusters is.
//!
//! Inner nodes are all in memory (16 bytes for 3.75 MiB of mapped volume); leaves come and go.
//! Changes are made in memory and reach the disk with [`crate::Pool::publish`], which writes
//! changed nodes to fresh blocks. Between two publishes the leaves that changed stay in memory.

mod cache;
mod node_io;
mod shape;
mod tree;
mod write;

pub(crate) use cache::LeafBudget;
pub(crate) use node_io::NodeReader;
pub(crate) use shape::{Shape, depth_of};
pub(crate) use write::Plan;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::sync::Notify;
use rustc_hash::FxHashSet;

use crate::alloc::Allocator;
use crate::error::StoreError;
use crate::format::node::{LEAF_ENTRIES, LeafEntries};
use crate::pool::{Pool, VolumeRecord};
use crate::types::{CLUSTER_BLOCKS, Cluster, Entry, VolumeId};

use cache::LeafCache;
use tree::Tree;

/// Write path 8/9 ends here: [`Map::update`]. The map of one volume; cheap to clone, all clones
/// are the same map.
#[derive(Clone)]
pub struct Map(Rc<MapInner>);

struct MapInner {
    reader: NodeReader,
    shape: Shape,
    alloc: Rc<RefCell<Allocator>>,
    tree: RefCell<Tree>,
    cache: RefCell<LeafCache>,
    mapped_clusters: Cell<u64>,
    /// Leaves that somebody is reading from the device.
    loading: RefCell<FxHashSet<u64>>,
    loaded: Notify,
    /// A publish has taken stock of the dirty leaves: they must not change until it is through.
    publishing: Cell<bool>,
    published: Notify,
}

/// What a map holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapStats {
    /// Leaves in memory, 4 KiB each.
    pub cached_leaves: u64,
    /// Those of them with changes.
    pub dirty_leaves: u64,
    /// Clusters of the volume that hold data.
    pub mapped_clusters: u64,
}

impl Map {
    pub(crate) async fn open(pool: &Pool, record: &VolumeRecord) -> Result<Map, StoreError> {
        let inner = &pool.0;
        let reader = NodeReader::new(&inner.device, inner.geometry, record);
        let shape = Shape::of(record.size_bytes);
        let tree = Tree::load(&reader, &shape, record.map_root).await?;
        Ok(Map(Rc::new(MapInner {
            reader,
            shape,
            alloc: inner.alloc.clone(),
            tree: RefCell::new(tree),
            cache: RefCell::new(LeafCache::new(&inner.leaf_budget)),
            mapped_clusters: Cell::new(record.mapped_clusters),
            loading: RefCell::default(),
            loaded: Notify::default(),
            publishing: Cell::new(false),
            published: Notify::default(),
        })))
    }

    /// The volume it belongs to.
    pub fn volume(&self) -> VolumeId {
        self.0.reader.volume
    }

    /// Clusters of the volume (the last one may be partial): what `cluster_index` counts.
    pub fn cluster_count(&self) -> u64 {
        self.0.shape.clusters
    }

    /// What it holds in memory, and what it maps.
    pub fn stats(&self) -> MapStats {
        let cache = self.0.cache.borrow();
        MapStats {
            cached_leaves: cache.len() as u64,
            dirty_leaves: cache.dirty().len() as u64,
            mapped_clusters: self.0.mapped_clusters.get(),
        }
    }

    /// Leaves with changes that are not published: what the next publish writes.
    pub fn dirty_leaves(&self) -> u64 {
        self.0.cache.borrow().dirty().len() as u64
    }

    /// Shows `look` what the map knows of a cluster, or None when that is not in memory: then ask
    /// `bring_in`. `look` must not use the map.
    ///
    /// Panics when the index is not below `cluster_count`. Cost: no I/O, no allocation, no copy
    /// of the entry's 272 bytes.
    pub fn with_cached<R>(&self, cluster_index: u64, look: impl FnOnce(Option<&Entry>) -> R) -> R {
        let (leaf, slot) = self.place(cluster_index);
        if let Some(entries) = self.0.cache.borrow_mut().get(leaf) {
            return look(Some(&entries[slot]));
        }
        let nothing = self.0.tree.borrow().pointer(0, leaf).is_none();
        look(nothing.then_some(&Entry::EMPTY))
    }

    /// What the map knows of a cluster, if it is in memory. Panics, cost: as `with_cached`.
    pub fn lookup_cached(&self, cluster_index: u64) -> Option<Entry> {
        self.with_cached(cluster_index, |entry| entry.copied())
    }

    /// Brings what the map knows of a cluster to memory, where it stays at least until the caller
    /// waits for something. Errors, panics, cancel, cost: as `lookup`.
    pub async fn bring_in(&self, cluster_index: u64) -> Result<(), StoreError> {
        while !self.with_cached(cluster_index, |entry| entry.is_some()) {
            self.load(self.place(cluster_index).0).await?;
        }
        Ok(())
    }

    /// What the map knows of a cluster.
    ///
    /// Errors: `MapDamaged` (only the 3.75 MiB of this leaf are affected), `Device`. Panics when
    /// the index is not below `cluster_count`. Cancel: safe; others who wait for the same leaf
    /// read it themselves. Cost: at most one read of 4 KiB (two when the first was not right).
    pub async fn lookup(&self, cluster_index: u64) -> Result<Entry, StoreError> {
        self.bring_in(cluster_index).await?;
        let entry = self.lookup_cached(cluster_index);
        Ok(entry.expect("brought in without a wait since"))
    }

    /// Says where a cluster is from now on, in memory. The next publish of this map writes it.
    ///
    /// The caller lists the clusters it allocated and freed in that publish. While a publish of
    /// this map runs, this waits. Errors, panics, cost: as `lookup`. Panics too when the entry
    /// has valid pages without a location, a location without valid pages, or checksums for pages
    /// that are not valid.
    pub async fn update(&self, cluster_index: u64, entry: Entry) -> Result<(), StoreError> {
        assert_eq!(entry.location.is_none(), entry.valid == 0, "{entry:?}");
        let stray = |page: usize| entry.valid & (1 << page) == 0 && entry.crc[page] != 0;
        assert!(
            !(0..CLUSTER_BLOCKS).any(stray),
            "checksums of pages that are not valid"
        );
        let (leaf, slot) = self.place(cluster_index);
        self.load_for_update(leaf).await?;
        let mut cache = self.0.cache.borrow_mut();
        let entries = cache.get_dirty(leaf).expect("loaded above");
        let before = std::mem::replace(&mut entries[slot], entry);
        let mapped = self.0.mapped_clusters.get();
        let gained = u64::from(entry.location.is_some());
        let lost = u64::from(before.location.is_some());
        self.0.mapped_clusters.set(mapped + gained - lost);
        Ok(())
    }

    /// The first leaf at or after `from` that exists on disk.
    pub(crate) fn next_leaf(&self, from: u64) -> Option<u64> {
        self.0.tree.borrow().next_leaf(from)
    }

    /// Empties a leaf in memory and gives the clusters it held.
    pub(crate) async fn clear_leaf(&self, leaf: u64) -> Result<Vec<Cluster>, StoreError> {
        self.load_for_update(leaf).await?;
        let mut cache = self.0.cache.borrow_mut();
        let entries = cache.get_dirty(leaf).expect("loaded above");
        let held: Vec<Cluster> = entries.iter().filter_map(|entry| entry.location).collect();
        entries.fill(Entry::EMPTY);
        let mapped = self.0.mapped_clusters.get();
        self.0.mapped_clusters.set(mapped - held.len() as u64);
        Ok(held)
    }

    fn place(&self, cluster_index: u64) -> (u64, usize) {
        let count = self.0.shape.clusters;
        assert!(
            cluster_index < count,
            "cluster {cluster_index} of a volume of {count}"
        );
        let entries = LEAF_ENTRIES as u64;
        (cluster_index / entries, (cluster_index % entries) as usize)
    }

    async fn load_for_update(&self, leaf: u64) -> Result<(), StoreError> {
        loop {
            if self.0.publishing.get() {
                self.0.published.notified().await;
            } else if self.0.cache.borrow().contains(leaf) {
                return Ok(());
            } else {
                self.load(leaf).await?;
            }
        }
    }

    /// Brings a leaf into memory, or waits for somebody else who does; look again afterwards.
    async fn load(&self, leaf: u64) -> Result<(), StoreError> {
        if !self.0.loading.borrow_mut().insert(leaf) {
            self.0.loaded.notified().await;
            return Ok(());
        }
        let _loading = Loading { map: &self.0, leaf };
        let pointer = self.0.tree.borrow().pointer(0, leaf);
        let entries: Box<LeafEntries> = if pointer.is_none() {
            Box::new([Entry::EMPTY; LEAF_ENTRIES])
        } else {
            self.0.reader.read_leaf(leaf, pointer).await?
        };
        // A leaf cannot have changed meanwhile: changing it needs it in memory.
        self.0.cache.borrow_mut().insert(leaf, entries);
        Ok(())
    }
}

/// One task's read of a leaf; ends also when the task is cancelled.
struct Loading<'a> {
    map: &'a MapInner,
    leaf: u64,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.map.loading.borrow_mut().remove(&self.leaf);
        self.map.loaded.notify_all();
    }
}
