//! The inner nodes of a map, all of them in memory.

use crate::error::StoreError;
use crate::format::node::{INNER_FANOUT, InnerPointers, NodePointer};
use crate::map::node_io::NodeReader;
use crate::map::shape::Shape;

/// Inner nodes by level and index, as published.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: NodePointer,
    /// `inner[0]` is level 1. A node that does not exist has nothing below.
    inner: Vec<Vec<Option<Box<InnerPointers>>>>,
}

impl Tree {
    /// Reads every inner node below `root`, level by level.
    pub(crate) async fn load(
        reader: &NodeReader,
        shape: &Shape,
        root: NodePointer,
    ) -> Result<Tree, StoreError> {
        let level = |count: &u64| vec![None; *count as usize];
        let mut tree = Tree {
            root,
            inner: shape.nodes[1..].iter().map(level).collect(),
        };
        for level in (1..=shape.depth()).rev() {
            for index in 0..shape.nodes[level as usize] {
                let pointer = tree.pointer(level, index);
                if !pointer.is_none() {
                    let node = reader.read_inner(level as u16, index, pointer).await?;
                    tree.check_children(reader, level, index, &node, shape)?;
                    tree.inner[level as usize - 1][index as usize] = Some(node);
                }
            }
        }
        Ok(tree)
    }

    /// Children beyond the end of the volume, or outside of the pool, are damage.
    fn check_children(
        &self,
        reader: &NodeReader,
        level: u32,
        index: u64,
        node: &InnerPointers,
        shape: &Shape,
    ) -> Result<(), StoreError> {
        let first = index * INNER_FANOUT as u64;
        let limit = shape.nodes[level as usize - 1];
        for (child, pointer) in (first..).zip(node) {
            if !pointer.is_none() && (child >= limit || !reader.in_pool(pointer.block)) {
                let own = self.pointer(level, index);
                let what = "points outside of the volume or the pool";
                return Err(reader.damaged(level as u16, index, own.block, what));
            }
        }
        Ok(())
    }

    /// The pointer to a node: in its parent, or the root's.
    pub(crate) fn pointer(&self, level: u32, index: u64) -> NodePointer {
        let Some(parents) = self.inner.get(level as usize) else {
            assert_eq!(index, 0, "the top level has one node");
            return self.root;
        };
        let parent = &parents[(index / INNER_FANOUT as u64) as usize];
        let slot = (index % INNER_FANOUT as u64) as usize;
        parent
            .as_ref()
            .map_or(NodePointer::NONE, |pointers| pointers[slot])
    }

    /// An inner node that exists.
    pub(crate) fn node(&self, level: u32, index: u64) -> Option<&InnerPointers> {
        self.inner[level as usize - 1][index as usize].as_deref()
    }

    /// Replaces an inner node; none when nothing is left below it.
    pub(crate) fn replace(&mut self, level: u32, index: u64, node: Option<Box<InnerPointers>>) {
        self.inner[level as usize - 1][index as usize] = node;
    }

    /// The first leaf at or after `from` that exists.
    pub(crate) fn next_leaf(&self, from: u64) -> Option<u64> {
        let mut first = from;
        let start = (from / INNER_FANOUT as u64) as usize;
        for (index, node) in self.inner[0].iter().enumerate().skip(start) {
            let base = index as u64 * INNER_FANOUT as u64;
            first = first.max(base);
            let Some(pointers) = node else { continue };
            let rest = &pointers[(first - base) as usize..];
            if let Some(offset) = rest.iter().position(|pointer| !pointer.is_none()) {
                return Some(first + offset as u64);
            }
        }
        None
    }
}
