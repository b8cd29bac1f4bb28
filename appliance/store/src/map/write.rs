//! Write path 9/9: changed nodes go to fresh blocks, leaves first, then their ancestors, so that
//! every parent knows the checksums of its children. The rest of the step is `pool::publish`.

use std::collections::BTreeSet;

use block::BlockError;

use crate::error::StoreError;
use crate::format::Block;
use crate::format::node::{INNER_FANOUT, InnerPointers, NodePointer, encode_inner, encode_leaf};
use crate::map::Map;
use crate::pool::BlockWriter;

/// Stands in for the pointer to a node that will be written, until it is.
const PENDING: NodePointer = NodePointer {
    block: u64::MAX,
    crc: 0,
    generation_low: 0,
};

/// A leaf that changed.
#[derive(Debug)]
struct PlannedLeaf {
    index: u64,
    /// Its fresh block; none when nothing is left in it.
    block: Option<u64>,
}

/// An inner node with a changed child.
#[derive(Debug)]
struct PlannedInner {
    index: u64,
    pointers: Box<InnerPointers>,
    block: Option<u64>,
}

/// What one publish writes of a map. Updates of the map wait while it exists.
pub(crate) struct Plan {
    map: Map,
    generation: u64,
    leaves: Vec<PlannedLeaf>,
    /// `inner[0]` is level 1.
    inner: Vec<Vec<PlannedInner>>,
    root: NodePointer,
    /// Fresh blocks of the nodes to write.
    pub(crate) blocks_allocated: Vec<u64>,
    /// Blocks of the nodes they replace.
    pub(crate) blocks_freed: Vec<u64>,
}

impl Plan {
    /// Takes stock of the dirty leaves and finds a block for every node that has to be written.
    ///
    /// Errors: `MetadataFull`; nothing has changed then.
    pub(crate) fn new(map: &Map, generation: u64) -> Result<Plan, StoreError> {
        assert!(!map.0.publishing.get(), "one publish of a map at a time");
        let mut plan = Plan {
            map: map.clone(),
            generation,
            leaves: Vec::new(),
            inner: Vec::new(),
            root: map.0.tree.borrow().root,
            blocks_allocated: Vec::new(),
            blocks_freed: Vec::new(),
        };
        plan.take_leaves();
        for level in 1..=map.0.shape.depth() {
            plan.take_level(level);
        }
        let wanted = plan.node_count();
        plan.blocks_allocated = map.0.alloc.borrow_mut().allocate_blocks(wanted)?;
        plan.assign_blocks();
        map.0.publishing.set(true);
        Ok(plan)
    }

    fn take_leaves(&mut self) {
        let tree = self.map.0.tree.borrow();
        let mut cache = self.map.0.cache.borrow_mut();
        let dirty: Vec<u64> = cache.dirty().iter().copied().collect();
        for index in dirty {
            let entries = cache.get(index).expect("dirty leaves stay in memory");
            let block = entries.iter().any(|entry| !entry.is_empty()).then_some(0);
            let old = tree.pointer(0, index);
            if !old.is_none() {
                self.blocks_freed.push(old.block);
            }
            self.leaves.push(PlannedLeaf { index, block });
        }
    }

    /// Copies the parents of what changed one level below, with the changes marked in them.
    fn take_level(&mut self, level: u32) {
        let tree = self.map.0.tree.borrow();
        let children: Vec<(u64, bool)> = match self.inner.last() {
            None => self
                .leaves
                .iter()
                .map(|leaf| (leaf.index, leaf.block.is_some()))
                .collect(),
            Some(nodes) => nodes
                .iter()
                .map(|node| (node.index, node.block.is_some()))
                .collect(),
        };
        let parents: BTreeSet<u64> = children
            .iter()
            .map(|&(index, _)| index / INNER_FANOUT as u64)
            .collect();
        let mut nodes: Vec<PlannedInner> = Vec::with_capacity(parents.len());
        for index in parents {
            let none = [NodePointer::NONE; INNER_FANOUT];
            let pointers = Box::new(tree.node(level, index).copied().unwrap_or(none));
            nodes.push(PlannedInner {
                index,
                pointers,
                block: None,
            });
            let old = tree.pointer(level, index);
            if !old.is_none() {
                self.blocks_freed.push(old.block);
            }
        }
        for (index, exists) in children {
            let pointer = if exists { PENDING } else { NodePointer::NONE };
            set_child(&mut nodes, index, pointer);
        }
        for node in &mut nodes {
            node.block = node
                .pointers
                .iter()
                .any(|pointer| !pointer.is_none())
                .then_some(0);
        }
        self.inner.push(nodes);
    }

