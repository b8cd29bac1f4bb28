//! The engine of a pool: opens it, recovers its volumes, creates and deletes them, shuts down.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use block::Device;
use reactor::sync::Mutex;
use store::{
    Cluster, CreateOptions, NewVolume, Pool, Space, StoreError, VolumeRecord, VolumeState,
};

use crate::core::Core;
use crate::error::VolumeError;
use crate::index::PayloadBudget;
use crate::metrics::MetricsSnapshot;
use crate::recovery::{Damage, Refused, ReplayReport, replay};
use crate::request::VolumeId;
use crate::volume::Volume;

/// How a pool is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The pool's file or block device.
    pub path: PathBuf,
    /// Memory for map leaves, shared by the volumes of the pool.
    pub map_cache_bytes: usize,
    /// Journal of a new volume where its spec says nothing: 4 MiB to 4 GiB.
    pub journal_bytes: u64,
    /// Memory for payloads that are not in the map yet, shared by all volumes of the pool. It comes
    /// out of the core's pool for host I/O. None: a quarter of that pool.
    pub payload_bytes: Option<usize>,
    /// Whether a pool that lies in memory keeps payloads too. They gain it nothing; for measuring
    /// what a pool on a disk does.
    pub payloads_beside_memory: bool,
}

impl EngineOptions {
    /// 16 MiB of map cache, 64 MiB of journal.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            map_cache_bytes: 16 << 20,
            journal_bytes: 64 << 20,
            payload_bytes: None,
            payloads_beside_memory: false,
        }
    }
}

/// What a new pool is to be.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// Its name: 1 to 64 bytes.
    pub name: String,
    /// Make a file of this length. None: the path is a block device or a file that exists.
    pub file_bytes: Option<u64>,
    /// Take a device that holds something: what it holds is lost.
    pub overwrite: bool,
}

/// What a new volume is to be.
#[derive(Clone, Debug)]
pub struct VolumeSpec {
    /// Unique in the pool.
    pub name: String,
    /// A multiple of the block size. Thin: takes no space until written.
    pub size_bytes: u64,
    /// 512 or 4096.
    pub block_bytes: u32,
    /// None: the engine's default.
    pub journal_bytes: Option<u64>,
}

/// What opening a pool found.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// It had been closed cleanly.
    pub clean: bool,
    /// Each volume of the pool.
    pub volumes: Vec<VolumeReport>,
}

/// What opening found of one volume.
#[derive(Clone, Debug)]
pub struct VolumeReport {
    /// Its id.
    pub id: VolumeId,
    /// Its name.
    pub name: Arc<str>,
    /// Served, or why not.
    pub outcome: Outcome,
}

/// Whether a volume is served.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Served.
    Opened(ReplayReport),
    /// Not served and left as it is; others are not affected.
    Damaged(Damage),
    /// Its deletion, begun earlier, goes on.
    Deleting,
}

/// One volume of a pool, for lists.
#[derive(Clone, Debug)]
pub struct VolumeListing {
    /// Its name.
    pub name: Arc<str>,
    /// Its UUID, in the byte order of RFC 9562.
    pub uuid: [u8; 16],
    /// Size that hosts see.
    pub size_bytes: u64,
    /// Logical block that hosts see.
    pub block_bytes: u32,
    /// Space its data takes of the pool.
    pub mapped_bytes: u64,
    /// Its deletion goes on.
    pub deleting: bool,
}

/// All counters of a pool as plain data.
#[derive(Clone, Debug)]
pub struct EngineSnapshot {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// How full it is.
    pub space: Space,
    /// The device's totals.
    pub device: block::CountersSnapshot,
    /// Each volume with its name.
    pub volumes: Vec<(Arc<str>, MetricsSnapshot)>,
}

/// An open pool with its volumes. Lives on its home core; cheap to clone.
#[derive(Clone)]
pub struct Engine(Rc<Inner>);

struct Inner {
    pool: Pool,
    name: Arc<str>,
    journal_bytes: u64,
    budget: Rc<PayloadBudget>,
    volumes: RefCell<Vec<Rc<Core>>>,
    damaged: RefCell<Vec<DamagedVolume>>,
    /// One creation, deletion or shutdown at a time.
    changing: Mutex<bool>,
}

/// A volume that is there and not served.
struct DamagedVolume {
    id: VolumeId,
    name: Arc<str>,
    claimed: Vec<Cluster>,
}

