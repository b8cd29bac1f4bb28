//! Nodes of a map: inner nodes point to nodes, leaves say where clusters are.
//!
//! Source: docs/format.md, "Map of a volume".

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Block, block_crc, seal};
use crate::types::{BLOCK_BYTES, CLUSTER_BLOCKS, Cluster, Entry};

/// First bytes of an inner node.
pub const INNER_MAGIC: [u8; 4] = *b"BPIN";
/// First bytes of a leaf.
pub const LEAF_MAGIC: [u8; 4] = *b"BPLF";
/// Pointers of an inner node.
pub const INNER_FANOUT: usize = 252;
/// Clusters of a leaf.
pub const LEAF_ENTRIES: usize = 29;
const ENTRY_BYTES: usize = size_of::<RawEntry>();
/// Bytes before the content of a node.
pub const HEADER_BYTES: usize = 64;
const CRC_OFFSET: usize = 4;

/// Header of every node, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawNodeHeader {
    magic: [u8; 4],
    crc: U32,
    level: U16,
    count: U16,
    layer: U32,
    volume_uuid: [u8; 16],
    index: U64,
    generation: U64,
    reserved: [u8; 16],
}

/// A pointer to a node, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawNodePointer {
    block: U64,
    crc: U32,
    generation_low: U32,
}

/// A cluster entry of a leaf, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawEntry {
    location: U32,
    valid: U32,
    crc: [U32; CLUSTER_BLOCKS],
}

const _: () = assert!(size_of::<RawNodeHeader>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(RawNodeHeader, crc) == CRC_OFFSET);
const _: () = assert!(size_of::<RawNodePointer>() == 16);
const _: () = assert!(ENTRY_BYTES == 136);
const _: () = assert!(HEADER_BYTES + INNER_FANOUT * 16 == BLOCK_BYTES);
const _: () = assert!(HEADER_BYTES + LEAF_ENTRIES * ENTRY_BYTES <= BLOCK_BYTES);

/// Where a node is, and how to know it again. Block 0: there is nothing below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePointer {
    /// Its block on the device.
    pub block: u64,
    /// Its checksum.
    pub crc: u32,
    /// The low half of the generation that wrote it.
    pub generation_low: u32,
}

impl RawNodePointer {
    pub(super) const ZERO: RawNodePointer = RawNodePointer {
        block: U64::ZERO,
        crc: U32::ZERO,
        generation_low: U32::ZERO,
    };
}

impl NodePointer {
    /// Nothing below.
    pub const NONE: NodePointer = NodePointer {
        block: 0,
        crc: 0,
        generation_low: 0,
    };

    /// Whether there is nothing below.
    pub fn is_none(&self) -> bool {
        self.block == 0
    }

    pub(super) fn from_raw(raw: &RawNodePointer) -> Option<NodePointer> {
        let pointer = NodePointer {
            block: raw.block.get(),
            crc: raw.crc.get(),
            generation_low: raw.generation_low.get(),
        };
        (pointer.block != 0 || pointer == NodePointer::NONE).then_some(pointer)
    }

    pub(super) fn to_raw(self) -> RawNodePointer {
        RawNodePointer {
            block: self.block.into(),
            crc: self.crc.into(),
            generation_low: self.generation_low.into(),
        }
    }
}

/// Who a node says it is. Together with the checksum its parent keeps, this finds a node that is
/// stale, lost, or in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// 0 for a leaf.
    pub level: u16,
    /// Place within its level.
    pub index: u64,
    /// Layer of the map.
    pub layer: u32,
    /// UUID of the volume.
    pub volume_uuid: [u8; 16],
}

/// The clusters of a leaf.
pub type LeafEntries = [Entry; LEAF_ENTRIES];
/// The pointers of an inner node.
pub type InnerPointers = [NodePointer; INNER_FANOUT];

/// Writes a leaf; gives the CRC for its parent.
pub fn encode_leaf(
    entries: &LeafEntries,
    identity: &NodeIdentity,
    generation: u64,
    block: &mut Block,
) -> u32 {
    block.fill(0);
    for (entry, bytes) in entries
        .iter()
        .zip(block[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES))
    {
        let raw = RawEntry {
            location: entry.location.map_or(0, |cluster| cluster.0).into(),
            valid: page_bits(entry.valid).into(),
            crc: entry.crc.map(U32::new),
        };
        bytes.copy_from_slice(raw.as_bytes());
    }
    let count = entries.iter().filter(|entry| !entry.is_empty()).count();
    write_header(LEAF_MAGIC, count, identity, generation, block)
}

/// A mask of a cluster's pages as it is stored.
fn page_bits(mask: u64) -> u32 {
    u32::try_from(mask).expect("a cluster has 32 pages")
}

