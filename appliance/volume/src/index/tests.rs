use super::*;
use reactor::buf::BufPool;

fn journal(lsn: u64, payload: PayloadId) -> PageEntry {
    let source = Source::Journal {
        position: lsn * 4096,
        payload,
    };
    PageEntry {
        lsn,
        crc: lsn as u32,
        source,
    }
}

fn buf(pool: &BufPool, fill: u8, len: usize) -> Buf {
    let mut buf = pool.try_alloc(len).expect("room");
    buf.as_mut().fill(fill);
    buf
}

#[test]
fn the_newest_wins_and_older_settling_is_ignored() {
    let mut index = Index::new(100, (100, 100), PayloadBudget::new(0));
    index.put(70, journal(5, PayloadId::NONE));
    index.put(70, journal(9, PayloadId::NONE));
    index.settle_page(70, 5);
    assert_eq!(index.lookup(70), Lookup::Dirty(journal(9, PayloadId::NONE)));
    index.settle_page(70, 9);
    assert_eq!(index.lookup(70), Lookup::Clean);
    index.drop_if_idle(70 / CLUSTER_PAGES);
    assert!(index.is_clean());
}

#[test]
fn zeros_hide_data_and_data_hides_zeros() {
    let mut index = Index::new(100, (100, 100), PayloadBudget::new(0));
    index.put(1, journal(1, PayloadId::NONE));
    index.put_zero(0, 0b110);
    assert_eq!(
        (index.lookup(1), index.lookup(2)),
        (Lookup::Zero, Lookup::Zero)
    );
    assert_eq!(index.cut_zeros(0), 0b110);
    index.put(2, journal(3, PayloadId::NONE));
    index.put_zero(0, 0b1000);
    index.settle_zeros(0, 0b110);
    assert_eq!(index.lookup(1), Lookup::Clean);
    assert_eq!(index.lookup(2), Lookup::Dirty(journal(3, PayloadId::NONE)));
    assert_eq!(index.lookup(3), Lookup::Zero, "zeroed after the cut");
}

#[test]
fn an_entry_stays_while_requests_are_on_their_way() {
    let mut index = Index::new(100, (100, 100), PayloadBudget::new(0));
    index.enter(4);
    index.enter(4);
    index.leave(4);
    assert!(index.cluster(4).is_some());
    index.leave(4);
    assert!(index.cluster(4).is_none());
}

#[test]
fn payload_memory_is_dropped_oldest_first() {
    let pool = BufPool::new(8 << 20, "test").expect("memory");
    let mut index = Index::new(100, (100, 100), PayloadBudget::new(2 * 4096));
    for page in 0..3u64 {
        let id = index.retain(page, &buf(&pool, page as u8, 4096));
        index.put(page, journal(page + 1, id));
    }
    let found: Vec<_> = (0..3)
        .map(|page| match index.lookup(page) {
            Lookup::Dirty(PageEntry {
                source: Source::Journal { payload, .. },
                ..
            }) => index.payload(page, payload).map(|buf| buf[0]),
            _ => panic!("page {page} is dirty"),
        })
        .collect();
    assert_eq!(found, [None, Some(1), Some(2)]);
    assert_eq!(pool.in_use_bytes(), 2 * 4096);
    for page in 0..3 {
        index.settle_page(page, page + 1);
    }
    assert_eq!((pool.in_use_bytes(), index.payload_bytes()), (0, 0));
}

#[test]
fn memory_is_short_for_the_volume_that_has_it() {
    let pool = BufPool::new(32 << 20, "test").expect("memory");
    let budget = PayloadBudget::new(8 << 20);
    let mut large = Index::new(100, (4096, 100), budget.clone());
    let mut small = Index::new(100, (4096, 100), budget);
    let keep = |index: &mut Index, page: u64| {
        let id = index.retain(page, &buf(&pool, 1, 4096));
        index.put(page, journal(page + 1, id));
    };
    (0..300).for_each(|page| keep(&mut small, page));
    (0..1492).for_each(|page| keep(&mut large, page));
    assert!(!large.is_short_of_memory(), "an eighth is left");
    keep(&mut large, 1492);
    assert!(large.is_short_of_memory());
    assert!(!small.is_short_of_memory(), "its pages would not help");
}

#[test]
fn while_a_cycle_runs_only_what_it_has_written_makes_room() {
    let pool = BufPool::new(8 << 20, "test").expect("memory");
    let mut index = Index::new(100, (100, 100), PayloadBudget::new(2 * 4096));
    let keep = |index: &mut Index, page: u64| {
        let id = index.retain(page, &buf(&pool, page as u8, 4096));
        index.put(page, journal(page + 1, id));
        id
    };
    let first = keep(&mut index, 0);
    let second = keep(&mut index, 1);
    assert!(!index.is_short_of_memory(), "too little for a cycle");
    index.hold_payloads();
    assert_eq!(keep(&mut index, 2), PayloadId::NONE, "the cycle needs both");
    assert_eq!(index.payloads_refused(), 1);
    index.note_written(journal(2, second).source);
    let fourth = keep(&mut index, 3);
    let is_kept = |index: &Index, page, id| index.payload(page, id).is_some();
    assert!(is_kept(&index, 0, first) && is_kept(&index, 3, fourth));
    assert!(!is_kept(&index, 1, second), "it is in its place");
    assert_eq!(keep(&mut index, 4), PayloadId::NONE);
    index.let_payloads_go();
    let sixth = keep(&mut index, 5);
    assert!(is_kept(&index, 5, sixth) && !is_kept(&index, 0, first));
}

#[test]
fn a_shared_payload_lives_until_its_last_page_is_settled() {
    let pool = BufPool::new(8 << 20, "test").expect("memory");
    let mut index = Index::new(100, (100, 100), PayloadBudget::new(1 << 20));
    let id = index.retain(10, &buf(&pool, 7, 3 * 4096));
    for page in 10..13 {
        index.put(page, journal(page, id));
    }
    index.settle_page(10, 10);
    index.put_zero(0, 1 << 11);
    assert!(index.copy_payload(12, id, &mut [0; 4096]));
    assert!(pool.in_use_bytes() > 0);
    index.put(12, journal(50, PayloadId::NONE));
    assert_eq!((pool.in_use_bytes(), index.payload_bytes()), (0, 0));
}
