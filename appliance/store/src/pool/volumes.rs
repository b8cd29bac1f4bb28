//! The volume table: creating volumes.

use std::rc::Rc;

use crate::alloc::JOURNAL_RUN_CLUSTERS_MIN;
use crate::error::StoreError;
use crate::format::name_rule;
use crate::format::node::NodePointer;
use crate::format::root::VOLUMES_MAX;
use crate::map::depth_of;
use crate::pool::publish::{Job, JournalMark};
use crate::pool::{BlockWriter, Pool, PoolInner, VolumeRecord};
use crate::types::{CLUSTER_BYTES, ClusterRun, VolumeId, VolumeState};

/// Largest volume.
const VOLUME_BYTES_MAX: u64 = 256 << 40;
/// Smallest journal: two runs' worth, so that one batch can be written while one is replayed.
const JOURNAL_CLUSTERS_MIN: u64 = 2 * JOURNAL_RUN_CLUSTERS_MIN as u64;
/// Largest journal.
const JOURNAL_BYTES_MAX: u64 = 4 << 30;

/// What a new volume is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name: 1 to 64 bytes, unique in the pool.
    pub name: String,
    /// Size that hosts see: a multiple of the block size, up to 256 TiB. Takes no space.
    pub size_bytes: u64,
    /// Logical block that hosts see: 512 or 4096 bytes.
    pub block_bytes: u32,
    /// Journal ring: rounded up to clusters of 128 KiB, 4 MiB to 4 GiB. Takes its space at once.
    pub journal_bytes: u64,
}

impl Pool {
    /// Adds a volume: finds room for its journal, gives it identifiers that never change, and
    /// publishes it.
    ///
    /// Errors: `InvalidVolume`, `VolumeExists`, `TooManyVolumes`, `NoRoomForJournal`,
    /// `Fragmented`:
    /// nothing was changed. Others: as `publish`. Cancel: the volume is created anyway.
    /// Cost: one write for each journal run, and one publish.
    pub async fn create_volume(&self, new: NewVolume) -> Result<Rc<VolumeRecord>, StoreError> {
        check(&new)?;
        let pool = self.clone();
        reactor::spawn(async move { pool.create_checked(new).await }).await
    }

    async fn create_checked(&self, new: NewVolume) -> Result<Rc<VolumeRecord>, StoreError> {
        self.0.check_writable()?;
        self.0.check_free_name(&new)?;
        let clusters = new.journal_bytes.div_ceil(CLUSTER_BYTES) as u32;
        let runs = self.0.alloc.borrow_mut().allocate_runs(clusters);
        let runs = runs.map_err(no_room_for_journal)?;
        let result = self.publish_volume(new, &runs).await;
        if result.is_err() && self.0.check_writable().is_ok() {
            // Refused before anything was staged: the runs are still ours alone.
            let mut alloc = self.0.alloc.borrow_mut();
            let clusters = runs.iter().flat_map(|run| run.clusters());
            clusters.for_each(|cluster| alloc.discard_unpublished(cluster));
        }
        result
    }

    async fn publish_volume(
        &self,
        new: NewVolume,
        runs: &[ClusterRun],
    ) -> Result<Rc<VolumeRecord>, StoreError> {
        self.blank_runs(runs).await?;
        // crash here: no volume; the runs were never published, so they are free.
        reactor::crash_point("create_volume::after_blank");
        let name = new.name.clone();
        let runs = runs.to_vec();
        self.run(move |inner| inner.create_job(&new, runs)).await?;
        let records = self.records();
        Ok(records
            .into_iter()
            .find(|record| *record.name == *name)
            .expect("just published"))
    }

    /// Zeros the first block of each run. A header of an earlier owner would be refused anyway
    /// (its UUID and salt are not ours); this keeps one out of a place where ours will be.
    async fn blank_runs(&self, runs: &[ClusterRun]) -> Result<(), StoreError> {
        let mut writer = BlockWriter::new(&self.0.device);
        for run in runs {
            writer.put(run.first.first_block(), |_| ()).await?;
        }
        writer.finish().await?;
        Ok(())
    }
}