/// Writes an inner node; gives the CRC for its parent.
pub fn encode_inner(
    pointers: &InnerPointers,
    identity: &NodeIdentity,
    generation: u64,
    block: &mut Block,
) -> u32 {
    for (pointer, bytes) in pointers
        .iter()
        .zip(block[HEADER_BYTES..].chunks_exact_mut(16))
    {
        bytes.copy_from_slice(pointer.to_raw().as_bytes());
    }
    let count = pointers.iter().filter(|pointer| !pointer.is_none()).count();
    write_header(INNER_MAGIC, count, identity, generation, block)
}

fn write_header(
    magic: [u8; 4],
    count: usize,
    identity: &NodeIdentity,
    generation: u64,
    block: &mut Block,
) -> u32 {
    let header = RawNodeHeader {
        magic,
        crc: U32::ZERO,
        level: identity.level.into(),
        count: (count as u16).into(),
        layer: identity.layer.into(),
        volume_uuid: identity.volume_uuid,
        index: identity.index.into(),
        generation: generation.into(),
        reserved: [0; 16],
    };
    header
        .write_to_prefix(&mut block[..])
        .expect("a block is larger");
    seal(&mut block[..], CRC_OFFSET)
}

/// Checks a leaf against its parent's pointer and who it should be, and reads its clusters.
pub fn decode_leaf(
    block: &Block,
    pointer: &NodePointer,
    identity: &NodeIdentity,
) -> Result<Box<LeafEntries>, &'static str> {
    let count = check_header(block, LEAF_MAGIC, pointer, identity)?;
    let mut entries = Box::new([Entry::EMPTY; LEAF_ENTRIES]);
    read_leaf(block, &mut entries)?;
    let filled = entries.iter().filter(|entry| !entry.is_empty()).count();
    if filled != count {
        return Err("entry count does not fit the entries");
    }
    Ok(entries)
}

fn read_leaf(block: &Block, entries: &mut LeafEntries) -> Result<(), &'static str> {
    let (content, padding) = block[HEADER_BYTES..].split_at(LEAF_ENTRIES * ENTRY_BYTES);
    if padding.iter().any(|&byte| byte != 0) {
        return Err("padding is not zero");
    }
    for (entry, bytes) in entries.iter_mut().zip(content.chunks_exact(ENTRY_BYTES)) {
        let raw = RawEntry::ref_from_bytes(bytes).expect("exact chunks");
        let location = raw.location.get();
        *entry = Entry {
            location: (location != 0).then_some(Cluster(location)),
            valid: raw.valid.get().into(),
            crc: raw.crc.map(U32::get),
        };
        if entry.location.is_none() != (entry.valid == 0) {
            return Err("valid pages without a cluster, or a cluster without valid pages");
        }
        let stray = |(page, &crc): (usize, &u32)| crc != 0 && entry.valid & (1 << page) == 0;
        if entry.crc.iter().enumerate().any(stray) {
            return Err("checksum of a page that is not valid");
        }
    }
    Ok(())
}

/// Checks an inner node against its parent's pointer and who it should be, and reads its pointers.
pub fn decode_inner(
    block: &Block,
    pointer: &NodePointer,
    identity: &NodeIdentity,
) -> Result<Box<InnerPointers>, &'static str> {
    let count = check_header(block, INNER_MAGIC, pointer, identity)?;
    let raw = <[RawNodePointer]>::ref_from_bytes(&block[HEADER_BYTES..]).expect("252 pointers");
    let mut pointers = Box::new([NodePointer::NONE; INNER_FANOUT]);
    for (target, raw) in pointers.iter_mut().zip(raw) {
        *target = NodePointer::from_raw(raw).ok_or("checksum of a node that does not exist")?;
    }
    if pointers.iter().filter(|pointer| !pointer.is_none()).count() != count || count == 0 {
        return Err("pointer count does not fit the pointers");
    }
    Ok(pointers)
}

fn check_header(
    block: &Block,
    magic: [u8; 4],
    pointer: &NodePointer,
    identity: &NodeIdentity,
) -> Result<usize, &'static str> {
    let (header, _) = RawNodeHeader::ref_from_prefix(&block[..]).expect("a block is larger");
    let sum = block_crc(block, CRC_OFFSET);
    if header.crc.get() != sum {
        return Err("checksum mismatch");
    }
    if sum != pointer.crc {
        return Err("intact, but not the node its parent points to");
    }
    let found = NodeIdentity {
        level: header.level.get(),
        index: header.index.get(),
        layer: header.layer.get(),
        volume_uuid: header.volume_uuid,
    };
    if header.magic != magic || found != *identity {
        return Err("another node is in its place");
    }
    if header.generation.get() as u32 != pointer.generation_low || header.reserved != [0; 16] {
        return Err("generation is not the one its parent says");
    }
    let limit = if magic == LEAF_MAGIC {
        LEAF_ENTRIES
    } else {
        INNER_FANOUT
    };
    let count = usize::from(header.count.get());
    (count <= limit)
        .then_some(count)
        .ok_or("count out of range")
}
