//! Opens a pool: everything is checked before anything is written.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use block::Device;
use reactor::buf::engine_alloc;
use reactor::sync::Mutex;

use crate::alloc::Allocator;
use crate::error::StoreError;
use crate::format::Block;
use crate::format::alloc_page::{self, PageIdentity, PageKind, TABLE_ENTRIES_PER_PAGE};
use crate::format::root::{PagePointer, Root};
use crate::format::superblock::Superblock;
use crate::map::LeafBudget;
use crate::pool::superblocks::{SlotFact, Superblocks, decide, read_superblocks};
use crate::pool::{Identity, Pool, PoolGeometry, PoolInner, Published, VolumeRecord};
use crate::types::BLOCK_BYTES;

/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Leaves kept in memory where nothing is said.
const LEAF_CACHE_BYTES_DEFAULT: usize = 64 << 20;

/// How a pool is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Memory for map leaves, shared by the volumes of the pool. Leaves with changes stay in memory until they are
    /// published and may exceed it.
    pub leaf_cache_bytes: usize,
    /// Never write; the device may be opened read-only too.
    pub read_only: bool,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions {
            leaf_cache_bytes: LEAF_CACHE_BYTES_DEFAULT,
            read_only: false,
        }
    }
}

/// Everything that opening reads.
pub(crate) struct Loaded {
    pub(crate) superblock: Superblock,
    pub(crate) superblocks: Superblocks,
    pub(crate) geometry: PoolGeometry,
    pub(crate) root: Root,
    pub(crate) alloc: Allocator,
}

impl Pool {
    /// Opens the pool on a device. Nothing is written, also when it fails.
    ///
    /// Errors: `NotAPool`, `NewerFormat`, `OlderFormat`, `Truncated`, `SuperblocksDamaged`, `RootDamaged`,
    /// `AllocatorDamaged`, `Device`; each says what to do. Cost: one device flush, the volume
    /// table, and the allocator: 40 KiB for each 32 GiB of pool.
    /// Source: docs/format.md, "Opening a pool".
    pub async fn open(device: Device, options: OpenOptions) -> Result<Pool, StoreError> {
        if !options.read_only {
            // What a killed process left in the device's cache can be read now and lost with the
            // power later, after its space was used again: make what we will read durable.
            device.flush().await?;
        }
        let facts = read_superblocks(&device).await;
        let loaded = load(&device, &facts).await?;
        tracing::info!(
            pool = %loaded.superblock.name,
            generation = loaded.superblock.generation,
            clean = loaded.superblock.clean,
            volumes = loaded.root.volumes.len(),
            "pool opened"
        );
        Ok(Pool(Rc::new(build(device, loaded, options))))
    }
}

/// Reads and checks superblock, root and allocator.
async fn load(device: &Device, facts: &[SlotFact; 2]) -> Result<Loaded, StoreError> {
    let superblock = decide(device, facts).await?;
    let geometry = PoolGeometry::of(&superblock);
    let root = load_root(device, &superblock).await?;
    let alloc = load_allocator(device, &superblock, &root).await?;
    let generation = |fact: &SlotFact| match fact {
        SlotFact::Valid(valid) => Some(valid.generation),
        _ => None,
    };
    let superblocks = Superblocks {
        holds: [generation(&facts[0]), generation(&facts[1])],
    };
    Ok(Loaded {
        superblock,
        superblocks,
        geometry,
        root,
        alloc,
    })
}

fn build(device: Device, loaded: Loaded, options: OpenOptions) -> PoolInner {
    let superblock = loaded.superblock;
    let records = loaded
        .root
        .volumes
        .into_iter()
        .map(VolumeRecord::from)
        .map(Rc::new)
        .collect();
    PoolInner {
        device,
        identity: Identity {
            name: superblock.name.into(),
            uuid: superblock.pool_uuid,
            created_ms: superblock.created_ms,
        },
        geometry: loaded.geometry,
        alloc: Rc::new(RefCell::new(loaded.alloc)),
        published: RefCell::new(Published {
            generation: superblock.generation,
            root_slot: superblock.root_slot,
            next_volume_id: loaded.root.next_volume_id,
            records,
            pages: loaded.root.pages,
            clean: superblock.clean,
        }),
        publishing: Mutex::new(loaded.superblocks),
        failed: RefCell::new(None),
        closed: Cell::new(false),
        opened_clean: superblock.clean,
        read_only: options.read_only,
        leaf_budget: LeafBudget::new(options.leaf_cache_bytes),
    }
}

/// Reads the root that a superblock points to, and checks it against the superblock.
pub(crate) async fn load_root(
    device: &Device,
    superblock: &Superblock,
) -> Result<Root, StoreError> {
    let geometry = PoolGeometry::of(superblock);
    let damaged = |what| StoreError::RootDamaged {
        path: device.path().to_owned(),
        slot: superblock.root_slot,
        generation: superblock.generation,
        what,
    };
    let offset = geometry.root_offset(superblock.root_slot);
    let bytes = read_bytes(device, offset, superblock.root_bytes as usize).await?;
    if crate::checksum::crc32c(&bytes) != superblock.root_crc {
        return Err(damaged("checksum mismatch"));
    }
    let root = Root::decode(&bytes).map_err(damaged)?;
    if root.generation != superblock.generation || root.pool_uuid != superblock.pool_uuid {
        return Err(damaged("another root is in its place"));
    }
    check_root(&root, &geometry).map_err(damaged)?;
    Ok(root)
}

