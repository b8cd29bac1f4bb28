//! Limits that hosts are told, and what they are held to: the same numbers.

use reactor::buf::MAX_BUF_BYTES;
use volume::{MAX_ATOMIC_BYTES, Ranges, VolumeInfo};

/// The engine's page: writes of whole pages need no read before them.
const PAGE_BYTES: u32 = 4096;
/// The engine's cluster: the unit in which space is given back.
const CLUSTER_BYTES: u32 = 128 << 10;
/// COMPARE AND WRITE, in blocks.
pub(super) const COMPARE_AND_WRITE_BLOCKS: u32 = 128;
/// WRITE SAME, in blocks: bounds the time of one command.
pub(super) const SAME_BLOCKS: u64 = 32_768;
/// UNMAP descriptors.
pub(super) const UNMAP_DESCRIPTORS: usize = Ranges::MAX;

/// One transfer: what one buffer holds. The volume takes a little less in one request.
pub(super) const TRANSFER_BYTES: u32 = MAX_BUF_BYTES as u32;
/// A transfer that is one request of the volume, and fast.
const OPTIMAL_BYTES: u32 = 1 << 20;

/// Blocks of one transfer.
pub(super) fn transfer_blocks(info: &VolumeInfo) -> u32 {
    TRANSFER_BYTES / info.block_bytes
}

/// Blocks of a transfer that is done at once.
pub(super) fn optimal_blocks(info: &VolumeInfo) -> u32 {
    OPTIMAL_BYTES / info.block_bytes
}

/// Blocks of a page: the physical block that hosts should align to.
pub(super) fn page_blocks(info: &VolumeInfo) -> u32 {
    (PAGE_BYTES / info.block_bytes).max(1)
}

/// Blocks of a cluster.
pub(super) fn cluster_blocks(info: &VolumeInfo) -> u32 {
    CLUSTER_BYTES / info.block_bytes
}

/// Blocks of WRITE ATOMIC.
pub(super) fn atomic_blocks(info: &VolumeInfo) -> u32 {
    MAX_ATOMIC_BYTES as u32 / info.block_bytes
}
