//! The root: the volume table, and the checksums of the allocator's pages.
//!
//! Source: docs/format.md, "Root".

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::node::{NodePointer, RawNodePointer};
use super::reservations::ReservationsPointer;
use super::{decode_name, encode_name};
use crate::types::BLOCK_BYTES;

/// First bytes of a root.
pub const MAGIC: [u8; 8] = *b"BPROOT01";
/// Most volumes of a pool.
pub const VOLUMES_MAX: usize = 1024;
/// Most runs of a journal.
pub const EXTENTS_MAX: usize = 8;
/// Most layers of a map that a record holds by itself.
pub const LAYERS_MAX: usize = 4;

/// Header of the root, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRootHeader {
    magic: [u8; 8],
    generation: U64,
    pool_uuid: [u8; 16],
    volume_count: U32,
    page_count: U32,
    next_volume_id: U64,
    reserved: [u8; 16],
}

/// A layer of a map, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawLayer {
    id: U32,
    flags: U32,
    root: RawNodePointer,
    depth: U32,
    reserved: U32,
    mapped_clusters: U64,
}

/// A run of journal clusters, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawExtent {
    first_cluster: U64,
    cluster_count: U64,
}

/// A volume, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawVolume {
    id: U64,
    uuid: [u8; 16],
    nguid: [u8; 16],
    name: [u8; 64],
    size_bytes: U64,
    block_bytes: U32,
    state: U32,
    serial: [u8; 20],
    layer_count: U32,
    layers: [RawLayer; LAYERS_MAX],
    extent_count: U32,
    reservations_cluster: U32,
    extents: [RawExtent; EXTENTS_MAX],
    ring_bytes: U64,
    epoch: U64,
    tail_position: U64,
    tail_sequence: U64,
    tail_lsn: U64,
    open_sequence: U64,
    created_ms: U64,
    journal_salt: U64,
    flags: U32,
    reservations_crc: U32,
}

/// Where the current copy of an allocator page is, as bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawPagePointer {
    crc: U32,
    place: U32,
}

const HEADER_BYTES: usize = size_of::<RawRootHeader>();
const VOLUME_BYTES: usize = size_of::<RawVolume>();
const PAGE_POINTER_BYTES: usize = size_of::<RawPagePointer>();
const _: () = assert!(HEADER_BYTES == 64 && VOLUME_BYTES == 512 && PAGE_POINTER_BYTES == 8);
const _: () = assert!(size_of::<RawLayer>() == 40);
const _: () = assert!(std::mem::offset_of!(RawVolume, layers) == 144);
const _: () = assert!(std::mem::offset_of!(RawVolume, ring_bytes) == 440);

/// The one layer that a map has in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its id within the volume.
    pub id: u32,
    /// Its root node.
    pub root: NodePointer,
    /// Inner levels above the leaves.
    pub depth: u32,
    /// Clusters that hold data.
    pub mapped_clusters: u64,
}

/// A volume of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootVolume {
    /// Its id, never used again.
    pub id: u64,
    /// UUID.
    pub uuid: [u8; 16],
    /// Namespace Globally Unique Identifier.
    pub nguid: [u8; 16],
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block in bytes: 512 or 4096.
    pub block_bytes: u32,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Serial number, printable ASCII.
    pub serial: [u8; 20],
    /// Its map.
    pub layer: Layer,
    /// Runs of its journal as (first cluster, count).
    pub extents: Vec<(u32, u32)>,
    /// Length of the ring in bytes.
    pub ring_bytes: u64,
    /// Life of the volume that writes the journal.
    pub epoch: u64,
    /// Position of the first batch to replay.
    pub tail_position: u64,
    /// Its sequence.
    pub tail_sequence: u64,
    /// Its first LSN.
    pub tail_lsn: u64,
    /// Batches from this sequence on belong to `epoch` or later.
    pub open_sequence: u64,
    /// The direct data of earlier batches is durable.
    pub settled: bool,
    /// Milliseconds since 1970 at creation.
    pub created_ms: u64,
    /// Secret mixed into journal checksums.
    pub journal_salt: u64,
    /// What it keeps of its reservations.
    pub reservations: Option<ReservationsPointer>,
}

/// Where the current copy of an allocator page is. None in a list: the page is all zero and was
/// never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePointer {
    /// Its checksum.
    pub crc: u32,
    /// The allocator slot it is in: 0 or 1.
    pub slot: u32,
}

/// A root that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The publish that wrote it.
    pub generation: u64,
    /// The pool it belongs to.
    pub pool_uuid: [u8; 16],
    /// The id the next volume gets.
    pub next_volume_id: u64,
    /// Volumes in ascending order of their ids.
    pub volumes: Vec<RootVolume>,
    /// One for each allocator page.
    pub pages: Vec<Option<PagePointer>>,
}

/// Bytes of a root with this many volumes and allocator pages.
pub const fn root_bytes(volumes: usize, pages: usize) -> usize {
    HEADER_BYTES + volumes * VOLUME_BYTES + pages * PAGE_POINTER_BYTES
}

