//! One volume's engine state, shared by its requests, its flusher and the pool's engine.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use block::{BlockError, Device};
use reactor::JoinHandle;
use reactor::sync::{Credits, Gate};
use store::journal::{Identity, Ring};
use store::{Cluster, Map, Pool, StoreError};

use crate::admission::Admission;
use crate::commit::Journal;
use crate::error::VolumeError;
use crate::flush::Flusher;
use crate::index::{Backing, Index, PayloadBudget};
use crate::locks::LockTable;
use crate::metrics::{Gauges, Metrics};
use crate::pages::{PageRange, mask_in};
use crate::read::PlanPool;
use crate::request::{BlockStatus, Command, Completion, Request, VolumeInfo, VolumeState};

/// Cycles after which everything is room again that writes had replaced: one puts the cluster into
/// the map, one finds that its older place is not used any more, and one moves the tail over the
/// records that name it.
const PROMISE_CYCLES: u32 = 3;
/// Cycles that bring a quiet volume up to date.
const DRAIN_CYCLES: u32 = 3;

/// Bounds of one volume, computed when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most pages in the index.
    pub pages: usize,
    /// The most clusters in the index.
    pub clusters: usize,
    /// Journal fill, in percent, that starts a flush cycle.
    pub flush_percent: u64,
}

/// An open volume. Lives in an `Rc` on the pool's home core.
pub(crate) struct Core {
    info: VolumeInfo,
    pub pool: Pool,
    pub device: Device,
    pub map: Map,
    pub ring: Ring,
    pub identity: Identity,
    pub limits: Limits,
    pub index: RefCell<Index>,
    pub locks: Rc<LockTable>,
    pub journal: Journal,
    pub admission: Admission,
    pub flusher: Flusher,
    pub metrics: Metrics,
    pub read_plans: PlanPool,
    /// Bounds the engine memory that requests use, so that the flusher always finds some.
    pub scratch: Credits,
    gate: Gate,
    state: RefCell<VolumeState>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// What a core is made of.
pub(crate) struct CoreParts {
    pub info: VolumeInfo,
    pub pool: Pool,
    pub map: Map,
    pub ring: Ring,
    pub identity: Identity,
    pub limits: Limits,
    pub index: Index,
    pub journal: Journal,
    pub flusher: Flusher,
}

impl Core {
    pub fn new(parts: CoreParts) -> Rc<Self> {
        let scratch = reactor::buf::engine_pool().capacity_bytes() / 8;
        Rc::new(Self {
            info: parts.info,
            device: parts.pool.device().clone(),
            pool: parts.pool,
            map: parts.map,
            ring: parts.ring,
            identity: parts.identity,
            limits: parts.limits,
            index: RefCell::new(parts.index),
            locks: Rc::new(LockTable::default()),
            journal: parts.journal,
            admission: Admission::new(),
            flusher: parts.flusher,
            metrics: Metrics::default(),
            read_plans: PlanPool::default(),
            scratch: Credits::new(scratch),
            gate: Gate::new(),
            state: RefCell::new(VolumeState::Live),
            tasks: RefCell::default(),
        })
    }

    /// Starts the volume's own tasks: group commit and flusher.
    pub fn start(self: &Rc<Self>) {
        let committer = reactor::spawn(self.clone().run_committer());
        let flusher = reactor::spawn(self.clone().run_flusher());
        self.tasks.borrow_mut().extend([committer, flusher]);
    }

    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    /// As a host may see it: a live volume of a pool that stopped has failed, too.
    pub fn state(&self) -> VolumeState {
        let own = self.state.borrow().clone();
        match (own, self.pool.failure()) {
            (VolumeState::Live, Some(error)) => VolumeState::Failed {
                why: Arc::from(error.to_string()),
            },
            (own, _) => own,
        }
    }

    pub fn gauges(&self) -> Gauges {
        let index = self.index.borrow();
        Gauges {
            journal_used_bytes: self.journal.used_bytes(),
            journal_ring_bytes: self.ring.len_bytes(),
            dirty_pages: index.page_count() as u64,
            dirty_pages_limit: self.limits.pages as u64,
            payload_bytes: index.payload_bytes() as u64,
            payloads_refused: index.payloads_refused(),
            completed_lsn: self.journal.completed_lsn(),
            durable_lsn: self.journal.durable_lsn(),
            checkpoint_lsn: self.journal.checkpoint_lsn(),
        }
    }

