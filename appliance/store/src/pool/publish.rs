//! Write path 9/9: a checkpoint becomes the state of the pool. Next: nothing; the journal space
//! and the clusters it freed are used again.
//!
//! One publish runs at a time; the order of its steps is the whole point:
//!
//! 1. changed map nodes to fresh blocks, changed allocator pages and the root to unused slots;
//! 2. device flush;
//! 3. the superblock to the slot that is not needed for the current state; device flush;
//! 4. the other superblock slot;
//! 5. memory: tail, freed clusters and blocks.
//!
//! Source: docs/format.md, "Order of writes in a checkpoint".

use std::rc::Rc;

use block::BlockError;

use crate::alloc::Staged;
use crate::error::StoreError;
use crate::format::alloc_page::{self, HEADER_BYTES, PageIdentity, PageKind};
use crate::format::root::{PagePointer, Root};
use crate::format::superblock::Superblock;
use crate::map::{Map, Plan};
use crate::mutation::{self, Mutation};
use crate::pool::{BlockWriter, Pool, PoolInner, Superblocks, VolumeRecord};
use crate::types::{BLOCK_BYTES, Cluster, VolumeId};

/// Where the journal of a volume begins, and which life of the volume writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalMark {
    /// Life of the volume: +1 each time it is opened for writing.
    pub epoch: u64,
    /// Batches from this sequence on belong to `epoch` or later; earlier ones are durable.
    pub open_sequence: u64,
    /// The direct data that those earlier batches name is durable, too.
    pub settled: bool,
    /// Logical byte position of the first batch to replay.
    pub tail_position: u64,
    /// Its sequence number.
    pub tail_sequence: u64,
    /// Its first LSN.
    pub tail_lsn: u64,
}

/// What a checkpoint of one volume changes.
pub struct Changes<'a> {
    /// The volume.
    pub volume: VolumeId,
    /// Its map; every change made to it so far is published.
    pub map: &'a Map,
    /// Its journal from now on.
    pub journal: JournalMark,
    /// Clusters the map names now and did not before: allocated or claimed, unpublished.
    pub allocated: Vec<Cluster>,
    /// Clusters the map named before and does not now: published.
    pub freed: Vec<Cluster>,
    /// They stay in use, unpublished, until `discard_unpublished`: the journal may name them.
    pub keep_freed: bool,
    /// Every journal of the pool is empty after this: a checkpoint of the last volume to stop.
    pub clean: bool,
}

/// A publish of any kind: the new volume table and what goes with it.
pub(crate) struct Job {
    pub(crate) records: Vec<Rc<VolumeRecord>>,
    pub(crate) next_volume_id: u64,
    /// The volume whose map is written, by its place in `records`.
    pub(crate) map: Option<(usize, Map)>,
    pub(crate) allocated: Vec<Cluster>,
    pub(crate) freed: Vec<Cluster>,
    pub(crate) keep_freed: bool,
    pub(crate) clean: bool,
}

impl Pool {
    /// Makes a checkpoint of one volume the state of the pool; gives the new generation.
    ///
    /// Any volume may ask at any time; they take turns. When it returns, the checkpoint survives
    /// power loss, `freed` clusters are reusable as soon as the reads of now are over (unless
    /// they are kept), and the journal before the new tail may be overwritten. Pages that the map names must be on the
    /// device before (their durability is included: the flush of step 2 covers them).
    ///
    /// Errors: `MetadataFull` (nothing was changed: publish less at a time), `NoSuchVolume`,
    /// `Closed`, `ReadOnly`, `Failed`. `Device`: either generation may be found at the next open,
    /// and the pool stops writing. Panics when the cluster lists contradict the allocator.
    /// Cancel: the publish goes on to its end by itself.
    /// Cost: one write per changed node, allocator page and volume table, adjacent ones merged;
    /// two superblock writes, two flushes.
    pub async fn publish(&self, changes: Changes<'_>) -> Result<u64, StoreError> {
        let Changes {
            volume,
            map,
            journal,
            allocated,
            freed,
            keep_freed,
            clean,
        } = changes;
        let map = map.clone();
        self.run(move |inner| {
            assert_eq!(map.volume(), volume, "the map of another volume");
            let mut job = inner.job();
            let place = inner.place_of(&job.records, volume)?;
            let mut record = VolumeRecord::clone(&job.records[place]);
            record.mark = journal;
            job.records[place] = Rc::new(record);
            Ok(Job {
                map: Some((place, map)),
                allocated,
                freed,
                keep_freed,
                clean,
                ..job
            })
        })
        .await
    }

