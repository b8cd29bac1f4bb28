//! Who uses which cluster and which map block, found by walking, compared with the allocator.

use std::collections::BTreeMap;

use crate::alloc::{Allocator, Bitmap};
use crate::fsck::finding::{ClusterUser, Finding};
use crate::pool::PoolGeometry;
use crate::types::{CLUSTER_BLOCKS, Cluster};

/// What the walk has seen. Memory: one bit per cluster, 16 bytes per map cluster.
pub(super) struct Usage {
    geometry: PoolGeometry,
    seen: Bitmap,
    nodes: BTreeMap<Cluster, u64>,
}

impl Usage {
    pub(super) fn new(geometry: PoolGeometry) -> Usage {
        Usage {
            geometry,
            seen: Bitmap::new(geometry.cluster_count),
            nodes: BTreeMap::new(),
        }
    }

    fn index(&self, cluster: Cluster) -> u32 {
        cluster.0 - self.geometry.first_cluster()
    }

    /// Somebody uses a cluster of the pool.
    pub(super) fn cluster(
        &mut self,
        cluster: Cluster,
        by: ClusterUser,
        alloc: Option<&Allocator>,
    ) -> Option<Finding> {
        let index = self.index(cluster);
        if !self.seen.set(index) {
            return Some(Finding::UsedTwice { cluster, by });
        }
        let free = alloc.is_some_and(|alloc| !alloc.is_published(cluster));
        free.then_some(Finding::NotAllocated { cluster, by })
    }

    /// A node uses a block of the pool; says what is wrong with that.
    pub(super) fn node(&mut self, block: u64) -> Option<&'static str> {
        let cluster = Cluster((block / CLUSTER_BLOCKS as u64) as u32);
        let bit = 1 << (block % CLUSTER_BLOCKS as u64);
        let mask = self.nodes.entry(cluster).or_insert(0);
        let again = *mask & bit != 0;
        *mask |= bit;
        again.then_some("another node uses it too")
    }

    /// Everything was walked: compares with what the allocator says.
    pub(super) fn compare(mut self, alloc: &Allocator, mut found: impl FnMut(Finding)) {
        for entry in alloc.map_clusters() {
            let seen = self.nodes.remove(&entry.cluster).unwrap_or(0);
            self.compare_nodes(entry.cluster, seen, entry.mask, &mut found);
            let again = self.cluster(entry.cluster, ClusterUser::MapNodes, Some(alloc));
            again.into_iter().for_each(&mut found);
        }
        // Nodes in clusters that the table does not list.
        for (cluster, _) in std::mem::take(&mut self.nodes) {
            found(Finding::NotAllocated {
                cluster,
                by: ClusterUser::MapNodes,
            });
        }
        self.find_leaks(alloc, found);
    }

    fn compare_nodes(
        &self,
        cluster: Cluster,
        seen: u64,
        listed: u64,
        found: &mut impl FnMut(Finding),
    ) {
        if seen & !listed != 0 {
            found(Finding::NotAllocated {
                cluster,
                by: ClusterUser::MapNodes,
            });
        }
        if listed & !seen != 0 {
            found(Finding::LeakedBlocks {
                cluster,
                mask: listed & !seen,
            });
        }
    }

    fn find_leaks(&self, alloc: &Allocator, mut found: impl FnMut(Finding)) {
        let cluster = |index| Cluster(self.geometry.first_cluster() + index);
        let leaked = |index| !self.seen.test(index) && alloc.is_published(cluster(index));
        let mut index = 0;
        while index < self.geometry.cluster_count {
            let first = index;
            while index < self.geometry.cluster_count && leaked(index) {
                index += 1;
            }
            if index > first {
                found(Finding::Leaked {
                    first: cluster(first),
                    count: index - first,
                });
            }
            index += 1;
        }
    }
}
