//! FIFO locks on ranges of pages.
//!
//! A page is written by one request at a time, so that read-modify-write, compare and
//! compare-and-write see what the request before them left. A request asks for its whole range at
//! once and waits only for requests that asked earlier: order of arrival, no deadlock.
//!
//! A range is cut into clusters of 32 pages. Each cluster has a queue of nodes with a page mask; a
//! node waits for earlier nodes whose mask overlaps. Nodes and owners are recycled: no allocation
//! after warm-up. Cost: one hash lookup a cluster and a walk over the requests queued there.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;

use crate::pages::{PageRange, cluster_masks};

const NONE: u32 = u32::MAX;

/// All locks of a volume.
#[derive(Default)]
pub(crate) struct LockTable(RefCell<Table>);

#[derive(Default)]
struct Table {
    queues: FxHashMap<u64, Queue>,
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    owners: Vec<Owner>,
    free_owners: Vec<u32>,
    waiting: usize,
}

/// Nodes of one cluster in order of arrival, as a doubly linked list.
#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
}

struct Node {
    mask: u64,
    owner: u32,
    /// Earlier nodes of the queue that overlap.
    blockers: u32,
    before: u32,
    after: u32,
}

#[derive(Default)]
struct Owner {
    range: PageRange,
    /// Nodes with blockers.
    blocked: u32,
    waker: Option<Waker>,
    /// First node; the owner's nodes are found through the queues of its range.
    node_count: u32,
    /// `PageLock`s of this owner.
    holders: u32,
}

impl LockTable {
    /// Locks every page of `range`; the future resolves when all requests that asked earlier for
    /// any of the pages have let go. Cancel: dropping the future gives up the place in the queue.
    pub fn acquire(self: &Rc<Self>, range: PageRange) -> Acquire {
        let owner = self.0.borrow_mut().enqueue(range);
        Acquire(Some(PageLock {
            table: self.clone(),
            owner,
        }))
    }

    /// Requests that wait now.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.borrow().waiting
    }

    /// Whether nobody holds or wants a lock.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.0.borrow().queues.is_empty()
    }
}

/// A locked range. Dropping the last holder wakes those who wait for it.
pub(crate) struct PageLock {
    table: Rc<LockTable>,
    owner: u32,
}

impl PageLock {
    /// A second holder: the range is free when both are gone.
    pub fn share(&self) -> PageLock {
        self.table.0.borrow_mut().owners[self.owner as usize].holders += 1;
        PageLock {
            table: self.table.clone(),
            owner: self.owner,
        }
    }
}

impl Drop for PageLock {
    fn drop(&mut self) {
        let mut table = self.table.0.borrow_mut();
        let owner = &mut table.owners[self.owner as usize];
        owner.holders -= 1;
        if owner.holders == 0 {
            table.release(self.owner);
        }
    }
}

/// Waits for a range; see [`LockTable::acquire`].
pub(crate) struct Acquire(Option<PageLock>);

impl Future for Acquire {
    type Output = PageLock;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PageLock> {
        let lock = self.0.take().expect("a lock is taken once");
        let is_free = lock.table.0.borrow_mut().poll_owner(lock.owner, cx);
        if is_free {
            return Poll::Ready(lock);
        }
        self.0 = Some(lock);
        Poll::Pending
    }
}

impl Table {
    fn enqueue(&mut self, range: PageRange) -> u32 {
        let owner = self.free_owners.pop().unwrap_or_else(|| {
            self.owners.push(Owner::default());
            (self.owners.len() - 1) as u32
        });
        let (mut blocked, mut node_count) = (0, 0);
        for (cluster, mask) in cluster_masks(range) {
            node_count += 1;
            if self.push_node(cluster, mask, owner) > 0 {
                blocked += 1;
            }
        }
        self.owners[owner as usize] = Owner {
            range,
            blocked,
            waker: None,
            node_count,
            holders: 1,
        };
        self.waiting += usize::from(blocked > 0);
        owner
    }

    /// Appends a node; returns how many earlier ones overlap.
    fn push_node(&mut self, cluster: u64, mask: u64, owner: u32) -> u32 {
        let queue = self.queues.get(&cluster).copied();
        let mut blockers = 0;
        let mut at = queue.map_or(NONE, |queue| queue.head);
        while at != NONE {
            let node = &self.nodes[at as usize];
            blockers += u32::from(node.mask & mask != 0);
            at = node.after;
        }
        let before = queue.map_or(NONE, |queue| queue.tail);
        let node = self.new_node(Node {
            mask,
            owner,
            blockers,
            before,
            after: NONE,
        });
        if before != NONE {
            self.nodes[before as usize].after = node;
        }
        let head = queue.map_or(node, |queue| queue.head);
        self.queues.insert(cluster, Queue { head, tail: node });
        blockers
    }

    fn new_node(&mut self, node: Node) -> u32 {
        match self.free_nodes.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn poll_owner(&mut self, owner: u32, cx: &Context<'_>) -> bool {
        let owner = &mut self.owners[owner as usize];
        if owner.blocked == 0 {
            owner.waker = None;
            return true;
        }
        match &mut owner.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => owner.waker = Some(cx.waker().clone()),
        }
        false
    }

