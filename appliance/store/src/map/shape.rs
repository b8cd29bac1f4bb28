//! How many nodes a map has on each level: follows from the size of its volume.

use crate::format::node::{INNER_FANOUT, LEAF_ENTRIES};
use crate::types::CLUSTER_BYTES;

/// The tree over the clusters of a volume. Level 0 are the leaves; there is always a level 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Clusters of the volume; the last one may be partial.
    pub(crate) clusters: u64,
    /// Nodes on each level; the last level has one.
    pub(crate) nodes: Vec<u64>,
}

impl Shape {
    pub(crate) fn of(size_bytes: u64) -> Shape {
        let clusters = size_bytes.div_ceil(CLUSTER_BYTES);
        let leaves = clusters.div_ceil(LEAF_ENTRIES as u64);
        let mut nodes = vec![leaves, leaves.div_ceil(INNER_FANOUT as u64)];
        while nodes[nodes.len() - 1] > 1 {
            nodes.push(nodes[nodes.len() - 1].div_ceil(INNER_FANOUT as u64));
        }
        Shape { clusters, nodes }
    }

    /// Levels above the leaves.
    pub(crate) fn depth(&self) -> u32 {
        self.nodes.len() as u32 - 1
    }
}

/// Levels above the leaves of the map of a volume of this size.
pub(crate) fn depth_of(size_bytes: u64) -> u32 {
    Shape::of(size_bytes).depth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_with_the_volume() {
        let leaf = LEAF_ENTRIES as u64 * CLUSTER_BYTES;
        assert_eq!(Shape::of(512).nodes, [1, 1]);
        assert_eq!(Shape::of(leaf).nodes, [1, 1]);
        assert_eq!(Shape::of(leaf + 512).nodes, [2, 1]);
        assert_eq!(Shape::of(252 * leaf).nodes, [252, 1]);
        assert_eq!(Shape::of(252 * leaf + 1).nodes, [253, 2, 1]);
        assert_eq!(Shape::of(256 << 40).depth(), 4);
    }
}
