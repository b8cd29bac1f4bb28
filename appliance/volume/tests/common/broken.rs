//! Pools whose disk fails or is damaged: lives of a process, and what is left afterwards.

use std::path::Path;

use reactor::sim::{Crash, DiskHandle, DiskOptions, World, WorldOptions};
use store::fsck::{FsckOptions, fsck};
use volume::{Command, Completion, Engine, ErrorKind, Request, Volume, VolumeError, VolumeState};

use super::{DISK, LIMIT, Shared, create, filled, open, run, spec};

pub const NODE: &str = "target";

/// A world with a pool that has these volumes: name, size in bytes, block size.
pub fn pool_of(seed: u64, pool_bytes: u64, volumes: &'static [(&str, u64, u32)]) -> World {
    let mut options = WorldOptions::default();
    options.core.io_pool_bytes = 16 << 20;
    options.core.engine_pool_bytes = 12 << 20;
    let mut world = World::new(seed, options);
    let disk = DiskOptions {
        len_bytes: pool_bytes,
        logical_block: if seed.is_multiple_of(2) { 512 } else { 4096 },
        ..DiskOptions::default()
    };
    world.add_disk(DISK, disk);
    life(&mut world, move |_| async move {
        create(Path::new(DISK), None).await;
        let (engine, _) = open(Path::new(DISK)).await;
        for &(name, size_bytes, block_bytes) in volumes {
            let created = engine.create_volume(spec(name, size_bytes, block_bytes));
            created.await.expect("create a volume");
        }
        engine.shutdown().await.expect("shutdown");
    });
    world
}

/// One life of a process. When `main` returns the process is gone, as after a kill.
pub fn life<F, T>(world: &mut World, main: impl Fn(DiskHandle) -> F + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let disk = world.disk(DISK);
    let output = world.run_once(NODE, LIMIT, move || main(disk.clone()));
    output.expect("nothing crashes this node")
}

/// Takes the power of the node, which is down already: the disk's cache loses what it likes.
pub fn lose_power(world: &mut World) {
    world.crash(NODE, Crash::PowerLoss);
}

/// What the offline check finds, as lines. Notes count, too.
pub fn fsck_lines(world: &mut World) -> Vec<String> {
    life(world, |_| async {
        let device = block::Device::open(Path::new(DISK), block::OpenOptions::default());
        let device = device.expect("open for the check");
        let report = fsck(&device, FsckOptions::default(), &mut |_| ()).await;
        let findings = report.expect("the check runs").findings;
        findings.iter().map(ToString::to_string).collect()
    })
}

/// Asserts that the offline check finds no damage; a superblock that a crash tore is none.
pub fn assert_clean(world: &mut World) {
    let mut lines = fsck_lines(world);
    lines.retain(|line| !line.starts_with("note: superblock slot"));
    assert_eq!(lines, [""; 0]);
}

pub async fn write_fua(volume: &Volume, lba: u64, len: usize, fill: u8) -> Completion {
    let data = filled(len, fill).await;
    let request = Request::with_fua(Command::Write { lba, data });
    volume.execute(request).await
}

pub async fn try_write(volume: &Volume, lba: u64, len: usize, fill: u8) -> Result<(), VolumeError> {
    let data = filled(len, fill).await;
    let written = run(volume, Command::Write { lba, data }).await;
    written.map(|_| ())
}

/// Asserts that a write is refused because the volume or its pool has stopped.
pub async fn assert_stopped(volume: &Volume) {
    let error = try_write(volume, 0, 4096, 99).await;
    let error = error.expect_err("a stopped volume takes no write");
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
}

/// The fill byte of each page; None where the device or the checksum refuses it.
pub async fn read_fills(volume: &Volume, lba: u64, count: u64) -> Vec<Option<u8>> {
    let mut fills = Vec::new();
    for lba in lba..lba + count {
        let read = run(
            volume,
            Command::Read {
                lba,
                block_count: 1,
            },
        );
        let fill = read.await.ok().flatten().map(|data| {
            let first = data[0];
            assert!(
                data.iter().all(|byte| *byte == first),
                "block {lba} is torn"
            );
            first
        });
        fills.push(fill);
    }
    fills
}

/// Waits for the volume to stop, and gives the reason.
pub async fn stopped(volume: &Volume) -> String {
    for _ in 0..1000 {
        if let VolumeState::Failed { why } = volume.state() {
            return why.to_string();
        }
        reactor::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{volume:?} did not stop");
}

/// Both volumes of a pool with `a` and `b`.
pub fn both(engine: &Engine) -> (Volume, Volume) {
    let volume = |name| engine.volume(name).expect("served");
    (volume("a"), volume("b"))
}

/// A flag that a life and its test share.
pub fn flag() -> Shared<bool> {
    Shared::default()
}

/// Runs the world until this crash point is passed once more.
pub fn run_to_point(world: &mut World, point: &str) {
    let visits = |world: &World| world.crash_points().get(point).copied().unwrap_or(0);
    let before = visits(world);
    world.run_until(LIMIT, |world| visits(world) > before);
}
