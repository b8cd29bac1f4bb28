//! The superblock: the one block that says which state of the pool counts.
//!
//! Two slots; a publish writes first the slot that does not hold the current state, flushes, then
//! the other. Source: docs/format.md, "Superblock".

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Block, FORMAT_VERSION, OLDEST_VERSION, block_crc, decode_name, encode_name, seal};
use crate::types::{BLOCK_BYTES, CLUSTER_BLOCKS, CLUSTER_BYTES};

/// First bytes of every superblock.
pub const MAGIC: [u8; 8] = *b"BEDPLATE";
/// Blocks of the two slots.
pub const SLOT_BLOCKS: [u64; 2] = [0, 16];
/// Offset of the CRC field.
const CRC_OFFSET: usize = 8;
/// Flag: every journal was empty when the pool was closed.
pub const FLAG_CLEAN: u64 = 1;

/// A superblock as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSuperblock {
    magic: [u8; 8],
    crc: U32,
    version: U16,
    minimum_version: U16,
    pool_uuid: [u8; 16],
    generation: U64,
    device_bytes: U64,
    cluster_bytes: U32,
    block_bytes: U32,
    cluster_count: U64,
    first_cluster_block: U64,
    root_block: U64,
    root_blocks: U64,
    alloc_block: U64,
    alloc_blocks: U64,
    root_bytes: U64,
    root_crc: U32,
    root_slot: U32,
    name: [u8; 64],
    created_ms: U64,
    flags: U64,
    bitmap_pages: U32,
    table_pages: U32,
}

const _: () = assert!(size_of::<RawSuperblock>() == 208);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, crc) == CRC_OFFSET);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, generation) == 32);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, root_block) == 72);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, root_bytes) == 104);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, name) == 120);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, flags) == 192);

/// A superblock that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// UUID of the pool.
    pub pool_uuid: [u8; 16],
    /// Number of publishes since creation.
    pub generation: u64,
    /// Length of the device at creation.
    pub device_bytes: u64,
    /// Clusters from the first one on.
    pub cluster_count: u32,
    /// Block of the first cluster; a multiple of 64.
    pub first_cluster_block: u64,
    /// Block of root slot 0; slot 1 follows.
    pub root_block: u64,
    /// Blocks of a root slot.
    pub root_blocks: u64,
    /// Block of allocator slot 0; slot 1 follows.
    pub alloc_block: u64,
    /// Pages of the allocator's bitmap, first in an allocator slot.
    pub bitmap_pages: u32,
    /// Pages of the map cluster table, behind them.
    pub table_pages: u32,
    /// Length of the root.
    pub root_bytes: u64,
    /// CRC of the root.
    pub root_crc: u32,
    /// The slot that holds the root.
    pub root_slot: u32,
    /// Name of the pool.
    pub name: String,
    /// Milliseconds since 1970 at creation.
    pub created_ms: u64,
    /// Every journal was empty when the pool was closed.
    pub clean: bool,
}

/// Why a block is no superblock of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperblockFault {
    /// The magic is not there.
    NoMagic,
    /// The magic is there, the rest is not as it was written.
    Damaged(&'static str),
    /// Intact, and written in a format that is not read any more.
    Older {
        /// Its version.
        version: u16,
    },
    /// Intact, and only readable for a newer program.
    Newer {
        /// Its version.
        version: u16,
        /// The version a reader needs.
        minimum: u16,
    },
}

impl Superblock {
    /// Checks a block: magic, CRC, version, then geometry.
    pub fn decode(block: &Block) -> Result<Superblock, SuperblockFault> {
        let (raw, rest) = RawSuperblock::ref_from_prefix(&block[..]).expect("a block is larger");
        if raw.magic != MAGIC {
            return Err(SuperblockFault::NoMagic);
        }
        if raw.crc.get() != block_crc(block, CRC_OFFSET) {
            return Err(SuperblockFault::Damaged("checksum mismatch"));
        }
        if raw.minimum_version.get() > FORMAT_VERSION {
            let (version, minimum) = (raw.version.get(), raw.minimum_version.get());
            return Err(SuperblockFault::Newer { version, minimum });
        }
        if raw.version.get() < OLDEST_VERSION {
            let version = raw.version.get();
            return Err(SuperblockFault::Older { version });
        }
        // A later version that we may read can use what is zero in ours.
        if raw.version.get() <= FORMAT_VERSION && rest.iter().any(|&byte| byte != 0) {
            return Err(SuperblockFault::Damaged("reserved bytes are not zero"));
        }
        raw.check().map_err(SuperblockFault::Damaged)
    }