impl PoolInner {
    fn check_free_name(&self, new: &NewVolume) -> Result<(), StoreError> {
        let published = self.published.borrow();
        if published
            .records
            .iter()
            .any(|record| *record.name == *new.name)
        {
            return Err(StoreError::VolumeExists {
                name: new.name.as_str().into(),
            });
        }
        if published.records.len() >= VOLUMES_MAX {
            return Err(StoreError::TooManyVolumes {
                limit: VOLUMES_MAX as u32,
            });
        }
        Ok(())
    }

    fn create_job(&self, new: &NewVolume, runs: Vec<ClusterRun>) -> Result<Job, StoreError> {
        // Again: another creation may have been published while this one waited.
        self.check_free_name(new)?;
        let mut job = self.job();
        job.allocated = runs.iter().flat_map(|run| run.clusters()).collect();
        let id = VolumeId(job.next_volume_id);
        job.next_volume_id += 1;
        job.records.push(Rc::new(fresh_record(id, new, runs)));
        Ok(job)
    }
}

/// A full pool, in the words of who asked for a journal.
fn no_room_for_journal(error: StoreError) -> StoreError {
    let bytes = |clusters: u32| u64::from(clusters) * CLUSTER_BYTES;
    match error {
        StoreError::PoolFull { wanted, available } => StoreError::NoRoomForJournal {
            wanted_bytes: bytes(wanted),
            available_bytes: bytes(available),
        },
        other => other,
    }
}

fn fresh_record(id: VolumeId, new: &NewVolume, runs: Vec<ClusterRun>) -> VolumeRecord {
    let (mut uuid, mut nguid) = ([0; 16], [0; 16]);
    reactor::random_bytes(&mut uuid);
    reactor::random_bytes(&mut nguid);
    stamp_uuid(&mut uuid);
    stamp_nguid(&mut nguid);
    VolumeRecord {
        id,
        uuid,
        nguid,
        serial: serial(reactor::random_u64()),
        name: new.name.as_str().into(),
        size_bytes: new.size_bytes,
        block_bytes: new.block_bytes,
        state: VolumeState::Live,
        ring_bytes: runs.iter().map(|run| run.len_bytes()).sum(),
        journal_runs: runs,
        mark: JournalMark {
            epoch: 1,
            open_sequence: 1,
            settled: true,
            tail_position: 0,
            tail_sequence: 1,
            tail_lsn: 1,
        },
        journal_salt: reactor::random_u64(),
        created_ms: reactor::wall_clock_ms(),
        map_root: NodePointer::NONE,
        map_depth: depth_of(new.size_bytes),
        mapped_clusters: 0,
        reservations: None,
    }
}

/// Makes random bytes a version 4 UUID. Source: RFC 9562 section 5.4.
pub(crate) fn stamp_uuid(bytes: &mut [u8; 16]) {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
}

/// Makes random bytes an NGUID of nobody's organisation: the locally administered bit of the
/// organisation identifier is set, its group bit clear. Source: NVMe base 2.0 section 4.7.1.
fn stamp_nguid(bytes: &mut [u8; 16]) {
    bytes[8] = (bytes[8] | 0x02) & !0x01;
}

/// 20 ASCII characters, as hosts see them: `BDPL` and 16 hexadecimal digits.
fn serial(random: u64) -> [u8; 20] {
    let text = format!("BDPL{random:016X}");
    text.as_bytes().try_into().expect("4 + 16 characters")
}

fn check(new: &NewVolume) -> Result<(), StoreError> {
    let refuse = |rule| {
        Err(StoreError::InvalidVolume {
            name: new.name.as_str().into(),
            rule,
        })
    };
    if let Some(rule) = name_rule(&new.name) {
        return refuse(rule);
    }
    if !matches!(new.block_bytes, 512 | 4096) {
        return refuse("the block size is 512 or 4096");
    }
    if new.size_bytes == 0 || new.size_bytes > VOLUME_BYTES_MAX {
        return refuse("the size is 1 block to 256 TiB");
    }
    if !new.size_bytes.is_multiple_of(u64::from(new.block_bytes)) {
        return refuse("the size is a multiple of the block size");
    }
    let journal = JOURNAL_CLUSTERS_MIN * CLUSTER_BYTES..=JOURNAL_BYTES_MAX;
    if !journal.contains(&new.journal_bytes) {
        return refuse("the journal is 4 MiB to 4 GiB");
    }
    Ok(())
}
