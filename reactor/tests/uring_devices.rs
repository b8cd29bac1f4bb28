//! Block devices on a real kernel: the one below this machine, and one that can be polled.

mod common;

use std::path::PathBuf;
use std::rc::Rc;

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

/// Overwrites the device named by `REACTOR_POLLED_DEVICE`.
#[test]
#[ignore = "overwrites a device that can be polled, such as NVMe with poll_queues=1"]
fn a_polled_device_gives_back_what_it_was_given() {
    let path = std::env::var("REACTOR_POLLED_DEVICE").expect("the device to overwrite");
    run(move || async move {
        let file = File::open(path.as_ref(), &OpenOptions::default()).unwrap();
        assert!(file.info().is_polled, "{:?}", file.info());
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
        // More than the ring's queue and the device's own take at once.
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
        match file.discard(0, 1 << 20).await {
            Ok(()) => {
                let (result, buf) = file.read_at(0, pool().alloc(BLOCK).await).await;
                result.unwrap();
                assert!(buf.iter().all(|&byte| byte == 0), "what was discarded");
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
        }
        // With nothing in flight the core sleeps as ever; an orphan does not keep it awake.
        drop(spawn({
            let file = file.clone();
            async move { file.read_at(0, pool().alloc(BLOCK).await).await }
        }));
        let before = stats().parks.get();
        reactor::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(stats().parks.get() > before, "an idle core parks");
    });
}
