//! Makes a pool on an empty device.

use block::Device;

use crate::error::StoreError;
use crate::format::name_rule;
use crate::format::root::Root;
use crate::format::superblock::Superblock;
use crate::pool::geometry::{POOL_BYTES_MAX, POOL_BYTES_MIN, PoolGeometry};
use crate::pool::superblocks::{Superblocks, is_pool, occupied, read_superblocks};
use crate::pool::writer::BlockWriter;
use crate::pool::{OpenOptions, Pool, sniff};
use crate::types::BLOCK_BYTES;

/// What a new pool is to be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Its name: 1 to 64 bytes.
    pub name: String,
    /// Take a device that holds something, even a pool: what it holds is lost.
    pub overwrite: bool,
}

impl Pool {
    /// Makes a pool that fills the device, and opens it.
    ///
    /// Errors: `NotEmpty`, `AlreadyAPool` (unless `overwrite`), `PoolSize`, `LogicalBlock`,
    /// `InvalidPool`: nothing was written. `Device`: the device holds no pool, or the new one.
    /// Cancel: as a crash; the device may hold no pool. Cost: a few writes, three flushes; the
    /// length of the device does not matter.
    /// Source: docs/format.md, "Creating a pool".
    pub async fn create(
        device: Device,
        options: CreateOptions,
        open: OpenOptions,
    ) -> Result<Pool, StoreError> {
        let geometry = check_device(&device)?;
        if let Some(rule) = name_rule(&options.name) {
            return Err(StoreError::InvalidPool {
                name: options.name.as_str().into(),
                rule,
            });
        }
        if !options.overwrite {
            refuse_occupied(&device).await?;
        }
        wipe_superblocks(&device).await?;
        // crash here: no pool, and nothing of what was there before can be taken for one.
        reactor::crash_point("create::after_wipe");
        let superblock = write_root(&device, &geometry, &options.name).await?;
        // crash here: still no pool.
        reactor::crash_point("create::after_root");
        let mut superblocks = Superblocks {
            holds: [None, None],
        };
        for slot in 0..2 {
            superblocks.write(&device, slot, &superblock).await?;
            device.flush().await?;
            // crash here: the pool is there, with one superblock or two.
            reactor::crash_point("create::after_superblock");
        }
        Pool::open(device, open).await
    }
}

/// The device can be a pool: length and logical block size.
pub(crate) fn check_device(device: &Device) -> Result<PoolGeometry, StoreError> {
    let path = || device.path().to_owned();
    let found = device.geometry();
    if found.logical_block_bytes as usize > BLOCK_BYTES {
        let logical_block_bytes = found.logical_block_bytes;
        return Err(StoreError::LogicalBlock {
            path: path(),
            logical_block_bytes,
        });
    }
    PoolGeometry::for_device(found.len_bytes).ok_or_else(|| StoreError::PoolSize {
        path: path(),
        len_bytes: found.len_bytes,
        min_bytes: POOL_BYTES_MIN,
        max_bytes: POOL_BYTES_MAX,
    })
}

async fn refuse_occupied(device: &Device) -> Result<(), StoreError> {
    let path = || device.path().to_owned();
    if is_pool(&read_superblocks(device).await) {
        return Err(StoreError::AlreadyAPool { path: path() });
    }
    match occupied(device).await? {
        Some(found) => Err(StoreError::NotEmpty {
            path: path(),
            found,
        }),
        None => Ok(()),
    }
}

/// Zeros where superblocks are and where other formats keep their marks, durably.
async fn wipe_superblocks(device: &Device) -> Result<(), StoreError> {
    let mut writer = BlockWriter::new(device);
    for block in 0..sniff::SNIFF_BLOCKS as u64 {
        writer.put(block, |_| ()).await?;
    }
    writer.finish().await?;
    device.flush().await?;
    Ok(())
}

/// Writes the first root, durably, and gives the superblock that will point to it.
async fn write_root(
    device: &Device,
    geometry: &PoolGeometry,
    name: &str,
) -> Result<Superblock, StoreError> {
    let mut pool_uuid = [0; 16];
    reactor::random_bytes(&mut pool_uuid);
    super::volumes::stamp_uuid(&mut pool_uuid);
    let pages = vec![None; geometry.page_count() as usize];
    let root = Root {
        generation: 1,
        pool_uuid,
        next_volume_id: 1,
        volumes: Vec::new(),
        pages,
    };
    let bytes = root.encode();
    let mut writer = BlockWriter::new(device);
    writer.put_bytes(geometry.root_block, &bytes).await?;
    writer.finish().await?;
    device.flush().await?;
    Ok(Superblock {
        pool_uuid,
        generation: 1,
        device_bytes: geometry.device_bytes,
        cluster_count: geometry.cluster_count,
        first_cluster_block: geometry.first_cluster_block,
        root_block: geometry.root_block,
        root_blocks: geometry.root_blocks,
        alloc_block: geometry.alloc_block,
        bitmap_pages: geometry.bitmap_pages,
        table_pages: geometry.table_pages,
        root_bytes: bytes.len() as u64,
        root_crc: crate::checksum::crc32c(&bytes),
        root_slot: 0,
        name: name.to_owned(),
        created_ms: reactor::wall_clock_ms(),
        clean: true,
    })
}
