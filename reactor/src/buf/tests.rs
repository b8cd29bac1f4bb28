use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

fn small_pool() -> BufPool {
    BufPool::new(4 << 20, "test").unwrap()
}

#[test]
fn a_pool_is_cut_into_every_class() {
    for bytes_total in [4 << 20, 5_000_000, 64 << 20] {
        let pool = BufPool::new(bytes_total, "test").unwrap();
        assert!(pool.capacity_bytes() <= bytes_total);
        assert!(
            pool.capacity_bytes() > bytes_total - 8192,
            "nothing but a rest is left over"
        );
        for len in [1, 4096, 4097, 16384, 65536, 262_144, MAX_BUF_BYTES] {
            let buf = pool.try_alloc(len).unwrap();
            assert_eq!(buf.len(), len);
            assert!(buf.capacity() >= len);
            assert_eq!(buf.as_ptr() as usize % 4096, 0);
        }
        assert!(pool.try_alloc(MAX_BUF_BYTES + 1).is_none());
        assert_eq!(pool.in_use_bytes(), 0);
    }
}

#[test]
fn impossible_pools_are_refused() {
    assert!(BufPool::new(1 << 20, "small").is_err());
    assert!(BufPool::new(usize::MAX, "huge").is_err());
}

#[test]
fn slices_share_and_block_writing() {
    let pool = small_pool();
    let mut buf = pool.try_alloc(100).unwrap();
    buf.as_mut().copy_from_slice(&(0..100).collect::<Vec<u8>>());
    let mut part = buf.slice(10..20);
    assert_eq!(&part[..], &(10..20).collect::<Vec<u8>>()[..]);
    assert_eq!(&part.slice(5..)[..], &[15, 16, 17, 18, 19]);
    assert!(!buf.is_unique() && buf.try_mut().is_none() && part.try_mut().is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| part.as_mut()[0] = 1)).is_err());
    drop(buf);
    part.as_mut()[0] = 99;
    assert_eq!(part[0], 99);
    assert_eq!(
        part.capacity(),
        10,
        "a slice does not grow over its neighbours"
    );
    assert_eq!(pool.in_use_bytes(), 4096);
    drop(part);
    assert_eq!(pool.in_use_bytes(), 0);
}

#[test]
fn lengths_are_checked() {
    let pool = small_pool();
    let mut buf = pool.try_alloc(10).unwrap();
    buf.set_len(4096);
    buf.zero_fill();
    assert!(buf.iter().all(|&byte| byte == 0));
    assert!(catch_unwind(AssertUnwindSafe(|| buf.set_len(4097))).is_err());
    buf.truncate(5000);
    assert_eq!(buf.len(), 4096);
    buf.truncate(3);
    assert_eq!(buf.len(), 3);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(buf.slice(2..4)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(buf.slice(..=3)))).is_err());
    assert!(buf.slice(3..).is_empty());
}

#[test]
fn a_list_copies_over_its_seams() {
    let pool = small_pool();
    let mut list: BufList = [3, 5, 1, 7]
        .iter()
        .map(|&len| pool.try_alloc(len).unwrap())
        .collect();
    list.push(pool.try_alloc(0).unwrap());
    assert_eq!((list.len(), list.len_bytes()), (4, 16));
    let bytes: Vec<u8> = (1..=16).collect();
    assert_eq!(list.copy_in(0, &bytes), 16);
    for at in 0..16 {
        for len in 0..=16 - at {
            let mut out = vec![0; len];
            assert_eq!(list.copy_out(at, &mut out), len);
            assert_eq!(out, bytes[at..at + len]);
        }
    }
    assert_eq!(
        list.copy_in(14, &[9; 5]),
        2,
        "what does not fit is left out"
    );
    assert_eq!(list.copy_out(20, &mut [0; 2]), 0);
    assert_eq!(list[3][6], 9);
    let last = list.pop().unwrap();
    assert_eq!((last.len(), list.len_bytes()), (7, 9));
    list.clear();
    assert_eq!((list.len(), list.len_bytes()), (0, 0));
}

#[test]
fn a_list_is_unique_only_without_sharing() {
    let pool = small_pool();
    let buf = pool.try_alloc(8192).unwrap();
    let mut list = BufList::from(buf.slice(..4096));
    assert!(!list.is_unique());
    drop(buf);
    assert!(list.is_unique() && list.try_mut(0).is_some() && list.try_mut(1).is_none());
}

#[test]
fn buffers_move_between_threads() {
    fn assert_send<T: Send>() {}
    fn assert_sync<T: Sync>() {}
    assert_send::<Buf>();
    assert_send::<BufList>();
    assert_send::<BufPool>();
    assert_sync::<BufPool>();
}

#[test]
fn a_region_is_zero_until_it_is_written() {
    let mut region = Region::map((8 << 20) + 4096).unwrap();
    assert_eq!(region.bytes().len(), (8 << 20) + 4096);
    assert_eq!(region.bytes().as_ptr() as usize % 4096, 0);
    let end = region.bytes().len() - 1;
    region.bytes_mut()[end] = 7;
    let bytes = region.bytes();
    assert_eq!((bytes[0], bytes[end - 1], bytes[end]), (0, 0, 7));
}

#[test]
fn an_impossible_region_is_refused() {
    for len_bytes in [0, (1 << 47) + 1, usize::MAX] {
        let error = Region::map(len_bytes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    #[cfg(not(miri))]
    assert_eq!(
        Region::map(1 << 47).unwrap_err().kind(),
        std::io::ErrorKind::OutOfMemory,
        "the kernel does not promise all addresses there are"
    );
}
