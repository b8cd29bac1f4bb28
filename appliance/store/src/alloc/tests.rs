use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::types::ALL_BLOCKS;

fn allocator() -> Rc<RefCell<Allocator>> {
    let geometry = PoolGeometry::for_device(64 << 20).unwrap();
    Rc::new(RefCell::new(Allocator::new(&geometry)))
}

fn publish(alloc: &Rc<RefCell<Allocator>>, allocated: &[Cluster], freed: &[Cluster]) {
    let staged = alloc
        .borrow_mut()
        .stage(allocated, (freed, false), &[], &[]);
    alloc.borrow_mut().finish(staged);
}

#[test]
fn promises_are_kept_and_given_back() {
    let alloc = allocator();
    let available = alloc.borrow().space().available();
    let mut reservation = Reservation::new(&alloc, 10).unwrap();
    assert!(alloc.borrow().space().available() < available - 9);
    let first = alloc.borrow_mut().allocate(Some(&mut reservation)).unwrap();
    let second = alloc.borrow_mut().allocate(Some(&mut reservation)).unwrap();
    assert_ne!(first, second);
    let mut part = reservation.split(3);
    assert_eq!((reservation.count(), part.count()), (5, 3));
    part.absorb(reservation);
    assert_eq!(part.count(), 8);
    drop(part);
    let space = alloc.borrow().space();
    assert_eq!((space.reserved, space.free), (0, space.clusters_total - 2));
    alloc.borrow_mut().discard_unpublished(first);
    alloc.borrow_mut().discard_unpublished(second);
    assert_eq!(alloc.borrow().space().available(), available);
}

#[test]
fn promises_stop_before_the_metadata_reserve() {
    let alloc = allocator();
    let mut held = Vec::new();
    while let Ok(one) = Reservation::new(&alloc, 1) {
        held.push(one);
    }
    let space = alloc.borrow().space();
    let needed = held.len() as u32 / CLUSTERS_PER_MAP_CLUSTER + METADATA_RESERVE_MIN;
    assert!(space.free - space.reserved >= needed, "{space:?}");
    let error = Reservation::new(&alloc, 1).unwrap_err();
    assert!(
        matches!(error, StoreError::PoolFull { wanted: 1, .. }),
        "{error:?}"
    );
    assert!(Reservation::new(&alloc, u32::MAX).is_err());
    for mut one in held {
        alloc
            .borrow_mut()
            .allocate(Some(&mut one))
            .expect("promised");
    }
}

#[test]
fn freed_clusters_are_reused_after_publish_and_readers() {
    let alloc = allocator();
    let cluster = alloc.borrow_mut().allocate(None).unwrap();
    publish(&alloc, &[cluster], &[]);
    let free = alloc.borrow().space().free;
    let guard = ReadGuard::new(&alloc);
    let staged = alloc.borrow_mut().stage(&[], (&[cluster], false), &[], &[]);
    assert_eq!(alloc.borrow().space().free, free, "staged");
    assert!(!alloc.borrow().is_published(cluster));
    alloc.borrow_mut().finish(staged);
    assert_eq!(
        alloc.borrow().space().free,
        free,
        "published, still being read"
    );
    drop(guard);
    assert_eq!(alloc.borrow().space().free, free + 1);
}

#[test]
fn claims_are_for_free_clusters_of_the_pool() {
    let alloc = allocator();
    let cluster = alloc.borrow_mut().allocate(None).unwrap();
    let mut alloc = alloc.borrow_mut();
    assert_eq!(
        alloc.claim(cluster),
        Err(StoreError::ClusterInUse { cluster })
    );
    let other = Cluster(cluster.0 + 1);
    assert_eq!(alloc.claim(other), Ok(()));
    assert_eq!(
        alloc.claim(other),
        Err(StoreError::ClusterInUse { cluster: other })
    );
    for cluster in [Cluster(0), Cluster(u32::MAX), Cluster(alloc.first - 1)] {
        assert_eq!(
            alloc.claim(cluster),
            Err(StoreError::ClusterOutOfRange { cluster })
        );
    }
    let next = alloc.allocate(None).unwrap();
    assert_ne!(next, other, "claimed clusters are not given to others");
}

