//! A device in memory: what a file does, without a file.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use block::{BlockError, Device, Operation};
use reactor::buf::{Buf, BufList, pool};
use reactor::sim::{World, WorldOptions};

const LIMIT: Duration = Duration::from_secs(60);
const LEN: u64 = 64 << 20;

/// Nothing here needs the kernel; the simulated world has a core to run on.
fn on_core<F: Future<Output = ()> + 'static>(main: impl Fn() -> F + 'static) {
    World::new(1, WorldOptions::default()).run_once("node", LIMIT, main);
}

fn device() -> Device {
    Device::in_memory("test", LEN).expect("64 MiB")
}

async fn filled(byte: u8, len: usize) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().fill(byte);
    buf
}

async fn write(device: &Device, offset: u64, byte: u8, len: usize) {
    let list = BufList::from(filled(byte, len).await);
    let (result, list) = device.write(offset, list).await;
    result.expect("write");
    assert_eq!(list.len_bytes(), len, "the buffers come back");
}

async fn read(device: &Device, offset: u64, len: usize) -> Buf {
    let (result, buf) = device.read(offset, filled(0xEE, len).await).await;
    result.expect("read");
    buf
}

fn is_all(bytes: &[u8], byte: u8) -> bool {
    bytes.iter().all(|&other| other == byte)
}

#[test]
fn it_says_what_it_is() {
    on_core(|| async {
        let device = Device::in_memory("test", LEN + 5000).expect("64 MiB");
        assert_eq!(device.path().to_str(), Some("memory:test"));
        let geometry = device.geometry();
        assert_eq!(geometry.len_bytes, LEN + 4096, "whole blocks");
        assert_eq!(geometry.logical_block_bytes, 4096);
        assert!(!geometry.volatile_cache && !geometry.is_block_device);
        assert!(geometry.supports_discard);
    });
}

#[test]
fn it_reads_as_zeroes_until_it_is_written() {
    on_core(|| async {
        let device = device();
        assert!(is_all(&read(&device, LEN - 8192, 8192).await, 0));
        write(&device, LEN - 4096, 7, 4096).await;
        let bytes = read(&device, LEN - 8192, 8192).await;
        assert!(is_all(&bytes[..4096], 0) && is_all(&bytes[4096..], 7));
    });
}

#[test]
fn lists_lie_in_one_piece() {
    on_core(|| async {
        let device = device();
        let mut list = BufList::new();
        for (byte, len) in [(1, 4096), (2, 8192), (3, 1024), (4, 3072)] {
            list.push(filled(byte, len).await);
        }
        device.write(8192, list).await.0.expect("write");
        let mut list = BufList::new();
        list.push(filled(0, 6000).await);
        list.push(filled(0, 14480).await);
        let (result, list) = device.read_list(4096, list).await;
        result.expect("read");
        let mut bytes = vec![0xEE; list.len_bytes()];
        list.copy_out(0, &mut bytes);
        for (range, byte) in [
            (0..4096, 0),
            (4096..8192, 1),
            (8192..16384, 2),
            (16384..17408, 3),
            (17408..20480, 4),
        ] {
            assert!(is_all(&bytes[range.clone()], byte), "{range:?}");
        }
    });
}

#[test]
fn discard_leaves_zeroes_and_touches_nothing_else() {
    on_core(|| async {
        let device = device();
        for at in 0..4 {
            write(&device, at << 20, 9, 1 << 20).await;
        }
        device
            .discard(4096, (2 << 20) + 8192)
            .await
            .expect("discard");
        assert!(is_all(&read(&device, 0, 4096).await, 9));
        assert!(is_all(&read(&device, 4096, 1 << 20).await, 0));
        assert!(is_all(&read(&device, (2 << 20) + 8192, 4096).await, 0));
        assert!(is_all(&read(&device, (2 << 20) + 12288, 4096).await, 9));
        let counters = device.counters().snapshot();
        assert_eq!(counters.discarded_bytes, (2 << 20) + 8192);
    });
}

#[test]
fn operations_are_counted_and_a_flush_is_done_at_once() {
    on_core(|| async {
        let device = device();
        write(&device, 0, 1, 8192).await;
        read(&device, 0, 4096).await;
        device.flush().await.expect("flush");
        device.flush().await.expect("flush");
        let counters = device.counters().snapshot();
        assert_eq!((counters.writes, counters.written_bytes), (1, 8192));
        assert_eq!((counters.reads, counters.read_bytes), (1, 4096));
        assert_eq!((counters.flushes, counters.errors), (2, 0));
    });
}

#[test]
fn ranges_outside_and_shared_buffers_are_refused() {
    on_core(|| async {
        let device = device();
        let (result, buf) = device.read(LEN, filled(0, 4096).await).await;
        let expected = BlockError::OutOfRange {
            path: "memory:test".into(),
            operation: Operation::Read,
            offset: LEN,
            len_bytes: 4096,
            device_bytes: LEN,
        };
        assert_eq!(result, Err(expected));
        let other = buf.clone();
        assert!(
            device.read(0, buf).await.0.is_err(),
            "somebody else reads it"
        );
        let list = BufList::from(other.clone());
        assert!(device.read_list(0, list).await.0.is_err());
        let list = BufList::from(other.clone());
        device
            .write(0, list)
            .await
            .0
            .expect("a shared one may be written");
        assert_eq!(device.counters().snapshot().errors, 2);
    });
}

#[test]
fn it_is_gone_with_its_last_clone_and_not_before() {
    on_core(|| async {
        let first = device();
        write(&first, 0, 5, 4096).await;
        let clone = first.clone();
        drop(first);
        assert!(is_all(&read(&clone, 0, 4096).await, 5));
        drop(clone);
        assert!(is_all(&read(&device(), 0, 4096).await, 0));
    });
}

#[test]
fn long_work_lets_other_tasks_run() {
    on_core(|| async {
        let device = device();
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        reactor::spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                reactor::next_turn().await;
            }
        })
        .detach();
        for at in 0..32 {
            write(&device, at << 20, 1, 1 << 20).await;
        }
        assert!(turns.get() >= 32, "{} turns beside 32 MiB", turns.get());
    });
}

#[test]
fn more_than_the_system_promises_is_refused_with_a_remedy() {
    on_core(|| async {
        let error = Device::in_memory("huge", 1 << 60).unwrap_err();
        let BlockError::NoMemory { len_bytes, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*len_bytes, 1 << 60);
        let text = error.to_string();
        assert!(
            text.contains("memory:huge") && text.contains("make it smaller"),
            "{text}"
        );
    });
}
