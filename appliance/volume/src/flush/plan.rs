//! What one cycle writes: everything in the index at the cut.

use crate::core::Core;
use crate::index::{PageEntry, Source};
use crate::pages::{CLUSTER_PAGES, bits};

/// A dirty page at the cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub page: u64,
    pub entry: PageEntry,
}

/// A dirty cluster at the cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterPlan {
    pub cluster: u64,
    /// Its items in `Plan::items`.
    pub first_item: usize,
    pub item_count: usize,
    /// Pages that are zeros.
    pub zero: u64,
}

/// Everything dirty at the cut, in the order of the volume. Recycled from cycle to cycle.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Everything up to this LSN is in the plan.
    pub cut_lsn: u64,
    pub clusters: Vec<ClusterPlan>,
    pub items: Vec<Item>,
}

impl Plan {
    pub fn items_of(&self, cluster: &ClusterPlan) -> &[Item] {
        &self.items[cluster.first_item..cluster.first_item + cluster.item_count]
    }
}

impl ClusterPlan {
    /// Whether there is anything but an unused pending cluster to look after.
    pub fn is_empty(&self) -> bool {
        self.item_count == 0 && self.zero == 0
    }
}

impl Item {
    /// Whether its data is in its cluster already.
    pub fn is_direct(&self) -> bool {
        matches!(self.entry.source, Source::Direct { .. })
    }
}

impl Core {
    /// Fills `plan` with all that has completed. Synchronous: the index is one with `cut_lsn`.
    pub(super) fn make_plan(&self, plan: &mut Plan) {
        plan.cut_lsn = self.journal.completed_lsn();
        plan.clusters.clear();
        plan.items.clear();
        let mut index = self.index.borrow_mut();
        let blank = |cluster| ClusterPlan {
            cluster,
            first_item: 0,
            item_count: 0,
            zero: 0,
        };
        plan.clusters
            .extend(index.clusters().map(|(cluster, _)| blank(cluster)));
        plan.clusters.sort_unstable_by_key(|plan| plan.cluster);
        for cluster in &mut plan.clusters {
            cluster.zero = index.cut_zeros(cluster.cluster);
            cluster.first_item = plan.items.len();
            let data = index.cluster(cluster.cluster).map_or(0, |state| state.data);
            for slot in bits(data) {
                let page = cluster.cluster * CLUSTER_PAGES + slot as u64;
                if let Some(entry) = index.page(page) {
                    assert!(
                        entry.lsn <= plan.cut_lsn,
                        "page {page} is newer than the cut"
                    );
                    plan.items.push(Item { page, entry });
                }
            }
            cluster.item_count = plan.items.len() - cluster.first_item;
        }
    }
}
