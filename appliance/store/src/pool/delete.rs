//! Deleting a volume: an intent that is published first, then its space step by step.
//!
//! The intent is the state `Deleting` of the record. Each step publishes a map with fewer leaves,
//! so a crash loses at most one step of work; the last step publishes a table without the record.

use std::rc::Rc;

use crate::error::StoreError;
use crate::pool::publish::Job;
use crate::pool::{Pool, PoolInner, VolumeRecord};
use crate::types::{Cluster, VolumeId, VolumeState};

/// Leaves that one step empties: 1.9 GiB of data, 2 MiB of memory.
const STEP_LEAVES: u64 = 512;

impl Pool {
    /// Marks a volume as being deleted. From here on it is deleted, also over a restart.
    ///
    /// Errors: `NoSuchVolume`, `VolumeDeleting`; others as `publish`. Cost: one publish.
    pub async fn begin_delete(&self, id: VolumeId) -> Result<(), StoreError> {
        let job = move |inner: &PoolInner| {
            let record = inner.live_record(id)?;
            let mut job = inner.job();
            let place = inner.place_of(&job.records, id)?;
            let state = VolumeState::Deleting;
            job.records[place] = Rc::new(VolumeRecord {
                state,
                ..VolumeRecord::clone(&record)
            });
            Ok(job)
        };
        self.run(job).await?;
        // crash here: the volume is deleting; whoever opens the pool calls `finish_delete`.
        reactor::crash_point("delete::after_begin");
        Ok(())
    }

    /// Gives back the space of a volume that is being deleted, and forgets it.
    ///
    /// No other map of the volume may be in use, and clusters that its journal held must have been
    /// discarded. Called again after a crash or an error, it goes on where it stopped.
    /// Errors: `VolumeLive`, `NoSuchVolume`; `MapDamaged`: the volume stays, marked, with what
    /// could not be given back. Others as `publish`. Cancel: safe, call it again.
    /// Cost: a publish for each 1.9 GiB of mapped volume; other volumes publish in between.
    pub async fn finish_delete(&self, id: VolumeId) -> Result<(), StoreError> {
        let record = self.record(id)?;
        if record.state != VolumeState::Deleting {
            return Err(StoreError::VolumeLive { volume: id });
        }
        let map = self.open_map(&record).await?;
        let step_leaves = STEP_LEAVES.min(self.publish_budget_leaves());
        while let Some(first) = map.next_leaf(0) {
            let mut freed = Vec::new();
            let mut next = Some(first);
            for _ in 0..step_leaves {
                let Some(leaf) = next else { break };
                freed.extend(map.clear_leaf(leaf).await?);
                next = map.next_leaf(leaf + 1);
            }
            let step_map = map.clone();
            self.run(move |inner| {
                let job = inner.job();
                let place = inner.place_of(&job.records, id)?;
                Ok(Job {
                    map: Some((place, step_map)),
                    freed,
                    ..job
                })
            })
            .await?;
            // crash here: this step is done; the rest of the map is still there.
            reactor::crash_point("delete::after_step");
        }
        self.run(move |inner| inner.forget_job(id)).await?;
        // crash here: there is no such volume.
        reactor::crash_point("delete::after_forget");
        Ok(())
    }
}

impl PoolInner {
    /// The volume holds no data any more: its journal, its reservations and its record go.
    fn forget_job(&self, id: VolumeId) -> Result<Job, StoreError> {
        let mut job = self.job();
        let place = self.place_of(&job.records, id)?;
        let record = job.records.remove(place);
        assert!(record.map_root.is_none(), "{id} still maps something");
        let journal = record.journal_runs.iter().flat_map(|run| run.clusters());
        let reservations = record.reservations.map(|kept| Cluster(kept.cluster));
        job.freed = journal.chain(reservations).collect();
        Ok(job)
    }
}