impl Engine {
    /// Makes a pool. It is not opened: call [`Engine::open`].
    ///
    /// Errors: `Pool`, saying what is in the way; nothing was written then. Cost: a few writes.
    pub async fn create_pool(path: &Path, spec: &PoolSpec) -> Result<(), VolumeError> {
        let wrap = |error: StoreError| pool_error(path, "create", error);
        let device = match spec.file_bytes {
            Some(len_bytes) => Device::create(path, len_bytes),
            None => Device::open(path, block::OpenOptions::default()),
        };
        let device = device.map_err(|error| wrap(error.into()))?;
        Self::create_pool_on(device, spec).await
    }

    /// As `create_pool`, on a device that is open; `file_bytes` of the spec says nothing here.
    pub async fn create_pool_on(device: Device, spec: &PoolSpec) -> Result<(), VolumeError> {
        let path = device.path().to_owned();
        let wrap = |error: StoreError| pool_error(&path, "create", error);
        let create = CreateOptions {
            name: spec.name.clone(),
            overwrite: spec.overwrite,
        };
        let pool = Pool::create(device, create, store::OpenOptions::default()).await;
        pool.map_err(wrap)?.close(true).await.map_err(wrap)
    }

    /// Opens a pool, recovers its volumes and starts serving them.
    ///
    /// Errors: `Pool` when the pool itself cannot be used (nothing was written). A volume that is
    /// damaged does not fail the pool: it is in the report and is not served.
    /// Cost: reads every journal once, and what large writes left in it.
    pub async fn open(options: EngineOptions) -> Result<(Engine, OpenReport), VolumeError> {
        let wrap = |error: StoreError| pool_error(&options.path, "open", error);
        let device = Device::open(&options.path, block::OpenOptions::default());
        let device = device.map_err(|error| wrap(error.into()))?;
        Self::open_on(device, options).await
    }

    /// As `open`, on a device that is open, such as one in memory; `path` of the options says
    /// nothing here.
    pub async fn open_on(
        device: Device,
        options: EngineOptions,
    ) -> Result<(Engine, OpenReport), VolumeError> {
        let path = device.path().to_owned();
        let wrap = |error: StoreError| pool_error(&path, "open", error);
        let store_options = store::OpenOptions {
            leaf_cache_bytes: options.map_cache_bytes,
            ..store::OpenOptions::default()
        };
        let pool = Pool::open(device, store_options).await.map_err(wrap)?;
        // Payloads kept beside a journal that is memory would only push other data out of the
        // processor's caches. Measured without them: 4 KiB random writes +27 % at QD32, more above;
        // in a file on tmpfs +33 % [28 - 39] at QD32, +11 % [9 - 14] at QD128.
        let keeps_none = pool.device().geometry().is_memory && !options.payloads_beside_memory;
        let payload_bytes = match options.payload_bytes {
            _ if keeps_none => 0,
            Some(bytes) => bytes,
            None => reactor::buf::pool().capacity_bytes() / 4,
        };
        let engine = Engine(Rc::new(Inner {
            name: Arc::from(pool.name()),
            pool,
            journal_bytes: options.journal_bytes,
            budget: PayloadBudget::new(payload_bytes),
            volumes: RefCell::default(),
            damaged: RefCell::default(),
            changing: Mutex::new(false),
        }));
        let volumes = engine.recover().await;
        let inner = &engine.0;
        let report = OpenReport {
            pool: inner.name.clone(),
            clean: inner.pool.opened_clean(),
            volumes,
        };
        Ok((engine, report))
    }

    /// Both phases of recovery, for all volumes.
    async fn recover(&self) -> Vec<VolumeReport> {
        let pool = &self.0.pool;
        let mut replayed = Vec::new();
        let mut reports = Vec::new();
        for record in pool.records() {
            let (id, name) = (record.id, record.name.clone());
            if record.state == VolumeState::Deleting {
                reports.push(VolumeReport {
                    id,
                    name,
                    outcome: Outcome::Deleting,
                });
                continue;
            }
            let result = replay(pool, record, &self.0.budget).await;
            replayed.push((id, name, result));
        }
        // From here on clusters are allocated: every log has claimed what it refers to.
        for (id, name, result) in replayed {
            let opened = match result {
                Ok(replayed) => {
                    let report = replayed.report;
                    replayed.into_core(pool).await.map(|core| (core, report))
                }
                Err(refused) => Err(refused),
            };
            let outcome = self.adopt(id, &name, opened);
            if let Outcome::Opened(ReplayReport {
                undone_pages: 1.., ..
            }) = outcome
            {
                self.forget_undone(id).await;
            }
            reports.push(VolumeReport { id, name, outcome });
        }
        self.resume_deletions(&reports);
        reports.sort_by_key(|report| report.id);
        reports
    }

