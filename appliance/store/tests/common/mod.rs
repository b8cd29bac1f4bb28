//! A pool in a simulated world, and what tests of every kind do with one.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod crash;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use block::Device;
use reactor::buf::{BufList, engine_alloc};
use reactor::sim::{DiskOptions, World, WorldOptions};
pub use store::NewVolume;
use store::{
    Changes, Cluster, CreateOptions, Entry, JournalMark, Map, OpenOptions, Pool, StoreError,
    VolumeId, VolumeRecord,
};

pub const LIMIT: Duration = Duration::from_secs(600);
pub const POOL_BYTES: u64 = 64 << 20;

pub fn disk_options() -> DiskOptions {
    DiskOptions {
        len_bytes: POOL_BYTES,
        ..DiskOptions::default()
    }
}

pub fn world(seed: u64) -> World {
    let mut world = World::new(seed, WorldOptions::default());
    world.add_disk("pool", disk_options());
    world
}

/// Runs one life of a process to its end.
pub fn life<F, T>(world: &mut World, main: impl Fn() -> F + 'static) -> Option<T>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    world.run_once("target", LIMIT, main)
}

pub fn device() -> Result<Device, StoreError> {
    Ok(Device::open(
        Path::new("pool"),
        block::OpenOptions::default(),
    )?)
}

pub async fn create() -> Result<Pool, StoreError> {
    let options = CreateOptions {
        name: "main".into(),
        overwrite: false,
    };
    Pool::create(device()?, options, OpenOptions::default()).await
}

pub async fn open() -> Result<Pool, StoreError> {
    Pool::open(device()?, OpenOptions::default()).await
}

pub fn spec(name: &str) -> NewVolume {
    NewVolume {
        name: name.into(),
        size_bytes: 1 << 30,
        block_bytes: 4096,
        journal_bytes: 4 << 20,
    }
}

/// The bytes that a test writes to a page: different for every page and version.
pub fn page_bytes(cluster_index: u64, page: usize, version: u64) -> Vec<u8> {
    let word = (cluster_index << 32) ^ ((page as u64) << 16) ^ version.wrapping_mul(0x9e37_79b9);
    word.to_le_bytes().repeat(512)
}

/// Writes one page of a cluster.
pub async fn write_page(pool: &Pool, cluster: Cluster, page: usize, bytes: &[u8]) {
    let mut buf = engine_alloc(bytes.len()).await;
    buf.as_mut().copy_from_slice(bytes);
    let offset = cluster.page_offset(page);
    pool.device()
        .write(offset, BufList::from(buf))
        .await
        .0
        .expect("write a page");
}

/// A small engine: writes whole clusters to fresh places and publishes.
pub struct Writer {
    pub pool: Pool,
    pub map: Map,
    pub volume: VolumeId,
    pub mark: JournalMark,
    pub allocated: Vec<Cluster>,
    pub freed: Vec<Cluster>,
}

impl Writer {
    pub async fn new(pool: &Pool, record: &Rc<VolumeRecord>) -> Writer {
        Writer {
            pool: pool.clone(),
            map: pool.open_map(record).await.expect("open a map"),
            volume: record.id,
            mark: record.mark,
            allocated: Vec::new(),
            freed: Vec::new(),
        }
    }

    /// Moves a cluster of the volume to a fresh place with these pages, or to nowhere.
    pub async fn put(&mut self, index: u64, pages: u64, version: u64) -> Result<(), StoreError> {
        let before = self.map.lookup(index).await?;
        let mut entry = Entry::EMPTY;
        if pages != 0 {
            let cluster = self.pool.allocate(None)?;
            entry.location = Some(cluster);
            entry.valid = pages;
            for page in (0..store::CLUSTER_BLOCKS).filter(|page| pages & (1 << page) != 0) {
                let bytes = page_bytes(index, page, version);
                entry.crc[page] = store::crc32c(&bytes);
                write_page(&self.pool, cluster, page, &bytes).await;
            }
            self.allocated.push(cluster);
        }
        self.map.update(index, entry).await?;
        if let Some(old) = before.location {
            self.release(old);
        }
        Ok(())
    }

    fn release(&mut self, old: Cluster) {
        match self.allocated.iter().position(|&cluster| cluster == old) {
            Some(place) => {
                self.allocated.swap_remove(place);
                self.pool.discard_unpublished(old);
            }
            None => self.freed.push(old),
        }
    }

    pub async fn publish(&mut self) -> Result<u64, StoreError> {
        let changes = Changes {
            volume: self.volume,
            map: &self.map,
            journal: self.mark,
            allocated: std::mem::take(&mut self.allocated),
            freed: std::mem::take(&mut self.freed),
            keep_freed: false,
            clean: false,
        };
        self.pool.publish(changes).await
    }
}
