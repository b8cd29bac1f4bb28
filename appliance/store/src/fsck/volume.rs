//! A volume: its map from the root down, and the data it names.

use crate::alloc::Allocator;
use crate::error::StoreError;
use crate::format::node::{INNER_FANOUT, LEAF_ENTRIES, LeafEntries, NodePointer};
use crate::fsck::journal::Log;
use crate::fsck::pages::{BadPage, PageCheck, PageChecker};
use crate::fsck::usage::Usage;
use crate::fsck::{Check, ClusterUser, Finding};
use crate::map::{NodeReader, Shape};
use crate::pool::{PoolGeometry, VolumeRecord, read_reservations};
use crate::types::{BLOCK_BYTES, CLUSTER_BLOCKS, Cluster, Entry};

/// Nodes between two reports of progress.
const NODES_PER_REPORT: u64 = 256;

/// The walk through the map of one volume.
struct Walk<'a> {
    record: &'a VolumeRecord,
    shape: Shape,
    reader: NodeReader,
    usage: &'a mut Usage,
    alloc: Option<&'a Allocator>,
    log: Log,
    pages: PageChecker,
    mapped: u64,
}

/// A node to visit. At most 252 for each level wait at a time.
struct Visit {
    level: u16,
    index: u64,
    pointer: NodePointer,
}