    fn node_count(&self) -> u64 {
        let leaves = self
            .leaves
            .iter()
            .filter(|leaf| leaf.block.is_some())
            .count();
        let inner = self
            .inner
            .iter()
            .flatten()
            .filter(|node| node.block.is_some())
            .count();
        (leaves + inner) as u64
    }

    fn assign_blocks(&mut self) {
        let mut blocks = self.blocks_allocated.iter().copied();
        let leaves = self.leaves.iter_mut().map(|leaf| &mut leaf.block);
        let inner = self.inner.iter_mut().flatten().map(|node| &mut node.block);
        for place in leaves.chain(inner).flatten() {
            *place = blocks.next().expect("one block for each node");
        }
        assert!(blocks.next().is_none(), "one node for each block");
    }

    /// Hands every planned node to the writer.
    pub(crate) async fn write(&mut self, writer: &mut BlockWriter) -> Result<(), BlockError> {
        self.write_leaves(writer).await?;
        for level in 1..=self.inner.len() {
            self.write_level(level, writer).await?;
        }
        Ok(())
    }

    async fn write_leaves(&mut self, writer: &mut BlockWriter) -> Result<(), BlockError> {
        let generation = self.generation;
        for leaf in &self.leaves {
            let Some(block) = leaf.block else { continue };
            let map = &self.map.0;
            let identity = map.reader.identity(0, leaf.index);
            let fill = |target: &mut Block| {
                let mut cache = map.cache.borrow_mut();
                let entries = cache.get(leaf.index).expect("dirty leaves stay in memory");
                encode_leaf(entries, &identity, generation, target)
            };
            let crc = writer.put(block, fill).await?;
            let pointer = NodePointer {
                block,
                crc,
                generation_low: generation as u32,
            };
            set_child(&mut self.inner[0], leaf.index, pointer);
        }
        Ok(())
    }

    async fn write_level(
        &mut self,
        level: usize,
        writer: &mut BlockWriter,
    ) -> Result<(), BlockError> {
        let generation = self.generation;
        let (below, above) = self.inner.split_at_mut(level);
        let mut root = NodePointer::NONE;
        for node in &below[level - 1] {
            let Some(block) = node.block else { continue };
            let pending = node
                .pointers
                .iter()
                .any(|pointer| pointer.block == PENDING.block);
            assert!(
                !pending,
                "a child of node {} on level {level} was not written",
                node.index
            );
            let identity = self.map.0.reader.identity(level as u16, node.index);
            let fill =
                |target: &mut Block| encode_inner(&node.pointers, &identity, generation, target);
            let crc = writer.put(block, fill).await?;
            root = NodePointer {
                block,
                crc,
                generation_low: generation as u32,
            };
            if let Some(parents) = above.first_mut() {
                set_child(parents, node.index, root);
            }
        }
        // The last level has one node: what was written last is the root.
        if above.is_empty() && !below[level - 1].is_empty() {
            self.root = root;
        }
        Ok(())
    }

    /// The root of the map, once everything is written.
    pub(crate) fn root(&self) -> NodePointer {
        self.root
    }

    /// Clusters the map holds once this is published.
    pub(crate) fn mapped_clusters(&self) -> u64 {
        self.map.0.mapped_clusters.get()
    }

    /// The publish is through: the map in memory is the published one.
    pub(crate) fn finish(mut self) {
        let map = &self.map.0;
        let mut tree = map.tree.borrow_mut();
        tree.root = self.root;
        for (level, nodes) in (1..).zip(self.inner.drain(..)) {
            for node in nodes {
                tree.replace(level, node.index, node.block.map(|_| node.pointers));
            }
        }
        map.cache.borrow_mut().clean();
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.map.0.publishing.set(false);
        self.map.0.published.notify_all();
    }
}

/// Sets the pointer to a child in its parent, which is one of `parents` (ascending).
fn set_child(parents: &mut [PlannedInner], child: u64, pointer: NodePointer) {
    let parent = child / INNER_FANOUT as u64;
    let place = parents.binary_search_by_key(&parent, |node| node.index);
    let place = place.expect("parents of changed nodes are planned");
    parents[place].pointers[(child % INNER_FANOUT as u64) as usize] = pointer;
}
