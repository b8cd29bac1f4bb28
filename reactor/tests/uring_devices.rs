//! Block devices on a real kernel: the one below this machine, and one that can be polled.

mod common;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use common::run;
use reactor::buf::{BufList, BufPool, engine_pool, pool};
use reactor::fs::{File, OpenOptions};
use reactor::{random_u64, spawn, stats};

const BLOCK: usize = 4096;

const READ_ONLY: OpenOptions = OpenOptions {
    create_len: None,
    exclusive_lock: false,
    read_only: true,
};

/// Block devices, each with its setting `io_poll`.
fn devices() -> Vec<(PathBuf, String)> {
    let folders = std::fs::read_dir("/sys/block").expect("sysfs is mounted");
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| {
            let setting = std::fs::read_to_string(format!("/sys/block/{name}/queue/io_poll"));
            let setting = setting.unwrap_or_default().trim().to_owned();
            (PathBuf::from("/dev").join(name), setting)
        })
        .collect()
}

#[test]
fn a_device_without_queues_for_polling_uses_the_ordinary_ring() {
    run(|| async {
        for (path, setting) in devices() {
            // Not ours to read, or without medium.
            let Ok(file) = File::open(&path, &READ_ONLY) else {
                continue;
            };
            if setting != "0" || file.info().len_bytes < BLOCK as u64 {
                continue;
            }
            assert!(file.info().is_block_device);
            assert!(!file.info().is_polled, "{}", path.display());
            let (result, _) = file.read_at(0, pool().alloc(BLOCK).await).await;
            result.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    });
}

/// Writes every block of its part in one of several ways and reads it back.
async fn fill_and_check(file: Rc<File>, pools: [BufPool; 2], part: u64) {
    let seed = random_u64();
    for step in 0..64u64 {
        let slices = 1 + (step % 3) as usize;
        let offset = (part * 64 + step) * 4 * BLOCK as u64;
        let (mut out, mut back) = (BufList::new(), BufList::new());
        for slice in 0..slices {
            let pool = &pools[(step as usize + slice * (step as usize / 32)) % 2];
            let mut buf = pool.alloc(BLOCK).await;
            let word = (seed ^ offset).wrapping_add(slice as u64).to_le_bytes();
            buf.as_mut()
                .chunks_mut(8)
                .for_each(|to| to.copy_from_slice(&word));
            out.push(buf);
            back.push(pool.alloc(BLOCK).await);
        }
        let (result, out) = file.write_at(offset, out).await;
        result.expect("the device takes it");
        if step % 16 == 0 {
            file.sync().await.expect("a sync goes to the ordinary ring");
        }
        let (result, back) = file.read_list_at(offset, back).await;
        result.expect("the device gives it back");
        for (out, back) in out.iter().zip(&back) {
            assert_eq!(out[..], back[..], "part {part}, step {step}");
        }
    }
}

/// One buffer, and a list, that no device takes in one command; and the end of the device.
async fn check_long(file: &File) {
    let mut buf = pool().alloc(1 << 20).await;
    for (at, chunk) in buf.as_mut().chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&(at as u64).to_le_bytes());
    }
    let offset = 64 << 20;
    let (result, out) = file.write_at(offset, BufList::from(buf)).await;
    result.expect("a long write is cut");
    let mut pieces = BufList::new();
    for _ in 0..256 {
        pieces.push(pool().alloc(BLOCK).await);
    }
    let (result, pieces) = file.read_list_at(offset, pieces).await;
    result.expect("a long list is cut");
    for (at, piece) in pieces.iter().enumerate() {
        assert_eq!(piece[..], out[0][at * BLOCK..][..BLOCK], "piece {at}");
    }
    let end = file.info().len_bytes;
    let (result, buf) = file
        .read_at(end - BLOCK as u64, pool().alloc(BLOCK).await)
        .await;
    result.expect("the last block");
    let (result, _) = file.read_at(end, buf).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let buf = pool().alloc(2 * BLOCK).await;
    let (result, _) = file.read_at(end - BLOCK as u64, buf).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let odd = pool().alloc(100).await;
    let (result, _) = file.read_at(0, odd).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// More than the ring's queue and the device's own take at once.
