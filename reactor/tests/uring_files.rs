//! Files on a real kernel.

mod common;

use std::io::ErrorKind;
use std::path::Path;

use common::{Folder, run};
use reactor::buf::{Buf, BufList, BufPool, engine_pool, pool};
use reactor::fs::{File, OpenOptions};
use reactor::{next_turn, spawn, yield_now};

const BLOCK: usize = 4096;

fn create(len_bytes: u64) -> OpenOptions {
    OpenOptions {
        create_len: Some(len_bytes),
        exclusive_lock: true,
        read_only: false,
    }
}

async fn filled(len: usize, byte: u8) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().fill(byte);
    buf
}

#[test]
fn what_was_written_is_read_back() {
    let folder = Folder::new("read_back");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(1 << 20)).unwrap();
        assert_eq!(file.info().len_bytes, 1 << 20);
        assert!(
            file.info().is_direct,
            "the build machine's disk takes direct I/O"
        );
        assert!(!file.info().is_block_device);
        let mut list = BufList::new();
        for number in 0..5u8 {
            list.push(filled(BLOCK * (1 + number as usize), number + 1).await);
        }
        let (result, list) = file.write_at(8192, list).await;
        result.unwrap();
        assert_eq!(list.len(), 5, "the caller gets its buffers back");
        file.sync().await.unwrap();
        let (result, buf) = file.read_at(8192, filled(15 * BLOCK, 0xFF).await).await;
        result.unwrap();
        let mut at = 0;
        for number in 0..5usize {
            let len = BLOCK * (1 + number);
            assert!(
                buf[at..at + len]
                    .iter()
                    .all(|&byte| byte == number as u8 + 1)
            );
            at += len;
        }
        let (result, before) = file.read_at(4096, filled(BLOCK, 0xFF).await).await;
        result.unwrap();
        assert!(
            before.iter().all(|&byte| byte == 0),
            "reserved space reads as zeroes"
        );
    });
}

#[test]
fn a_list_longer_than_one_operation_goes_through() {
    let folder = Folder::new("long_list");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(16 << 20)).unwrap();
        let buf = filled(BLOCK, 7).await;
        let list: BufList = (0..2500).map(|_| buf.clone()).collect();
        let (result, list) = file.write_at(0, list).await;
        result.unwrap();
        assert_eq!(list.len_bytes(), 2500 * BLOCK);
        let (result, last) = file
            .read_at(2499 * BLOCK as u64, filled(2 * BLOCK, 9).await)
            .await;
        result.unwrap();
        assert!(last[..BLOCK].iter().all(|&byte| byte == 7));
        assert!(last[BLOCK..].iter().all(|&byte| byte == 0));
    });
}

#[test]
fn reading_past_the_end_is_an_error() {
    let folder = Folder::new("past_end");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(8192)).unwrap();
        let (result, _) = file.read_at(4096, filled(2 * BLOCK, 0).await).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_shared_buffer_is_not_read_into() {
    let folder = Folder::new("shared_read");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(8192)).unwrap();
        let buf = filled(BLOCK, 3).await;
        let other = buf.clone();
        let (result, _) = file.read_at(0, buf).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(other.iter().all(|&byte| byte == 3));
    });
}

#[test]
fn discard_reads_as_zeroes() {
    let folder = Folder::new("discard");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(1 << 20)).unwrap();
        file.write_at(0, filled(65536, 5).await.into())
            .await
            .0
            .unwrap();
        file.discard(16384, 16384).await.unwrap();
        let (result, buf) = file.read_at(0, filled(65536, 1).await).await;
        result.unwrap();
        assert!(buf[..16384].iter().all(|&byte| byte == 5));
        assert!(buf[16384..32768].iter().all(|&byte| byte == 0));
        assert!(buf[32768..].iter().all(|&byte| byte == 5));
    });
}

#[test]
fn the_lock_is_exclusive_and_ends_with_the_file() {
    let folder = Folder::new("lock");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(8192)).unwrap();
        let again = OpenOptions {
            exclusive_lock: true,
            ..OpenOptions::default()
        };
        assert_eq!(
            File::open(&path, &again).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let (result, _) = file.read_at(0, filled(BLOCK, 0).await).await;
        result.unwrap();
        drop(file);
        File::open(&path, &again).expect("the lock is free again");
    });
}

