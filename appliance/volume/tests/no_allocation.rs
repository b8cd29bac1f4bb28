//! After warm-up a request allocates nothing from the heap on its way through the engine.

mod common;

use common::*;
use volume::{Command, Request, Volume, VolumeSpec};

const DEPTH: u64 = 32;
const ROUNDS: u64 = 40;
/// Blocks that the requests use: many times the same, so that tables are as large as they get.
const SPAN_BLOCKS: u64 = 1024;

/// What one request of a round does.
type Make = fn(u64) -> Command;

/// One round: `DEPTH` requests at the same time.
async fn round(volume: &Volume, number: u64, make: Make) {
    let mut tasks: [Option<reactor::JoinHandle<()>>; DEPTH as usize] = [const { None }; 32];
    for (index, task) in tasks.iter_mut().enumerate() {
        let volume = volume.clone();
        let lba = (number * DEPTH + index as u64) * 7 % SPAN_BLOCKS;
        *task = Some(reactor::spawn(async move {
            let mut command = make(lba);
            if let Command::Write { data, .. } = &mut command {
                data.as_mut().fill(lba as u8);
            }
            volume
                .execute(Request::new(command))
                .await
                .expect("a request");
        }));
    }
    for task in tasks.into_iter().flatten() {
        task.await;
    }
}

/// The fewest allocations of any round after warm-up. A request that allocates does so in every
/// round; the flusher, which runs now and then and may allocate, is not in all of them.
async fn fewest(volume: &Volume, make: Make) -> u64 {
    let mut fewest = u64::MAX;
    for number in 0..ROUNDS {
        let before = allocations::on_this_thread();
        round(volume, number, make).await;
        let allocated = allocations::on_this_thread() - before;
        if number >= ROUNDS / 2 {
            fewest = fewest.min(allocated);
        }
    }
    fewest
}

fn write_of(blocks: usize) -> impl Fn(u64) -> Command {
    move |lba| {
        let data = reactor::buf::try_alloc(blocks * 4096).expect("memory");
        Command::Write { lba, data }
    }
}

#[test]
fn no_allocation_in_reads_writes_and_flushes() {
    let file = TempPool::new("no-allocation");
    let path = file.0.clone();
    let config = reactor::cores::CoreConfig {
        io_pool_bytes: 256 << 20,
        ..Default::default()
    };
    let main = move || async move {
        create(&path, Some(256 << 20)).await;
        let (engine, _) = open(&path).await;
        let spec = VolumeSpec {
            journal_bytes: Some(128 << 20),
            ..spec("demo", 64 << 20, 4096)
        };
        let volume = engine.create_volume(spec).await.expect("create");
        let kinds: [(&str, Make); 5] = [
            ("4 KiB write", |lba| write_of(1)(lba)),
            ("32 KiB write", |lba| write_of(8)(lba)),
            ("4 KiB read", |lba| Command::Read {
                lba,
                block_count: 1,
            }),
            ("64 KiB read", |lba| Command::Read {
                lba,
                block_count: 16,
            }),
            ("flush", |_| Command::Flush),
        ];
        for (name, make) in kinds {
            let allocated = fewest(&volume, make).await;
            assert_eq!(
                allocated, 0,
                "{name}: allocations in a round of {DEPTH} requests"
            );
        }
        engine.shutdown().await.expect("shutdown");
    };
    reactor::cores::run(config, main).expect("an executor");
}
