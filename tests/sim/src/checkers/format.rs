//! Format validity: the disk says what docs/format.md says, and space is used exactly once.
//!
//! The check runs on a copy of the disk in a world of its own, so it changes nothing in the run.

use std::path::Path;
use std::time::Duration;

use block::{Device, OpenOptions};
use reactor::sim::{DiskOptions, Image, World, WorldOptions};
use reactor::time::sleep;
use store::fsck::{FsckOptions, FsckReport, fsck};
use volume::Engine;

use crate::ledger::Life;
use crate::life::{DISK, Ward};
use crate::operator;

/// Far more than a check of a small pool takes.
const CHECK_LIMIT: Duration = Duration::from_secs(600);
/// Clusters of a volume that one leaf of its map describes.
const LEAF_CLUSTERS: u64 = store::format::node::LEAF_ENTRIES as u64;
/// Clusters for map nodes that are kept, empty, until the next publish.
const SPARE_CLUSTERS: u32 = 24;
/// How long space may take to come back, in steps of one second.
const PATIENCE_S: u32 = 60;

/// What the offline check says of a disk with this content.
pub fn check_image(image: Image, len_bytes: u64, logical_block: u32) -> Result<FsckReport, String> {
    let mut options = WorldOptions::default();
    options.core.engine_pool_bytes = 8 << 20;
    options.core.io_pool_bytes = 4 << 20;
    let mut world = World::new(0, options);
    let disk = DiskOptions {
        len_bytes,
        logical_block,
        ..DiskOptions::default()
    };
    world.add_disk(DISK, disk).restore(image);
    let report = world.run_once("checker", CHECK_LIMIT, check);
    report.unwrap_or_else(|| Err("the check crashed".into()))
}

async fn check() -> Result<FsckReport, String> {
    let options = OpenOptions { read_only: true };
    let device = Device::open(Path::new(DISK), options).map_err(|error| error.to_string())?;
    let report = fsck(&device, FsckOptions::default(), &mut |_| ()).await;
    report.map_err(|error| error.to_string())
}

/// Judges a report: anything but notes is a violation.
pub fn demand_clean(report: &Result<FsckReport, String>) -> Result<(), String> {
    let report = report
        .as_ref()
        .map_err(|error| format!("fsck could not run: {error}"))?;
    if !report.is_damaged {
        return Ok(());
    }
    let lines: Vec<String> = report
        .findings
        .iter()
        .take(20)
        .map(|finding| format!("  {finding}"))
        .collect();
    Err(format!(
        "fsck, generation {}:\n{}",
        report.generation,
        lines.join("\n")
    ))
}

/// The most clusters that volumes without data take: journals, and map nodes, each of which may
/// be alone in its cluster.
fn idle_clusters(ward: &Ward) -> u32 {
    let ledger = ward.ledger.borrow();
    let live = ledger
        .volumes
        .values()
        .filter(|volume| volume.life == Life::Live);
    let clusters = live.map(|volume| {
        let len_bytes = volume.block_count * u64::from(volume.block_bytes);
        let journal = volume.journal_bytes.div_ceil(store::CLUSTER_BYTES);
        journal
            + len_bytes
                .div_ceil(store::CLUSTER_BYTES)
                .div_ceil(LEAF_CLUSTERS)
            + 2
    });
    clusters.sum::<u64>() as u32 + SPARE_CLUSTERS
}

/// Waits until `is_back` holds.
async fn wait_for(engine: &Engine, ward: &Ward, after: &str, is_back: impl Fn() -> bool) {
    for _ in 0..PATIENCE_S {
        if is_back() {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let (space, volumes) = (engine.space(), engine.listing());
    let what = format!("after {after} space did not come back: {space:?} {volumes:?}");
    ward.ledger.borrow_mut().violated(what);
}

/// Trims every volume, then deletes them all: what they took is free again, and can be written.
pub async fn space_comes_back(engine: &Engine, ward: &Ward) {
    let total = engine.space().clusters_total;
    for volume in engine.volumes() {
        let whole = (0, volume.info().block_count);
        let mut client = ward.hand(&volume);
        client.deallocate_extents(vec![whole]).await;
    }
    let wanted = total.saturating_sub(idle_clusters(ward));
    let is_empty = || {
        engine
            .listing()
            .iter()
            .all(|volume| volume.mapped_bytes == 0)
    };
    let is_back = || is_empty() && engine.space().free >= wanted;
    wait_for(engine, ward, "trimming everything", is_back).await;
    for volume in engine.volumes() {
        let mut client = ward.hand(&volume);
        client.flush().await;
        if engine.space().available() > 0 && !client.write_extent((0, 1), true).await {
            let name = volume.info().name.clone();
            let what = format!("volume {name}: the trimmed pool takes no write");
            ward.ledger.borrow_mut().violated(what);
        }
    }
    let names: Vec<String> = engine
        .volumes()
        .iter()
        .map(|v| v.info().name.to_string())
        .collect();
    for name in names {
        operator::delete(engine, &ward.ledger, &name, ward).await;
    }
    wait_for(engine, ward, "deleting every volume", || {
        engine.space().free == total
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use volume::{PoolSpec, VolumeSpec};

    const LEN: u64 = 18 << 20;

    /// The disk of a small pool with one volume.
    fn pool_image() -> Image {
        let mut world = World::new(3, WorldOptions::default());
        let options = DiskOptions {
            len_bytes: LEN,
            ..DiskOptions::default()
        };
        let disk = world.add_disk(DISK, options);
        world.run_once("target", CHECK_LIMIT, || async {
            let spec = PoolSpec {
                name: "main".into(),
                file_bytes: None,
                overwrite: false,
            };
            Engine::create_pool(DISK.as_ref(), &spec).await.unwrap();
            let (engine, _) = Engine::open(volume::EngineOptions::new(DISK))
                .await
                .unwrap();
            let spec = VolumeSpec {
                name: "v".into(),
                size_bytes: 4 << 20,
                block_bytes: 4096,
                journal_bytes: Some(4 << 20),
            };
            engine.create_volume(spec).await.unwrap();
            engine.shutdown().await.unwrap();
        });
        disk.snapshot()
    }

    #[test]
    fn a_good_pool_is_clean() {
        assert_eq!(demand_clean(&check_image(pool_image(), LEN, 4096)), Ok(()));
    }

    #[test]
    fn a_damaged_allocator_is_found() {
        // Blocks 32 to 63 hold the roots and the allocator of so small a pool.
        let mut image = pool_image();
        let mut damaged = 0;
        for block in 32..64 {
            let mut bytes = [0; 64];
            image.read(block * 4096, &mut bytes);
            if bytes.starts_with(b"BPALLOC") || bytes.starts_with(b"BPROOT") {
                image.write(block * 4096 + 64, &[0x55; 64]);
                damaged += 1;
            }
        }
        assert!(damaged > 0, "the zone has moved");
        assert!(demand_clean(&check_image(image, LEN, 4096)).is_err());
    }

    #[test]
    fn an_empty_disk_is_no_pool() {
        let mut world = World::new(3, WorldOptions::default());
        let options = DiskOptions {
            len_bytes: LEN,
            ..DiskOptions::default()
        };
        let image = world.add_disk(DISK, options).snapshot();
        assert!(demand_clean(&check_image(image, LEN, 4096)).is_err());
    }
}