#[test]
fn opening_says_what_is_wrong() {
    let folder = Folder::new("open_errors");
    let path = folder.file("pool");
    run(move || async move {
        let plain = OpenOptions::default();
        assert_eq!(
            File::open(&path, &plain).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        drop(File::open(&path, &create(8192)).unwrap());
        assert_eq!(
            File::open(&path, &create(8192)).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        let huge = folder.file("huge");
        File::open(&huge, &create(1 << 60)).unwrap_err();
        assert!(
            !huge.exists(),
            "a file that could not be made whole is not left behind"
        );
        let read_only = OpenOptions {
            read_only: true,
            ..plain
        };
        let file = File::open(&path, &read_only).unwrap();
        assert!(
            file.write_at(0, filled(BLOCK, 0).await.into())
                .await
                .0
                .is_err()
        );
        assert_eq!(
            File::open(Path::new("/dev/zero"), &read_only)
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn an_abandoned_read_keeps_its_buffer_until_it_is_done() {
    let folder = Folder::new("orphan");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(8 << 20)).unwrap();
        let before = pool().in_use_bytes();
        for round in 0..50 {
            let buf = pool().alloc(1 << 20).await;
            let reader = file.clone();
            let task = spawn(async move { reader.read_at(0, buf).await.0 });
            // The op reaches the kernel at the end of this turn; the read cannot be over before.
            yield_now().await;
            let submitted = reactor::stats().ops_submitted.get();
            task.abort();
            assert!(
                pool().in_use_bytes() > before,
                "round {round}: the kernel has the buffer"
            );
            while pool().in_use_bytes() > before {
                next_turn().await;
            }
            assert_eq!(reactor::stats().ops_submitted.get(), submitted);
        }
        // The orphans held clones of the file only while they ran.
        drop(file);
        let again = OpenOptions {
            exclusive_lock: true,
            ..OpenOptions::default()
        };
        File::open(&path, &again).expect("no operation holds the file any more");
    });
}

#[test]
fn a_core_ends_with_operations_in_flight() {
    let folder = Folder::new("end_in_flight");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(8 << 20)).unwrap();
        for _ in 0..4 {
            let (file, buf) = (file.clone(), pool().alloc(1 << 20).await);
            spawn(async move { file.read_at(0, buf).await.0 }).detach();
        }
        yield_now().await;
    });
}

#[test]
fn many_operations_at_once() {
    let folder = Folder::new("many");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(8 << 20)).unwrap();
        let mut tasks = Vec::new();
        for number in 0..2000u64 {
            let file = file.clone();
            tasks.push(spawn(async move {
                let at = number * BLOCK as u64;
                file.write_at(at, filled(BLOCK, number as u8).await.into())
                    .await
                    .0
                    .unwrap();
                let (result, buf) = file.read_at(at, filled(BLOCK, 0).await).await;
                result.unwrap();
                assert!(
                    buf.iter().all(|&byte| byte == number as u8),
                    "block {number}"
                );
            }));
        }
        for task in tasks {
            task.await;
        }
        assert_eq!(pool().in_use_bytes(), 0);
    });
}

/// More operations than the table holds: the rest waits its turn.
#[test]
fn operations_beyond_the_bound_wait_in_line() {
    use std::cell::Cell;
    use std::rc::Rc;
    const OPERATIONS: usize = 20_000;
    let folder = Folder::new("bound");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(1 << 20)).unwrap();
        let buf = filled(BLOCK, 1).await;
        let done = Rc::new(Cell::new(0));
        for _ in 0..OPERATIONS {
            let (file, list, done) = (file.clone(), BufList::from(buf.clone()), done.clone());
            spawn(async move {
                file.write_at(0, list).await.0.unwrap();
                done.set(done.get() + 1);
            })
            .detach();
        }
        let mut most = 0;
        while done.get() < OPERATIONS {
            most = most.max(reactor::stats().ops_in_flight.get());
            next_turn().await;
        }
        assert!(most > 256, "many are in flight at once: {most}");
        assert!(most <= 16_384, "{most}");
    });
}

#[test]
fn buffers_of_any_origin_carry_the_same_bytes() {
    let folder = Folder::new("origins");
    let path = folder.file("pool");
    run(move || async move {
        let file = File::open(&path, &create(1 << 20)).unwrap();
        let foreign = BufPool::new(4 << 20, "foreign").unwrap();
        let (io, engine) = (pool(), engine_pool());
        // Registered alone, registered lists, unregistered, and lists over two registrations.
        let origins: [&[&BufPool]; 7] = [
            &[&io],
            &[&engine],
            &[&io, &io, &io],
            &[&foreign],
            &[&foreign, &foreign],
            &[&io, &engine],
            &[&engine, &foreign, &io],
        ];
        for (number, pools) in origins.into_iter().enumerate() {
            let (mut out, mut back) = (BufList::new(), BufList::new());
            for (slice, pool) in pools.iter().enumerate() {
                let mut buf = pool.alloc(BLOCK).await;
                buf.as_mut().fill((number * 16 + slice + 1) as u8);
                out.push(buf);
                let mut buf = pool.alloc(BLOCK).await;
                buf.as_mut().fill(0xEE);
                back.push(buf);
            }
            let offset = (number * 64 * BLOCK) as u64 / 2;
            file.write_at(offset, out).await.0.unwrap();
            let (result, back) = file.read_list_at(offset, back).await;
            result.unwrap();
            for (slice, buf) in back.iter().enumerate() {
                let expected = (number * 16 + slice + 1) as u8;
                assert!(buf.iter().all(|&byte| byte == expected), "origin {number}");
            }
        }
    });
}

#[test]
fn a_file_on_tmpfs_says_that_it_is_memory() {
    let folder = Folder::new("on_disk");
    let (on_disk, in_memory) = (
        folder.file("pool"),
        format!("/dev/shm/bedplate-reactor-{}", std::process::id()),
    );
    run(move || async move {
        assert!(
            !File::open(&on_disk, &create(1 << 20))
                .unwrap()
                .info()
                .is_memory
        );
        let file = File::open(Path::new(&in_memory), &create(1 << 20)).unwrap();
        std::fs::remove_file(&in_memory).unwrap();
        assert!(file.info().is_memory);
    });
}
