//! Pools that cannot be opened, and damage that must be found and named. Nothing is written.

mod common;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use common::*;
use reactor::sim::{DiskOptions, World};
use store::fsck::{ClusterUser, Finding, FsckOptions, FsckReport, fsck};
use store::{Entry, Foreign, Map, OpenOptions, Pool, StoreError};

fn path() -> PathBuf {
    PathBuf::from("pool")
}

/// A pool with one volume `a` that has data in clusters 0 and 100, closed.
fn with_data(seed: u64) -> World {
    let mut world = world(seed);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        let record = pool.create_volume(spec("a")).await.unwrap();
        let mut writer = Writer::new(&pool, &record).await;
        writer.put(0, 0b11, 1).await.unwrap();
        writer.put(100, 0b100, 1).await.unwrap();
        writer.publish().await.unwrap();
    })
    .unwrap();
    world
}

/// Opens, expects an error, and that the disk is what it was.
fn open_error(world: &mut World) -> StoreError {
    let bytes = |world: &World| {
        let disk = world.disk("pool");
        disk.bytes(0..disk.len_bytes())
    };
    let before = bytes(world);
    let error = life(world, || async {
        open().await.map(|_| ()).expect_err("must be refused")
    });
    assert!(before == bytes(world), "something was written");
    error.expect("no crash")
}

fn check(world: &mut World) -> FsckReport {
    life(world, || async {
        let device = device().unwrap();
        fsck(&device, FsckOptions::default(), &mut |_| ())
            .await
            .expect("fsck runs")
    })
    .expect("no crash")
}

