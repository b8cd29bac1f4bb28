//! What the offline check finds where every checksum is right: pools forged by hand, as a defect
//! of a writer would leave them. Each finding says what is wrong, and where.

mod common;

use std::rc::Rc;

use common::*;
use reactor::sim::World;
use store::format::alloc_page::{
    HEADER_BYTES, PageIdentity, PageKind, TableEntry, decode_table, encode_table, seal_page,
};
use store::format::node::{NodeIdentity, decode_inner, encode_inner};
use store::format::root::{PagePointer, Root, RootVolume};
use store::format::superblock::Superblock;
use store::fsck::{ClusterUser, Finding, FsckOptions, fsck};
use store::journal::batch::{encode, header_len};
use store::journal::{Header, Identity, Record, RecordKind, Ring};
use store::{ALL_BLOCKS, CLUSTER_BLOCKS, CLUSTER_BYTES, Cluster, VolumeRecord, crc32c};

const BLOCK: u64 = 4096;

/// A pool with a volume of five leaves that has data in two of them.
fn pool() -> World {
    let mut world = world(1);
    life(&mut world, || async {
        let pool = create().await.expect("create");
        let small = NewVolume {
            size_bytes: 16 << 20,
            ..spec("a")
        };
        let record = pool.create_volume(small).await.expect("create");
        let mut writer = Writer::new(&pool, &record).await;
        writer.put(0, 0b11, 1).await.expect("put");
        writer.put(40, 0b100, 1).await.expect("put");
        writer.publish().await.expect("publish");
    })
    .expect("no crash");
    world
}

/// The findings of the check, with the line that each is shown as.
fn check(world: &mut World) -> Vec<(Finding, String)> {
    let report = life(world, || async {
        let device = device().expect("open");
        let report = fsck(&device, FsckOptions::default(), &mut |_| ()).await;
        report.expect("the check runs")
    });
    let report = report.expect("no crash");
    let damage = report.findings.iter().any(Finding::is_damage);
    assert_eq!(report.is_damaged, damage);
    let line = |finding: Finding| (finding.clone(), finding.to_string());
    report.findings.into_iter().map(line).collect()
}

/// Asserts that the check finds just this, and that the line has all these words.
fn finds(world: &mut World, finding: Finding, words: &[&str]) {
    let found = check(world);
    let [(only, line)] = &found[..] else {
        panic!("{found:#?}")
    };
    assert_eq!(*only, finding);
    assert!(only.is_damage());
    says(line, words);
}

fn says(line: &str, words: &[&str]) {
    let missing: Vec<_> = words.iter().filter(|word| !line.contains(**word)).collect();
    assert!(missing.is_empty(), "{line:?} does not say {missing:?}");
}

/// The metadata of a pool, to be changed and sealed again.
struct Forge<'a> {
    world: &'a World,
    superblock: Superblock,
    root: Root,
}

impl Forge<'_> {
    fn open(world: &World) -> Forge<'_> {
        let disk = world.disk("pool");
        let block = disk.bytes(0..BLOCK).try_into().expect("a block");
        let superblock = Superblock::decode(&block).expect("a superblock");
        let offset = Self::root_offset(&superblock);
        let bytes = disk.bytes(offset..offset + superblock.root_bytes);
        let root = Root::decode(&bytes).expect("a root");
        Forge {
            world,
            superblock,
            root,
        }
    }

    fn root_offset(superblock: &Superblock) -> u64 {
        let slot = u64::from(superblock.root_slot) * superblock.root_blocks;
        (superblock.root_block + slot) * BLOCK
    }

    /// Seals root and superblocks.
    fn close(mut self) {
        let (disk, bytes) = (self.world.disk("pool"), self.root.encode());
        disk.corrupt(Self::root_offset(&self.superblock), &bytes);
        self.superblock.root_crc = crc32c(&bytes);
        let block = self.superblock.encode();
        disk.corrupt(0, &block[..]);
        disk.corrupt(16 * BLOCK, &block[..]);
    }

    fn volume(&mut self) -> &mut RootVolume {
        &mut self.root.volumes[0]
    }

    /// Changes the first page of the map cluster table.
    fn table(&mut self, change: impl FnOnce(&mut Vec<TableEntry>)) {
        let page = self.superblock.bitmap_pages;
        let pages = u64::from(page + self.superblock.table_pages);
        let pointer = self.root.pages[page as usize].expect("written");
        let block = self.superblock.alloc_block + u64::from(pointer.slot) * pages;
        let offset = (block + u64::from(page)) * BLOCK;
        let disk = self.world.disk("pool");
        let mut bytes = disk.bytes(offset..offset + BLOCK);
        let mut entries = decode_table(&bytes[HEADER_BYTES..]).expect("a table");
        change(&mut entries);
        let bytes: &mut [u8; 4096] = bytes.as_mut_slice().try_into().expect("a block");
        encode_table(&entries, bytes);
        let identity = PageIdentity {
            kind: PageKind::Table,
            page,
            generation: self.superblock.generation,
            pool_uuid: self.superblock.pool_uuid,
        };
        let crc = seal_page(bytes, &identity);
        disk.corrupt(offset, &bytes[..]);
        self.root.pages[page as usize] = Some(PagePointer { crc, ..pointer });
    }
}

