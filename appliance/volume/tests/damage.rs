//! Volumes that are damaged on the disk: refused with what and where, left as they are, and no
//! cluster of theirs given away, while the other volumes of the pool are served.

mod common;

use std::ops::Range;
use std::path::Path;

use common::broken::*;
use common::*;
use reactor::sim::{DiskHandle, World};
use store::{OpenOptions, Pool};
use volume::{Command, Damage, Engine, ErrorKind, OpenReport, Outcome, Volume};

const TWO: &[(&str, u64, u32)] = &[("a", 16 << 20, 4096), ("b", 64 << 20, 4096)];
const POOL: u64 = 48 << 20;
const BLOCK: u64 = 4096;

/// What `a` has, as (lba, blocks, fill). Each fill is used by nobody else.
const MAPPED: (u64, u32, u8) = (0, 128, 0xA1);
const MAPPED_NEXT_LEAF: (u64, u32, u8) = (64 * 16, 1, 0xA6);
const SMALL: (u64, u32, u8) = (1100, 1, 0xA2);
const DIRECT: (u64, u32, u8) = (PAGES * 40, 32, 0xA3);
const LATER: (u64, u32, u8) = (1101, 1, 0xA4);
const UNFLUSHED: (u64, u32, u8) = (PAGES * 41, 32, 0xA5);
const DATA: [(u64, u32, u8); 6] = [MAPPED, MAPPED_NEXT_LEAF, SMALL, DIRECT, LATER, UNFLUSHED];

/// A pool whose volume `a` has a published part and a log of these batches, killed: a small write;
/// a large one; a small one with FUA; one that says that those before it are durable.
fn killed(seed: u64) -> World {
    let mut world = pool_of(seed, POOL, TWO);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, b) = both(&engine);
        let put = |(lba, count, fill): (u64, u32, u8)| write_of(&a, lba, count, fill);
        put(MAPPED).await;
        put(MAPPED_NEXT_LEAF).await;
        write(&b, 0, CLUSTER, 0xB1).await;
        settled(&a).await;
        settled(&b).await;
        put(SMALL).await;
        put(DIRECT).await;
        let (lba, _, fill) = LATER;
        write_fua(&a, lba, 4096, fill).await.expect("durable");
        put(UNFLUSHED).await;
    });
    world
}

async fn write_of(volume: &Volume, lba: u64, count: u32, fill: u8) {
    write(volume, lba, count as usize * 4096, fill).await;
}

async fn read_only() -> Pool {
    let options = block::OpenOptions { read_only: true };
    let device = block::Device::open(Path::new(DISK), options).expect("open");
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    Pool::open(device, options).await.expect("open")
}

/// The journal of `a`, on the device.
fn journal_of_a(world: &mut World) -> Vec<Range<u64>> {
    life(world, |_| async {
        let record = read_only().await.records()[0].clone();
        let bytes = |run: &store::ClusterRun| {
            let start = run.first.byte_offset();
            start..start + run.len_bytes()
        };
        record.journal_runs.iter().map(bytes).collect()
    })
}

fn blocks(disk: &DiskHandle, range: Range<u64>) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let offsets = range.step_by(BLOCK as usize);
    offsets.map(move |offset| (offset, disk.bytes(offset..offset + BLOCK)))
}

/// Offsets of the batches in the journal of `a` that the log of `killed` has, oldest first.
fn batches(world: &mut World) -> Vec<u64> {
    let journal = journal_of_a(world);
    let disk = world.disk(DISK);
    let all = journal.into_iter().flat_map(|run| blocks(&disk, run));
    let headers: Vec<u64> = all
        .filter(|(_, bytes)| bytes.starts_with(b"BPJB"))
        .map(|(offset, _)| offset)
        .collect();
    let log = headers.len() - 4;
    headers[log..].to_vec()
}

/// Everything of `a` that must not change: its journal and its data, as (offset, bytes).
fn belongings(world: &mut World) -> Vec<(u64, Vec<u8>)> {
    let journal = journal_of_a(world);
    let disk = world.disk(DISK);
    let fills: Vec<u8> = DATA.iter().map(|(_, _, fill)| *fill).collect();
    let is_data = |bytes: &[u8]| fills.contains(&bytes[0]) && bytes.iter().all(|b| *b == bytes[0]);
    blocks(&disk, 0..POOL)
        .filter(|(offset, bytes)| journal.iter().any(|run| run.contains(offset)) || is_data(bytes))
        .collect()
}

