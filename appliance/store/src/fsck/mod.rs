//! Checks a pool without writing: every checksum, every pointer, and that space is used once.
//!
//! Order: superblocks, root, allocator; then for each volume its journal, its map from the root
//! down, and the data its map names; last, what was seen to be used against the allocator. A part
//! that cannot be used is a finding, and the check goes on with what does not depend on it.
//!
//! Pages that the journal has newer records for are not compared with the map: a crash may have
//! left them half written in their place. Memory: a bit per cluster, and the journal's records.

mod finding;
mod journal;
mod pages;
mod shadow;
mod usage;
mod volume;

pub use finding::{ClusterUser, Finding};

use block::Device;

use crate::alloc::Allocator;
use crate::error::StoreError;
use crate::format::root::Root;
use crate::format::superblock::{Superblock, SuperblockFault};
use crate::pool::read_superblocks;
use crate::pool::{PoolGeometry, SlotFact, VolumeRecord, decide, load_allocator, load_root};

use crate::types::{CLUSTER_BLOCKS, VolumeId};

use usage::Usage;

/// How much is checked.
#[derive(Clone, Copy, Debug)]
pub struct FsckOptions {
    /// Read all data and compare its checksums. Without it only metadata is checked.
    pub data: bool,
    /// Findings that are kept; more are only counted.
    pub findings_max: usize,
}

impl Default for FsckOptions {
    fn default() -> FsckOptions {
        FsckOptions {
            data: true,
            findings_max: 10_000,
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsckProgress {
    /// Volumes that are done.
    pub volumes: u64,
    /// Map nodes checked.
    pub nodes: u64,
    /// Pages of data compared.
    pub pages: u64,
    /// Pages to compare, as far as the volume table tells: an upper bound.
    pub pages_estimate: u64,
    /// Good batches in the journals.
    pub batches: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// One line each; see [`Finding::is_damage`].
    pub findings: Vec<Finding>,
    /// Findings beyond `findings_max`.
    pub omitted: u64,
    /// The volumes that were checked: findings name them by their id.
    pub names: Vec<(VolumeId, String)>,
    /// Whether any finding, kept or not, is damage.
    pub is_damaged: bool,
    /// The published generation, if the pool has a usable superblock.
    pub generation: u64,
    /// What was checked.
    pub progress: FsckProgress,
}

/// A check in progress.
struct Check<'a> {
    device: &'a Device,
    options: FsckOptions,
    report: FsckReport,
    tell: &'a mut dyn FnMut(&FsckProgress),
    /// Every map could be walked to its last leaf.
    complete: bool,
}

/// Checks the pool on a device. Nothing is written; the device may be opened read-only.
///
/// `tell` is called now and then with the progress. Errors, which mean that nothing can be said:
/// `NotAPool`, `NewerFormat`, `OlderFormat`, `Device` when no superblock can be read. Everything else that is
/// wrong is a finding. Cancel: safe. Cost: reads all metadata, the journals, and with
/// `options.data` all data once; memory is bounded as the module says.
pub async fn fsck(
    device: &Device,
    options: FsckOptions,
    tell: &mut dyn FnMut(&FsckProgress),
) -> Result<FsckReport, StoreError> {
    let report = FsckReport::default();
    let mut check = Check {
        device,
        options,
        report,
        tell,
        complete: true,
    };
    let facts = read_superblocks(device).await;
    let superblock = match decide(device, &facts).await {
        Ok(superblock) => superblock,
        Err(error @ (StoreError::SuperblocksDamaged { .. } | StoreError::Truncated { .. })) => {
            return Ok(check.unusable(error));
        }
        Err(error) => return Err(error),
    };
    check.report.generation = superblock.generation;
    check.superblock_slots(&facts);
    match load_root(device, &superblock).await {
        Ok(root) => check.pool(&superblock, root).await,
        Err(error) => check.found(Finding::Unusable(error)),
    }
    Ok(check.report)
}

impl Check<'_> {
    fn found(&mut self, finding: Finding) {
        self.report.is_damaged |= finding.is_damage();
        if self.report.findings.len() < self.options.findings_max {
            self.report.findings.push(finding);
        } else {
            self.report.omitted += 1;
        }
    }

    fn unusable(mut self, error: StoreError) -> FsckReport {
        self.found(Finding::Unusable(error));
        self.report
    }

    fn progress(&mut self) {
        (self.tell)(&self.report.progress);
    }

    fn superblock_slots(&mut self, facts: &[SlotFact; 2]) {
        for (slot, fact) in (0..).zip(facts) {
            let what = match fact {
                SlotFact::Valid(_) => continue,
                SlotFact::Unreadable(_) => "cannot be read",
                SlotFact::Unusable(SuperblockFault::Damaged(what)) => what,
                SlotFact::Unusable(_) => "magic is missing",
            };
            self.found(Finding::SuperblockSlot { slot, what });
        }
    }

    async fn pool(&mut self, superblock: &Superblock, root: Root) {
        let geometry = PoolGeometry::of(superblock);
        let alloc = match load_allocator(self.device, superblock, &root).await {
            Ok(alloc) => Some(alloc),
            Err(error) => {
                self.found(Finding::Unusable(error));
                None
            }
        };
        let mut usage = Usage::new(geometry);
        let mapped = root
            .volumes
            .iter()
            .map(|volume| volume.layer.mapped_clusters);
        self.report.progress.pages_estimate = mapped.sum::<u64>() * CLUSTER_BLOCKS as u64;
        for volume in root.volumes {
            let record = VolumeRecord::from(volume);
            self.report.names.push((record.id, record.name.to_string()));
            self.volume(&geometry, &record, &mut usage, alloc.as_ref())
                .await;
            self.report.progress.volumes += 1;
            self.progress();
        }
        self.space(usage, alloc.as_ref());
    }

    fn space(&mut self, usage: Usage, alloc: Option<&Allocator>) {
        match alloc {
            Some(alloc) if self.complete => usage.compare(alloc, |finding| self.found(finding)),
            _ => self.found(Finding::SpaceUnchecked),
        }
    }
}
