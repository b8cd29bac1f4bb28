//! The blocks of a pool: superblock, root, allocator pages and map nodes. Checksums are put right
//! first, so that what is behind them is reached: a block may be intact and still make no sense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::format::node::{NodeIdentity, NodePointer, decode_inner, decode_leaf};
use store::format::root::Root;
use store::format::superblock::Superblock;
use store::format::{Block, alloc_page};
use store::{BLOCK_BYTES, crc32c};

/// Where the checksum is in a superblock and in a map node.
const SUPERBLOCK_CRC: usize = 8;
const NODE_CRC: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    _ = Root::decode(bytes);
    let mut block: Block = [0; BLOCK_BYTES];
    let len = bytes.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&bytes[..len]);
    _ = alloc_page::decode_table(&block[alloc_page::HEADER_BYTES..]);
    node(block);
    seal(&mut block, SUPERBLOCK_CRC);
    if let Ok(superblock) = Superblock::decode(&block) {
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }
});

fn seal(block: &mut Block, offset: usize) -> u32 {
    block[offset..offset + 4].fill(0);
    let crc = crc32c(&block[..]);
    block[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// A node as its own header claims to be, under a pointer that fits.
fn node(mut block: Block) {
    let crc = seal(&mut block, NODE_CRC);
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| block[at + i]));
    let pointer = NodePointer {
        block: 1,
        crc,
        generation_low: u32_at(40),
    };
    let identity = NodeIdentity {
        level: u32_at(8) as u16,
        layer: u32_at(12),
        volume_uuid: std::array::from_fn(|i| block[16 + i]),
        index: u64::from(u32_at(32)) | u64::from(u32_at(36)) << 32,
    };
    _ = decode_leaf(&block, &pointer, &identity);
    _ = decode_inner(&block, &pointer, &identity);
}