fn damage_of_a(report: &OpenReport) -> Damage {
    match &report.volumes[0].outcome {
        Outcome::Damaged(damage) => damage.clone(),
        other => panic!("a is {other:?}"),
    }
}

/// The engine without `a`: fills the pool with data of `b` to the last cluster.
async fn use_the_rest(engine: &Engine) {
    assert!(engine.volume("a").is_none(), "a is not served");
    let listed = engine.listing();
    assert_eq!(&*listed[0].name, "a", "and still listed");
    let b = engine.volume("b").expect("b is served");
    expect(&b, 0, 32, 0xB1).await;
    let mut written = 1;
    let error = loop {
        match try_write(&b, written * PAGES, CLUSTER, 0xB2).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PoolFull, "{error}");
    assert!(written > 40, "only {written} clusters");
    settled(&b).await;
    let full = try_write(&b, written * PAGES, CLUSTER, 0xB2).await;
    assert_eq!(full.expect_err("full").kind(), ErrorKind::PoolFull);
    for cluster in 1..written {
        expect(&b, cluster * PAGES, 32, 0xB2).await;
    }
    write(&b, 64, 4096, 0xB3).await;
    expect(&b, 64, 1, 0xB3).await;
    let again = engine.create_volume(spec("a", 1 << 20, 4096)).await;
    again.expect_err("the name is taken");
}

/// Damages `a`, opens and uses the pool, repairs the damage: all of `a` is there.
fn refused(
    seed: u64,
    damage: impl Fn(&mut World),
    repair: impl Fn(&mut World),
    check: fn(&Damage),
) {
    let mut world = killed(seed);
    damage(&mut world);
    let before = belongings(&mut world);
    life(&mut world, move |_| async move {
        let (engine, report) = open(Path::new(DISK)).await;
        check(&damage_of_a(&report));
        use_the_rest(&engine).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert!(before == belongings(&mut world), "a was written to");
    let lines = fsck_lines(&mut world);
    assert!(!lines.is_empty(), "the offline check finds it, too");
    // Again, now that the allocator starts from another place.
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        assert!(!report.clean);
        damage_of_a(&report);
        let b = engine.volume("b").expect("b is served");
        let zeroes = Command::WriteZeroes {
            lba: 0,
            block_count: 32 * 40,
            deallocate: true,
        };
        run(&b, zeroes).await.expect("trim");
        settled(&b).await;
        for cluster in 0..40 {
            write(&b, cluster * PAGES, CLUSTER, 0xB4).await;
        }
    });
    repair(&mut world);
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        assert_eq!(replay_of(&report).damaged_pages, 0);
        let (a, b) = both(&engine);
        for (lba, count, fill) in DATA {
            expect(&a, lba, count, fill).await;
        }
        expect(&b, 0, 32, 0xB4).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(&mut world);
}

/// A bit of `a` flips, and back.
fn flipped(seed: u64, place: fn(&mut World) -> u64, check: fn(&Damage)) {
    let found = std::cell::Cell::new(0);
    let damage = |world: &mut World| {
        found.set(place(world));
        world.disk(DISK).flip_bit(found.get());
    };
    let repair = |world: &mut World| world.disk(DISK).flip_bit(found.get());
    refused(seed, damage, repair, check);
}

/// The damage is in the batch of this offset.
fn is_journal_damage(damage: &Damage) {
    let Damage::Journal { position, sequence } = damage else {
        panic!("{damage:?}")
    };
    let text = damage.to_string();
    let says = |number: u64| text.contains(&number.to_string());
    assert!(says(*position) && says(*sequence), "{text}");
}

#[test]
fn a_damaged_batch_below_what_was_durable_refuses_the_volume() {
    // A small write: checksum, a field, a record, the payload. Then what hides the header of a
    // large write: checksum, magic, UUID, the number of header blocks, a field of the record.
    flipped(0, |world| batches(world)[0] + 5, is_journal_damage);
    flipped(1, |world| batches(world)[0] + 40, is_journal_damage);
    flipped(2, |world| batches(world)[0] + 120, is_journal_damage);
    flipped(3, |world| batches(world)[0] + 4096 + 77, is_journal_damage);
    flipped(4, |world| batches(world)[1] + 4, is_journal_damage);
    flipped(5, |world| batches(world)[1], is_journal_damage);
    flipped(6, |world| batches(world)[1] + 20, is_journal_damage);
    flipped(7, |world| batches(world)[1] + 8, is_journal_damage);
    flipped(8, |world| batches(world)[1] + 96, is_journal_damage);
}

