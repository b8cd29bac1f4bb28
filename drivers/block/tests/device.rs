//! A device in a simulated world: bounds, shared flushes, fail-stop, counters.

use std::path::Path;
use std::time::Duration;

use block::{BLOCK_BYTES, BlockError, Device, OpenOptions, Operation};
use reactor::buf::{Buf, BufList, pool};
use reactor::sim::{DiskOptions, World, WorldOptions};

const LIMIT: Duration = Duration::from_secs(60);
const LEN: u64 = 64 << 20;

fn world() -> World {
    let mut world = World::new(1, WorldOptions::default());
    world.add_disk("disk", DiskOptions::default());
    world
}

fn open(read_only: bool) -> Device {
    Device::open(Path::new("disk"), OpenOptions { read_only }).expect("open")
}

async fn filled(byte: u8, len: usize) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().fill(byte);
    buf
}

async fn write(device: &Device, offset: u64, byte: u8) -> Result<(), BlockError> {
    let list = BufList::from(filled(byte, 4096).await);
    device.write(offset, list).await.0
}

#[test]
fn what_is_written_is_read_and_counted() {
    world().run_once("node", LIMIT, || async {
        let device = open(false);
        assert_eq!(device.geometry().len_bytes, LEN);
        write(&device, 8192, 5).await.unwrap();
        let (result, buf) = device.read(8192, filled(0, 4096).await).await;
        result.unwrap();
        assert!(buf.iter().all(|&byte| byte == 5));
        let mut list = BufList::new();
        list.push(filled(0, 4096).await);
        list.push(filled(0, 8192).await);
        let (result, list) = device.read_list(4096, list).await;
        result.unwrap();
        assert_eq!((list[0][0], list[1][0], list[1][4096]), (0, 5, 0));
        device.discard(8192, 4096).await.unwrap();
        let counters = device.counters().snapshot();
        assert_eq!((counters.reads, counters.read_bytes), (2, 4096 + 12_288));
        assert_eq!((counters.writes, counters.written_bytes), (1, 4096));
        assert_eq!((counters.discarded_bytes, counters.errors), (4096, 0));
    });
}

#[test]
fn ranges_outside_or_askew_are_refused_before_the_device_sees_them() {
    world().run_once("node", LIMIT, || async {
        let device = open(false);
        let ranges = [
            (LEN, 4096),
            (LEN - 4096, 8192),
            (512, 4096),
            (0, 512),
            (u64::MAX - 4095, 4096),
        ];
        for (offset, len) in ranges {
            let (result, buf) = device.read(offset, filled(0, len).await).await;
            assert_eq!(buf.len(), len, "the buffer comes back");
            let expected = |operation| BlockError::OutOfRange {
                path: "disk".into(),
                operation,
                offset,
                len_bytes: len as u64,
                device_bytes: LEN,
            };
            assert_eq!(result, Err(expected(Operation::Read)));
            let (result, _) = device.write(offset, BufList::from(buf)).await;
            assert_eq!(result, Err(expected(Operation::Write)));
            let result = device.discard(offset, len as u64).await;
            assert_eq!(result, Err(expected(Operation::Discard)));
        }
        assert_eq!(device.counters().snapshot().writes, 0);
        write(&device, LEN - BLOCK_BYTES, 1)
            .await
            .expect("the last block");
    });
}

#[test]
fn callers_share_a_flush_that_began_after_they_asked() {
    world().run_once("node", LIMIT, || async {
        let device = open(false);
        let flush = |device: &Device| {
            let device = device.clone();
            reactor::spawn(async move { device.flush().await })
        };
        let first = flush(&device);
        reactor::time::sleep(Duration::from_micros(50)).await;
        // The first one is on its way: these need another, and one is enough for all of them.
        let others: Vec<_> = (0..10).map(|_| flush(&device)).collect();
        first.await.unwrap();
        for other in others {
            other.await.unwrap();
        }
        let counters = device.counters().snapshot();
        assert_eq!((counters.flushes, counters.flush_waiters), (2, 11));
    });
}

#[test]
fn a_cancelled_flush_is_taken_over() {
    world().run_once("node", LIMIT, || async {
        let device = open(false);
        let leader = device.clone();
        let leader = reactor::spawn(async move {
            let short = Duration::from_micros(50);
            reactor::time::timeout(short, leader.flush()).await.is_err()
        });
        let follower = device.clone();
        let follower = reactor::spawn(async move { follower.flush().await });
        assert!(leader.await, "the first caller gave up");
        follower.await.expect("the second flushed by itself");
    });
}

#[test]
fn nothing_is_written_after_a_failed_flush() {
    let mut world = world();
    world.disk("disk").fail_next_sync(false);
    world.run_once("node", LIMIT, || async {
        let device = open(false);
        write(&device, 0, 1).await.unwrap();
        let failed = BlockError::Failed {
            path: "disk".into(),
        };
        let (one, two) = (device.clone(), device.clone());
        let one = reactor::spawn(async move { one.flush().await });
        let two = reactor::spawn(async move { two.flush().await });
        let results = [one.await.unwrap_err(), two.await.unwrap_err()];
        assert!(
            results
                .iter()
                .any(|error| matches!(error, BlockError::Io { .. })),
            "{results:?}"
        );
        assert!(device.is_failed());
        assert_eq!(device.flush().await, Err(failed.clone()));
        assert_eq!(write(&device, 0, 2).await, Err(failed.clone()));
        assert_eq!(device.discard(0, 4096).await, Err(failed));
        device
            .read(0, filled(0, 4096).await)
            .await
            .0
            .expect("reads go on");
        assert_eq!(device.counters().snapshot().errors, 1);
    });
}

#[test]
fn a_read_only_device_refuses_changes() {
    world().run_once("node", LIMIT, || async {
        let device = open(true);
        let error = write(&device, 0, 1).await.unwrap_err();
        assert!(
            matches!(
                error,
                BlockError::Io {
                    operation: Operation::Write,
                    ..
                }
            ),
            "{error}"
        );
        assert!(device.discard(0, 4096).await.is_err());
        device.read(0, filled(0, 4096).await).await.0.unwrap();
    });
}

#[test]
fn failures_to_open_are_told_apart() {
    world().run_once("node", LIMIT, || async {
        let missing = Device::open(Path::new("nothing"), OpenOptions::default()).unwrap_err();
        assert_eq!(
            missing,
            BlockError::NotFound {
                path: "nothing".into()
            }
        );
        let device = open(false);
        let locked = Device::open(Path::new("disk"), OpenOptions::default()).unwrap_err();
        assert_eq!(
            locked,
            BlockError::Locked {
                path: "disk".into()
            }
        );
        drop(device);
        let exists = Device::create(Path::new("disk"), LEN).unwrap_err();
        assert_eq!(
            exists,
            BlockError::Exists {
                path: "disk".into()
            }
        );
        assert_eq!(open(false).geometry().len_bytes, LEN);
    });
}