#[test]
fn journals_take_the_smallest_run_that_fits_or_the_largest_ones() {
    let free = || [(0, 18), (20, 100), (200, 40), (300, 15), (400, 30)].into_iter();
    assert_eq!(choose_runs(free(), 19), Some(vec![(400, 19)]));
    assert_eq!(choose_runs(free(), 35), Some(vec![(200, 35)]));
    assert_eq!(choose_runs(free(), 140), Some(vec![(20, 100), (200, 40)]));
    assert_eq!(
        choose_runs(free(), 142),
        Some(vec![(20, 86), (200, 40), (400, 16)])
    );
    assert_eq!(
        choose_runs(free(), 188),
        Some(vec![(0, 18), (20, 100), (200, 40), (400, 30)])
    );
    assert_eq!(
        choose_runs(free(), 189),
        None,
        "the run of fifteen is too short"
    );
    let many = (0..20).map(|index| (index * 100, 20));
    assert_eq!(choose_runs(many.clone(), 161), None, "at most eight runs");
    assert_eq!(choose_runs(many, 160).unwrap().len(), 8);
}

#[test]
fn map_blocks_fill_clusters_and_empty_ones_go() {
    let alloc = allocator();
    let mut alloc = alloc.borrow_mut();
    let free = alloc.space().free;
    let blocks = alloc.allocate_blocks(CLUSTER_BLOCKS as u64 + 1).unwrap();
    assert_eq!(alloc.space().free, free - 2);
    let staged = alloc.stage(&[], (&[], false), &blocks, &[]);
    assert_eq!(
        staged.dirty_pages.len(),
        2,
        "one page of the bitmap, one of the table"
    );
    alloc.finish(staged);
    let masks: Vec<u64> = alloc.map_clusters().map(|entry| entry.mask).collect();
    assert_eq!(masks, [ALL_BLOCKS, 1]);
    let staged = alloc.stage(&[], (&[], false), &[], &blocks[1..]);
    let reused = alloc.allocate_blocks(1).unwrap();
    assert!(
        !blocks.contains(&reused[0]),
        "freed blocks are not reused before the publish is through"
    );
    let cluster = Cluster((reused[0] / CLUSTER_BLOCKS as u64) as u32);
    assert!(alloc.is_published(cluster) || alloc.space().free < free - 1);
    alloc.finish(staged);
    let masks: Vec<u64> = alloc.map_clusters().map(|entry| entry.mask).collect();
    assert_eq!(masks, [1]);
}

#[test]
fn more_nodes_than_fit_are_refused_and_nothing_is_taken() {
    let alloc = allocator();
    let mut alloc = alloc.borrow_mut();
    let before = alloc.space();
    let error = alloc
        .allocate_blocks(u64::from(before.free) * CLUSTER_BLOCKS as u64 + 1)
        .unwrap_err();
    assert!(matches!(error, StoreError::MetadataFull { .. }));
    assert_eq!(alloc.space(), before);
}

#[test]
#[should_panic(expected = "published or freed twice")]
fn freeing_what_is_not_published_is_a_bug() {
    let alloc = allocator();
    let cluster = alloc.borrow_mut().allocate(None).unwrap();
    alloc.borrow_mut().stage(&[], (&[cluster], false), &[], &[]);
}

#[test]
#[should_panic(expected = "not an unpublished one")]
fn discarding_what_is_published_is_a_bug() {
    let alloc = allocator();
    let cluster = alloc.borrow_mut().allocate(None).unwrap();
    publish(&alloc, &[cluster], &[]);
    alloc.borrow_mut().discard_unpublished(cluster);
}