    /// Moves the tail behind large writes that were never durable, before anything is appended: a
    /// later durable LSN would cover their records and make damage of them.
    async fn forget_undone(&self, id: VolumeId) {
        let core = {
            let volumes = self.0.volumes.borrow();
            volumes.iter().find(|core| core.info().id == id).cloned()
        };
        if let Some(core) = core {
            core.flusher.full_cycle().await;
        }
    }

    fn adopt(
        &self,
        id: VolumeId,
        name: &Arc<str>,
        opened: Result<(Rc<Core>, ReplayReport), Refused>,
    ) -> Outcome {
        match opened {
            Ok((core, report)) => {
                tracing::info!(volume = %name, ?report, "volume opened");
                core.start();
                self.0.volumes.borrow_mut().push(core);
                Outcome::Opened(report)
            }
            Err(Refused { damage, claimed }) => {
                tracing::error!(volume = %name, error = %damage, "volume is not served");
                let volume = DamagedVolume {
                    id,
                    name: name.clone(),
                    claimed,
                };
                self.0.damaged.borrow_mut().push(volume);
                Outcome::Damaged(damage)
            }
        }
    }

    fn resume_deletions(&self, reports: &[VolumeReport]) {
        let deleting = |report: &&VolumeReport| matches!(report.outcome, Outcome::Deleting);
        for report in reports.iter().filter(deleting) {
            let (pool, id, name) = (self.0.pool.clone(), report.id, report.name.clone());
            reactor::spawn(async move {
                match pool.finish_delete(id).await {
                    Ok(()) => tracing::info!(volume = %name, "deletion finished"),
                    Err(error) => tracing::error!(volume = %name, %error, "deletion stopped"),
                }
            })
            .detach();
        }
    }

    /// Name of the pool.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// UUID of the pool.
    pub fn uuid(&self) -> [u8; 16] {
        self.0.pool.uuid()
    }

    /// The volumes that are served.
    pub fn volumes(&self) -> Vec<Volume> {
        self.0
            .volumes
            .borrow()
            .iter()
            .cloned()
            .map(Volume::from_core)
            .collect()
    }

    /// One volume, if it is served.
    pub fn volume(&self, name: &str) -> Option<Volume> {
        let volumes = self.0.volumes.borrow();
        let found = volumes.iter().find(|core| &*core.info().name == name);
        found.cloned().map(Volume::from_core)
    }

    /// How full the pool is.
    pub fn space(&self) -> Space {
        self.0.pool.space()
    }

    /// Every volume of the pool as published, served or not, in the order of their ids.
    pub fn listing(&self) -> Vec<VolumeListing> {
        let listed = |record: &Rc<VolumeRecord>| VolumeListing {
            name: record.name.clone(),
            uuid: record.uuid,
            size_bytes: record.size_bytes,
            block_bytes: record.block_bytes,
            mapped_bytes: record.mapped_clusters * store::CLUSTER_BYTES,
            deleting: record.state == VolumeState::Deleting,
        };
        self.0.pool.records().iter().map(listed).collect()
    }

    /// Why the pool stopped writing, if it did.
    pub fn failure(&self) -> Option<String> {
        self.0.pool.failure().map(|error| error.to_string())
    }

    /// All counters as plain data, for the slow plane.
    pub fn snapshot_metrics(&self) -> EngineSnapshot {
        let volumes = self.0.volumes.borrow();
        let of = |core: &Rc<Core>| {
            (
                core.info().name.clone(),
                core.metrics.snapshot(core.gauges()),
            )
        };
        EngineSnapshot {
            pool: self.0.name.clone(),
            space: self.space(),
            device: self.0.pool.device().counters().snapshot(),
            volumes: volumes.iter().map(of).collect(),
        }
    }

