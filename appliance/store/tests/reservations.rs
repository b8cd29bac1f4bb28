//! What volumes keep of their reservations: damage is found and named, room is found and given
//! back, and pools of the version before get them. Crashes are in `crash.rs`.

mod common;

use common::*;
use reactor::sim::World;
use store::format::reservations::BYTES_MAX;
use store::fsck::{ClusterUser, Finding, FsckOptions, FsckReport, fsck};
use store::{CLUSTER_BYTES, StoreError, VolumeId};

/// A pool with two volumes that keep something.
fn pool(seed: u64) -> World {
    let mut world = world(seed);
    life(&mut world, || async {
        let pool = create().await.expect("create");
        for name in ["a", "b"] {
            let record = pool.create_volume(spec(name)).await.expect("create");
            let bytes = kept(name);
            pool.store_reservations(record.id, bytes)
                .await
                .expect("store");
        }
    })
    .expect("no crash");
    world
}

/// More than a block.
fn kept(name: &str) -> Vec<u8> {
    name.repeat(5000).into_bytes()
}

async fn load(id: u64) -> Result<Vec<u8>, StoreError> {
    let pool = open().await.expect("the pool opens all the same");
    pool.load_reservations(VolumeId(id)).await
}

fn check(world: &mut World) -> FsckReport {
    life(world, || async {
        let device = device().expect("open");
        let report = fsck(&device, FsckOptions::default(), &mut |_| ()).await;
        report.expect("the check runs")
    })
    .expect("no crash")
}

/// Where the reservations of a volume are, found by their first bytes and the volume's letter.
fn place(world: &World, name: &str) -> u64 {
    let disk = world.disk("pool");
    let starts = (0..disk.len_bytes()).step_by(CLUSTER_BYTES as usize);
    let is_it = |&start: &u64| {
        let found = disk.bytes(start..start + 66);
        found.starts_with(b"BPRESV01") && found.ends_with(name.as_bytes())
    };
    starts.filter(is_it).last().expect("they are somewhere")
}

#[test]
fn each_volume_has_its_own() {
    let mut world = pool(1);
    for (id, name) in [(1, "a"), (2, "b")] {
        let found = life(&mut world, move || load(id)).expect("no crash");
        assert_eq!(found, Ok(kept(name)));
    }
    assert_eq!(check(&mut world).findings, []);
}

/// A damaged record is refused and named, the other volume is not affected, the bytes stay, and
/// new ones take their place.
#[test]
fn damage_is_named_and_kept_until_replaced() {
    let mut world = pool(2);
    let place = place(&world, "a");
    for offset in [0, 30, 70, 4096 + 10, 8000] {
        world.disk("pool").flip_bit(place + offset);
        let before = world.disk("pool").bytes(place..place + 8192);
        let found = life(&mut world, || load(1)).expect("no crash");
        let Err(error @ StoreError::ReservationsDamaged { .. }) = found else {
            panic!("byte {offset}: {found:?}")
        };
        assert!(error.to_string().contains("until an operator clears them"));
        assert_eq!(life(&mut world, || load(2)), Some(Ok(kept("b"))));
        let report = check(&mut world);
        let volume = VolumeId(1);
        assert_eq!(report.findings, [Finding::Reservations { volume, error }]);
        assert!(report.is_damaged);
        assert_eq!(world.disk("pool").bytes(place..place + 8192), before);
        world.disk("pool").flip_bit(place + offset);
    }
    world.disk("pool").flip_bit(place + 70);
    life(&mut world, || async {
        let pool = open().await.expect("open");
        let stored = pool.store_reservations(VolumeId(1), Vec::new()).await;
        stored.expect("an operator may clear them");
    })
    .expect("no crash");
    assert_eq!(life(&mut world, || load(1)), Some(Ok(Vec::new())));
    assert_eq!(check(&mut world).findings, []);
}

#[test]
fn what_cannot_be_read_is_said_so() {
    let mut world = pool(3);
    let place = place(&world, "a");
    world.disk("pool").latent_error(place..place + 4096);
    let found = life(&mut world, || load(1)).expect("no crash");
    assert!(matches!(found, Err(StoreError::Device(_))), "{found:?}");
    let report = check(&mut world);
    assert!(
        matches!(report.findings[..], [Finding::Reservations { .. }]),
        "{:?}",
        report.findings
    );
}

/// A device that loses the write leaves something older in the place: never taken for the new one.
#[test]
fn a_lost_write_is_found() {
    let mut world = pool(4);
    life(&mut world, || async {
        let pool = open().await.expect("open");
        // Both clusters of the volume have held reservations of its own by now.
        for _ in 0..2 {
            let stored = pool.store_reservations(VolumeId(1), kept("c")).await;
            stored.expect("store");
        }
    })
    .expect("no crash");
    let disk = world.disk("pool");
    life(&mut world, move || {
        let disk = disk.clone();
        async move {
            let pool = open().await.expect("open");
            disk.lose_next_write();
            let stored = pool.store_reservations(VolumeId(1), kept("d")).await;
            stored.expect("the device says that it wrote");
        }
    })
    .expect("no crash");
    let found = life(&mut world, || load(1)).expect("no crash");
    assert!(
        matches!(found, Err(StoreError::ReservationsDamaged { .. })),
        "{found:?}"
    );
}