fn superblock_field(world: &World, offset: u64) -> u64 {
    let bytes = world.disk("pool").bytes(offset..offset + 8);
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn foreign_data_is_named() {
    let marks: [(u64, &[u8], Foreign); 4] = [
        (0, &[], Foreign::Zeros),
        (1080, &[0x53, 0xef], Foreign::Ext4),
        (0, b"XFSB", Foreign::Xfs),
        (70_000, b"anything", Foreign::Unknown),
    ];
    for (offset, mark, found) in marks {
        let mut world = world(1);
        world.disk("pool").corrupt(offset, mark);
        assert_eq!(
            open_error(&mut world),
            StoreError::NotAPool {
                path: path(),
                found
            }
        );
        let refused = life(&mut world, || async { create().await.map(|_| ()) }).unwrap();
        match found {
            Foreign::Zeros => assert_eq!(refused, Ok(())),
            _ => assert_eq!(
                refused,
                Err(StoreError::NotEmpty {
                    path: path(),
                    found
                })
            ),
        }
    }
}

#[test]
fn a_pool_is_not_created_over_another() {
    let mut world = with_data(1);
    let refused = life(&mut world, || async { create().await.map(|_| ()) }).unwrap();
    assert_eq!(refused, Err(StoreError::AlreadyAPool { path: path() }));
    assert_eq!(check(&mut world).findings, []);
}

#[test]
fn devices_of_impossible_sizes_are_refused() {
    let mut world = World::new(1, Default::default());
    world.add_disk(
        "pool",
        DiskOptions {
            len_bytes: 8 << 20,
            ..DiskOptions::default()
        },
    );
    let error = life(&mut world, || async {
        create().await.map(|_| ()).unwrap_err()
    })
    .unwrap();
    assert!(matches!(error, StoreError::PoolSize { len_bytes, .. } if len_bytes == 8 << 20));
}

/// A pool whose first superblock says that it has this version, and needs a reader of that one.
fn of_version(version: u16, minimum: u16) -> World {
    let world = with_data(1);
    let disk = world.disk("pool");
    let mut block = disk.bytes(0..4096);
    block[12..14].copy_from_slice(&version.to_le_bytes());
    block[14..16].copy_from_slice(&minimum.to_le_bytes());
    block[8..12].fill(0);
    let crc = store::crc32c(&block);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    disk.corrupt(0, &block);
    world
}

#[test]
fn a_newer_format_is_refused() {
    let mut world = of_version(9, 8);
    let expected = StoreError::NewerFormat {
        path: path(),
        version: 9,
        minimum: 8,
        ours: 3,
    };
    assert_eq!(
        open_error(&mut world),
        expected,
        "although the other slot is one of ours"
    );
}

#[test]
fn an_older_format_is_refused() {
    let mut world = of_version(1, 1);
    let expected = StoreError::OlderFormat {
        path: path(),
        version: 1,
        oldest: 2,
    };
    assert_eq!(open_error(&mut world), expected);
}

#[test]
fn a_truncated_pool_is_refused() {
    let full = with_data(1);
    let image = full.disk("pool").bytes(0..POOL_BYTES / 2);
    let mut world = World::new(1, Default::default());
    let actual_bytes = POOL_BYTES / 2;
    world.add_disk(
        "pool",
        DiskOptions {
            len_bytes: actual_bytes,
            ..DiskOptions::default()
        },
    );
    world.disk("pool").corrupt(0, &image);
    let expected = StoreError::Truncated {
        path: path(),
        expected_bytes: POOL_BYTES,
        actual_bytes,
    };
    assert_eq!(open_error(&mut world), expected);
    assert_eq!(check(&mut world).findings, [Finding::Unusable(expected)]);
}

#[test]
fn one_superblock_is_enough_and_two_are_repaired_by_a_publish() {
    for slot in [0, 65_536] {
        let mut world = with_data(1);
        world.disk("pool").flip_bit(slot + 40);
        let report = check(&mut world);
        assert!(
            !report.is_damaged && report.findings.len() == 1,
            "{:?}",
            report.findings
        );
        life(&mut world, || async {
            open().await.unwrap().close(true).await.unwrap()
        })
        .unwrap();
        assert_eq!(check(&mut world).findings, []);
    }
}

#[test]
fn two_damaged_superblocks_are_refused() {
    let mut world = with_data(1);
    world.disk("pool").flip_bit(40);
    world.disk("pool").latent_error(65_536..69_632);
    let error = open_error(&mut world);
    assert_eq!(
        error,
        StoreError::SuperblocksDamaged {
            path: path(),
            first: "checksum mismatch",
            second: "cannot be read"
        }
    );
    assert!(check(&mut world).is_damaged);
}

#[test]
fn a_damaged_root_is_refused() {
    let mut world = with_data(1);
    let root_slot = superblock_field(&world, 112) >> 32;
    let block = superblock_field(&world, 72) + root_slot * superblock_field(&world, 80);
    world.disk("pool").flip_bit(block * 4096 + 100);
    let error = open_error(&mut world);
    assert!(
        matches!(error, StoreError::RootDamaged { generation: 3, .. }),
        "{error}"
    );
    assert_eq!(check(&mut world).findings, [Finding::Unusable(error)]);
}

#[test]
fn a_damaged_allocator_page_is_refused() {
    let mut world = with_data(1);
    let (first, count) = (superblock_field(&world, 88), superblock_field(&world, 96));
    // In both slots: whichever is the current one.
    world.disk("pool").flip_bit(first * 4096 + 80);
    world.disk("pool").flip_bit((first + count) * 4096 + 80);
    let error = open_error(&mut world);
    assert!(
        matches!(error, StoreError::AllocatorDamaged { page: 0, .. }),
        "{error}"
    );
    let report = check(&mut world);
    assert_eq!(
        report.findings,
        [Finding::Unusable(error), Finding::SpaceUnchecked]
    );
    assert_eq!(report.progress.pages, 3, "the data is checked all the same");
}

#[test]
fn a_pool_that_is_open_is_locked() {
    let mut world = with_data(1);
    life(&mut world, || async {
        let _pool = open().await.unwrap();
        let locked = StoreError::Locked { path: path() };
        assert_eq!(open().await.map(|_| ()).unwrap_err(), locked);
    })
    .unwrap();
}

/// Where the magic of a node is first found on the disk.
fn find(world: &World, magic: &[u8; 4], nth: usize) -> u64 {
    let disk = world.disk("pool");
    let blocks = (0..disk.len_bytes()).step_by(4096);
    let mut hits = blocks.filter(|&offset| disk.bytes(offset..offset + 4) == magic);
    hits.nth(nth).expect("a node")
}

#[test]
fn a_damaged_leaf_is_named_and_the_others_are_served() {
    let mut world = with_data(1);
    let offset = find(&world, b"BPLF", 0);
    world.disk("pool").flip_bit(offset + 70);
    let error = life(&mut world, || async {
        let pool = open().await.unwrap();
        let map = pool.open_map(&pool.records()[0]).await.unwrap();
        assert_eq!(map.lookup(100).await.unwrap().valid, 0b100);
        map.lookup(0).await.unwrap_err()
    })
    .unwrap();
    let StoreError::MapDamaged {
        level,
        index,
        block,
        what,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*level, *index, *block), (0, 0, offset / 4096));
    assert_eq!(*what, "checksum mismatch");
    assert_eq!(
        check(&mut world).findings,
        [Finding::Node(error), Finding::SpaceUnchecked]
    );
}

