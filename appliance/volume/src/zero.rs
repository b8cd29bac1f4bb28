//! Write Zeroes and Deallocate: pages that read as zeros, without writing any.
//!
//! Whole pages become zero records; the parts of pages at the edges (512-byte blocks) are written
//! as data. A long range is cut into pieces, each admitted and journaled by itself; a piece of
//! nothing but clusters that are zeros already costs a look into the map and no record.

use std::rc::Rc;

use store::Cluster;
use store::journal::RecordKind;
use store::journal::batch::MAX_ZERO_PAGES;

use crate::admission::Need;
use crate::commit::{Batch, Group, Hold, Part};
use crate::core::Core;
use crate::error::VolumeError;
use crate::pages::{CLUSTER_PAGES, PAGE, PageRange, cluster_masks};
use crate::request::{Completion, Ranges, Span};

impl Core {
    /// Makes a range read as zeros; as durable as a write.
    pub async fn write_zeroes(
        self: &Rc<Self>,
        lba: u64,
        block_count: u64,
        fua: bool,
    ) -> Completion {
        let span = self.info().span(lba, block_count)?;
        self.zero_span(span).await?;
        if fua {
            self.flush_device().await?;
        }
        Ok(None)
    }

    /// Gives ranges back. All are checked before the first takes effect.
    pub async fn deallocate(self: &Rc<Self>, ranges: &Ranges) -> Completion {
        for range in ranges.iter().filter(|range| range.block_count > 0) {
            self.info().span(range.lba, range.block_count.into())?;
        }
        for range in ranges.iter().filter(|range| range.block_count > 0) {
            let span = self.info().span(range.lba, range.block_count.into())?;
            self.zero_span(span).await?;
        }
        Ok(None)
    }

    async fn zero_span(self: &Rc<Self>, span: Span) -> Result<(), VolumeError> {
        self.check_writable()?;
        let inside = PageRange::inside(span);
        if inside.count == 0 {
            return self.zero_edge(span).await;
        }
        let (start, end) = (inside.first * PAGE, inside.end() * PAGE);
        let head = Span {
            len_bytes: start - span.offset_bytes,
            ..span
        };
        let tail = Span {
            offset_bytes: end,
            len_bytes: span.offset_bytes + span.len_bytes - end,
        };
        for edge in [head, tail] {
            if edge.len_bytes > 0 {
                self.zero_edge(edge).await?;
            }
        }
        self.zero_pages(inside).await
    }

    /// Less than two pages, none of them whole: written as data.
    async fn zero_edge(self: &Rc<Self>, span: Span) -> Result<(), VolumeError> {
        let range = PageRange::covering(span);
        let lock = self.locks.acquire(range).await;
        if self.is_zero(range).await? {
            return Ok(());
        }
        let (mut zeros, _scratch) = self.scratch_pages(span.len_bytes as usize).await;
        zeros.zero_fill();
        self.write_locked(span, zeros, lock, false)
            .await
            .map(|_| ())
    }

    /// Whole pages, in pieces.
    async fn zero_pages(self: &Rc<Self>, range: PageRange) -> Result<(), VolumeError> {
        let max_pages =
            u64::from(MAX_ZERO_PAGES).min(self.limits.clusters as u64 / 4 * CLUSTER_PAGES);
        let mut first = range.first;
        let mut last_batch: Option<Rc<Batch>> = None;
        while first < range.end() {
            // Pieces end at cluster boundaries.
            let aligned_end = (first / CLUSTER_PAGES * CLUSTER_PAGES) + max_pages;
            let piece = PageRange {
                first,
                count: aligned_end.min(range.end()) - first,
            };
            if let Some(batch) = self.zero_piece(piece).await? {
                // One piece on its way while the next is prepared.
                if let Some(before) = last_batch.replace(batch) {
                    before.completed().await?;
                }
            }
            first = piece.end();
        }
        match last_batch {
            Some(batch) => batch.completed().await,
            None => Ok(()),
        }
    }

    async fn zero_piece(
        self: &Rc<Self>,
        piece: PageRange,
    ) -> Result<Option<Rc<Batch>>, VolumeError> {
        let lock = self.locks.acquire(piece).await;
        // With the pages locked nobody can put data there meanwhile.
        let Some(piece) = self.trim_zero_ends(piece).await? else {
            return Ok(None);
        };
        let clusters = piece.clusters().count();
        let credit = self
            .admit(Need {
                journal_bytes: PAGE,
                pages: 0,
                clusters,
            })
            .await?;
        let mut group = Group::default();
        let (kind, cluster) = (RecordKind::Zero, Cluster(0));
        group.push(Part {
            kind,
            range: piece,
            buf: None,
            cluster,
            retain: false,
        });
        let hold = Hold::new(lock, None, credit);
        self.append(&mut group, hold).await.map(Some)
    }

    /// The piece without clusters at both ends that are zeros already; None when all are.
    async fn trim_zero_ends(&self, piece: PageRange) -> Result<Option<PageRange>, VolumeError> {
        let mut kept: Option<PageRange> = None;
        for (cluster, mask) in cluster_masks(piece) {
            if self.is_zero_in(cluster, mask).await? {
                continue;
            }
            let first = piece.first.max(cluster * CLUSTER_PAGES);
            let end = piece.end().min((cluster + 1) * CLUSTER_PAGES);
            let start = kept.map_or(first, |kept| kept.first);
            kept = Some(PageRange {
                first: start,
                count: end - start,
            });
        }
        Ok(kept)
    }

    async fn is_zero(&self, range: PageRange) -> Result<bool, VolumeError> {
        for (cluster, mask) in cluster_masks(range) {
            if !self.is_zero_in(cluster, mask).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether these pages read as zeros without a record. A page on its way to the index is
    /// locked by its writer, so it cannot be missed by a caller that has the lock.
    async fn is_zero_in(&self, cluster: u64, mask: u64) -> Result<bool, VolumeError> {
        let lookup = self.map.lookup(cluster).await;
        let entry = lookup.map_err(|error| self.store_error("map lookup", error))?;
        let index = self.index.borrow();
        let (data, zero) = index
            .cluster(cluster)
            .map_or((0, 0), |state| (state.data, state.zero()));
        // A zero that is only in the index is durable no later than a new record would be.
        Ok(mask & (data | (entry.valid & !zero)) == 0)
    }
}