    fn release(&mut self, owner: u32) {
        let range = self.owners[owner as usize].range;
        let mut left = self.owners[owner as usize].node_count;
        for (cluster, _) in cluster_masks(range) {
            if self.remove_node(cluster, owner) {
                left -= 1;
            }
        }
        assert_eq!(left, 0, "every node of a lock is in its queue");
        let old = std::mem::take(&mut self.owners[owner as usize]);
        self.waiting -= usize::from(old.blocked > 0);
        self.free_owners.push(owner);
    }

    fn remove_node(&mut self, cluster: u64, owner: u32) -> bool {
        let Some(mut queue) = self.queues.get(&cluster).copied() else {
            return false;
        };
        let mut at = queue.head;
        while at != NONE && self.nodes[at as usize].owner != owner {
            at = self.nodes[at as usize].after;
        }
        if at == NONE {
            return false;
        }
        let Node {
            mask,
            before,
            after,
            ..
        } = self.nodes[at as usize];
        match before {
            NONE => queue.head = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => queue.tail = before,
            after => self.nodes[after as usize].before = before,
        }
        self.free_nodes.push(at);
        if queue.head == NONE {
            self.queues.remove(&cluster);
        } else {
            self.queues.insert(cluster, queue);
        }
        self.unblock_from(after, mask);
        true
    }

    /// Counts one blocker less for every later node that overlaps `mask`.
    fn unblock_from(&mut self, mut at: u32, mask: u64) {
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            let (owner, after) = (node.owner, node.after);
            if node.mask & mask != 0 {
                node.blockers -= 1;
                if node.blockers == 0 {
                    self.unblock_owner(owner);
                }
            }
            at = after;
        }
    }

    fn unblock_owner(&mut self, owner: u32) {
        let owner = &mut self.owners[owner as usize];
        owner.blocked -= 1;
        if owner.blocked == 0 {
            self.waiting -= 1;
            if let Some(waker) = owner.waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn ready(acquire: &mut Acquire) -> Option<PageLock> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(acquire).poll(&mut cx) {
            Poll::Ready(lock) => Some(lock),
            Poll::Pending => None,
        }
    }

    fn range(first: u64, count: u64) -> PageRange {
        PageRange { first, count }
    }

    #[test]
    fn disjoint_ranges_do_not_wait() {
        let table = Rc::new(LockTable::default());
        let mut a = table.acquire(range(0, 10));
        let mut b = table.acquire(range(10, 100));
        assert!(ready(&mut a).is_some() && ready(&mut b).is_some());
    }

    #[test]
    fn overlapping_ranges_go_in_order_of_arrival() {
        let table = Rc::new(LockTable::default());
        let first = ready(&mut table.acquire(range(60, 10))).expect("free");
        let mut second = table.acquire(range(0, 61));
        let mut third = table.acquire(range(0, 1));
        let mut fourth = table.acquire(range(69, 1));
        assert!(ready(&mut second).is_none());
        assert!(ready(&mut third).is_none(), "must not overtake the second");
        assert!(ready(&mut fourth).is_none());
        assert_eq!(table.waiting(), 3);
        drop(first);
        let second = ready(&mut second).expect("first is gone");
        assert!(ready(&mut third).is_none());
        let _fourth = ready(&mut fourth).expect("first is gone");
        drop(second);
        assert!(ready(&mut third).is_some());
    }

    #[test]
    fn a_shared_lock_is_free_when_both_holders_are_gone() {
        let table = Rc::new(LockTable::default());
        let first = ready(&mut table.acquire(range(0, 1))).expect("free");
        let second = first.share();
        let mut next = table.acquire(range(0, 1));
        drop(first);
        assert!(ready(&mut next).is_none());
        drop(second);
        assert!(ready(&mut next).is_some());
    }

    #[test]
    fn giving_up_lets_the_next_pass() {
        let table = Rc::new(LockTable::default());
        let held = ready(&mut table.acquire(range(5, 1))).expect("free");
        let waiting = table.acquire(range(0, 64));
        let mut last = table.acquire(range(1, 1));
        assert!(ready(&mut last).is_none());
        drop(waiting);
        assert!(ready(&mut last).is_some());
        drop(held);
        drop(last);
        assert!(table.is_idle());
        assert_eq!(table.waiting(), 0);
    }

    #[test]
    fn random_order_against_a_model() {
        let table = Rc::new(LockTable::default());
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        // Every request in order of arrival: its range, its future, its lock once granted.
        let mut requests: Vec<(PageRange, Acquire, Option<PageLock>)> = Vec::new();
        for _ in 0..4000 {
            if requests.len() < 20 && random(2) == 0 {
                let wanted = range(random(300), 1 + random(150));
                requests.push((wanted, table.acquire(wanted), None));
            } else if !requests.is_empty() {
                let index = random(requests.len() as u64) as usize;
                requests.remove(index);
            }
            for index in 0..requests.len() {
                let wanted = requests[index].0;
                let is_free = !requests[..index]
                    .iter()
                    .any(|(other, ..)| other.overlaps(wanted));
                let (_, acquire, lock) = &mut requests[index];
                if lock.is_none() {
                    *lock = ready(acquire);
                }
                assert_eq!(lock.is_some(), is_free, "request {index}: {wanted:?}");
            }
        }
        requests.clear();
        assert!(table.is_idle());
    }
}