/// A device that refuses the write: the old ones stay, and the cluster is free again.
#[test]
fn a_refused_write_changes_nothing() {
    let mut world = pool(5);
    let disk = world.disk("pool");
    life(&mut world, move || {
        let disk = disk.clone();
        async move {
            let pool = open().await.expect("open");
            let free = pool.space().free;
            disk.fail_next_write();
            let refused = pool.store_reservations(VolumeId(1), kept("d")).await;
            assert!(matches!(refused, Err(StoreError::Device(_))), "{refused:?}");
            assert_eq!(pool.space().free, free);
            let long = vec![0; BYTES_MAX + 1];
            let refused = pool.store_reservations(VolumeId(1), long).await;
            let too_long = matches!(refused, Err(StoreError::ReservationsTooLong { .. }));
            assert!(too_long, "{refused:?}");
            let nobody = pool.store_reservations(VolumeId(9), kept("d")).await;
            let volume = VolumeId(9);
            assert_eq!(nobody, Err(StoreError::NoSuchVolume { volume }));
        }
    })
    .expect("no crash");
    assert_eq!(life(&mut world, || load(1)), Some(Ok(kept("a"))));
    assert_eq!(check(&mut world).findings, []);
}

/// Fencing works on a full pool, as often as it is needed, and space comes back with the volume.
#[test]
fn a_full_pool_still_keeps_them() {
    let mut world = pool(6);
    life(&mut world, || async {
        let pool = open().await.expect("open");
        let mut taken = Vec::new();
        while let Ok(cluster) = pool.allocate(None) {
            taken.push(cluster);
        }
        let free = pool.space().free;
        for round in 0..20 {
            let bytes = vec![round; BYTES_MAX];
            let stored = pool.store_reservations(VolumeId(1), bytes.clone()).await;
            stored.expect("out of the reserve");
            assert_eq!(pool.load_reservations(VolumeId(1)).await, Ok(bytes));
        }
        assert_eq!(pool.space().free, free, "one cluster, however often");
        for cluster in taken {
            pool.discard_unpublished(cluster);
        }
        for id in [1, 2] {
            pool.begin_delete(VolumeId(id)).await.expect("begin");
            let volume = VolumeId(id);
            let refused = pool.store_reservations(volume, kept("d")).await;
            assert_eq!(refused, Err(StoreError::VolumeDeleting { volume }));
            pool.finish_delete(VolumeId(id)).await.expect("deleted");
        }
        let space = pool.space();
        assert_eq!(space.free, space.clusters_total);
    })
    .expect("no crash");
    assert_eq!(check(&mut world).findings, []);
}

/// The check knows whose cluster it is.
#[test]
fn the_check_names_their_cluster() {
    let user = ClusterUser::Reservations(VolumeId(3));
    assert!(user.to_string().ends_with("its reservations"), "{user}");
}

/// As version 2 left it: both superblocks say so, and no volume keeps anything.
#[test]
fn a_pool_of_version_2_is_opened_and_upgraded_by_its_next_publish() {
    let mut world = world(7);
    life(&mut world, || async {
        let pool = create().await.expect("create");
        pool.create_volume(spec("a")).await.expect("create");
    })
    .expect("no crash");
    let version = |world: &World, slot: u64| {
        let bytes = world.disk("pool").bytes(slot + 12..slot + 16);
        (bytes[0], bytes[2])
    };
    let slots = [0, 16 * 4096];
    for slot in slots {
        assert_eq!(version(&world, slot), (3, 3));
        let disk = world.disk("pool");
        let mut block = disk.bytes(slot..slot + 4096);
        block[12..16].copy_from_slice(&[2, 0, 2, 0]);
        block[8..12].fill(0);
        let crc = store::crc32c(&block);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        disk.corrupt(slot, &block);
    }
    assert_eq!(life(&mut world, || load(1)), Some(Ok(Vec::new())));
    assert_eq!(check(&mut world).findings, []);
    for slot in slots {
        assert_eq!(version(&world, slot), (2, 2), "opening writes nothing");
    }
    life(&mut world, || async {
        let pool = open().await.expect("open");
        let stored = pool.store_reservations(VolumeId(1), kept("a")).await;
        stored.expect("store");
    })
    .expect("no crash");
    for slot in slots {
        assert_eq!(version(&world, slot), (3, 3));
    }
    assert_eq!(life(&mut world, || load(1)), Some(Ok(kept("a"))));
    assert_eq!(check(&mut world).findings, []);
}
