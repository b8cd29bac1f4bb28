//! Creating, opening and publishing, in a world without faults.

mod common;

use common::*;
use store::{StoreError, VolumeState};

#[test]
fn a_pool_is_created_and_found_again() {
    let mut world = world(1);
    let (uuid, space) = life(&mut world, || async {
        let pool = create().await.expect("create");
        assert_eq!((pool.name(), pool.generation()), ("main", 1));
        assert!(pool.records().is_empty());
        (pool.uuid(), pool.space())
    })
    .unwrap();
    life(&mut world, move || async move {
        let pool = open().await.expect("open");
        assert_eq!(
            (pool.uuid(), pool.space(), pool.name()),
            (uuid, space, "main")
        );
        assert_eq!(space.free, space.clusters_total);
        assert!(space.available() > 200, "{space:?}");
    })
    .unwrap();
}

#[test]
fn volumes_keep_their_identity_and_their_journal() {
    let mut world = world(2);
    let records = life(&mut world, || async {
        let pool = create().await.unwrap();
        let first = pool.create_volume(spec("a")).await.expect("create a");
        let second = pool.create_volume(spec("b")).await.expect("create b");
        assert_ne!(first.uuid, second.uuid);
        assert_ne!(first.nguid, second.nguid);
        assert_ne!(first.serial, second.serial);
        assert_ne!(first.journal_salt, second.journal_salt);
        assert_eq!(first.ring_bytes, 4 << 20);
        pool.records()
            .iter()
            .map(|record| (**record).clone())
            .collect::<Vec<_>>()
    })
    .unwrap();
    life(&mut world, move || {
        let records = records.clone();
        async move {
            let pool = open().await.unwrap();
            let found: Vec<_> = pool
                .records()
                .iter()
                .map(|record| (**record).clone())
                .collect();
            assert_eq!(found, records);
            let space = pool.space();
            assert_eq!(
                space.clusters_total - space.free,
                64,
                "two journals of 32 clusters"
            );
        }
    })
    .unwrap();
}

#[test]
fn what_is_published_is_found_again_and_the_rest_is_free() {
    let mut world = world(3);
    let free = life(&mut world, || async {
        let pool = create().await.unwrap();
        let record = pool.create_volume(spec("a")).await.unwrap();
        let mut writer = Writer::new(&pool, &record).await;
        for index in [0, 1, 14, 15, 200, 4095] {
            writer.put(index, 0b1011, index).await.unwrap();
        }
        writer.mark.tail_lsn = 77;
        assert_eq!(writer.publish().await.unwrap(), 3);
        let free = pool.space().free;
        // Unpublished: forgotten by the crash that is the end of this life.
        writer.put(1, 0b1, 99).await.unwrap();
        writer.put(300, 0b1, 99).await.unwrap();
        assert_eq!(pool.space().free, free - 2);
        free
    })
    .unwrap();
    life(&mut world, move || async move {
        let pool = open().await.unwrap();
        assert_eq!(pool.space().free, free);
        let record = pool.records()[0].clone();
        assert_eq!((record.mark.tail_lsn, record.mapped_clusters), (77, 6));
        let map = pool.open_map(&record).await.unwrap();
        for index in 0..4096 {
            let entry = map.lookup(index).await.unwrap();
            let expected = [0, 1, 14, 15, 200, 4095].contains(&index);
            assert_eq!(entry.location.is_some(), expected, "cluster {index}");
            if expected {
                assert_eq!(entry.valid, 0b1011);
                assert_eq!(entry.crc[3], store::crc32c(&page_bytes(index, 3, index)));
            }
        }
    })
    .unwrap();
}

#[test]
fn freed_clusters_and_blocks_come_back() {
    let mut world = world(4);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        let record = pool.create_volume(spec("a")).await.unwrap();
        let mut writer = Writer::new(&pool, &record).await;
        let empty = pool.space().free;
        for round in 0..50 {
            for index in 0..40 {
                writer
                    .put(index * 7, 1 << (round % 32), round)
                    .await
                    .unwrap();
            }
            writer.publish().await.unwrap();
            let used = empty - pool.space().free;
            assert!(
                (41..=44).contains(&used),
                "{used} clusters for 40 of data in round {round}"
            );
        }
        for index in 0..40 {
            writer.put(index * 7, 0, 0).await.unwrap();
        }
        writer.publish().await.unwrap();
        assert_eq!(pool.space().free, empty, "all data and all nodes are gone");
        assert_eq!(writer.map.stats().mapped_clusters, 0);
    })
    .unwrap();
}

#[test]
fn a_reader_holds_back_what_is_freed() {
    let mut world = world(5);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        let record = pool.create_volume(spec("a")).await.unwrap();
        let mut writer = Writer::new(&pool, &record).await;
        writer.put(0, 1, 1).await.unwrap();
        writer.publish().await.unwrap();
        let free = pool.space().free;
        let guard = pool.read_guard();
        writer.put(0, 1, 2).await.unwrap();
        writer.publish().await.unwrap();
        assert_eq!(
            pool.space().free,
            free - 1,
            "the old cluster is still being read"
        );
        let later = pool.read_guard();
        drop(guard);
        assert_eq!(pool.space().free, free);
        drop(later);
    })
    .unwrap();
}