/// The table's only cluster with this mask.
fn map_cluster(entries: &mut [TableEntry]) -> &mut TableEntry {
    let mut used = entries.iter_mut().filter(|entry| entry.mask != 0);
    used.next().expect("a map cluster")
}

#[test]
fn a_page_beyond_the_end_of_a_volume() {
    let mut world = world(1);
    let volume = life(&mut world, || async {
        let pool = create().await.expect("create");
        let odd = NewVolume {
            size_bytes: CLUSTER_BYTES + 5 * 4096,
            ..spec("a")
        };
        let record = pool.create_volume(odd).await.expect("create");
        let mut writer = Writer::new(&pool, &record).await;
        writer.put(0, ALL_BLOCKS, 1).await.expect("put");
        writer.put(1, 0b1_1111, 1).await.expect("put");
        writer.publish().await.expect("publish");
        record.id
    });
    let volume = volume.expect("no crash");
    assert_eq!(
        check(&mut world),
        [],
        "the last page of the volume is its own"
    );
    life(&mut world, || async {
        let pool = open().await.expect("open");
        let mut writer = Writer::new(&pool, &pool.records()[0]).await;
        writer.put(1, 0b11_1111, 2).await.expect("put");
        writer.publish().await.expect("publish");
    });
    let finding = Finding::BeyondVolume {
        volume,
        cluster_index: 1,
    };
    let words = ["volume #1", "cluster 1", "beyond its end"];
    finds(&mut world, finding, &words);
}

#[test]
fn blocks_that_hold_no_node() {
    let mut world = pool();
    let mut cluster = Cluster(0);
    let mut forge = Forge::open(&world);
    forge.table(|entries| {
        let entry = map_cluster(entries);
        entry.mask |= 0b101 << 29;
        cluster = entry.cluster;
    });
    forge.close();
    let mask = 0b101 << 29;
    let place = cluster.to_string();
    let finding = Finding::LeakedBlocks { cluster, mask };
    finds(&mut world, finding, &[&place, "a0000000", "no map node"]);
}

#[test]
fn a_node_in_a_block_that_is_marked_free() {
    let mut world = pool();
    let mut cluster = Cluster(0);
    let mut forge = Forge::open(&world);
    forge.table(|entries| {
        let entry = map_cluster(entries);
        entry.mask &= entry.mask - 1;
        cluster = entry.cluster;
    });
    forge.close();
    let by = ClusterUser::MapNodes;
    let place = cluster.to_string();
    let finding = Finding::NotAllocated { cluster, by };
    finds(&mut world, finding, &[&place, "map nodes", "marked free"]);
}

#[test]
fn a_node_with_two_parents() {
    let mut world = pool();
    let mut forge = Forge::open(&world);
    let volume_uuid = forge.volume().uuid;
    let pointer = forge.volume().layer.root;
    let identity = NodeIdentity {
        level: 1,
        index: 0,
        layer: 0,
        volume_uuid,
    };
    let disk = world.disk("pool");
    let offset = pointer.block * BLOCK;
    let mut bytes: [u8; 4096] = disk
        .bytes(offset..offset + BLOCK)
        .try_into()
        .expect("a block");
    let mut pointers = decode_inner(&bytes, &pointer, &identity).expect("a node");
    pointers[2] = pointers[1];
    let block = pointers[1].block;
    let generation = u64::from(pointer.generation_low);
    forge.volume().layer.root.crc = encode_inner(&pointers, &identity, generation, &mut bytes);
    disk.corrupt(offset, &bytes);
    forge.close();
    let found = check(&mut world);
    let (finding, line) = &found[0];
    let is_it =
        |finding: &Finding| matches!(finding, Finding::NodeBlock { block: b, .. } if *b == block);
    assert!(is_it(finding), "{found:#?}");
    says(
        line,
        &[
            "volume #1",
            &format!("block {block}:"),
            "another node uses it",
        ],
    );
    says(
        &found[1].1,
        &["(a): map node 2 of level 0", "another node is in its place"],
    );
}

#[test]
fn a_volume_that_counts_its_clusters_wrongly() {
    let mut world = pool();
    let mut forge = Forge::open(&world);
    let volume = store::VolumeId(forge.volume().id);
    forge.volume().layer.mapped_clusters = 9;
    forge.close();
    let finding = Finding::MappedCount {
        volume,
        recorded: 9,
        counted: 2,
    };
    finds(
        &mut world,
        finding,
        &["volume #1", "2 clusters mapped", "says 9"],
    );
}

