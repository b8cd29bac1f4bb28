//! The reservations that volumes keep through power loss: a cluster each, written anew for every
//! change.
//!
//! The steps of a change, and what a crash right after each leaves, are in docs/format.md,
//! "Reservations of a volume".

use std::rc::Rc;

use block::Device;

use crate::error::StoreError;
use crate::format::Block;
use crate::format::reservations::{self, BYTES_MAX, ReservationsPointer};
use crate::pool::publish::Job;
use crate::pool::{BlockWriter, Pool, PoolInner, VolumeRecord};
use crate::types::{BLOCK_BYTES, Cluster, VolumeId};

impl Pool {
    /// The bytes that a volume keeps for its reservations; none when it keeps none.
    ///
    /// Errors: `NoSuchVolume`; `ReservationsDamaged`: the bytes stay as they are until they are
    /// replaced; `Device`. Cost: a read or two.
    pub async fn load_reservations(&self, id: VolumeId) -> Result<Vec<u8>, StoreError> {
        let record = self.record(id)?;
        match record.reservations {
            Some(pointer) => read(self.device(), &record, pointer).await,
            None => Ok(Vec::new()),
        }
    }

    /// Replaces the bytes that a volume keeps for its reservations. When it returns, they survive
    /// power loss, and those before are gone; until then either may be found at the next open.
    ///
    /// Errors: `ReservationsTooLong`, `PoolFull`, `NoSuchVolume`, `VolumeDeleting`, `Device` of the
    /// cluster: nothing changed. Others as `publish`. Cancel: it goes on by itself.
    /// Cost: a write and a publish; no bytes are kept in no cluster.
    pub async fn store_reservations(&self, id: VolumeId, bytes: Vec<u8>) -> Result<(), StoreError> {
        if bytes.len() > BYTES_MAX {
            return Err(StoreError::ReservationsTooLong {
                volume: id,
                len_bytes: bytes.len(),
            });
        }
        let pool = self.clone();
        reactor::spawn(async move { pool.replace_reservations(id, &bytes).await }).await
    }

    async fn replace_reservations(&self, id: VolumeId, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.check_writable()?;
        let record = self.0.live_record(id)?;
        if bytes.is_empty() {
            if record.reservations.is_some() {
                self.run(move |inner| inner.reservations_job(id, None))
                    .await?;
            }
            return Ok(());
        }
        // May come out of what is kept for map nodes: a full pool must not keep hosts from fencing
        // each other, and the cluster before comes back with this publish.
        let mut promise = self.reserve_again(1)?;
        let cluster = self.allocate(Some(&mut promise))?;
        let result = self.write_reservations(&record, cluster, bytes).await;
        if result.is_err() && self.0.check_writable().is_ok() {
            // Refused before anything was staged: the cluster is still ours alone.
            self.discard_unpublished(cluster);
        }
        result
    }

    async fn write_reservations(
        &self,
        record: &VolumeRecord,
        cluster: Cluster,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let blocks = reservations::encode(record.uuid, self.generation(), bytes);
        let pointer = ReservationsPointer {
            cluster: cluster.0,
            crc: crate::checksum::crc32c(&blocks),
        };
        let mut writer = BlockWriter::new(self.device());
        writer.put_bytes(cluster.first_block(), &blocks).await?;
        writer.finish().await?;
        // crash here: the old ones; the cluster was never published, so it is free.
        reactor::crash_point("reservations::after_write");
        let id = record.id;
        self.run(move |inner| inner.reservations_job(id, Some(pointer)))
            .await?;
        // crash here: the new ones; the cluster of the old ones is free.
        reactor::crash_point("reservations::after_publish");
        Ok(())
    }
}

impl PoolInner {
    fn reservations_job(
        &self,
        id: VolumeId,
        reservations: Option<ReservationsPointer>,
    ) -> Result<Job, StoreError> {
        let record = self.live_record(id)?;
        let mut job = self.job();
        let place = self.place_of(&job.records, id)?;
        let cluster = |pointer: ReservationsPointer| Cluster(pointer.cluster);
        job.allocated = reservations.map(cluster).into_iter().collect();
        job.freed = record.reservations.map(cluster).into_iter().collect();
        job.records[place] = Rc::new(VolumeRecord {
            reservations,
            ..VolumeRecord::clone(&record)
        });
        Ok(job)
    }
}

/// Reads and checks what a record points to.
pub(crate) async fn read(
    device: &Device,
    record: &VolumeRecord,
    pointer: ReservationsPointer,
) -> Result<Vec<u8>, StoreError> {
    let block = Cluster(pointer.cluster).first_block();
    let damaged = |what| StoreError::ReservationsDamaged {
        volume: record.id,
        block,
        what,
    };
    let first = read_blocks(device, block, 1).await?;
    let first: &Block = first.first_chunk().expect("one block");
    let count = reservations::block_count(first, record.uuid).map_err(damaged)?;
    let blocks = read_blocks(device, block, count).await?;
    reservations::decode(&blocks, record.uuid, pointer.crc).map_err(damaged)
}

async fn read_blocks(device: &Device, block: u64, count: usize) -> Result<Vec<u8>, StoreError> {
    let buf = reactor::buf::engine_alloc(count * BLOCK_BYTES).await;
    let (result, buf) = device.read(block * BLOCK_BYTES as u64, buf).await;
    result?;
    Ok(buf[..count * BLOCK_BYTES].to_vec())
}