#[test]
fn a_deleted_volume_gives_everything_back() {
    let mut world = world(6);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        let empty = pool.space().free;
        let record = pool.create_volume(spec("a")).await.unwrap();
        let mut writer = Writer::new(&pool, &record).await;
        for index in 0..100 {
            writer.put(index * 16, 1, 1).await.unwrap();
        }
        writer.publish().await.unwrap();
        let live = StoreError::VolumeLive { volume: record.id };
        assert_eq!(pool.finish_delete(record.id).await, Err(live));
        pool.begin_delete(record.id).await.unwrap();
        assert_eq!(pool.records()[0].state, VolumeState::Deleting);
        let deleting = StoreError::VolumeDeleting { volume: record.id };
        assert_eq!(pool.begin_delete(record.id).await, Err(deleting));
        pool.finish_delete(record.id).await.unwrap();
        assert_eq!(pool.space().free, empty);
        assert!(pool.records().is_empty());
        let again = pool.create_volume(spec("a")).await.unwrap();
        assert_ne!(again.id, record.id, "ids are not used again");
        assert_ne!(again.uuid, record.uuid);
    })
    .unwrap();
}

#[test]
fn clean_is_remembered_until_something_is_published() {
    let mut world = world(7);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        assert!(pool.opened_clean());
        pool.create_volume(spec("a")).await.unwrap();
    })
    .unwrap();
    life(&mut world, || async {
        let pool = open().await.unwrap();
        assert!(!pool.opened_clean());
        pool.close(true).await.unwrap();
        assert_eq!(pool.create_volume(spec("b")).await, Err(StoreError::Closed));
    })
    .unwrap();
    life(&mut world, || async {
        assert!(open().await.unwrap().opened_clean());
    })
    .unwrap();
}

#[test]
fn volumes_that_cannot_be_are_refused_and_change_nothing() {
    let mut world = world(8);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        pool.create_volume(spec("a")).await.unwrap();
        let before = (pool.space(), pool.generation());
        let exists = StoreError::VolumeExists { name: "a".into() };
        assert_eq!(pool.create_volume(spec("a")).await, Err(exists));
        let cases: [fn(&mut store::NewVolume); 8] = [
            |new| new.name = String::new(),
            |new| new.name = "x".repeat(65),
            |new| new.name = "a\0b".into(),
            |new| new.size_bytes = 0,
            |new| new.size_bytes = 4097,
            |new| new.size_bytes = (256 << 40) + 4096,
            |new| new.block_bytes = 1024,
            |new| new.journal_bytes = 1 << 20,
        ];
        for (number, change) in cases.into_iter().enumerate() {
            let mut new = spec("b");
            change(&mut new);
            let error = pool.create_volume(new).await.unwrap_err();
            assert!(
                matches!(error, StoreError::InvalidVolume { .. }),
                "{number}: {error}"
            );
        }
        let mut large = spec("b");
        large.journal_bytes = 1 << 30;
        let error = pool.create_volume(large).await.unwrap_err();
        assert!(
            matches!(error, StoreError::NoRoomForJournal { .. }),
            "{error}"
        );
        assert_eq!((pool.space(), pool.generation()), before);
    })
    .unwrap();
}

#[test]
fn two_creations_of_one_name_at_once_give_one_volume() {
    let mut world = world(9);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        let (one, two) = (pool.clone(), pool.clone());
        let one = reactor::spawn(async move { one.create_volume(spec("a")).await });
        let two = reactor::spawn(async move { two.create_volume(spec("a")).await });
        let results = [one.await, two.await];
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "{results:?}"
        );
        let space = pool.space();
        assert_eq!(
            space.clusters_total - space.free,
            32,
            "the journal of the one that lost"
        );
    })
    .unwrap();
}

#[test]
fn a_full_pool_refuses_promises_and_still_publishes() {
    let mut world = world(10);
    life(&mut world, || async {
        let pool = create().await.unwrap();
        let record = pool.create_volume(spec("a")).await.unwrap();
        let mut writer = Writer::new(&pool, &record).await;
        let mut index = 0;
        let mut published = u64::MAX;
        // Publishing turns the nodes that promises were charged for into facts, which are fewer.
        while published != index {
            published = index;
            // One cluster per leaf: the most metadata that data can cause.
            while writer.put((index * 15) % 4096, 1, 1).await.is_ok() {
                index += 1;
            }
            writer
                .publish()
                .await
                .expect("what was allocated can be published");
        }
        assert!(index > 150, "only {index} clusters before it was full");
        assert!(matches!(pool.reserve(1), Err(StoreError::PoolFull { .. })));
        assert!(matches!(
            pool.allocate(None),
            Err(StoreError::PoolFull { .. })
        ));
        for victim in 0..index {
            writer.put((victim * 15) % 4096, 0, 0).await.unwrap();
        }
        writer.publish().await.expect("a full pool can be trimmed");
        assert!(pool.reserve(150).is_ok());
    })
    .unwrap();
}
