//! Golden bytes, round trips and malformed input for every structure of the format.

use std::path::PathBuf;

use proptest::prelude::*;

use super::alloc_page::{PageIdentity, PageKind, TABLE_ENTRIES_PER_PAGE, TableEntry};
use super::node::{INNER_FANOUT, LEAF_ENTRIES, NodeIdentity, NodePointer};
use super::reservations::ReservationsPointer;
use super::root::{Layer, PagePointer, Root, RootVolume};
use super::superblock::{Superblock, SuperblockFault};
use super::*;
use crate::types::{ALL_BLOCKS, CLUSTER_BLOCKS, CLUSTER_BYTES, Cluster, Entry};

/// Compares with the bytes in `testdata`, where trailing zeros are left out. A difference is a
/// change of the format: either a bug, or a new version. `STORE_BLESS=1` writes the file.
fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/format/testdata")
        .join(name);
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    if std::env::var_os("STORE_BLESS").is_some() {
        std::fs::write(&path, &bytes[..end]).expect("write the golden file");
    }
    let expected = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert!(
        expected == bytes[..end],
        "{name} differs from its golden bytes"
    );
}

fn superblock() -> Superblock {
    Superblock {
        pool_uuid: *b"0123456789abcdef",
        generation: 0x1122_3344_5566_7788,
        device_bytes: 64 << 20,
        cluster_count: 500,
        first_cluster_block: 320,
        root_block: 32,
        root_blocks: 129,
        alloc_block: 290,
        bitmap_pages: 1,
        table_pages: 2,
        root_bytes: 600,
        root_crc: 0xdead_beef,
        root_slot: 1,
        name: "main".into(),
        created_ms: 1_800_000_000_000,
        clean: true,
    }
}

fn volume(id: u64) -> RootVolume {
    RootVolume {
        id,
        uuid: [id as u8; 16],
        nguid: [0xa0 | id as u8; 16],
        name: format!("volume-{id}"),
        size_bytes: 1 << 30,
        block_bytes: 512,
        deleting: id.is_multiple_of(2),
        serial: *b"BDPL0123456789ABCDEF",
        layer: Layer {
            id: 0,
            root: NodePointer {
                block: 1000 + id,
                crc: 5,
                generation_low: 6,
            },
            depth: 2,
            mapped_clusters: 44,
        },
        extents: vec![(10, 16), (40, 8)],
        ring_bytes: 24 * CLUSTER_BYTES,
        epoch: 3,
        tail_position: 4096,
        tail_sequence: 9,
        tail_lsn: 17,
        open_sequence: 8,
        settled: true,
        created_ms: 1_800_000_000_001,
        journal_salt: 0x0102_0304_0506_0708,
        reservations: (id == 2).then_some(ReservationsPointer {
            cluster: 77,
            crc: 0xcafe_f00d,
        }),
    }
}

fn root() -> Root {
    Root {
        generation: 12,
        pool_uuid: *b"0123456789abcdef",
        next_volume_id: 9,
        volumes: vec![volume(1), volume(2), volume(7)],
        pages: vec![
            Some(PagePointer { crc: 7, slot: 1 }),
            None,
            Some(PagePointer { crc: 0, slot: 0 }),
        ],
    }
}

fn leaf() -> Box<node::LeafEntries> {
    let mut entries = Box::new([Entry::EMPTY; LEAF_ENTRIES]);
    for (index, entry) in entries
        .iter_mut()
        .enumerate()
        .filter(|(index, _)| index % 3 != 1)
    {
        entry.location = Some(Cluster(1 + index as u32));
        entry.valid = 0x8000_0001 << index.min(1) & ALL_BLOCKS;
        entry.valid |= 1;
        for page in (0..CLUSTER_BLOCKS).filter(|page| entry.valid & (1 << page) != 0) {
            entry.crc[page] = (index * CLUSTER_BLOCKS + page) as u32;
        }
    }
    entries
}

const IDENTITY: NodeIdentity = NodeIdentity {
    level: 0,
    index: 77,
    layer: 0,
    volume_uuid: *b"fedcba9876543210",
};
const PAGE: PageIdentity = PageIdentity {
    kind: PageKind::Table,
    page: 5,
    generation: 9,
    pool_uuid: *b"0123456789abcdef",
};