#[test]
fn a_stale_or_misplaced_node_is_found_though_it_is_intact() {
    let mut world = with_data(1);
    let (first, second) = (find(&world, b"BPLF", 0), find(&world, b"BPLF", 1));
    let other = world.disk("pool").bytes(second..second + 4096);
    world.disk("pool").corrupt(first, &other);
    let report = check(&mut world);
    let Finding::Node(StoreError::MapDamaged { what, .. }) = &report.findings[0] else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(*what, "intact, but not the node its parent points to");
}

#[test]
fn a_damaged_inner_node_refuses_this_volume_only() {
    let mut world = with_data(1);
    life(&mut world, || async {
        open()
            .await
            .unwrap()
            .create_volume(spec("b"))
            .await
            .unwrap();
    })
    .unwrap();
    let offset = find(&world, b"BPIN", 0);
    world.disk("pool").flip_bit(offset + 9);
    life(&mut world, || async {
        let pool = open().await.unwrap();
        let error = pool
            .open_map(&pool.records()[0])
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.to_string().contains("(a): map node 0 of level"),
            "{error}"
        );
        assert!(pool.open_map(&pool.records()[1]).await.is_ok());
    })
    .unwrap();
}

#[test]
fn damaged_and_unreadable_data_is_named_by_lba() {
    let mut world = with_data(1);
    let wanted = page_bytes(0, 1, 1);
    let disk = world.disk("pool");
    let blocks = (0..disk.len_bytes()).step_by(4096);
    let mut hits = blocks.filter(|&offset| disk.bytes(offset..offset + 4096) == wanted);
    let device_offset = hits.next().unwrap();
    disk.flip_bit(device_offset + 5);
    let report = check(&mut world);
    let Finding::Page {
        lba,
        device_offset: found,
        expected,
        ..
    } = report.findings[0]
    else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(
        (lba, found, expected),
        (1, device_offset, store::crc32c(&wanted))
    );
    assert_eq!(report.findings.len(), 1);
    world
        .disk("pool")
        .latent_error(device_offset..device_offset + 4096);
    let report = check(&mut world);
    assert!(
        matches!(
            report.findings[..],
            [Finding::PageUnreadable { lba: 1, .. }]
        ),
        "the page beside it is readable: {:?}",
        report.findings
    );
}

