//! What one cycle writes: everything in the index at the cut.

use crate::core::Core;
use crate::index::PageEntry;
use crate::pages::{CLUSTER_PAGES, bits};

/// A page that was dirty at the cut and has not been written since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub page: u64,
    pub entry: PageEntry,
}

/// A dirty cluster at the cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterPlan {
    pub cluster: u64,
    /// Pages that are zeros.
    pub zero: u64,
}

/// Every cluster that was dirty at the cut, in the order of the volume. Recycled from cycle to
/// cycle.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Everything up to this LSN is written.
    pub cut_lsn: u64,
    pub clusters: Vec<ClusterPlan>,
}

impl Core {
    /// Fills `plan` with all that has completed. Synchronous: zeros are told from later ones here.
    pub(super) fn make_plan(&self, plan: &mut Plan) {
        plan.cut_lsn = self.journal.completed_lsn();
        self.flusher.direct_pages.set(0);
        plan.clusters.clear();
        let mut index = self.index.borrow_mut();
        let blank = |cluster| ClusterPlan { cluster, zero: 0 };
        plan.clusters
            .extend(index.clusters().map(|(cluster, _)| blank(cluster)));
        plan.clusters.sort_unstable_by_key(|plan| plan.cluster);
        for cluster in &mut plan.clusters {
            cluster.zero = index.cut_zeros(cluster.cluster);
        }
    }

    /// The pages of a cluster to be written: as they were at the cut. One that was written since is
    /// left to the next cycle, as its newer record stays in the journal behind the tail.
    pub(super) fn items_of(&self, cluster: u64, cut_lsn: u64) -> Vec<Item> {
        let index = self.index.borrow();
        let data = index.cluster(cluster).map_or(0, |state| state.data);
        let mut items = Vec::with_capacity(data.count_ones() as usize);
        items.extend(bits(data).filter_map(|slot| {
            let page = cluster * CLUSTER_PAGES + slot as u64;
            let entry = index.page(page).filter(|entry| entry.lsn <= cut_lsn)?;
            Some(Item { page, entry })
        }));
        items
    }
}