/// Blocks of a root slot that holds every root of a pool with this many allocator pages.
pub const fn root_blocks(pages: usize) -> u64 {
    root_bytes(VOLUMES_MAX, pages).div_ceil(BLOCK_BYTES) as u64
}

impl Root {
    /// Checks the bytes of a root, whose checksum was compared already.
    pub fn decode(bytes: &[u8]) -> Result<Root, &'static str> {
        let (header, rest) = RawRootHeader::ref_from_prefix(bytes).map_err(|_| "too short")?;
        if header.magic != MAGIC || header.reserved != [0; 16] {
            return Err("not a root");
        }
        let volumes = header.volume_count.get() as usize;
        let pages = header.page_count.get() as usize;
        if volumes > VOLUMES_MAX || bytes.len() != root_bytes(volumes, pages) {
            return Err("length does not fit the counts");
        }
        let (volumes, pages) = rest.split_at(volumes * VOLUME_BYTES);
        let volumes = <[RawVolume]>::ref_from_bytes(volumes).map_err(|_| "volume table")?;
        let pages = <[RawPagePointer]>::ref_from_bytes(pages).map_err(|_| "page list")?;
        let root = Root {
            generation: header.generation.get(),
            pool_uuid: header.pool_uuid,
            next_volume_id: header.next_volume_id.get(),
            volumes: volumes
                .iter()
                .map(RawVolume::check)
                .collect::<Result<_, _>>()?,
            pages: pages
                .iter()
                .map(RawPagePointer::check)
                .collect::<Result<_, _>>()?,
        };
        root.check_identities()?;
        Ok(root)
    }

    fn check_identities(&self) -> Result<(), &'static str> {
        let ids = self.volumes.iter().map(|volume| volume.id);
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err("volumes are not in order");
        }
        if self
            .volumes
            .iter()
            .any(|volume| volume.id >= self.next_volume_id)
        {
            return Err("volume id out of range");
        }
        let mut names: Vec<&str> = self.volumes.iter().map(|v| v.name.as_str()).collect();
        names.sort_unstable();
        let unique = names.windows(2).all(|pair| pair[0] != pair[1]);
        unique.then_some(()).ok_or("two volumes have one name")
    }

    /// The bytes of this root.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(root_bytes(self.volumes.len(), self.pages.len()));
        let header = RawRootHeader {
            magic: MAGIC,
            generation: self.generation.into(),
            pool_uuid: self.pool_uuid,
            volume_count: (self.volumes.len() as u32).into(),
            page_count: (self.pages.len() as u32).into(),
            next_volume_id: self.next_volume_id.into(),
            reserved: [0; 16],
        };
        bytes.extend_from_slice(header.as_bytes());
        for volume in &self.volumes {
            bytes.extend_from_slice(volume.to_raw().as_bytes());
        }
        for page in &self.pages {
            bytes.extend_from_slice(RawPagePointer::of(*page).as_bytes());
        }
        bytes
    }
}

impl RawPagePointer {
    fn check(&self) -> Result<Option<PagePointer>, &'static str> {
        match (self.place.get(), self.crc.get()) {
            (0, 0) => Ok(None),
            (place @ 1..=2, crc) => Ok(Some(PagePointer {
                crc,
                slot: place - 1,
            })),
            _ => Err("place of an allocator page out of range"),
        }
    }

    fn of(page: Option<PagePointer>) -> RawPagePointer {
        let (crc, place) = page.map_or((0, 0), |page| (page.crc, page.slot + 1));
        RawPagePointer {
            crc: crc.into(),
            place: place.into(),
        }
    }
}

const STATE_LIVE: u32 = 1;
const STATE_DELETING: u32 = 2;
const NO_LAYER: RawLayer = RawLayer {
    id: U32::ZERO,
    flags: U32::ZERO,
    root: RawNodePointer::ZERO,
    depth: U32::ZERO,
    reserved: U32::ZERO,
    mapped_clusters: U64::ZERO,
};
const NO_EXTENT: RawExtent = RawExtent {
    first_cluster: U64::ZERO,
    cluster_count: U64::ZERO,
};

/// Flag of a volume: see [`RootVolume::settled`].
const SETTLED: u32 = 1;

impl RawLayer {
    fn check(&self) -> Result<Layer, &'static str> {
        if self.flags.get() != 0 || self.reserved.get() != 0 || self.depth.get() > 8 {
            return Err("map layer out of range");
        }
        Ok(Layer {
            id: self.id.get(),
            root: NodePointer::from_raw(&self.root).ok_or("map root out of range")?,
            depth: self.depth.get(),
            mapped_clusters: self.mapped_clusters.get(),
        })
    }
}

