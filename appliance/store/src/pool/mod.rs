//! The pool: what is open, and what engines may ask of it.

mod create;
mod delete;
mod geometry;
mod open;
mod publish;
mod records;
mod reservations;
mod sniff;
mod superblocks;
mod volumes;
mod writer;

pub use create::CreateOptions;
pub use open::OpenOptions;
pub use publish::{Changes, JournalMark};
pub use records::VolumeRecord;
pub use volumes::NewVolume;

pub(crate) use geometry::PoolGeometry;
pub(crate) use open::{load_allocator, load_root};
pub(crate) use records::MAP_LAYER;
pub(crate) use reservations::read as read_reservations;
pub(crate) use superblocks::{SlotFact, Superblocks, decide, read_superblocks};
pub(crate) use writer::BlockWriter;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use block::{BlockError, Device};
use reactor::sync::Mutex;

use crate::alloc::{Allocator, ReadGuard, Reservation};
use crate::error::StoreError;
use crate::format::root::PagePointer;
use crate::map::{LeafBudget, Map};
use crate::types::{Cluster, VolumeId, VolumeState};

/// Identity of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    pub(crate) uuid: [u8; 16],
    pub(crate) created_ms: u64,
}

/// What the last publish left, as it is on disk.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) generation: u64,
    pub(crate) root_slot: u32,
    pub(crate) next_volume_id: u64,
    pub(crate) records: Vec<Rc<VolumeRecord>>,
    pub(crate) pages: Vec<Option<PagePointer>>,
    pub(crate) clean: bool,
}

pub(crate) struct PoolInner {
    pub(crate) device: Device,
    pub(crate) identity: Identity,
    pub(crate) geometry: PoolGeometry,
    pub(crate) alloc: Rc<RefCell<Allocator>>,
    pub(crate) published: RefCell<Published>,
    /// Where the current superblock is known to be; held by the one publish that runs.
    pub(crate) publishing: Mutex<Superblocks>,
    pub(crate) failed: RefCell<Option<Arc<StoreError>>>,
    pub(crate) closed: Cell<bool>,
    pub(crate) opened_clean: bool,
    pub(crate) read_only: bool,
    pub(crate) leaf_budget: Rc<LeafBudget>,
}

/// An open pool. Cheap to clone; lives on the core that opened it.
#[derive(Clone)]
pub struct Pool(pub(crate) Rc<PoolInner>);

/// The clusters of a pool, by what they are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All clusters that can hold data, journals or map nodes.
    pub clusters_total: u32,
    /// Clusters nobody uses. Clusters freed by a publish that is not through, or whose readers
    /// are not done, are not free yet.
    pub free: u32,
    /// Clusters promised by reservations and not taken yet; part of `free`.
    pub reserved: u32,
    /// Clusters of `free` that are kept for map nodes, so that a full pool can still flush and
    /// trim.
    pub metadata_reserve: u32,
}

impl Space {
    /// Clusters that can still be promised.
    pub fn available(&self) -> u32 {
        self.free
            .saturating_sub(self.reserved)
            .saturating_sub(self.metadata_reserve)
    }
}

impl Pool {
    /// The device below.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The name it was created with.
    pub fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// Its UUID, in the byte order of RFC 9562.
    pub fn uuid(&self) -> [u8; 16] {
        self.0.identity.uuid
    }

    /// Milliseconds since 1970 at creation.
    pub fn created_ms(&self) -> u64 {
        self.0.identity.created_ms
    }

    /// Number of publishes since creation.
    pub fn generation(&self) -> u64 {
        self.0.published.borrow().generation
    }

    /// Whether the pool had been closed cleanly when it was opened.
    pub fn opened_clean(&self) -> bool {
        self.0.opened_clean
    }

    /// The volumes as published, in the order of their ids. Cost: one `Rc` each.
    pub fn records(&self) -> Vec<Rc<VolumeRecord>> {
        self.0.published.borrow().records.clone()
    }

    /// One volume as published.
    pub fn record(&self, id: VolumeId) -> Result<Rc<VolumeRecord>, StoreError> {
        let published = self.0.published.borrow();
        let found = published.records.iter().find(|record| record.id == id);
        found
            .cloned()
            .ok_or(StoreError::NoSuchVolume { volume: id })
    }

    /// How full it is. Cost: no I/O.
    pub fn space(&self) -> Space {
        self.0.alloc.borrow().space()
    }

    /// Why the pool stopped writing, if it did: a publish failed, or the device is failed because
    /// of a flush, whoever asked for that.
    pub fn failure(&self) -> Option<StoreError> {
        if let Some(why) = &*self.0.failed.borrow() {
            return Some(StoreError::clone(why));
        }
        let device = &self.0.device;
        device.is_failed().then(|| {
            let path = device.path().to_owned();
            BlockError::Failed { path }.into()
        })
    }

