//! Phase 2 of recovery: every dirty cluster gets its place, and the volume goes on where the log
//! ended.

use std::rc::Rc;

use store::{Changes, Cluster, JournalMark, Pool, VolumeRecord};

use super::{Damage, Refused, Replayed};
use crate::commit::{Journal, JournalStart, Mark};
use crate::core::{Core, CoreParts};
use crate::flush::Flusher;
use crate::index::{Backing, Pending};
use crate::pages::{CLUSTER_PAGES, bits};
use crate::request::VolumeInfo;

impl Replayed {
    /// Phase 2: gives every dirty cluster its place, raises the epoch, and makes the volume ready.
    pub async fn into_core(mut self, pool: &Pool) -> Result<Rc<Core>, Refused> {
        let prepared = self.prepare(pool).await;
        match prepared {
            Ok(()) => Ok(self.build(pool)),
            Err(damage) => Err(Refused {
                damage,
                claimed: self.claims.claimed,
            }),
        }
    }

    async fn prepare(&mut self, pool: &Pool) -> Result<(), Damage> {
        let mut clusters: Vec<_> = self.index.clusters().map(|(cluster, _)| cluster).collect();
        clusters.sort_unstable();
        for cluster in clusters {
            self.place_cluster(pool, cluster).await?;
        }
        // Before the first append of this life: batches of the last one that were cut off can
        // never come back.
        let changes = Changes {
            volume: self.record.id,
            map: &self.map,
            journal: JournalMark {
                epoch: self.end.epoch + 1,
                open_sequence: self.end.sequence,
                settled: self.is_settled(),
                ..self.record.mark
            },
            allocated: Vec::new(),
            freed: Vec::new(),
            keep_freed: false,
            clean: false,
        };
        pool.publish(changes).await.map_err(Damage::Store)?;
        Ok(())
    }

    /// Whether everything the log names is on the device.
    fn is_settled(&self) -> bool {
        self.report.undone_pages == 0
    }

    /// Makes the index say of a dirty cluster where its data can go.
    async fn place_cluster(&mut self, pool: &Pool, cluster: u64) -> Result<(), Damage> {
        let entry = self.map.lookup(cluster).await.map_err(Damage::Store)?;
        let data = self.index.cluster(cluster).map_or(0, |state| state.data);
        let mut places: Vec<(u64, Cluster)> = Vec::new();
        for slot in bits(data) {
            let page = cluster * CLUSTER_PAGES + slot as u64;
            let Some(found) = self.index.page(page) else {
                continue;
            };
            let Some(named) = found.direct_place() else {
                continue;
            };
            let is_ours = entry.location == Some(named);
            if is_ours && entry.valid & (1 << slot) != 0 && entry.crc[slot] == found.crc {
                self.index.settle_page(page, found.lsn);
                continue;
            }
            if !is_ours && !self.claims.claimed.contains(&named) {
                return Err(Damage::Record {
                    lsn: found.lsn,
                    rule: "a cluster of somebody else",
                });
            }
            places.push((found.lsn, named));
        }
        // More than one when the newest direct write has pages that never reached the device: the
        // flusher brings the others to its place.
        let mut target = places.iter().max().map(|&(_, place)| place);
        // Small writes may have replaced all of a direct write: the cluster that it took was the
        // promise for them, and in a full pool there is no other.
        if target.is_none() && entry.location.is_none() && data != 0 {
            let latest = self.claims.latest.get(&cluster).copied();
            target = latest.filter(|latest| {
                self.claims.owner.get(latest) == Some(&cluster)
                    && self.claims.claimed.contains(latest)
            });
        }
        let last_lsn = self.end.next_lsn - 1;
        let pending = target.map(|target| Pending {
            used: self.claims.used.get(&target).copied().unwrap_or(u64::MAX),
            last_lsn,
            replaces: entry.location.is_some_and(|location| location != target),
            ..Pending::new(target)
        });
        if let Some(target) = target {
            places.retain(|&(_, place)| place != target && entry.location != Some(place));
            let in_use = |place| place == target || places.iter().any(|&(_, it)| it == place);
            self.claims.claimed.retain(|claimed| !in_use(*claimed));
        }
        let Some(state) = self.index.cluster_mut(cluster) else {
            return Ok(());
        };
        state.pending = pending;
        let mut superseded: Vec<_> = places.into_iter().map(|(_, place)| place).collect();
        superseded.sort_unstable();
        superseded.dedup();
        state.superseded.extend(superseded);
        if entry.location.is_some() || pending.is_some() {
            state.backing = Backing::Mapped;
        } else if state.data != 0 {
            state.backing = Backing::Reserved(pool.reserve_again(1).map_err(Damage::Store)?);
        }
        self.index.drop_if_idle(cluster);
        Ok(())
    }

    fn build(self, pool: &Pool) -> Rc<Core> {
        let mark = &self.record.mark;
        let tail = Mark {
            last_lsn: mark.tail_lsn - 1,
            end: mark.tail_position,
            next_sequence: mark.tail_sequence,
        };
        let head = Mark {
            last_lsn: self.end.next_lsn - 1,
            end: self.end.position,
            next_sequence: self.end.sequence,
        };
        let journal = Journal::new(JournalStart {
            epoch: self.end.epoch + 1,
            open_sequence: self.end.sequence,
            settled: self.is_settled(),
            tail,
            head,
        });
        Core::new(CoreParts {
            info: info_of(pool, &self.record),
            pool: pool.clone(),
            map: self.map,
            ring: self.ring,
            identity: self.identity,
            limits: self.limits,
            index: self.index,
            journal,
            flusher: Flusher::new(self.claims.claimed),
        })
    }
}

/// What hosts see of a volume.
fn info_of(pool: &Pool, record: &VolumeRecord) -> VolumeInfo {
    VolumeInfo {
        id: record.id,
        name: record.name.clone(),
        uuid: record.uuid,
        nguid: record.nguid,
        serial: record.serial,
        block_count: record.size_bytes / u64::from(record.block_bytes),
        block_bytes: record.block_bytes,
        volatile_cache: pool.device().geometry().volatile_cache,
    }
}