    /// The bytes of this superblock.
    pub fn encode(&self) -> Box<Block> {
        let raw = RawSuperblock {
            magic: MAGIC,
            crc: U32::ZERO,
            version: FORMAT_VERSION.into(),
            minimum_version: FORMAT_VERSION.into(),
            pool_uuid: self.pool_uuid,
            generation: self.generation.into(),
            device_bytes: self.device_bytes.into(),
            cluster_bytes: U32::new(CLUSTER_BYTES as u32),
            block_bytes: U32::new(BLOCK_BYTES as u32),
            cluster_count: u64::from(self.cluster_count).into(),
            first_cluster_block: self.first_cluster_block.into(),
            root_block: self.root_block.into(),
            root_blocks: self.root_blocks.into(),
            alloc_block: self.alloc_block.into(),
            alloc_blocks: self.alloc_blocks().into(),
            root_bytes: self.root_bytes.into(),
            root_crc: self.root_crc.into(),
            root_slot: self.root_slot.into(),
            name: encode_name(&self.name),
            created_ms: self.created_ms.into(),
            flags: if self.clean { FLAG_CLEAN } else { 0 }.into(),
            bitmap_pages: self.bitmap_pages.into(),
            table_pages: self.table_pages.into(),
        };
        let mut block = Box::new([0; BLOCK_BYTES]);
        raw.write_to_prefix(&mut block[..])
            .expect("a block is larger");
        seal(&mut block[..], CRC_OFFSET);
        block
    }

    /// Blocks of an allocator slot.
    pub fn alloc_blocks(&self) -> u64 {
        u64::from(self.bitmap_pages) + u64::from(self.table_pages)
    }
}

impl RawSuperblock {
    fn check(&self) -> Result<Superblock, &'static str> {
        self.check_units()?;
        self.check_zones()?;
        let root_bytes = self.root_bytes.get();
        if root_bytes == 0 || root_bytes > self.root_blocks.get() * BLOCK_BYTES as u64 {
            return Err("root length out of range");
        }
        if self.root_slot.get() > 1 || self.generation.get() == 0 {
            return Err("root slot or generation out of range");
        }
        if self.flags.get() & !FLAG_CLEAN != 0 {
            return Err("unknown flags");
        }
        Ok(Superblock {
            pool_uuid: self.pool_uuid,
            generation: self.generation.get(),
            device_bytes: self.device_bytes.get(),
            cluster_count: u32::try_from(self.cluster_count.get()).map_err(|_| "too large")?,
            first_cluster_block: self.first_cluster_block.get(),
            root_block: self.root_block.get(),
            root_blocks: self.root_blocks.get(),
            alloc_block: self.alloc_block.get(),
            bitmap_pages: self.bitmap_pages.get(),
            table_pages: self.table_pages.get(),
            root_bytes,
            root_crc: self.root_crc.get(),
            root_slot: self.root_slot.get(),
            name: decode_name(&self.name)
                .ok_or("name is not text")?
                .to_owned(),
            created_ms: self.created_ms.get(),
            clean: self.flags.get() & FLAG_CLEAN != 0,
        })
    }

    fn check_units(&self) -> Result<(), &'static str> {
        if u64::from(self.cluster_bytes.get()) != CLUSTER_BYTES {
            return Err("cluster size is not 128 KiB");
        }
        if self.block_bytes.get() as usize != BLOCK_BYTES {
            return Err("block size is not 4 KiB");
        }
        Ok(())
    }

    /// Zones follow each other and end before the device does.
    fn check_zones(&self) -> Result<(), &'static str> {
        let pages = u64::from(self.bitmap_pages.get()) + u64::from(self.table_pages.get());
        if self.alloc_blocks.get() != pages {
            return Err("allocator size does not fit its pages");
        }
        let two = |blocks: u64| blocks.checked_mul(2).ok_or("zones are out of range");
        let end = |start: u64, len: u64| start.checked_add(len).ok_or("zones are out of range");
        let root_end = end(self.root_block.get(), two(self.root_blocks.get())?)?;
        let alloc_end = end(self.alloc_block.get(), two(pages)?)?;
        let first = self.first_cluster_block.get();
        let in_order = self.root_block.get() > SLOT_BLOCKS[1]
            && root_end <= self.alloc_block.get()
            && alloc_end <= first
            && first.is_multiple_of(CLUSTER_BLOCKS as u64);
        let clusters = self.cluster_count.get();
        let blocks = clusters
            .checked_mul(CLUSTER_BLOCKS as u64)
            .ok_or("too many clusters")?;
        let all = end(first, blocks)?;
        if !in_order || clusters == 0 || all > self.device_bytes.get() / BLOCK_BYTES as u64 {
            return Err("zones are out of order or beyond the device");
        }
        if all / CLUSTER_BLOCKS as u64 > u64::from(u32::MAX) {
            return Err("too many clusters");
        }
        self.check_pages(clusters)
    }

    fn check_pages(&self, clusters: u64) -> Result<(), &'static str> {
        let bits = super::alloc_page::BITS_PER_PAGE as u64;
        let needed = clusters.div_ceil(bits);
        let table = self.table_pages.get();
        if u64::from(self.bitmap_pages.get()) != needed || table == 0 || table > 1 << 20 {
            return Err("allocator pages do not fit the clusters");
        }
        Ok(())
    }
}