    /// Publishes nothing but the flag that all journals are empty.
    pub(crate) async fn publish_clean(&self) -> Result<u64, StoreError> {
        self.run(|inner| {
            Ok(Job {
                clean: true,
                ..inner.job()
            })
        })
        .await
    }

    /// Waits for its turn, makes the job out of the state of then, and publishes it. A task of its
    /// own, so that a caller that goes away does not leave half a publish behind.
    pub(crate) async fn run(
        &self,
        make: impl FnOnce(&PoolInner) -> Result<Job, StoreError> + 'static,
    ) -> Result<u64, StoreError> {
        let inner = self.0.clone();
        let task = reactor::spawn(async move {
            let mut superblocks = inner.publishing.lock().await;
            inner.check_writable()?;
            let job = make(&inner)?;
            inner.publish_job(&mut superblocks, job).await
        });
        task.await
    }
}

impl PoolInner {
    /// A job that changes nothing yet.
    pub(crate) fn job(&self) -> Job {
        let published = self.published.borrow();
        Job {
            records: published.records.clone(),
            next_volume_id: published.next_volume_id,
            map: None,
            allocated: Vec::new(),
            freed: Vec::new(),
            keep_freed: false,
            clean: false,
        }
    }

    pub(crate) fn place_of(
        &self,
        records: &[Rc<VolumeRecord>],
        volume: VolumeId,
    ) -> Result<usize, StoreError> {
        let place = records.binary_search_by_key(&volume, |record| record.id);
        place.map_err(|_| StoreError::NoSuchVolume { volume })
    }

    async fn publish_job(
        &self,
        superblocks: &mut Superblocks,
        mut job: Job,
    ) -> Result<u64, StoreError> {
        let generation = self.published.borrow().generation + 1;
        let mut plan = match &job.map {
            Some((_, map)) => Some(Plan::new(map, generation)?),
            None => None,
        };
        let (fresh, old) = plan.as_ref().map_or((&[][..], &[][..]), |plan| {
            (&plan.blocks_allocated[..], &plan.blocks_freed[..])
        });
        let staged =
            self.alloc
                .borrow_mut()
                .stage(&job.allocated, (&job.freed, job.keep_freed), fresh, old);
        // From here on memory is ahead of the disk: any failure is final.
        let written = self
            .write_job(superblocks, generation, &mut job, &mut plan, &staged)
            .await;
        let (pages, root_slot) = written.map_err(|error| self.fail(error.into()))?;
        let mut published = self.published.borrow_mut();
        published.generation = generation;
        published.root_slot = root_slot;
        published.next_volume_id = job.next_volume_id;
        published.records = job.records;
        published.pages = pages;
        published.clean = job.clean;
        drop(published);
        self.alloc.borrow_mut().finish(staged);
        if let Some(plan) = plan {
            plan.finish();
        }
        Ok(generation)
    }

    async fn write_job(
        &self,
        superblocks: &mut Superblocks,
        generation: u64,
        job: &mut Job,
        plan: &mut Option<Plan>,
        staged: &Staged,
    ) -> Result<(Vec<Option<PagePointer>>, u32), BlockError> {
        let mut writer = BlockWriter::new(&self.device);
        if let (Some(plan), Some((place, _))) = (plan.as_mut(), &job.map) {
            plan.write(&mut writer).await?;
            let mut record = VolumeRecord::clone(&job.records[*place]);
            record.map_root = plan.root();
            record.mapped_clusters = plan.mapped_clusters();
            job.records[*place] = Rc::new(record);
        }
        // crash here: the old state; the nodes are in blocks it does not use.
        reactor::crash_point("publish::after_nodes");
        let pages = self.write_pages(&mut writer, generation, staged).await?;
        // crash here: the old state; the pages are in the slots its root does not list.
        reactor::crash_point("publish::after_pages");
        let root_slot = 1 - self.published.borrow().root_slot;
        let superblock = self
            .write_root(&mut writer, generation, job, &pages, root_slot)
            .await?;
        writer.finish().await?;
        // crash here: the old state; the root is in the slot its superblock does not name.
        reactor::crash_point("publish::after_root");
        if !mutation::enabled(Mutation::SkipFlushBeforeSuperblock) {
            self.device.flush().await?;
        }
        // crash here: the old state, and all of the new one is durable.
        reactor::crash_point("publish::after_flush");
        self.write_superblocks(superblocks, &superblock).await?;
        Ok((pages, root_slot))
    }