    /// Creates a volume and serves it, while others are in use.
    ///
    /// Errors: `Pool` with the rule that is broken or what is missing; nothing was changed.
    pub async fn create_volume(&self, spec: VolumeSpec) -> Result<Volume, VolumeError> {
        let inner = &self.0;
        let stopped = inner.changing.lock().await;
        if *stopped {
            return Err(self.error("create volume", StoreError::Closed));
        }
        let new = NewVolume {
            name: spec.name,
            size_bytes: spec.size_bytes,
            block_bytes: spec.block_bytes,
            journal_bytes: spec.journal_bytes.unwrap_or(inner.journal_bytes),
        };
        let record = inner.pool.create_volume(new).await;
        let record = record.map_err(|error| self.error("create volume", error))?;
        let name: Arc<str> = record.name.clone();
        let opened = match replay(&inner.pool, record, &inner.budget).await {
            Ok(replayed) => replayed.into_core(&inner.pool).await,
            Err(refused) => Err(refused),
        };
        let core = opened.map_err(|refused| VolumeError::Failed {
            volume: name,
            why: Arc::from(refused.damage.to_string()),
        })?;
        core.start();
        inner.volumes.borrow_mut().push(core.clone());
        Ok(Volume::from_core(core))
    }

    /// Deletes a volume, while others are in use: its requests in flight finish, new ones are
    /// refused, its space goes back to the pool. A volume that is damaged can be deleted, too.
    ///
    /// Errors: `NoSuchVolume`; `Pool` when a step failed: the deletion goes on at the next open.
    pub async fn delete_volume(&self, name: &str) -> Result<(), VolumeError> {
        let inner = &self.0;
        let stopped = inner.changing.lock().await;
        if *stopped {
            return Err(self.error("delete volume", StoreError::Closed));
        }
        let (id, unpublished) = match self.retire(name).await {
            Some(retired) => retired,
            None => self.retire_damaged(name)?,
        };
        let begun = inner.pool.begin_delete(id).await;
        begun.map_err(|error| self.error("delete volume", error))?;
        // The record says so: nothing will replay the journal that refers to these.
        unpublished
            .into_iter()
            .for_each(|cluster| inner.pool.discard_unpublished(cluster));
        let finished = inner.pool.finish_delete(id).await;
        finished.map_err(|error| self.error("delete volume", error))
    }

    /// Stops a volume for deletion; gives the clusters that only memory and its journal know.
    async fn retire(&self, name: &str) -> Option<(VolumeId, Vec<Cluster>)> {
        let core = {
            let volumes = self.0.volumes.borrow();
            volumes
                .iter()
                .find(|core| &*core.info().name == name)?
                .clone()
        };
        core.close(true).await;
        core.quiesce().await;
        core.stop();
        self.0
            .volumes
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &core));
        Some((core.info().id, core.unpublished_clusters()))
    }

    fn retire_damaged(&self, name: &str) -> Result<(VolumeId, Vec<Cluster>), VolumeError> {
        let mut damaged = self.0.damaged.borrow_mut();
        let found = damaged.iter().position(|volume| &*volume.name == name);
        let Some(index) = found else {
            let (name, pool) = (Arc::from(name), self.0.name.clone());
            return Err(VolumeError::NoSuchVolume { name, pool });
        };
        let volume = damaged.swap_remove(index);
        Ok((volume.id, volume.claimed))
    }

    /// Finishes requests in flight, writes a checkpoint of every volume and closes the pool.
    ///
    /// Errors: the first that happened; what was acknowledged is in the journals all the same.
    pub async fn shutdown(&self) -> Result<(), VolumeError> {
        let inner = &self.0;
        let mut stopped = inner.changing.lock().await;
        if std::mem::replace(&mut *stopped, true) {
            return Ok(());
        }
        let cores = inner.volumes.take();
        for core in &cores {
            core.close(false).await;
        }
        let mut result = Ok(());
        let mut clean = inner.damaged.borrow().is_empty();
        for core in &cores {
            core.quiesce().await;
            core.stop();
            let drained = core.drain().await;
            clean &= drained.is_ok();
            result = result.and(drained);
        }
        let closed = inner.pool.close(clean).await;
        result.and(closed.map_err(|error| self.error("close", error)))
    }

    fn error(&self, doing: &'static str, error: StoreError) -> VolumeError {
        VolumeError::Pool {
            pool: self.0.name.clone(),
            doing,
            error: Box::new(error),
        }
    }
}

fn pool_error(path: &Path, doing: &'static str, error: StoreError) -> VolumeError {
    let pool = Arc::from(path.display().to_string());
    VolumeError::Pool {
        pool,
        doing,
        error: Box::new(error),
    }
}
