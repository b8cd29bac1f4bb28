//! Leaves in memory: a bounded number of clean ones by the clock algorithm, and all dirty ones.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::format::node::LeafEntries;
use crate::types::BLOCK_BYTES;

/// Fewest leaves that are kept.
const LEAVES_MIN: usize = 16;

#[derive(Debug)]
struct Slot {
    leaf: u64,
    entries: Box<LeafEntries>,
    dirty: bool,
    /// Looked at since the clock hand came by.
    recent: bool,
}

/// Memory for leaves that the maps of a pool share: each may use an equal part.
#[derive(Debug)]
pub(crate) struct LeafBudget {
    leaves: usize,
    maps: Cell<usize>,
}

impl LeafBudget {
    pub(crate) fn new(bytes: usize) -> Rc<LeafBudget> {
        Rc::new(LeafBudget {
            leaves: bytes / BLOCK_BYTES,
            maps: Cell::new(0),
        })
    }

    fn share(&self) -> usize {
        (self.leaves / self.maps.get().max(1)).max(LEAVES_MIN)
    }
}

/// The leaf cache of one map. Memory is kept when a leaf leaves, so a warm cache does not allocate.
#[derive(Debug)]
pub(crate) struct LeafCache {
    budget: Rc<LeafBudget>,
    slots: Vec<Slot>,
    index: FxHashMap<u64, usize>,
    dirty: BTreeSet<u64>,
    hand: usize,
}

impl LeafCache {
    pub(crate) fn new(budget: &Rc<LeafBudget>) -> LeafCache {
        budget.maps.set(budget.maps.get() + 1);
        LeafCache {
            budget: budget.clone(),
            slots: Vec::new(),
            index: FxHashMap::default(),
            dirty: BTreeSet::new(),
            hand: 0,
        }
    }

    pub(crate) fn get(&mut self, leaf: u64) -> Option<&LeafEntries> {
        let slot = &mut self.slots[*self.index.get(&leaf)?];
        slot.recent = true;
        Some(&slot.entries)
    }

    pub(crate) fn contains(&self, leaf: u64) -> bool {
        self.index.contains_key(&leaf)
    }

    /// A leaf that is there, to be changed: it is dirty from now on.
    pub(crate) fn get_dirty(&mut self, leaf: u64) -> Option<&mut LeafEntries> {
        let slot = &mut self.slots[*self.index.get(&leaf)?];
        slot.recent = true;
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.insert(leaf);
        }
        Some(&mut slot.entries)
    }

    /// Adds a clean leaf that is not there; another clean one may have to go.
    pub(crate) fn insert(&mut self, leaf: u64, entries: Box<LeafEntries>) {
        self.shrink();
        let fresh = Slot {
            leaf,
            entries,
            dirty: false,
            recent: true,
        };
        let place = match self.victim() {
            Some(place) => {
                self.index.remove(&self.slots[place].leaf);
                self.slots[place] = fresh;
                place
            }
            None => {
                self.slots.push(fresh);
                self.slots.len() - 1
            }
        };
        assert!(
            self.index.insert(leaf, place).is_none(),
            "leaf {leaf} is in memory twice"
        );
    }

    /// A clean leaf to give up, once the cache is full. None when it may still grow, or when
    /// everything is dirty.
    fn victim(&mut self) -> Option<usize> {
        if self.slots.len() < self.budget.share() || self.dirty.len() == self.slots.len() {
            return None;
        }
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[place];
            if !slot.dirty && !std::mem::take(&mut slot.recent) {
                return Some(place);
            }
        }
    }

    /// Dirty leaves, ascending.
    pub(crate) fn dirty(&self) -> &BTreeSet<u64> {
        &self.dirty
    }

    /// All dirty leaves are published: they may leave again, and those over capacity do.
    pub(crate) fn clean(&mut self) {
        for leaf in std::mem::take(&mut self.dirty) {
            self.slots[self.index[&leaf]].dirty = false;
        }
        while self.slots.len() > self.budget.share() {
            self.drop_last();
        }
    }

    /// Another map has come and the share is smaller now: a map that is only read shrinks with
    /// every leaf that it loads.
    fn shrink(&mut self) {
        let is_clean = self.slots.last().is_some_and(|slot| !slot.dirty);
        if self.slots.len() > self.budget.share() && is_clean {
            self.drop_last();
        }
    }

    fn drop_last(&mut self) {
        let slot = self.slots.pop().expect("over capacity");
        self.index.remove(&slot.leaf);
        self.hand = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Drop for LeafCache {
    fn drop(&mut self) {
        self.budget.maps.set(self.budget.maps.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::node::LEAF_ENTRIES;
    use crate::types::Entry;

    fn leaf() -> Box<LeafEntries> {
        Box::new([Entry::EMPTY; LEAF_ENTRIES])
    }

    #[test]
    fn keeps_what_is_used_and_what_is_dirty() {
        let mut cache = LeafCache::new(&LeafBudget::new(0));
        for index in 0..LEAVES_MIN as u64 {
            cache.insert(index, leaf());
        }
        cache.get_dirty(3).unwrap();
        for index in 100..200 {
            cache.get(7).unwrap();
            cache.insert(index, leaf());
            assert_eq!(cache.len(), LEAVES_MIN);
        }
        assert!(cache.contains(3), "dirty");
        assert!(cache.contains(7), "used all the time");
        assert!(cache.contains(199));
    }

    #[test]
    fn maps_of_a_pool_share_its_memory() {
        let budget = LeafBudget::new(4 * LEAVES_MIN * BLOCK_BYTES);
        let mut first = LeafCache::new(&budget);
        (0..100).for_each(|index| first.insert(index, leaf()));
        assert_eq!(first.len(), 4 * LEAVES_MIN);
        let mut second = LeafCache::new(&budget);
        (0..100).for_each(|index| second.insert(index, leaf()));
        assert_eq!(second.len(), 2 * LEAVES_MIN);
        (100..200).for_each(|index| first.insert(index, leaf()));
        assert_eq!(
            first.len(),
            2 * LEAVES_MIN,
            "gave up what the second may have"
        );
        drop(second);
        (200..300).for_each(|index| first.insert(index, leaf()));
        assert_eq!(first.len(), 4 * LEAVES_MIN);
    }

    #[test]
    fn grows_when_all_is_dirty_and_shrinks_when_clean() {
        let mut cache = LeafCache::new(&LeafBudget::new(0));
        for index in 0..40 {
            cache.insert(index, leaf());
            cache.get_dirty(index).unwrap();
        }
        assert_eq!(cache.len(), 40);
        assert_eq!(cache.dirty().len(), 40);
        cache.clean();
        assert_eq!(cache.len(), LEAVES_MIN);
        assert!(cache.dirty().is_empty());
        let left = (0..40).filter(|&index| cache.contains(index)).count();
        assert_eq!(left, LEAVES_MIN);
    }
}