fn table_page() -> (Block, Vec<TableEntry>, u32) {
    let mut entries = vec![TableEntry::EMPTY; TABLE_ENTRIES_PER_PAGE];
    entries[0] = TableEntry {
        cluster: Cluster(8),
        mask: 1,
    };
    entries[251] = TableEntry {
        cluster: Cluster(9),
        mask: ALL_BLOCKS,
    };
    let mut block = [0; BLOCK_BYTES];
    alloc_page::encode_table(&entries, &mut block);
    let crc = alloc_page::seal_page(&mut block, &PAGE);
    (block, entries, crc)
}

#[test]
fn superblock_round_trip() {
    let block = superblock().encode();
    golden("superblock.bin", &block[..]);
    assert_eq!(Superblock::decode(&block), Ok(superblock()));
}

#[test]
fn every_flipped_bit_of_a_superblock_is_found() {
    let good = superblock().encode();
    for bit in (0..208 * 8).chain([4095 * 8, 300 * 8 + 3]) {
        let mut block = good.clone();
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&block).is_err(), "bit {bit}");
    }
}

/// Bytes in `testdata` as a program wrote them, with the zeros that are left out there.
fn written(name: &str, len_bytes: usize) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/format/testdata")
        .join(name);
    let mut bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    bytes.resize(len_bytes, 0);
    bytes
}

/// Version 2 had no reservations; everything else is the same.
#[test]
fn version_2_is_read() {
    let block = written("superblock_v2.bin", BLOCK_BYTES);
    let block = block.first_chunk().expect("a block");
    assert_eq!(block[12..16], [2, 0, 2, 0]);
    assert_eq!(Superblock::decode(block), Ok(superblock()));
    assert_eq!(superblock().encode()[12..16], [3, 0, 3, 0]);
    let mut expected = root();
    for volume in &mut expected.volumes {
        volume.reservations = None;
    }
    let bytes = written("root_v2.bin", expected.encode().len());
    assert_eq!(Root::decode(&bytes), Ok(expected));
}

/// Changes a field and seals again, as a program with a bug, or a hostile one, would.
fn resealed(change: impl FnOnce(&mut Superblock)) -> Result<Superblock, SuperblockFault> {
    let mut superblock = superblock();
    change(&mut superblock);
    Superblock::decode(&superblock.encode())
}

#[test]
fn impossible_superblocks_are_refused() {
    assert!(resealed(|_| ()).is_ok());
    let cases: [fn(&mut Superblock); 14] = [
        |s| s.cluster_count = 0,
        |s| s.cluster_count = 503,
        |s| s.cluster_count = u32::MAX,
        |s| s.first_cluster_block = 319,
        |s| s.first_cluster_block = 256,
        |s| s.first_cluster_block = u64::MAX - 63,
        |s| s.root_block = 16,
        |s| s.root_blocks = u64::MAX,
        |s| s.alloc_block = 289,
        |s| s.bitmap_pages = 2,
        |s| s.table_pages = 0,
        |s| s.root_bytes = 130 * 4096,
        |s| s.root_slot = 2,
        |s| s.generation = 0,
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let result = resealed(change);
        assert!(
            matches!(result, Err(SuperblockFault::Damaged(_))),
            "{number}: {result:?}"
        );
    }
}

#[test]
fn newer_versions_are_told_apart_from_damage() {
    let mut block = superblock().encode();
    block[12..14].copy_from_slice(&7u16.to_le_bytes());
    seal(&mut block[..], 8);
    assert_eq!(
        Superblock::decode(&block),
        Ok(superblock()),
        "a later one that we may read"
    );
    block[14..16].copy_from_slice(&5u16.to_le_bytes());
    assert_eq!(
        Superblock::decode(&block),
        Err(SuperblockFault::Damaged("checksum mismatch"))
    );
    seal(&mut block[..], 8);
    let newer = SuperblockFault::Newer {
        version: 7,
        minimum: 5,
    };
    assert_eq!(Superblock::decode(&block), Err(newer));
    assert_eq!(
        Superblock::decode(&[0; BLOCK_BYTES]),
        Err(SuperblockFault::NoMagic)
    );
}

#[test]
fn root_round_trip() {
    let bytes = root().encode();
    golden("root.bin", &bytes);
    assert_eq!(Root::decode(&bytes), Ok(root()));
    let empty = Root {
        volumes: Vec::new(),
        pages: Vec::new(),
        ..root()
    };
    assert_eq!(Root::decode(&empty.encode()), Ok(empty));
}