#[test]
fn a_journal_too_short_for_a_batch() {
    let mut world = pool();
    let mut forge = Forge::open(&world);
    let volume = forge.volume();
    let first = Cluster(volume.extents[0].0 + 8);
    let count = volume.extents[0].1 - 8;
    volume.extents = vec![(first.0 - 8, 8)];
    volume.ring_bytes = 8 * CLUSTER_BYTES;
    let (id, position) = (store::VolumeId(volume.id), volume.tail_position);
    forge.close();
    let found = check(&mut world);
    let what = "a run is too short for a batch";
    let expected = [
        Finding::Journal {
            volume: id,
            position,
            what,
        },
        Finding::Leaked { first, count },
    ];
    let findings: Vec<_> = found.iter().map(|(finding, _)| finding.clone()).collect();
    assert_eq!(findings, expected);
    says(&found[0].1, &["volume #1", "journal at position", what]);
    says(
        &found[1].1,
        &[&first.to_string(), &format!("{count} clusters")],
    );
}

/// Writes batches of one record each to the journal of the volume.
struct Journal {
    record: Rc<VolumeRecord>,
    ring: Ring,
    next: Header,
}

impl Journal {
    fn open(world: &mut World) -> Journal {
        let record = life(world, || async {
            let pool = open().await.expect("open");
            pool.records()[0].clone()
        });
        let record = record.expect("no crash");
        let mark = record.mark;
        let next = Header {
            epoch: mark.epoch,
            sequence: mark.tail_sequence,
            position: mark.tail_position,
            previous_end: mark.tail_position,
            first_lsn: mark.tail_lsn,
            durable_lsn: 0,
        };
        let ring = Ring::new(&record.journal_runs).expect("a ring");
        Journal { record, ring, next }
    }

    /// Gives the position of the batch.
    fn append(&mut self, world: &World, record: Record) -> u64 {
        let identity = Identity {
            volume_uuid: self.record.uuid,
            salt: self.record.journal_salt,
        };
        let mut bytes = vec![0; header_len(record.encoded_len())];
        let crcs = vec![9; record.crc_count()];
        encode(&mut bytes, &identity, &self.next, &[record], &crcs);
        let position = self.next.position;
        world.disk("pool").corrupt(self.offset(position), &bytes);
        self.next.position += bytes.len() as u64;
        self.next.previous_end = self.next.position;
        self.next.sequence += 1;
        self.next.first_lsn += 1;
        position
    }

    fn offset(&self, position: u64) -> u64 {
        self.ring.locate(position).device_offset
    }

    fn finding(&self, position: u64, what: &'static str) -> Finding {
        let volume = self.record.id;
        Finding::Journal {
            volume,
            position,
            what,
        }
    }
}

const ZERO: Record = Record {
    kind: RecordKind::Zero,
    first_page: 0,
    page_count: 1,
    payload_block: 0,
    cluster: Cluster(0),
    page_in_cluster: 0,
};

#[test]
fn a_journal_record_that_names_a_cluster_outside_of_the_pool() {
    let first = Forge::open(&pool()).superblock.first_cluster_block / CLUSTER_BLOCKS as u64;
    for cluster in [first as u32 - 1, POOL_BYTES.div_ceil(CLUSTER_BYTES) as u32] {
        let mut world = pool();
        let mut journal = Journal::open(&mut world);
        journal.append(&world, ZERO);
        let direct = Record {
            kind: RecordKind::Direct,
            cluster: Cluster(cluster),
            first_page: 64,
            ..ZERO
        };
        let position = journal.append(&world, direct);
        let what = "a record names a cluster outside of the pool";
        let finding = journal.finding(position, what);
        let place = format!("journal at position {position}");
        finds(&mut world, finding, &["volume #1", &place, what]);
    }
}

#[test]
fn a_journal_that_breaks_off_below_what_was_durable() {
    let mut world = pool();
    let mut journal = Journal::open(&mut world);
    journal.append(&world, ZERO);
    let position = journal.append(&world, ZERO);
    journal.next.durable_lsn = journal.next.first_lsn - 1;
    journal.append(&world, ZERO);
    assert_eq!(check(&mut world), []);
    world.disk("pool").flip_bit(journal.offset(position) + 40);
    let what = "damaged: the volume record or a later batch proves that this one was durable";
    let finding = journal.finding(position, what);
    let place = format!("journal at position {position}");
    finds(&mut world, finding, &["volume #1", &place, "damaged"]);
}

#[test]
fn a_journal_that_cannot_be_read() {
    let mut world = pool();
    let mut journal = Journal::open(&mut world);
    journal.append(&world, ZERO);
    let position = journal.append(&world, ZERO);
    let offset = journal.offset(position);
    world.disk("pool").latent_error(offset..offset + BLOCK);
    let finding = journal.finding(position, "cannot be read");
    let place = format!("journal at position {position}");
    finds(
        &mut world,
        finding,
        &["volume #1", &place, "cannot be read"],
    );
}