    /// Routes one request to the file that does it.
    pub async fn execute(self: &Rc<Self>, request: Request) -> Completion {
        let Ok(_pass) = self.gate.enter() else {
            return Err(self.closed());
        };
        match request.command {
            Command::Read { lba, block_count } => self.read(lba, block_count, request.fua).await,
            Command::Write { lba, data } => self.write(lba, data, request.fua).await,
            Command::WriteAtomic { lba, data } => self.write_atomic(lba, data, request.fua).await,
            Command::Flush => self.flush_device().await.map(|()| None),
            Command::WriteZeroes {
                lba, block_count, ..
            } => self.write_zeroes(lba, block_count, request.fua).await,
            Command::Deallocate { ranges } => self.deallocate(&ranges).await,
            Command::Compare { lba, data } => self.compare(lba, data).await,
            Command::CompareAndWrite {
                lba,
                compare,
                write,
            } => {
                self.compare_and_write(lba, compare, write, request.fua)
                    .await
            }
            Command::Or { lba, data } => self.or(lba, data, request.fua).await,
            Command::Verify { lba, block_count } => self.verify(lba, block_count).await,
        }
    }

    /// As [`crate::Volume::block_status`].
    pub async fn block_status(&self, lba: u64) -> Result<BlockStatus, VolumeError> {
        let Ok(_pass) = self.gate.enter() else {
            return Err(self.closed());
        };
        self.mapped_run(lba).await
    }

    fn closed(&self) -> VolumeError {
        let deleting = *self.state.borrow() == VolumeState::Deleting;
        let why = if deleting {
            "it is being deleted"
        } else {
            "the server is stopping"
        };
        VolumeError::Closed {
            volume: self.info.name.clone(),
            why,
        }
    }

    /// Refuses new requests, as deleting or stopping, and waits for those in flight.
    pub async fn close(&self, deleting: bool) {
        if deleting {
            *self.state.borrow_mut() = VolumeState::Deleting;
        }
        self.gate.close_and_wait().await;
    }

    /// Waits until nothing is on its way to the journal, the index or the map. Requests must be
    /// closed before; those whose future was dropped may still be under way.
    pub async fn quiesce(&self) {
        self.flusher.stop();
        while !self.is_quiet() {
            reactor::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn is_quiet(&self) -> bool {
        let index = self.index.borrow();
        let entered = index.clusters().any(|(_, state)| state.in_flight > 0);
        !entered && self.journal.is_idle() && self.flusher.is_stopped()
    }

    /// Brings the map up to date, so that the journal is empty. The volume must be quiet.
    pub async fn drain(self: &Rc<Self>) -> Result<(), VolumeError> {
        // The second cycle gives back what the first one found unused.
        for _ in 0..DRAIN_CYCLES {
            self.check_writable()?;
            if !self.is_dirty() {
                break;
            }
            self.cycle().await?;
        }
        Ok(())
    }

    /// Empties the index of a quiet volume that is being deleted, and gives the clusters that only
    /// it knew.
    pub fn unpublished_clusters(&self) -> Vec<Cluster> {
        let mut clusters = self.flusher.take_abandoned();
        let old = self
            .index
            .replace(Index::new(0, (0, 0), PayloadBudget::new(0)));
        for (_, state) in old.clusters() {
            clusters.extend(state.pending.map(|pending| pending.cluster));
            clusters.extend_from_slice(&state.superseded);
        }
        clusters.retain(|cluster| !self.pool.is_published(*cluster));
        clusters
    }

    /// Ends the volume's tasks. The volume must be quiet.
    pub fn stop(&self) {
        self.tasks
            .borrow_mut()
            .drain(..)
            .for_each(JoinHandle::abort);
    }

    pub async fn load_reservations(&self) -> Result<Vec<u8>, VolumeError> {
        let loaded = self.pool.load_reservations(self.info.id).await;
        loaded.map_err(|error| self.store_error("loading reservations", error))
    }

    pub async fn store_reservations(&self, bytes: Vec<u8>) -> Result<(), VolumeError> {
        let stored = self.pool.store_reservations(self.info.id, bytes).await;
        stored.map_err(|error| match error {
            StoreError::PoolFull { .. } => VolumeError::PoolFull {
                pool: Arc::from(self.pool.name()),
            },
            error => self.store_error("storing reservations", error),
        })
    }

    /// Errors when the volume does not take writes any more.
    pub fn check_writable(&self) -> Result<(), VolumeError> {
        if let VolumeState::Failed { why } = &*self.state.borrow() {
            return Err(VolumeError::Failed {
                volume: self.info.name.clone(),
                why: why.clone(),
            });
        }
        match self.pool.failure() {
            Some(error) => {
                let why = Arc::from(error.to_string());
                Err(VolumeError::Failed {
                    volume: self.info.name.clone(),
                    why,
                })
            }
            None => Ok(()),
        }
    }

    /// Stops all writes of this volume; reads go on. The first reason is kept.
    pub fn fail(&self, error: &VolumeError) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, VolumeState::Failed { .. }) {
            return;
        }
        tracing::error!(volume = %self.info.name, %error, "volume stops accepting writes");
        *state = VolumeState::Failed {
            why: Arc::from(error.to_string()),
        };
        drop(state);
        self.flusher.kick();
        self.admission.space.notify_all();
    }

