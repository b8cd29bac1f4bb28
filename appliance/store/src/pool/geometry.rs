//! Where the zones of a pool are: decided once, from the length of the device.

use crate::format::alloc_page::{BITS_PER_PAGE, TABLE_ENTRIES_PER_PAGE};
use crate::format::root::root_blocks;
use crate::format::superblock::Superblock;
use crate::types::{BLOCK_BYTES, CLUSTER_BLOCKS, CLUSTER_BYTES, Cluster};

/// Smallest device that can be a pool.
pub(crate) const POOL_BYTES_MIN: u64 = 16 << 20;
/// Largest one.
pub(crate) const POOL_BYTES_MAX: u64 = 256 << 40;
/// First block behind the superblocks.
const ROOT_BLOCK: u64 = 32;
/// Clusters for each entry of the map cluster table. The sparsest volume needs a leaf for each of
/// its clusters, so one map cluster for 32; twice that lets a publish write all of them anew.
const CLUSTERS_PER_TABLE_ENTRY: u64 = CLUSTER_BLOCKS as u64 / 2;
/// Entries that even the smallest pool has.
const TABLE_ENTRIES_MIN: u64 = 252;

/// The zones of a pool, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolGeometry {
    pub(crate) device_bytes: u64,
    pub(crate) cluster_count: u32,
    pub(crate) first_cluster_block: u64,
    pub(crate) root_block: u64,
    pub(crate) root_blocks: u64,
    pub(crate) alloc_block: u64,
    pub(crate) bitmap_pages: u32,
    pub(crate) table_pages: u32,
}

impl PoolGeometry {
    /// The zones of a new pool; none when the device is too small or too large.
    pub(crate) fn for_device(device_bytes: u64) -> Option<PoolGeometry> {
        if !(POOL_BYTES_MIN..=POOL_BYTES_MAX).contains(&device_bytes) {
            return None;
        }
        // The zones are sized as if they took no space themselves, which is a little too large.
        let all_clusters = device_bytes / CLUSTER_BYTES;
        let table_entries = (all_clusters / CLUSTERS_PER_TABLE_ENTRY).max(TABLE_ENTRIES_MIN);
        let table_pages = table_entries.div_ceil(TABLE_ENTRIES_PER_PAGE as u64);
        let pages = all_clusters.div_ceil(BITS_PER_PAGE as u64) + table_pages;
        let root_blocks = root_blocks(pages as usize);
        let alloc_block = ROOT_BLOCK + 2 * root_blocks;
        let first_cluster = (alloc_block + 2 * pages).div_ceil(CLUSTER_BLOCKS as u64);
        let cluster_count = all_clusters.checked_sub(first_cluster)?;
        Some(PoolGeometry {
            device_bytes,
            cluster_count: u32::try_from(cluster_count).ok()?,
            first_cluster_block: first_cluster * CLUSTER_BLOCKS as u64,
            root_block: ROOT_BLOCK,
            root_blocks,
            alloc_block,
            bitmap_pages: cluster_count.div_ceil(BITS_PER_PAGE as u64) as u32,
            table_pages: table_pages as u32,
        })
    }

    /// The zones as a checked superblock says them.
    pub(crate) fn of(superblock: &Superblock) -> PoolGeometry {
        PoolGeometry {
            device_bytes: superblock.device_bytes,
            cluster_count: superblock.cluster_count,
            first_cluster_block: superblock.first_cluster_block,
            root_block: superblock.root_block,
            root_blocks: superblock.root_blocks,
            alloc_block: superblock.alloc_block,
            bitmap_pages: superblock.bitmap_pages,
            table_pages: superblock.table_pages,
        }
    }

    /// Number of the first cluster.
    pub(crate) fn first_cluster(&self) -> u32 {
        (self.first_cluster_block / CLUSTER_BLOCKS as u64) as u32
    }

    /// Whether a cluster is one of the pool's.
    pub(crate) fn contains(&self, cluster: Cluster) -> bool {
        let index = cluster.0.checked_sub(self.first_cluster());
        index.is_some_and(|index| index < self.cluster_count)
    }

    /// Whether a block lies in one of the pool's clusters.
    pub(crate) fn contains_block(&self, block: u64) -> bool {
        let cluster = u32::try_from(block / CLUSTER_BLOCKS as u64);
        cluster.is_ok_and(|cluster| self.contains(Cluster(cluster)))
    }

    /// Offset of a root slot on the device.
    pub(crate) fn root_offset(&self, slot: u32) -> u64 {
        (self.root_block + u64::from(slot) * self.root_blocks) * BLOCK_BYTES as u64
    }

    /// Allocator pages: the bitmap's, then the map cluster table's.
    pub(crate) fn page_count(&self) -> u32 {
        self.bitmap_pages + self.table_pages
    }

    /// Block of an allocator page in a slot.
    pub(crate) fn page_block(&self, page: u32, slot: u32) -> u64 {
        assert!(page < self.page_count() && slot < 2);
        self.alloc_block + u64::from(slot) * u64::from(self.page_count()) + u64::from(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_fit_devices_of_every_size() {
        let sizes = (24..48).flat_map(|bits| [1u64 << bits, (1 << bits) + (3 << 20) + 4096]);
        for device_bytes in sizes {
            let geometry = PoolGeometry::for_device(device_bytes).expect("a valid size");
            let end = geometry.first_cluster_block
                + u64::from(geometry.cluster_count) * CLUSTER_BLOCKS as u64;
            assert!(end <= device_bytes / BLOCK_BYTES as u64);
            assert!(geometry.cluster_count > 50, "{geometry:?}");
            let last_page = geometry.page_block(geometry.page_count() - 1, 1);
            assert!(last_page < geometry.first_cluster_block);
        }
        assert_eq!(PoolGeometry::for_device(POOL_BYTES_MIN - 1), None);
        assert_eq!(PoolGeometry::for_device(POOL_BYTES_MAX + 1), None);
    }
}