    async fn write_superblocks(
        &self,
        superblocks: &mut Superblocks,
        superblock: &Superblock,
    ) -> Result<(), BlockError> {
        let first = superblocks.first_to_write(superblock.generation - 1);
        superblocks.write(&self.device, first, superblock).await?;
        // crash here: either state, each complete; torn, the other slot has the old state.
        reactor::crash_point("publish::after_superblock");
        self.device.flush().await?;
        // crash here: the new state.
        reactor::crash_point("publish::after_superblock_flush");
        superblocks
            .write(&self.device, 1 - first, superblock)
            .await?;
        // crash here: the new state, twice. The next publish flushes this slot before it relies
        // on it; until then the first slot is the durable one.
        reactor::crash_point("publish::after_mirror");
        Ok(())
    }

    /// Writes the allocator pages that changed to the slots that the published root does not list.
    async fn write_pages(
        &self,
        writer: &mut BlockWriter,
        generation: u64,
        staged: &Staged,
    ) -> Result<Vec<Option<PagePointer>>, BlockError> {
        let mut pages = self.published.borrow().pages.clone();
        for slot in 0..2 {
            for &page in &staged.dirty_pages {
                let current = self.published.borrow().pages[page as usize];
                if current.map_or(0, |pointer| 1 - pointer.slot) != slot {
                    continue;
                }
                let block = self.geometry.page_block(page, slot);
                let fill = |target: &mut _| self.fill_page(page, generation, target);
                let crc = writer.put(block, fill).await?;
                pages[page as usize] = Some(PagePointer { crc, slot });
            }
        }
        Ok(pages)
    }

    fn fill_page(&self, page: u32, generation: u64, target: &mut [u8; BLOCK_BYTES]) -> u32 {
        let alloc = self.alloc.borrow();
        let bitmap_pages = self.geometry.bitmap_pages;
        let kind = if page < bitmap_pages {
            alloc.bitmap_page(page, &mut target[HEADER_BYTES..]);
            PageKind::Bitmap
        } else {
            alloc_page::encode_table(alloc.table_page(page - bitmap_pages), target);
            PageKind::Table
        };
        let identity = PageIdentity {
            kind,
            page,
            generation,
            pool_uuid: self.identity.uuid,
        };
        alloc_page::seal_page(target, &identity)
    }

    async fn write_root(
        &self,
        writer: &mut BlockWriter,
        generation: u64,
        job: &Job,
        pages: &[Option<PagePointer>],
        root_slot: u32,
    ) -> Result<Superblock, BlockError> {
        let root = Root {
            generation,
            pool_uuid: self.identity.uuid,
            next_volume_id: job.next_volume_id,
            volumes: job
                .records
                .iter()
                .map(|record| record.as_ref().into())
                .collect(),
            pages: pages.to_vec(),
        };
        let bytes = root.encode();
        let block = self.geometry.root_offset(root_slot) / BLOCK_BYTES as u64;
        writer.put_bytes(block, &bytes).await?;
        Ok(Superblock {
            pool_uuid: self.identity.uuid,
            generation,
            device_bytes: self.geometry.device_bytes,
            cluster_count: self.geometry.cluster_count,
            first_cluster_block: self.geometry.first_cluster_block,
            root_block: self.geometry.root_block,
            root_blocks: self.geometry.root_blocks,
            alloc_block: self.geometry.alloc_block,
            bitmap_pages: self.geometry.bitmap_pages,
            table_pages: self.geometry.table_pages,
            root_bytes: bytes.len() as u64,
            root_crc: crate::checksum::crc32c(&bytes),
            root_slot,
            name: self.identity.name.to_string(),
            created_ms: self.identity.created_ms,
            clean: job.clean,
        })
    }
}