/// What the root says lies within the pool, and belongs to one volume only.
fn check_root(root: &Root, geometry: &PoolGeometry) -> Result<(), &'static str> {
    if root.pages.len() != geometry.page_count() as usize {
        return Err("number of allocator pages does not fit the pool");
    }
    let mut runs = Vec::new();
    for volume in &root.volumes {
        for &(first, count) in &volume.extents {
            let last = crate::types::Cluster(first + (count - 1));
            if !geometry.contains(crate::types::Cluster(first)) || !geometry.contains(last) {
                return Err("a journal lies outside of the pool");
            }
            runs.push((first, count));
        }
        if let Some(kept) = volume.reservations {
            if !geometry.contains(crate::types::Cluster(kept.cluster)) {
                return Err("reservations lie outside of the pool");
            }
            runs.push((kept.cluster, 1));
        }
        let pointer = volume.layer.root;
        if !pointer.is_none() && !geometry.contains_block(pointer.block) {
            return Err("a map lies outside of the pool");
        }
        if volume.layer.depth != crate::map::depth_of(volume.size_bytes) {
            return Err("the depth of a map does not fit its volume");
        }
    }
    runs.sort_unstable();
    let apart = runs
        .windows(2)
        .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0);
    apart
        .then_some(())
        .ok_or("two journals or reservations overlap")
}

pub(crate) async fn load_allocator(
    device: &Device,
    superblock: &Superblock,
    root: &Root,
) -> Result<Allocator, StoreError> {
    let geometry = PoolGeometry::of(superblock);
    let mut alloc = Allocator::new(&geometry);
    let mut page = 0;
    while page < geometry.page_count() {
        let pages = same_slot_run(&root.pages, page);
        if let Some(first) = root.pages[page as usize] {
            let offset = geometry.page_block(page, first.slot) * BLOCK_BYTES as u64;
            let bytes = read_bytes(device, offset, pages as usize * BLOCK_BYTES).await?;
            for (page, block) in (page..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
                let pointer = root.pages[page as usize].expect("a run of written pages");
                let loaded = load_page(&mut alloc, superblock, page, pointer, block);
                loaded.map_err(|what| StoreError::AllocatorDamaged {
                    path: device.path().to_owned(),
                    page,
                    block: geometry.page_block(page, pointer.slot),
                    what,
                })?;
            }
        }
        page += pages;
    }
    alloc.loaded();
    Ok(alloc)
}

/// How many pages from `page` on are in the same slot (or all unwritten), within one read.
fn same_slot_run(pages: &[Option<PagePointer>], page: u32) -> u32 {
    let slot = |pointer: &Option<PagePointer>| pointer.map(|pointer| pointer.slot);
    let rest = &pages[page as usize..];
    let same = rest
        .iter()
        .take_while(|pointer| slot(pointer) == slot(&rest[0]))
        .count();
    same.min(READ_BYTES / BLOCK_BYTES) as u32
}

fn load_page(
    alloc: &mut Allocator,
    superblock: &Superblock,
    page: u32,
    pointer: PagePointer,
    block: &[u8],
) -> Result<(), &'static str> {
    let block: &Block = block.try_into().expect("one block");
    let in_table = page.checked_sub(superblock.bitmap_pages);
    let identity = PageIdentity {
        kind: if in_table.is_some() {
            PageKind::Table
        } else {
            PageKind::Bitmap
        },
        page,
        generation: superblock.generation,
        pool_uuid: superblock.pool_uuid,
    };
    let content = alloc_page::check_page(block, pointer.crc, &identity)?;
    let Some(table_page) = in_table else {
        let fits = alloc.load_bitmap_page(page, content);
        return fits.then_some(()).ok_or("uses clusters beyond the end");
    };
    let first = table_page * TABLE_ENTRIES_PER_PAGE as u32;
    for (slot, entry) in (first..).zip(alloc_page::decode_table(content)?) {
        if !alloc.load_table_entry(slot, entry) {
            return Err("lists a map cluster that is not in use, or twice");
        }
    }
    Ok(())
}

/// Reads `len` bytes from a block on, however long.
async fn read_bytes(device: &Device, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let wanted = (len - bytes.len())
            .next_multiple_of(BLOCK_BYTES)
            .min(READ_BYTES);
        let buf = engine_alloc(wanted).await;
        let (result, buf) = device.read(offset + bytes.len() as u64, buf).await;
        result?;
        let take = (len - bytes.len()).min(wanted);
        bytes.extend_from_slice(&buf[..take]);
    }
    Ok(bytes)
}
