//! What a publish changes in the allocator: before it (staged) and when it is through (finished).

use std::collections::BTreeSet;

use crate::alloc::Allocator;
use crate::format::alloc_page::{BITS_PER_PAGE, TableEntry};
use crate::mutation::{self, Mutation};
use crate::types::Cluster;

/// Staged changes: pages to write now, and what becomes free when they are published.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Pages that differ from the published ones: bitmap pages, then table pages.
    pub(crate) dirty_pages: BTreeSet<u32>,
    freed_clusters: Vec<Cluster>,
    freed_blocks: Vec<u64>,
}

impl Allocator {
    /// Moves the published bitmap and table to what the next publish says.
    ///
    /// From here on only a completed publish makes memory and disk agree again. Panics when the
    /// lists are not what they claim: `allocated` unpublished and in use, `freed` published. Freed
    /// clusters that are kept are unpublished and in use afterwards.
    pub(crate) fn stage(
        &mut self,
        allocated: &[Cluster],
        (freed, keep_freed): (&[Cluster], bool),
        blocks_allocated: &[u64],
        blocks_freed: &[u64],
    ) -> Staged {
        let blocks = self.map_blocks.stage(blocks_allocated, blocks_freed);
        let table_base = self.bitmap_pages();
        let mut staged = Staged {
            dirty_pages: blocks
                .dirty_pages
                .iter()
                .map(|page| table_base + page)
                .collect(),
            freed_clusters: freed.iter().chain(&blocks.emptied).copied().collect(),
            freed_blocks: blocks.freed,
        };
        let count = u32::try_from(allocated.len()).expect("fewer than 2^32 clusters");
        assert!(
            self.unpublished >= count,
            "more clusters published than allocated"
        );
        self.unpublished -= count;
        for &cluster in allocated.iter().chain(&blocks.added) {
            self.stage_bit(cluster, true, &mut staged);
        }
        for index in 0..staged.freed_clusters.len() {
            self.stage_bit(staged.freed_clusters[index], false, &mut staged);
        }
        if keep_freed {
            staged.freed_clusters.drain(..freed.len());
            self.unpublished += freed.len() as u32;
        }
        if mutation::enabled(Mutation::FreeBeforePublish) {
            let early = std::mem::take(&mut staged.freed_clusters);
            self.retire(early);
        }
        staged
    }

    fn stage_bit(&mut self, cluster: Cluster, value: bool, staged: &mut Staged) {
        let index = self.index_of(cluster);
        assert!(
            self.used.test(index),
            "{cluster} is published or freed without being in use"
        );
        let changed = if value {
            self.published.set(index)
        } else {
            self.published.clear(index)
        };
        assert!(changed, "{cluster} is published or freed twice");
        staged.dirty_pages.insert(index / BITS_PER_PAGE as u32);
    }

    /// The publish is through: what it freed is free when the reads of now are over.
    pub(crate) fn finish(&mut self, staged: Staged) {
        self.map_blocks.finish(&staged.freed_blocks);
        self.retire(staged.freed_clusters);
    }

    /// The bits of a bitmap page as published next.
    pub(crate) fn bitmap_page(&self, page: u32, bytes: &mut [u8]) {
        self.published.page_bytes(page, bytes);
    }

    /// The entries of a table page (numbered from 0) as published next.
    pub(crate) fn table_page(&self, page: u32) -> &[TableEntry] {
        self.map_blocks.table_page(page)
    }
}