impl Check<'_> {
    pub(super) async fn volume(
        &mut self,
        geometry: &PoolGeometry,
        record: &VolumeRecord,
        usage: &mut Usage,
        alloc: Option<&Allocator>,
    ) {
        for cluster in record.journal_runs.iter().flat_map(|run| run.clusters()) {
            let finding = usage.cluster(cluster, ClusterUser::Journal(record.id), alloc);
            finding.into_iter().for_each(|finding| self.found(finding));
        }
        self.reservations(record, usage, alloc).await;
        let log = self.journal(geometry, record).await;
        let walk = Walk {
            record,
            shape: Shape::of(record.size_bytes),
            reader: NodeReader::new(self.device, *geometry, record),
            usage,
            alloc,
            log,
            pages: PageChecker::new(self.device),
            mapped: 0,
        };
        self.walk(walk).await;
    }

    async fn reservations(
        &mut self,
        record: &VolumeRecord,
        usage: &mut Usage,
        alloc: Option<&Allocator>,
    ) {
        let Some(pointer) = record.reservations else {
            return;
        };
        let volume = record.id;
        let by = ClusterUser::Reservations(volume);
        let finding = usage.cluster(Cluster(pointer.cluster), by, alloc);
        finding.into_iter().for_each(|finding| self.found(finding));
        if let Err(error) = read_reservations(self.device, record, pointer).await {
            self.found(Finding::Reservations { volume, error });
        }
    }

    async fn walk(&mut self, mut walk: Walk<'_>) {
        let was_complete = std::mem::replace(&mut self.complete, true);
        let top = Visit {
            level: walk.shape.depth() as u16,
            index: 0,
            pointer: walk.record.map_root,
        };
        let mut pending = Vec::new();
        if !top.pointer.is_none() {
            pending.push(top);
        }
        while let Some(visit) = pending.pop() {
            if let Err(error) = self.visit(&mut walk, &visit, &mut pending).await {
                self.complete = false;
                self.found(Finding::Node(error));
            }
            self.report.progress.nodes += 1;
            if self.report.progress.nodes.is_multiple_of(NODES_PER_REPORT) {
                self.progress();
            }
        }
        if self.options.data {
            self.direct_data(&mut walk).await;
        }
        while let Some(bad) = walk.pages.next().await {
            self.bad_pages(walk.record, bad);
        }
        let (recorded, counted) = (walk.record.mapped_clusters, walk.mapped);
        if self.complete && recorded != counted {
            self.found(Finding::MappedCount {
                volume: walk.record.id,
                recorded,
                counted,
            });
        }
        self.complete &= was_complete;
    }

    async fn visit(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit,
        pending: &mut Vec<Visit>,
    ) -> Result<(), StoreError> {
        let block = visit.pointer.block;
        if walk.reader.in_pool(block)
            && let Some(what) = walk.usage.node(block)
        {
            self.found(Finding::NodeBlock {
                volume: walk.record.id,
                block,
                what,
            });
        }
        if visit.level == 0 {
            let leaf = walk.reader.read_leaf(visit.index, visit.pointer).await?;
            self.leaf(walk, visit.index, &leaf).await;
            return Ok(());
        }
        let pointers = walk
            .reader
            .read_inner(visit.level, visit.index, visit.pointer)
            .await?;
        let limit = walk.shape.nodes[visit.level as usize - 1];
        let first = visit.index * INNER_FANOUT as u64;
        // Pushed in descending order, so that they are visited in ascending order.
        for (slot, pointer) in pointers.iter().enumerate().rev() {
            let index = first + slot as u64;
            if pointer.is_none() {
                continue;
            }
            if index >= limit {
                let what = "points beyond the end of the volume";
                return Err(walk.reader.damaged(visit.level, visit.index, block, what));
            }
            pending.push(Visit {
                level: visit.level - 1,
                index,
                pointer: *pointer,
            });
        }
        Ok(())
    }

    async fn leaf(&mut self, walk: &mut Walk<'_>, leaf: u64, entries: &LeafEntries) {
        for (slot, entry) in (0..).zip(entries) {
            let cluster_index = leaf * LEAF_ENTRIES as u64 + slot;
            let Some(cluster) = entry.location else {
                continue;
            };
            walk.mapped += 1;
            let by = ClusterUser::Data(walk.record.id, cluster_index);
            let finding = walk.usage.cluster(cluster, by, walk.alloc);
            finding.into_iter().for_each(|finding| self.found(finding));
            let first_page = cluster_index * CLUSTER_BLOCKS as u64;
            if is_beyond(walk.record, first_page, entry) {
                self.found(Finding::BeyondVolume {
                    volume: walk.record.id,
                    cluster_index,
                });
            }
            if self.options.data {
                let shadow = &walk.log.shadow;
                let newer = |page: &usize| shadow.covers(first_page + *page as u64);
                let mask = (0..CLUSTER_BLOCKS)
                    .filter(|page| !newer(page))
                    .fold(0, |mask, page| mask | (entry.valid & (1 << page)));
                let check = PageCheck {
                    cluster,
                    mask,
                    crc: entry.crc,
                    first_page,
                };
                self.check_pages(walk, check).await;
            }
        }
    }

    /// Data of direct records that is durable for sure and that nothing later replaced.
    async fn direct_data(&mut self, walk: &mut Walk<'_>) {
        let durable = walk.log.durable_lsn;
        let spans: Vec<_> = walk
            .log
            .shadow
            .direct()
            .filter(|(_, _, direct)| direct.lsn <= durable)
            .collect();
        for (first, count, direct) in spans {
            let place = direct.page_in_cluster as usize;
            let mut check = PageCheck {
                cluster: direct.cluster,
                mask: 0,
                crc: [0; CLUSTER_BLOCKS],
                first_page: first.wrapping_sub(place as u64),
            };
            let crcs = &walk.log.shadow.crcs[direct.crc_at..direct.crc_at + count as usize];
            for (page, &crc) in (place..).zip(crcs) {
                check.mask |= 1 << page;
                check.crc[page] = crc;
            }
            self.check_pages(walk, check).await;
        }
    }

    async fn check_pages(&mut self, walk: &mut Walk<'_>, check: PageCheck) {
        self.report.progress.pages += u64::from(check.mask.count_ones());
        let bad = walk.pages.start(check).await;
        self.bad_pages(walk.record, bad);
    }

    fn bad_pages(&mut self, record: &VolumeRecord, bad: Vec<BadPage>) {
        let per_page = BLOCK_BYTES as u64 / u64::from(record.block_bytes);
        for BadPage {
            page,
            device_offset,
            expected,
            actual,
        } in bad
        {
            let (volume, lba) = (record.id, page * per_page);
            self.found(match actual {
                Ok(actual) => Finding::Page {
                    volume,
                    lba,
                    device_offset,
                    expected,
                    actual,
                },
                Err(error) => Finding::PageUnreadable { volume, lba, error },
            });
        }
    }
}

/// Whether an entry has a valid page beyond the end of its volume.
fn is_beyond(record: &VolumeRecord, first_page: u64, entry: &Entry) -> bool {
    let pages = record.size_bytes.div_ceil(BLOCK_BYTES as u64);
    let last = entry.valid.checked_ilog2();
    last.is_some_and(|last| first_page + u64::from(last) >= pages)
}
