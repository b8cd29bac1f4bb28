//! Pages of the allocator: the bitmap of clusters, and the table of map clusters.
//!
//! Source: docs/format.md, "Allocator" and "Map cluster table".

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Block, block_crc, seal};
use crate::types::{ALL_BLOCKS, BLOCK_BYTES, Cluster};

/// First bytes of a page of the bitmap.
pub const BITMAP_MAGIC: [u8; 8] = *b"BPALLOC1";
/// First bytes of a page of the map cluster table.
pub const TABLE_MAGIC: [u8; 8] = *b"BPMAPCL1";
/// Bytes before the content of a page.
pub const HEADER_BYTES: usize = 64;
/// Bytes of content.
pub const CONTENT_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;
/// Clusters that one page of the bitmap covers.
pub const BITS_PER_PAGE: usize = CONTENT_BYTES * 8;
/// Map clusters that one page of the table holds.
pub const TABLE_ENTRIES_PER_PAGE: usize = CONTENT_BYTES / size_of::<RawTableEntry>();
const CRC_OFFSET: usize = 8;

/// Header of both kinds of page, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawPageHeader {
    magic: [u8; 8],
    crc: U32,
    page: U32,
    generation: U64,
    pool_uuid: [u8; 16],
    reserved: [u8; 24],
}

/// A map cluster, as bytes. A free entry is all zero.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawTableEntry {
    cluster: U32,
    reserved: U32,
    mask: U64,
}

const _: () = assert!(size_of::<RawPageHeader>() == HEADER_BYTES);
const _: () = assert!(size_of::<RawTableEntry>() == 16);
const _: () = assert!(std::mem::offset_of!(RawPageHeader, crc) == CRC_OFFSET);
const _: () = assert!(BITS_PER_PAGE == 32_256 && TABLE_ENTRIES_PER_PAGE == 252);

/// Which of the two kinds a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// One bit per cluster.
    Bitmap,
    /// Map clusters with a mask of their used blocks.
    Table,
}

impl PageKind {
    fn magic(self) -> [u8; 8] {
        match self {
            PageKind::Bitmap => BITMAP_MAGIC,
            PageKind::Table => TABLE_MAGIC,
        }
    }
}

/// Who a page says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageIdentity {
    /// Its kind.
    pub kind: PageKind,
    /// Its index within an allocator slot, over both kinds.
    pub page: u32,
    /// The publish that wrote it.
    pub generation: u64,
    /// The pool it belongs to.
    pub pool_uuid: [u8; 16],
}

/// One entry of the map cluster table. Cluster 0: not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The map cluster.
    pub cluster: Cluster,
    /// Bit b: block b of the cluster holds a node.
    pub mask: u64,
}

impl TableEntry {
    /// Not in use.
    pub const EMPTY: TableEntry = TableEntry {
        cluster: Cluster(0),
        mask: 0,
    };
}

/// Finishes a page whose content is in place; gives the CRC for the list in the root.
pub fn seal_page(block: &mut Block, identity: &PageIdentity) -> u32 {
    let header = RawPageHeader {
        magic: identity.kind.magic(),
        crc: U32::ZERO,
        page: identity.page.into(),
        generation: identity.generation.into(),
        pool_uuid: identity.pool_uuid,
        reserved: [0; 24],
    };
    header
        .write_to_prefix(&mut block[..])
        .expect("a block is larger");
    seal(&mut block[..], CRC_OFFSET)
}

/// Checks a page against the CRC its root lists and against who it should be; gives its content.
///
/// `expected.generation` is the newest publish it may come from.
pub fn check_page<'a>(
    block: &'a Block,
    crc: u32,
    expected: &PageIdentity,
) -> Result<&'a [u8], &'static str> {
    let (header, content) = RawPageHeader::ref_from_prefix(&block[..]).expect("larger");
    if header.crc.get() != crc || block_crc(block, CRC_OFFSET) != crc {
        return Err("checksum mismatch");
    }
    if header.magic != expected.kind.magic() || header.page.get() != expected.page {
        return Err("another page is in its place");
    }
    if header.pool_uuid != expected.pool_uuid {
        return Err("a page of another pool is in its place");
    }
    if header.generation.get() > expected.generation || header.reserved != [0; 24] {
        return Err("header out of range");
    }
    Ok(content)
}

/// Writes table entries into the content of a page; the rest of it becomes free entries.
pub fn encode_table(entries: &[TableEntry], block: &mut Block) {
    assert!(entries.len() <= TABLE_ENTRIES_PER_PAGE);
    let content = &mut block[HEADER_BYTES..];
    content.fill(0);
    for (entry, bytes) in entries.iter().zip(content.chunks_exact_mut(16)) {
        let raw = RawTableEntry {
            cluster: entry.cluster.0.into(),
            reserved: U32::ZERO,
            mask: entry.mask.into(),
        };
        bytes.copy_from_slice(raw.as_bytes());
    }
}

/// The entries of the content of a table page. Each is in use or empty, nothing in between.
pub fn decode_table(content: &[u8]) -> Result<Vec<TableEntry>, &'static str> {
    let raw = <[RawTableEntry]>::ref_from_bytes(content).map_err(|_| "content length")?;
    let check = |raw: &RawTableEntry| {
        let (cluster, mask) = (Cluster(raw.cluster.get()), raw.mask.get());
        if raw.reserved.get() != 0 || (cluster.0 == 0) != (mask == 0) || mask & !ALL_BLOCKS != 0 {
            return Err("map cluster entry out of range");
        }
        Ok(TableEntry { cluster, mask })
    };
    raw.iter().map(check).collect()
}