async fn check_burst(file: &Rc<File>) {
    let burst: Vec<_> = (0..1500u64)
        .map(|number| {
            let file = file.clone();
            spawn(async move {
                let buf = pool().alloc(BLOCK).await;
                file.read_at(number * BLOCK as u64, buf).await.0
            })
        })
        .collect();
    for task in burst {
        task.await.expect("a burst is queued, not refused");
    }
}

async fn check_discard(file: &File) {
    match file.discard(0, 1 << 20).await {
        Ok(()) => {
            let (result, buf) = file.read_at(0, pool().alloc(BLOCK).await).await;
            result.unwrap();
            assert!(buf.iter().all(|&byte| byte == 0), "what was discarded");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    }
}

/// With nothing in flight the core sleeps as ever; an orphan does not keep it awake.
async fn check_idle(file: &Rc<File>) {
    drop(spawn({
        let file = file.clone();
        async move { file.read_at(0, pool().alloc(BLOCK).await).await }
    }));
    let before = stats().parks.get();
    reactor::time::sleep(Duration::from_millis(50)).await;
    assert!(stats().parks.get() > before, "an idle core parks");
}

/// Overwrites the device with everything there is.
async fn exercise(file: File) {
    let file = Rc::new(file);
    let foreign = BufPool::new(4 << 20, "foreign").unwrap();
    let all = [pool(), engine_pool(), foreign];
    let tasks: Vec<_> = (0..8)
        .map(|part| {
            let pair = [all[part % 3].clone(), all[(part + 1) % 3].clone()];
            spawn(fill_and_check(file.clone(), pair, part as u64))
        })
        .collect();
    for task in tasks {
        task.await;
    }
    check_long(&file).await;
    check_burst(&file).await;
    check_discard(&file).await;
    check_idle(&file).await;
}

#[test]
#[ignore = "overwrites REACTOR_POLLED_DEVICE, such as NVMe with poll_queues=1"]
fn a_polled_device_gives_back_what_it_was_given() {
    let path = std::env::var("REACTOR_POLLED_DEVICE").expect("the device to overwrite");
    run(move || async move {
        let file = File::open(path.as_ref(), &OpenOptions::default()).unwrap();
        assert!(file.info().is_polled, "{:?}", file.info());
        exercise(file).await;
    });
}

#[test]
#[ignore = "overwrites REACTOR_GENERIC_DEVICE, such as /dev/ng0n1"]
fn a_namespace_gives_back_what_commands_gave_it() {
    let path = std::env::var("REACTOR_GENERIC_DEVICE").expect("the device to overwrite");
    run(move || async move {
        let locked = OpenOptions {
            exclusive_lock: true,
            ..OpenOptions::default()
        };
        let file = File::open(path.as_ref(), &locked).unwrap();
        assert!(file.info().is_passthrough, "{:?}", file.info());
        let second = File::open(path.as_ref(), &OpenOptions::default());
        assert_eq!(second.unwrap_err().kind(), ErrorKind::ResourceBusy);
        exercise(file).await;
        let again = File::open(path.as_ref(), &locked).expect("it was let go");
        // The block layer must see what commands wrote.
        let buf = again.read_at(64 << 20, pool().alloc(BLOCK).await).await.1;
        drop(again);
        reactor::next_turn().await;
        let block = path.replace("/ng", "/nvme");
        let file = File::open(block.as_ref(), &READ_ONLY).unwrap();
        assert!(!file.info().is_passthrough);
        let (result, same) = file.read_at(64 << 20, pool().alloc(BLOCK).await).await;
        result.unwrap();
        assert_eq!(buf[..], same[..]);
        assert_eq!(buf[8..16], 1u64.to_le_bytes());
    });
}