impl RawVolume {
    fn check(&self) -> Result<RootVolume, &'static str> {
        if self.layer_count.get() != 1 || self.flags.get() & !SETTLED != 0 {
            return Err("volume uses something this version does not know");
        }
        let unused = self.layers[1..].as_bytes().iter().all(|&byte| byte == 0);
        let size_bytes = self.size_bytes.get();
        let block_bytes = self.block_bytes.get();
        if !unused || !matches!(block_bytes, 512 | 4096) {
            return Err("volume format out of range");
        }
        if size_bytes == 0 || !size_bytes.is_multiple_of(u64::from(block_bytes)) {
            return Err("volume size out of range");
        }
        if !self.serial.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err("serial number is not text");
        }
        Ok(RootVolume {
            id: self.id.get(),
            uuid: self.uuid,
            nguid: self.nguid,
            name: decode_name(&self.name)
                .ok_or("volume name is not text")?
                .to_owned(),
            size_bytes,
            block_bytes,
            deleting: self.check_state()?,
            serial: self.serial,
            layer: self.layers[0].check()?,
            extents: self.check_extents()?,
            ring_bytes: self.ring_bytes.get(),
            epoch: self.epoch.get(),
            tail_position: self.tail_position.get(),
            tail_sequence: self.tail_sequence.get(),
            tail_lsn: self.tail_lsn.get(),
            open_sequence: self.open_sequence.get(),
            settled: self.flags.get() & SETTLED != 0,
            created_ms: self.created_ms.get(),
            journal_salt: self.journal_salt.get(),
            reservations: self.check_reservations()?,
        })
    }

    fn check_reservations(&self) -> Result<Option<ReservationsPointer>, &'static str> {
        match (self.reservations_cluster.get(), self.reservations_crc.get()) {
            (0, 0) => Ok(None),
            (0, _) => Err("reservations in no place"),
            (cluster, crc) => Ok(Some(ReservationsPointer { cluster, crc })),
        }
    }

    fn check_state(&self) -> Result<bool, &'static str> {
        match self.state.get() {
            STATE_LIVE => Ok(false),
            STATE_DELETING => Ok(true),
            _ => Err("volume state out of range"),
        }
    }

    fn check_extents(&self) -> Result<Vec<(u32, u32)>, &'static str> {
        let count = self.extent_count.get() as usize;
        if count == 0 || count > EXTENTS_MAX {
            return Err("number of journal runs out of range");
        }
        let (extents, unused) = self.extents.split_at(count);
        let run = |raw: &RawExtent| {
            let first = u32::try_from(raw.first_cluster.get()).ok()?;
            let count = u32::try_from(raw.cluster_count.get()).ok()?;
            (count > 0 && first.checked_add(count).is_some()).then_some((first, count))
        };
        let runs: Option<Vec<_>> = extents.iter().map(run).collect();
        let runs = runs.ok_or("journal run out of range")?;
        let clusters: u64 = runs.iter().map(|&(_, count)| u64::from(count)).sum();
        let fits = self.ring_bytes.get() == clusters * crate::types::CLUSTER_BYTES;
        let zero = unused.as_bytes().iter().all(|&byte| byte == 0);
        (fits && zero)
            .then_some(runs)
            .ok_or("journal length does not fit its runs")
    }
}

impl RootVolume {
    fn to_raw(&self) -> RawVolume {
        let mut layers = [NO_LAYER; LAYERS_MAX];
        layers[0] = RawLayer {
            id: self.layer.id.into(),
            flags: U32::ZERO,
            root: self.layer.root.to_raw(),
            depth: self.layer.depth.into(),
            reserved: U32::ZERO,
            mapped_clusters: self.layer.mapped_clusters.into(),
        };
        let mut extents = [NO_EXTENT; EXTENTS_MAX];
        for (raw, &(first, count)) in extents.iter_mut().zip(&self.extents) {
            raw.first_cluster = u64::from(first).into();
            raw.cluster_count = u64::from(count).into();
        }
        RawVolume {
            id: self.id.into(),
            uuid: self.uuid,
            nguid: self.nguid,
            name: encode_name(&self.name),
            size_bytes: self.size_bytes.into(),
            block_bytes: self.block_bytes.into(),
            state: if self.deleting {
                STATE_DELETING
            } else {
                STATE_LIVE
            }
            .into(),
            serial: self.serial,
            layer_count: 1.into(),
            layers,
            extent_count: (self.extents.len() as u32).into(),
            reservations_cluster: self.reservations.map_or(0, |kept| kept.cluster).into(),
            extents,
            ring_bytes: self.ring_bytes.into(),
            epoch: self.epoch.into(),
            tail_position: self.tail_position.into(),
            tail_sequence: self.tail_sequence.into(),
            tail_lsn: self.tail_lsn.into(),
            open_sequence: self.open_sequence.into(),
            created_ms: self.created_ms.into(),
            journal_salt: self.journal_salt.into(),
            flags: if self.settled { SETTLED } else { 0 }.into(),
            reservations_crc: self.reservations.map_or(0, |kept| kept.crc).into(),
        }
    }
}
