//! Journals that say the impossible under a correct checksum, as a defect of a writer would leave
//! them: the volume is refused with the record and the rule, and nobody's data is touched.

mod common;

use std::path::Path;
use std::rc::Rc;

use common::broken::*;
use common::*;
use reactor::sim::World;
use store::journal::batch::{encode, header_len};
use store::journal::{Header, Identity, Record, RecordKind, Ring};
use store::{CLUSTER_BYTES, Cluster, OpenOptions, Pool, VolumeRecord, crc32c};
use volume::{Damage, Outcome};

const TWO: &[(&str, u64, u32)] = &[("a", 16 << 20, 4096), ("b", 16 << 20, 4096)];
const POOL: u64 = 48 << 20;
const A_PAGES: u64 = (16 << 20) / 4096;

/// A pool that was shut down, with data of both volumes.
fn pool() -> World {
    let mut world = pool_of(1, POOL, TWO);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, b) = both(&engine);
        write(&a, 0, CLUSTER, 0xA1).await;
        write(&b, 0, CLUSTER, 0xB1).await;
        engine.shutdown().await.expect("shutdown");
    });
    world
}

fn record_of_a(world: &mut World) -> Rc<VolumeRecord> {
    life(world, |_| async {
        let options = block::OpenOptions { read_only: true };
        let device = block::Device::open(Path::new(DISK), options).expect("open");
        let options = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        Pool::open(device, options).await.expect("open").records()[0].clone()
    })
}

/// Appends one batch to the journal of `a`; every page of it has this checksum.
fn forge(world: &mut World, records: &[Record], crc: u32) -> u64 {
    let volume = record_of_a(world);
    let mark = volume.mark;
    let header = Header {
        epoch: mark.epoch,
        sequence: mark.tail_sequence,
        position: mark.tail_position,
        previous_end: mark.tail_position,
        first_lsn: mark.tail_lsn,
        durable_lsn: 0,
    };
    let identity = Identity {
        volume_uuid: volume.uuid,
        salt: volume.journal_salt,
    };
    let crcs = vec![crc; records.iter().map(Record::crc_count).sum()];
    let mut bytes = vec![0; header_len(records.iter().map(Record::encoded_len).sum())];
    encode(&mut bytes, &identity, &header, records, &crcs);
    let ring = Ring::new(&volume.journal_runs).expect("a ring");
    let offset = ring.locate(mark.tail_position).device_offset;
    world.disk(DISK).corrupt(offset, &bytes);
    mark.tail_lsn
}

/// A page at the start of a cluster.
fn direct(first_page: u64, cluster: u32) -> Record {
    Record {
        kind: RecordKind::Direct,
        first_page,
        page_count: 1,
        payload_block: 0,
        cluster: Cluster(cluster),
        page_in_cluster: (first_page % PAGES) as u32,
    }
}

/// The cluster whose first page is full of this byte.
fn cluster_with(world: &World, fill: u8) -> u32 {
    let disk = world.disk(DISK);
    let is_it = |cluster: &u32| {
        let start = u64::from(*cluster) * CLUSTER_BYTES;
        disk.bytes(start..start + 4096)
            .iter()
            .all(|byte| *byte == fill)
    };
    let last = (POOL / CLUSTER_BYTES) as u32;
    // From the end: what was freed before is zero, too, and in front.
    (1..last).rev().find(is_it).expect("it is there")
}

/// `a` is refused for this record and rule; `b` and the data of `a` are as they were.
fn is_refused(mut world: World, lsn: u64, rule: &'static str) {
    life(&mut world, move |_| async move {
        let (engine, report) = open(Path::new(DISK)).await;
        let Outcome::Damaged(damage) = &report.volumes[0].outcome else {
            panic!("{report:?}")
        };
        assert!(
            matches!(damage, Damage::Record { lsn: l, rule: r } if (*l, *r) == (lsn, rule)),
            "{damage:?}"
        );
        let text = damage.to_string();
        assert!(text.contains(&format!("record {lsn}: {rule}")), "{text}");
        let b = engine.volume("b").expect("b is served");
        expect(&b, 0, 32, 0xB1).await;
        for cluster in 1..40 {
            write(&b, cluster * PAGES, CLUSTER, 0xB2).await;
        }
        settled(&b).await;
        expect(&b, 0, 32, 0xB1).await;
        engine.shutdown().await.expect("shutdown");
    });
    // Without the record all of it is there.
    let volume = record_of_a(&mut world);
    let ring = Ring::new(&volume.journal_runs).expect("a ring");
    let offset = ring.locate(volume.mark.tail_position).device_offset;
    world.disk(DISK).corrupt(offset, &[0; 4096]);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, b) = both(&engine);
        expect(&a, 0, 32, 0xA1).await;
        expect(&b, 0, 32, 0xB1).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(&mut world);
}

#[test]
fn pages_behind_the_end_of_the_volume() {
    for kind in [RecordKind::Zero, RecordKind::Direct] {
        let mut world = pool();
        let free = cluster_with(&world, 0);
        let record = Record {
            kind,
            cluster: if kind == RecordKind::Direct {
                Cluster(free)
            } else {
                Cluster(0)
            },
            ..direct(A_PAGES, 0)
        };
        let lsn = forge(&mut world, &[record], crc32c(&[0; 4096]));
        is_refused(world, lsn, "pages behind the volume's end");
    }
}

#[test]
fn a_cluster_behind_the_end_of_the_pool() {
    let mut world = pool();
    let beyond = (POOL / CLUSTER_BYTES) as u32;
    let lsn = forge(&mut world, &[direct(64, beyond)], 0);
    is_refused(world, lsn, "a cluster behind the pool's end");
}

#[test]
fn a_cluster_of_another_volume() {
    let mut world = pool();
    let foreign = cluster_with(&world, 0xB1);
    let crc = crc32c(&[0xB1; 4096]);
    let lsn = forge(&mut world, &[direct(640, foreign)], crc);
    is_refused(world, lsn, "a cluster of somebody else");
}

/// As a crash leaves it when a write that replaced a large one reached the disk in part.
#[test]
fn two_places_of_one_cluster_become_one() {
    let mut world = pool();
    let free = cluster_with(&world, 0);
    let page = [0xA7; 4096];
    let place = |cluster: u32, slot: u64| u64::from(cluster) * CLUSTER_BYTES + slot * 4096;
    world.disk(DISK).corrupt(place(free, 0), &page);
    world.disk(DISK).corrupt(place(free - 1, 1), &page);
    let records = [direct(640, free), direct(641, free - 1)];
    forge(&mut world, &records, crc32c(&page));
    for _ in 0..2 {
        life(&mut world, |_| async {
            let (engine, _) = open(Path::new(DISK)).await;
            let (a, b) = both(&engine);
            expect(&a, 640, 2, 0xA7).await;
            settled(&a).await;
            expect(&a, 640, 2, 0xA7).await;
            expect(&a, 0, 32, 0xA1).await;
            expect(&b, 0, 32, 0xB1).await;
            engine.shutdown().await.expect("shutdown");
        });
        assert_clean(&mut world);
    }
}