#[test]
fn a_damaged_map_refuses_the_volume() {
    fn says_where(damage: &Damage) {
        let text = damage.to_string();
        assert!(matches!(damage, Damage::Store(_)), "{damage:?}");
        assert!(text.contains("(a): map node "), "{text}");
    }
    flipped(0, |world| node_of_a(world, b"BPIN", 0) + 100, says_where);
    flipped(1, |world| node_of_a(world, b"BPIN", 0), says_where);
    // A leaf that a record of the log needs: here a direct one.
    flipped(2, |world| node_of_a(world, b"BPLF", 1) + 100, says_where);
}

#[test]
fn a_damaged_leaf_that_no_record_needs_fails_its_range_only() {
    let mut world = killed(3);
    let offset = node_of_a(&mut world, b"BPLF", 0);
    world.disk(DISK).flip_bit(offset + 100);
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        replay_of(&report);
        let (a, b) = both(&engine);
        let (lba, block_count) = (MAPPED.0, 1);
        let error = run(&a, Command::Read { lba, block_count }).await;
        let error = error.expect_err("its checksum is not known");
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("volume a") && text.contains("map node 0 of level 0"),
            "{text}"
        );
        for (lba, count, fill) in &DATA[1..] {
            expect(&a, *lba, *count, *fill).await;
        }
        expect(&b, 0, 32, 0xB1).await;
        settled(&a).await;
        write(&a, SMALL.0, 4096, 9).await;
        expect(&a, SMALL.0, 1, 9).await;
        engine.shutdown().await.expect("shutdown");
    });
    world.disk(DISK).flip_bit(offset + 100);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let (a, _) = both(&engine);
        let (lba, count, fill) = MAPPED;
        expect(&a, lba, count, fill).await;
    });
    assert_clean(&mut world);
}

/// Where the newest map node of `a` with this magic and index is.
fn node_of_a(world: &mut World, magic: &'static [u8], index: u64) -> u64 {
    let uuid = life(world, |_| async { read_only().await.records()[0].uuid });
    let disk = world.disk(DISK);
    let number = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
    };
    let is_it = |bytes: &[u8]| {
        bytes.starts_with(magic) && bytes[16..32] == uuid && number(bytes, 32) == index
    };
    let nodes = blocks(&disk, 0..POOL).filter(|(_, bytes)| is_it(bytes));
    let newest = nodes.max_by_key(|(_, bytes)| number(bytes, 40));
    newest.expect("a node of a").0
}

#[test]
fn a_journal_that_cannot_be_read_refuses_the_volume() {
    for (seed, batch) in [(0, 0), (1, 2)] {
        let hurt = move |world: &mut World| {
            let offset = batches(world)[batch];
            world.disk(DISK).latent_error(offset..offset + BLOCK);
        };
        let repair = |world: &mut World| world.disk(DISK).clear_latent_errors();
        refused(seed, hurt, repair, |damage| {
            let Damage::JournalRead { position } = damage else {
                panic!("{damage:?}")
            };
            let text = damage.to_string();
            assert!(text.contains(&format!("position {position}")), "{text}");
        });
    }
}

/// Where the pages with this fill are on the device.
fn places_of(world: &World, fill: u8) -> Vec<u64> {
    let disk = world.disk(DISK);
    let is_it = |bytes: &[u8]| bytes.iter().all(|byte| *byte == fill);
    let found = blocks(&disk, 0..POOL).filter(|(_, bytes)| is_it(bytes));
    found.map(|(offset, _)| offset).collect()
}