    /// Promises `count` clusters. Dropping the reservation gives back what is left of it.
    ///
    /// Errors: `PoolFull`; clusters become available when frees are published and when other
    /// reservations end. Cost: no I/O, no allocation.
    pub fn reserve(&self, count: u32) -> Result<Reservation, StoreError> {
        Reservation::new(&self.0.alloc, count)
    }

    /// As `reserve`, for recovery: renews the promise behind an acknowledged write, also where
    /// only the reserve for map nodes is left. Errors: `PoolFull` when nothing is free.
    pub fn reserve_again(&self, count: u32) -> Result<Reservation, StoreError> {
        Reservation::again(&self.0.alloc, count)
    }

    /// Takes a free cluster, out of a promise or from what is available.
    ///
    /// The cluster is in use in memory only: after a crash it is free again unless a publish
    /// listed it in [`Changes::allocated`]. Give it back with `discard_unpublished`.
    /// Errors: `PoolFull`, only without a reservation. Panics when the reservation is used up.
    pub fn allocate(&self, from: Option<&mut Reservation>) -> Result<Cluster, StoreError> {
        self.0.alloc.borrow_mut().allocate(from)
    }

    /// Marks a cluster as used that recovery found in a journal, before anything is allocated.
    ///
    /// Errors: `ClusterOutOfRange`, `ClusterInUse` (by the published state, or claimed already).
    pub fn claim(&self, cluster: Cluster) -> Result<(), StoreError> {
        self.0.alloc.borrow_mut().claim(cluster)
    }

    /// Gives back a cluster that was allocated or claimed and never published. It is reusable
    /// when every read that began before has ended.
    pub fn discard_unpublished(&self, cluster: Cluster) {
        self.0.alloc.borrow_mut().discard_unpublished(cluster);
    }

    /// Whether the published state uses this cluster. False for one that is out of range.
    pub fn is_published(&self, cluster: Cluster) -> bool {
        self.0.alloc.borrow().is_published(cluster)
    }

    /// Keeps every cluster that is in use now from being reused until the guard is dropped.
    ///
    /// Take it before the lookup that names a cluster, drop it when the read is done; hold it no
    /// longer than one request takes. Cost: one counter.
    pub fn read_guard(&self) -> ReadGuard {
        ReadGuard::new(&self.0.alloc)
    }

    /// Opens the map of a volume: reads its inner nodes.
    ///
    /// A volume has one map at a time; clone it. Errors: `MapDamaged` (this volume cannot be
    /// served, others can), `Device`. Cost: one read per 252 leaves that exist.
    pub async fn open_map(&self, record: &VolumeRecord) -> Result<Map, StoreError> {
        Map::open(self, record).await
    }

    /// Most map leaves that one publish is sure to have room for, however full the pool is. An
    /// engine with more dirty leaves (`Map::dirty_leaves`) publishes in several steps.
    pub fn publish_budget_leaves(&self) -> u64 {
        self.0.alloc.borrow().publish_budget_leaves()
    }

    /// Writes the state `clean` and ends the use of this pool; every later change fails with
    /// `Closed`.
    ///
    /// `clean` must be true only if every volume's journal is empty (tail at its end). A pool that
    /// failed or is read-only is closed without writing. Errors: as `publish`.
    pub async fn close(&self, clean: bool) -> Result<(), StoreError> {
        let writable = self.0.check_writable().is_ok();
        if clean && writable {
            self.publish_clean().await?;
        }
        self.0.closed.set(true);
        Ok(())
    }
}

impl PoolInner {
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        if let Some(why) = &*self.failed.borrow() {
            return Err(StoreError::Failed { why: why.clone() });
        }
        if self.read_only {
            return Err(StoreError::ReadOnly);
        }
        if self.closed.get() {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// Stops all writing: what is on the device is not what memory says.
    pub(crate) fn fail(&self, why: StoreError) -> StoreError {
        let mut failed = self.failed.borrow_mut();
        if failed.is_none() {
            tracing::error!(pool = %self.identity.name, error = %why, "pool stops writing");
            *failed = Some(Arc::new(why.clone()));
        }
        why
    }

    pub(crate) fn live_record(&self, id: VolumeId) -> Result<Rc<VolumeRecord>, StoreError> {
        let published = self.published.borrow();
        let record = published.records.iter().find(|record| record.id == id);
        let record = record.ok_or(StoreError::NoSuchVolume { volume: id })?;
        match record.state {
            VolumeState::Live => Ok(record.clone()),
            VolumeState::Deleting => Err(StoreError::VolumeDeleting { volume: id }),
        }
    }
}