#[test]
fn impossible_roots_are_refused() {
    let cases: [fn(&mut Root); 15] = [
        |root| root.volumes[1].reservations = Some(ReservationsPointer { cluster: 0, crc: 1 }),
        |root| root.next_volume_id = 7,
        |root| root.volumes.swap(0, 1),
        |root| root.volumes[1].name = "volume-1".into(),
        |root| root.volumes[1].id = 1,
        |root| root.volumes[0].size_bytes = 0,
        |root| root.volumes[0].size_bytes = 513,
        |root| root.volumes[0].block_bytes = 1024,
        |root| root.volumes[0].serial[3] = b' ',
        |root| root.volumes[0].extents.clear(),
        |root| root.volumes[0].extents[0] = (u32::MAX, 16),
        |root| root.volumes[0].ring_bytes = 4096,
        |root| root.volumes[0].layer.depth = 9,
        |root| root.volumes[0].layer.root.block = 0,
        |root| root.volumes[0].extents[0].1 = 0,
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let mut root = root();
        change(&mut root);
        assert!(Root::decode(&root.encode()).is_err(), "case {number}");
    }
}

#[test]
fn roots_of_every_wrong_length_are_refused() {
    let bytes = root().encode();
    for len in 0..bytes.len() {
        assert!(Root::decode(&bytes[..len]).is_err(), "length {len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Root::decode(&longer).is_err());
}

#[test]
fn leaf_round_trip_and_identity() {
    let mut block = [0; BLOCK_BYTES];
    let crc = node::encode_leaf(&leaf(), &IDENTITY, 3, &mut block);
    golden("leaf.bin", &block);
    let pointer = NodePointer {
        block: 8,
        crc,
        generation_low: 3,
    };
    assert_eq!(node::decode_leaf(&block, &pointer, &IDENTITY), Ok(leaf()));
    let others = [
        NodeIdentity {
            level: 1,
            ..IDENTITY
        },
        NodeIdentity {
            index: 78,
            ..IDENTITY
        },
        NodeIdentity {
            layer: 1,
            ..IDENTITY
        },
        NodeIdentity {
            volume_uuid: [0; 16],
            ..IDENTITY
        },
    ];
    for other in others {
        assert!(
            node::decode_leaf(&block, &pointer, &other).is_err(),
            "{other:?}"
        );
    }
    let stale = NodePointer {
        generation_low: 2,
        ..pointer
    };
    assert!(node::decode_leaf(&block, &stale, &IDENTITY).is_err());
    let replaced = NodePointer {
        crc: crc ^ 1,
        ..pointer
    };
    let what = "intact, but not the node its parent points to";
    assert_eq!(node::decode_leaf(&block, &replaced, &IDENTITY), Err(what));
}

#[test]
fn inner_round_trip() {
    let mut pointers = Box::new([NodePointer::NONE; INNER_FANOUT]);
    pointers[0] = NodePointer {
        block: 1,
        crc: 2,
        generation_low: 3,
    };
    pointers[251] = NodePointer {
        block: u64::MAX,
        crc: 0,
        generation_low: 0,
    };
    let identity = NodeIdentity {
        level: 2,
        ..IDENTITY
    };
    let mut block = [0; BLOCK_BYTES];
    let crc = node::encode_inner(&pointers, &identity, 3, &mut block);
    golden("inner.bin", &block);
    let pointer = NodePointer {
        block: 8,
        crc,
        generation_low: 3,
    };
    assert_eq!(
        node::decode_inner(&block, &pointer, &identity),
        Ok(pointers)
    );
    assert!(node::decode_leaf(&block, &pointer, &identity).is_err());
}

#[test]
fn leaves_that_contradict_themselves_are_refused() {
    let cases: [fn(&mut node::LeafEntries); 3] = [
        |entries| entries[0].location = None,
        |entries| {
            entries[0] = Entry {
                valid: 0,
                crc: [0; CLUSTER_BLOCKS],
                ..entries[0]
            }
        },
        |entries| entries[0].crc[17] = 1,
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let mut entries = leaf();
        change(&mut entries);
        let mut block = [0; BLOCK_BYTES];
        let crc = node::encode_leaf(&entries, &IDENTITY, 3, &mut block);
        let pointer = NodePointer {
            block: 8,
            crc,
            generation_low: 3,
        };
        assert!(
            node::decode_leaf(&block, &pointer, &IDENTITY).is_err(),
            "case {number}"
        );
    }
}

#[test]
fn table_page_round_trip_and_identity() {
    let (block, entries, crc) = table_page();
    golden("table_page.bin", &block);
    let content = alloc_page::check_page(&block, crc, &PAGE).unwrap();
    assert_eq!(alloc_page::decode_table(content), Ok(entries));
    let others = [
        PageIdentity {
            kind: PageKind::Bitmap,
            ..PAGE
        },
        PageIdentity { page: 4, ..PAGE },
        PageIdentity {
            generation: 8,
            ..PAGE
        },
        PageIdentity {
            pool_uuid: [1; 16],
            ..PAGE
        },
    ];
    for other in others {
        assert!(
            alloc_page::check_page(&block, crc, &other).is_err(),
            "{other:?}"
        );
    }
    assert!(alloc_page::check_page(&block, crc ^ 1, &PAGE).is_err());
    let half = [TableEntry {
        cluster: Cluster(8),
        mask: 0,
    }];
    let mut block = block;
    alloc_page::encode_table(&half, &mut block);
    assert!(alloc_page::decode_table(&block[alloc_page::HEADER_BYTES..]).is_err());
}

#[test]
fn bitmap_page_golden() {
    let mut block = [0; BLOCK_BYTES];
    block[64] = 0x81;
    block[4095] = 0x80;
    let identity = PageIdentity {
        kind: PageKind::Bitmap,
        ..PAGE
    };
    let crc = alloc_page::seal_page(&mut block, &identity);
    golden("bitmap_page.bin", &block);
    let content = alloc_page::check_page(&block, crc, &identity).unwrap();
    assert_eq!((content[0], content[4031]), (0x81, 0x80));
}

#[test]
fn names_are_text_without_gaps() {
    assert_eq!(decode_name(&encode_name("a")), Some("a"));
    let longest = "x".repeat(64);
    assert_eq!(decode_name(&encode_name(&longest)), Some(longest.as_str()));
    assert_eq!(decode_name(&[0; 64]), None);
    let mut gap = encode_name("ab");
    gap[5] = b'c';
    assert_eq!(decode_name(&gap), None);
    assert_eq!(decode_name(&[0xff; 64]), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn leaves_round_trip(
        filled in prop::collection::vec((1u32.., 1..=ALL_BLOCKS, any::<u32>()), 0..=LEAF_ENTRIES),
        generation in any::<u64>(),
    ) {
        let mut entries = Box::new([Entry::EMPTY; LEAF_ENTRIES]);
        for (entry, (location, valid, crc)) in entries.iter_mut().zip(filled) {
            let of_page = |page: usize| if valid & (1 << page) != 0 { crc ^ page as u32 } else { 0 };
            *entry = Entry {
                location: Some(Cluster(location)),
                valid,
                crc: std::array::from_fn(of_page),
            };
        }
        let mut block = [0xaa; BLOCK_BYTES];
        let crc = node::encode_leaf(&entries, &IDENTITY, generation, &mut block);
        let pointer = NodePointer { block: 8, crc, generation_low: generation as u32 };
        prop_assert_eq!(node::decode_leaf(&block, &pointer, &IDENTITY), Ok(entries));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), BLOCK_BYTES),
        kind in 0usize..5,
    ) {
        let magic: &[u8] = [b"BEDPLATE", b"BPROOT01", b"BPALLOC1", b"BPMAPCL1", b"BPLF...."][kind];
        bytes[..8].copy_from_slice(magic);
        let _ = Root::decode(&bytes);
        let block: &mut Block = (&mut bytes[..]).try_into().expect("one block");
        let crc = seal(block, if kind == 4 { 4 } else { 8 });
        let _ = Superblock::decode(block);
        let _ = alloc_page::check_page(block, crc, &PAGE);
        let _ = alloc_page::decode_table(&block[64..]);
        let pointer = NodePointer { block: 1, crc, generation_low: 0 };
        prop_assert!(node::decode_leaf(block, &pointer, &IDENTITY).is_err());
        prop_assert!(node::decode_inner(block, &pointer, &IDENTITY).is_err());
    }
}
