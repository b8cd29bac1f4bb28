//! Which blocks hold data.

use store::Entry;

use crate::core::Core;
use crate::error::VolumeError;
use crate::index::Lookup;
use crate::pages::{CLUSTER_PAGES, PAGE, PageRange, cluster_of, part_in, slot_of};
use crate::request::{BlockStatus, VolumeInfo};

/// The most pages one call looks at.
const MAX_PAGES: u64 = 16 << 10;
/// Clusters that are looked at before other work gets its turn.
const CLUSTERS_A_TURN: u64 = 64;

impl Core {
    /// The run of blocks from `lba` on that are alike.
    pub async fn mapped_run(&self, lba: u64) -> Result<BlockStatus, VolumeError> {
        let span = self.info().span(lba, 1)?;
        let first = span.offset_bytes / PAGE;
        let end = self
            .info()
            .len_bytes()
            .div_ceil(PAGE)
            .min(first + MAX_PAGES);
        let mut run = Run::default();
        for cluster in cluster_of(first)..=cluster_of(end - 1) {
            let brought = self.map.bring_in(cluster).await;
            brought.map_err(|error| self.store_error("map lookup", error))?;
            let count = end - first;
            // No await within one cluster: map entry and index belong together.
            let is_over = self.map.with_cached(cluster, |entry| {
                let entry = entry.unwrap_or(&Entry::EMPTY);
                let part = part_in(PageRange { first, count }, cluster);
                (part.first..part.end()).any(|page| !run.add(self.is_mapped(page, entry)))
            });
            if is_over {
                break;
            }
            if cluster % CLUSTERS_A_TURN == 0 {
                reactor::next_turn().await;
            }
        }
        Ok(run.status(lba, self.info()))
    }

    fn is_mapped(&self, page: u64, entry: &Entry) -> bool {
        match self.index.borrow().lookup(page) {
            Lookup::Dirty(_) => true,
            Lookup::Zero => false,
            Lookup::Clean => entry.location.is_some() && entry.valid & (1 << slot_of(page)) != 0,
        }
    }
}

/// Pages that are alike, from the first one on.
#[derive(Default)]
pub(crate) struct Run {
    is_mapped: Option<bool>,
    page_count: u64,
}

impl Run {
    /// False when the page does not belong to the run any more.
    pub fn add(&mut self, is_mapped: bool) -> bool {
        let belongs = *self.is_mapped.get_or_insert(is_mapped) == is_mapped;
        self.page_count += u64::from(belongs);
        belongs
    }

    /// The same in blocks from `lba` on, which may lie within the first page.
    pub fn status(&self, lba: u64, info: &VolumeInfo) -> BlockStatus {
        let page_blocks = PAGE / u64::from(info.block_bytes);
        let end = (lba / page_blocks + self.page_count) * page_blocks;
        BlockStatus {
            is_mapped: self.is_mapped.unwrap_or(false),
            block_count: end.min(info.block_count) - lba,
        }
    }
}

const _: () = assert!(MAX_PAGES >= CLUSTER_PAGES);