    pub fn device_error(&self, doing: &'static str, error: BlockError) -> VolumeError {
        VolumeError::Device {
            volume: self.info.name.clone(),
            doing,
            error,
        }
    }

    pub fn store_error(&self, doing: &'static str, error: StoreError) -> VolumeError {
        let (volume, error) = (self.info.name.clone(), Box::new(error));
        VolumeError::Store {
            volume,
            doing,
            error,
        }
    }

    /// Enters every cluster of `range` in the index with a place promised for each.
    ///
    /// Errors: `PoolFull`, after a flush cycle had its chance to free space; `Store` when the map
    /// cannot be read. Cancel: safe. Cost: no I/O unless the pool is short of space.
    pub async fn enter_clusters(
        self: &Rc<Self>,
        range: PageRange,
    ) -> Result<ClusterHold, VolumeError> {
        let hold = ClusterHold::new(self.clone(), range);
        for cluster in range.clusters() {
            if !self.promise_cached(cluster) {
                self.promise_slow(cluster).await?;
            }
        }
        Ok(hold)
    }

    /// Promises a place for a cluster with what is known in memory. False when the pool refuses.
    fn promise_cached(&self, cluster: u64) -> bool {
        let mut index = self.index.borrow_mut();
        let Some(state) = index.cluster_mut(cluster) else {
            return false;
        };
        if state.pending.is_some() || !matches!(state.backing, Backing::None) {
            return true;
        }
        let known = self.map.lookup_cached(cluster);
        if !state.unmapping && known.is_some_and(|entry| entry.location.is_some()) {
            state.backing = Backing::Mapped;
            return true;
        }
        match self.pool.reserve(1) {
            Ok(reservation) => state.backing = Backing::Reserved(reservation),
            Err(_) => return false,
        }
        true
    }

    /// The pool refused: finds out whether the cluster needs space at all, then lets a flush
    /// cycle turn doubtful promises into facts.
    async fn promise_slow(&self, cluster: u64) -> Result<(), VolumeError> {
        let lookup = |error| self.store_error("map lookup", error);
        self.map.lookup(cluster).await.map_err(lookup)?;
        if self.promise_cached(cluster) {
            return Ok(());
        }
        for _ in 0..PROMISE_CYCLES {
            self.flusher.full_cycle().await;
            self.check_writable()?;
            self.map.lookup(cluster).await.map_err(lookup)?;
            if self.promise_cached(cluster) {
                return Ok(());
            }
        }
        Err(VolumeError::PoolFull {
            pool: Arc::from(self.pool.name()),
        })
    }
}

/// Clusters entered in the index for a request; left when dropped.
pub(crate) struct ClusterHold {
    core: Rc<Core>,
    range: PageRange,
    /// Bit n: the n-th cluster of the range has a direct write of this request under way.
    direct: u32,
}

impl ClusterHold {
    pub fn new(core: Rc<Core>, range: PageRange) -> Self {
        {
            let mut index = core.index.borrow_mut();
            range.clusters().for_each(|cluster| {
                index.enter(cluster);
            });
        }
        Self {
            core,
            range,
            direct: 0,
        }
    }

    /// The request's part in `cluster` goes to the cluster's pending place.
    pub fn add_direct(&mut self, cluster: u64) {
        let bit = 1 << (cluster - self.range.clusters().start());
        assert!(self.direct & bit == 0, "one direct part per cluster");
        self.direct |= bit;
    }
}

impl Drop for ClusterHold {
    fn drop(&mut self) {
        let mut index = self.core.index.borrow_mut();
        for (offset, cluster) in self.range.clusters().enumerate() {
            if offset < 32 && self.direct & (1 << offset) != 0 {
                let pending = index
                    .cluster_mut(cluster)
                    .and_then(|state| state.pending.as_mut());
                let pending = pending.expect("a direct write keeps its pending cluster");
                pending.deciding &= !mask_in(self.range, cluster);
            }
            index.leave(cluster);
        }
    }
}
