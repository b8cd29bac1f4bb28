//! The operator: creates and deletes volumes while others are in use.

use std::time::Duration;

use reactor::sim::Prng;
use reactor::time::sleep;
use store::StoreError;
use volume::{Engine, ErrorKind, Volume, VolumeError, VolumeSpec};

use crate::ledger::{Ledger, Life, Shared};
use crate::life::Ward;
use crate::plan::{JOURNAL_MIN_BYTES, VOLUMES_MAX};

/// Actions of one operator in one life.
const ACTIONS: u32 = 12;

/// Whether a creation may fail like this while nothing is wrong.
fn is_lack_of_room(error: &VolumeError) -> bool {
    let VolumeError::Pool { error, .. } = error else {
        return false;
    };
    matches!(
        **error,
        StoreError::PoolFull { .. }
            | StoreError::Fragmented { .. }
            | StoreError::NoRoomForJournal { .. }
    )
}

/// Whether the engine refused because it is stopping. Nothing was changed then.
fn is_too_late(error: &VolumeError, ledger: &Ledger) -> bool {
    let is_closed = |error: &StoreError| matches!(error, StoreError::Closed);
    ledger.stopping && matches!(error, VolumeError::Pool { error, .. } if is_closed(error))
}

/// Creates a volume and has the ledger follow; None when the pool had no room or failed.
pub async fn create(
    engine: &Engine,
    ledger: &Shared,
    spec: VolumeSpec,
    ward: &Ward,
) -> Option<Volume> {
    let name = spec.name.clone();
    let journal = spec.journal_bytes.unwrap_or(JOURNAL_MIN_BYTES);
    let block_count = spec.size_bytes / u64::from(spec.block_bytes);
    ledger
        .borrow_mut()
        .creating(&name, spec.block_bytes, block_count, journal);
    match engine.create_volume(spec).await {
        Ok(volume) => {
            ledger.borrow_mut().found(volume.info());
            Some(volume)
        }
        Err(error) => {
            let mut ledger = ledger.borrow_mut();
            if is_lack_of_room(&error) || is_too_late(&error, &ledger) {
                ledger.volume(&name).life = Life::Deleted;
            } else if !ward.may_fail(error.kind()) {
                ledger.violated(format!("create volume {name}: {error}"));
            }
            None
        }
    }
}

/// Deletes a volume and has the ledger follow.
pub async fn delete(engine: &Engine, ledger: &Shared, name: &str, ward: &Ward) {
    ledger.borrow_mut().volume(name).life = Life::Deleting;
    let result = engine.delete_volume(name).await;
    let mut ledger = ledger.borrow_mut();
    match result {
        Ok(()) => ledger.volume(name).life = Life::Deleted,
        Err(error) if is_too_late(&error, &ledger) => ledger.volume(name).life = Life::Live,
        Err(error) if ward.may_fail(error.kind()) => {}
        Err(error) => ledger.violated(format!("delete volume {name}: {error}")),
    }
}

/// Creates and deletes, with pauses of `pause_us` on average.
pub async fn run(ward: Ward, engine: Engine, pause_us: u64, mut prng: Prng) {
    let ledger = ward.ledger.clone();
    for action in 0..ACTIONS {
        sleep(Duration::from_micros(prng.between(0, 2 * pause_us))).await;
        if ledger.borrow().violation.is_some() {
            return;
        }
        let live = ledger.borrow().live();
        let wants_more = live.len() < 2 || (live.len() < VOLUMES_MAX && prng.chance_percent(50));
        if wants_more {
            let block_bytes = if prng.chance_percent(50) { 512 } else { 4096 };
            let spec = VolumeSpec {
                name: format!("extra-{}-{action}", ward.life),
                size_bytes: prng.between(1, 8) << 20,
                block_bytes,
                journal_bytes: Some(JOURNAL_MIN_BYTES),
            };
            if let Some(volume) = create(&engine, &ledger, spec, &ward).await {
                ward.spawn_clients(&volume, &mut prng).detach_all();
            }
        } else {
            let name = live[prng.index(live.len())].clone();
            delete(&engine, &ledger, &name, &ward).await;
        }
    }
}

/// Whether an error of this kind comes from the device.
pub fn is_of_the_device(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Device | ErrorKind::Failed)
}