/// Publishes what an engine with a bug would, and gives what fsck says.
fn after_lie<F>(lie: impl Fn(Writer) -> F + 'static) -> Vec<Finding>
where
    F: Future<Output = Writer> + 'static,
{
    let mut world = with_data(1);
    let lie = Rc::new(lie);
    life(&mut world, move || {
        let lie = lie.clone();
        async move {
            let pool = open().await.unwrap();
            let writer = Writer::new(&pool, &pool.records()[0]).await;
            lie(writer).await.publish().await.unwrap();
        }
    })
    .unwrap();
    check(&mut world).findings
}

#[test]
fn space_that_is_lost_used_twice_or_not_allocated_is_found() {
    let findings = after_lie(|mut writer| async move {
        writer.allocated.push(writer.pool.allocate(None).unwrap());
        writer.allocated.push(writer.pool.allocate(None).unwrap());
        writer
    });
    assert!(
        matches!(findings[..], [Finding::Leaked { count: 2, .. }]),
        "{findings:?}"
    );

    let findings = after_lie(|writer| async move {
        let entry = writer.map.lookup(100).await.unwrap();
        writer.map.update(7, entry).await.unwrap();
        writer
    });
    let [
        Finding::UsedTwice {
            by: ClusterUser::Data(_, 100),
            ..
        },
    ] = findings[..]
    else {
        panic!("{findings:?}")
    };

    let findings = after_lie(|mut writer| async move {
        writer.put(7, 1, 1).await.unwrap();
        writer.allocated.clear();
        writer
    });
    let [
        Finding::NotAllocated {
            by: ClusterUser::Data(_, 7),
            ..
        },
    ] = findings[..]
    else {
        panic!("{findings:?}")
    };

    let findings = after_lie(|writer| async move {
        let last = writer.map.cluster_count() - 1;
        let entry = writer.map.lookup(100).await.unwrap();
        writer.map.update(100, Entry::EMPTY).await.unwrap();
        writer.map.update(last, entry).await.unwrap();
        writer
    });
    assert_eq!(
        findings,
        [],
        "the data moved to the last cluster, which is a whole one"
    );
}

/// Opens the pool, lets the test break the disk, and goes on with a publish.
fn publish_with_fault(
    fault: impl FnOnce(&mut World),
    then: impl Fn(&Pool, &Map, &StoreError) + 'static,
) -> World {
    let mut world = with_data(1);
    let ready = Rc::new(Cell::new(false));
    let (is_ready, then) = (ready.clone(), Rc::new(then));
    world.start("target", 1, move |_| {
        let (ready, then) = (is_ready.clone(), then.clone());
        async move {
            let pool = open().await.unwrap();
            let mut writer = Writer::new(&pool, &pool.records()[0]).await;
            writer.put(0, 1, 2).await.unwrap();
            ready.set(true);
            reactor::time::sleep(LIMIT / 100).await;
            let error = writer.publish().await.unwrap_err();
            assert!(matches!(error, StoreError::Device(_)), "{error}");
            assert_eq!(pool.failure().as_ref(), Some(&error));
            let again = writer.publish().await.unwrap_err();
            assert!(matches!(again, StoreError::Failed { .. }), "{again}");
            let refused = pool.create_volume(spec("b")).await.unwrap_err();
            assert!(matches!(refused, StoreError::Failed { .. }), "{refused}");
            assert_eq!(
                writer.map.lookup(100).await.unwrap().valid,
                0b100,
                "reads go on"
            );
            then(&pool, &writer.map, &error);
            pool.close(true).await.expect("closing writes nothing");
        }
    });
    world.run_until(LIMIT, |_| ready.get());
    fault(&mut world);
    world.run_until(LIMIT, |world| !world.is_up("target"));
    world
}

#[test]
fn a_failed_flush_stops_writing_and_reading_goes_on() {
    let mut world = publish_with_fault(
        |world| world.disk("pool").fail_next_sync(true),
        |pool, _, _| assert!(pool.device().is_failed()),
    );
    assert_eq!(check(&mut world).findings, []);
}

#[test]
fn a_failed_write_stops_writing_and_leaves_the_old_state() {
    let mut world = publish_with_fault(
        |world| world.disk("pool").fail_next_write(),
        |_, map, _| assert_eq!(map.stats().dirty_leaves, 1),
    );
    life(&mut world, || async {
        let pool = open().await.unwrap();
        let map = pool.open_map(&pool.records()[0]).await.unwrap();
        assert_eq!(map.lookup(0).await.unwrap().valid, 0b11);
    })
    .unwrap();
    assert_eq!(check(&mut world).findings, []);
}

#[test]
fn a_read_only_pool_reads_and_refuses_changes() {
    let mut world = with_data(1);
    life(&mut world, || async {
        let pool = Pool::open(
            device().unwrap(),
            OpenOptions {
                read_only: true,
                ..OpenOptions::default()
            },
        );
        let pool = pool.await.unwrap();
        let refused = pool.create_volume(spec("b")).await.unwrap_err();
        assert_eq!(refused, StoreError::ReadOnly);
        let map = pool.open_map(&pool.records()[0]).await.unwrap();
        assert_eq!(map.lookup(0).await.unwrap().valid, 0b11);
    })
    .unwrap();
    assert_eq!(check(&mut world).findings, []);
}