#[test]
fn data_of_a_large_write_that_cannot_be_read_at_open_is_kept_as_damaged() {
    // One that was durable, and one that was acknowledged: after a kill both must be there.
    for (lba, _, fill) in [DIRECT, UNFLUSHED] {
        let mut world = killed(4);
        let offset = places_of(&world, fill)[5];
        world.disk(DISK).latent_error(offset..offset + BLOCK);
        life(&mut world, move |disk| async move {
            let (engine, report) = open(Path::new(DISK)).await;
            let replay = replay_of(&report);
            assert_eq!((replay.damaged_pages, replay.undone_pages), (1, 0));
            let (a, _) = both(&engine);
            let found = read_fills(&a, lba, PAGES).await;
            for (page, found) in found.into_iter().enumerate() {
                assert_eq!(found, (page != 5).then_some(fill), "page {page}");
            }
            settled(&a).await;
            assert_eq!(read_fills(&a, lba + 5, 1).await, [None], "in the map, too");
            disk.clear_latent_errors();
            expect(&a, lba, 32, fill).await;
            engine.shutdown().await.expect("shutdown");
        });
        assert_clean(&mut world);
    }
}

#[test]
fn damaged_data_of_a_large_write_fails_its_page_only() {
    let (lba, _, fill) = DIRECT;
    let mut world = killed(5);
    let offset = places_of(&world, fill)[9];
    world.disk(DISK).flip_bit(offset + 1);
    let lines = fsck_lines(&mut world);
    let text = format!("lba {} (device offset {offset})", lba + 9);
    assert!(
        matches!(&lines[..], [line] if line.contains(&text)),
        "{lines:?}"
    );
    life(&mut world, move |_| async move {
        let (engine, report) = open(Path::new(DISK)).await;
        assert_eq!(replay_of(&report).damaged_pages, 1);
        let (a, _) = both(&engine);
        let (lba, block_count) = (lba + 9, 1);
        let error = run(&a, Command::Read { lba, block_count }).await;
        let error = error.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = format!("block {lba} read from device offset {offset}");
        assert!(error.to_string().contains(&text), "{error}");
        write(&a, lba, 4096, 3).await;
        expect(&a, lba - 9, 9, fill).await;
        expect(&a, lba, 1, 3).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(&mut world);
}

#[test]
fn a_volume_with_a_damaged_journal_can_be_deleted_and_gives_its_space_back() {
    let mut world = killed(6);
    let offset = batches(&mut world)[0];
    world.disk(DISK).flip_bit(offset + 40);
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        is_journal_damage(&damage_of_a(&report));
        let before = engine.space();
        engine.delete_volume("a").await.expect("delete");
        // Its journal of 16 clusters, three clusters in its map, two that only its journal names.
        let after = engine.space();
        assert!(after.free >= before.free + 21, "{before:?}, then {after:?}");
        let error = engine.delete_volume("a").await.expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let b = engine.volume("b").expect("b is served");
        expect(&b, 0, 32, 0xB1).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(&mut world);
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        assert!(report.clean && report.volumes.len() == 1, "{report:?}");
        engine.shutdown().await.expect("shutdown");
    });
}

#[test]
fn a_deletion_stops_at_a_damaged_node_and_the_pool_goes_on() {
    let mut world = killed(7);
    let offset = node_of_a(&mut world, b"BPLF", 0);
    world.disk(DISK).flip_bit(offset + 100);
    life(&mut world, |_| async {
        let (engine, _) = open(Path::new(DISK)).await;
        let error = engine.delete_volume("a").await.expect_err("stops");
        assert!(
            error.to_string().contains("map node 0 of level 0"),
            "{error}"
        );
        assert!(engine.volume("a").is_none());
        assert!(engine.listing()[0].deleting);
        assert_eq!(engine.failure(), None);
        let b = engine.volume("b").expect("b is served");
        write(&b, 0, CLUSTER, 0xB5).await;
        settled(&b).await;
        engine.shutdown().await.expect("shutdown");
    });
    // Repaired, it goes on at the next open.
    world.disk(DISK).flip_bit(offset + 100);
    life(&mut world, |_| async {
        let (engine, report) = open(Path::new(DISK)).await;
        assert!(matches!(report.volumes[0].outcome, Outcome::Deleting));
        while !engine.listing().is_empty() && &*engine.listing()[0].name == "a" {
            reactor::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        expect(&engine.volume("b").expect("served"), 0, 32, 0xB5).await;
        engine.shutdown().await.expect("shutdown");
    });
    assert_clean(&mut world);
}
