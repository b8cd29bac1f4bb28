//! Write path 7/9: the flush cycle. Next: `volume::flush::fold` (8).
//!
//! 1. cut: everything completed so far, and a device flush when it may not be durable;
//! 2. fold: data to its clusters, then the new entries to the map (in memory);
//! 3. publish: map, allocator and, with the last step, the journal tail;
//! 4. settle: the index forgets what the published map says; the tail moves.
//!
//! A crash before the end of 3 leaves the old map, whose damage in place is shadowed by the
//! journal; after it, the new map. Source: docs/format.md, "Order of writes in a checkpoint".

use std::cell::RefCell;
use std::rc::Rc;

use store::Changes;

use crate::commit::Mark;
use crate::core::Core;
use crate::error::VolumeError;
use crate::index::{Backing, Pending};
use crate::metrics::add;
use crate::mutation::{self, Mutation};

use super::fold::{Folded, Work};
use super::plan::{ClusterPlan, Plan};
use super::window::Window;

/// Pages looked up or settled in the time that one takes to be written.
const CHEAP_PAGES: usize = 4;
/// Clusters a leaf of the map describes: the unit of a publish's size.
const LEAF_CLUSTERS: u64 = store::format::node::LEAF_ENTRIES as u64;

impl Core {
    /// Runs one cycle. Errors are final: the device or the pool failed.
    pub(crate) async fn cycle(self: &Rc<Self>) -> Result<(), VolumeError> {
        let start = reactor::now();
        let mut plan = self.flusher.buffers.take();
        self.make_plan(&mut plan);
        let mark = self.journal.mark_of(plan.cut_lsn);
        let mut abandoned = self.flusher.abandoned.take();
        if !mutation::enabled(Mutation::SkipFlushBeforeInPlace) {
            self.flush_device().await?;
        }
        // crash here: the old map; the journal holds everything up to the cut, durable.
        reactor::crash_point("flush::after_cut");
        let window = Window::new(self, plan.clusters.len());
        let mut first = 0;
        while first < plan.clusters.len() {
            let count = self.step_len(&plan.clusters[first..]);
            let is_last = first + count == plan.clusters.len();
            let folded = self.fold_all(&plan, first..first + count, &window).await?;
            if !is_last {
                // Records behind the old tail may name the clusters that this takes out of the map.
                abandoned.extend(folded.iter().filter_map(|fold| fold.freed));
                self.publish_step(folded, &plan, None).await?;
            } else if !folded.is_empty() || mark != self.journal.tail() {
                self.publish_step(folded, &plan, Some(mark)).await?;
            }
            first += count;
        }
        if plan.clusters.is_empty() && mark != self.journal.tail() {
            self.publish_step(Vec::new(), &plan, Some(mark)).await?;
        }
        self.journal.move_tail(mark);
        for cluster in abandoned {
            self.pool.discard_unpublished(cluster);
        }
        self.flusher.buffers.replace(plan);
        add(&self.metrics.flush_cycles, 1);
        self.metrics.flush_cycle.record_since(start);
        Ok(())
    }

    /// How many clusters of the plan one publish can take.
    fn step_len(&self, clusters: &[ClusterPlan]) -> usize {
        let budget = self.pool.publish_budget_leaves().max(1);
        let (mut leaves, mut last_leaf) = (0, None);
        let fits = |plan: &&ClusterPlan| {
            let leaf = Some(plan.cluster / LEAF_CLUSTERS);
            if leaf != last_leaf {
                (leaves, last_leaf) = (leaves + 1, leaf);
            }
            leaves <= budget
        };
        clusters.iter().take_while(fits).count().max(1)
    }

    /// Folds a range of the plan's clusters, several at a time.
    async fn fold_all(
        self: &Rc<Self>,
        plan: &Plan,
        range: std::ops::Range<usize>,
        window: &Window,
    ) -> Result<Vec<Folded>, VolumeError> {
        let mut todo = Vec::with_capacity(range.len());
        for cluster in &plan.clusters[range] {
            let Some(work) = self.resolve(cluster, plan.cut_lsn).await? else {
                continue;
            };
            self.give_way(work.page_count() / CHEAP_PAGES).await;
            todo.push(work);
        }
        // The device sees ascending addresses.
        todo.sort_unstable_by_key(|work| work.target());
        let folded = self.write_all(todo, window).await?;
        // crash here: the old map; pages torn in place are shadowed by the journal.
        reactor::crash_point("flush::after_data");
        for fold in &folded {
            let update = self.map.update(fold.cluster, fold.entry).await;
            update.map_err(|error| self.store_error("map update", error))?;
            self.give_way(1).await;
        }
        Ok(folded)
    }

    /// Writes clusters, as many at the same time as the window lets: the next one begins when any
    /// of them is done. (Waiting for the oldest one left a disk idle: 4 KiB random writes
    /// beyond the journal +8 % [0 - 13], their p99 from 1.15 to 0.84 ms.)
    async fn write_all(
        self: &Rc<Self>,
        todo: Vec<Work>,
        window: &Window,
    ) -> Result<Vec<Folded>, VolumeError> {
        let count = todo.len();
        let done = Rc::new(RefCell::new(Ok(Vec::with_capacity(count))));
        for work in todo {
            let place = window.enter(self).await;
            if done.borrow().is_err() {
                break;
            }
            let (core, done) = (self.clone(), done.clone());
            drop(reactor::spawn(async move {
                let written = core.write_cluster(work).await;
                let mut done = done.borrow_mut();
                match (written, &mut *done) {
                    (Ok(fold), Ok(folded)) => folded.push(fold),
                    (Err(error), Ok(_)) => *done = Err(error),
                    (_, Err(_)) => {}
                }
                drop(place);
            }));
        }
        window.all_done().await;
        done.replace(Ok(Vec::new()))
    }

    /// Publishes what was folded, then lets the index forget it. Without a new tail more steps
    /// follow, and the clusters that this one takes out of the map are kept for the caller.
    async fn publish_step(
        &self,
        folded: Vec<Folded>,
        plan: &Plan,
        tail: Option<Mark>,
    ) -> Result<(), VolumeError> {
        let start = reactor::now();
        let durable = self.journal.completed_lsn();
        let changes = Changes {
            volume: self.info().id,
            map: &self.map,
            journal: self
                .journal
                .published_as(tail.unwrap_or(self.journal.tail())),
            allocated: folded.iter().filter_map(|fold| fold.allocated).collect(),
            freed: folded.iter().filter_map(|fold| fold.freed).collect(),
            keep_freed: tail.is_none(),
            clean: false,
        };
        let published = self.pool.publish(changes).await;
        published.map_err(|error| self.store_error("checkpoint", error))?;
        // crash here: the new map; what the journal in front of its tail says is in it.
        reactor::crash_point("flush::after_publish");
        self.journal.made_durable(durable);
        self.metrics.checkpoint.record_since(start);
        for fold in &folded {
            self.settle(fold, plan.cut_lsn);
            self.give_way(fold.settled.len() / CHEAP_PAGES).await;
            add(&self.metrics.flushed_pages, fold.settled.len() as u64);
        }
        Ok(())
    }

    /// The map says what `fold` says: the index keeps only what is newer.
    fn settle(&self, fold: &Folded, cut_lsn: u64) {
        let mut index = self.index.borrow_mut();
        for item in &fold.settled {
            index.settle_page(item.page, item.entry.lsn);
        }
        index.settle_zeros(fold.cluster, fold.zero);
        let Some(state) = index.cluster(fold.cluster) else {
            return;
        };
        let pending = state.pending;
        let is_used = pending.is_some_and(|pending| {
            pending.in_flight() != 0
                || pending.last_lsn > cut_lsn
                || index.names(fold.cluster, pending.cluster)
        });
        let Some(state) = index.cluster_mut(fold.cluster) else {
            return;
        };
        state.unmapping = false;
        state
            .superseded
            .retain(|place| fold.entry.location != Some(*place));
        match (pending, fold.entry.location) {
            (Some(pending), Some(location)) if location == pending.cluster => {
                state.pending = is_used.then_some(Pending {
                    replaces: false,
                    ..pending
                });
                state.backing = Backing::Mapped;
            }
            (_, Some(_)) => state.backing = Backing::Mapped,
            // Out of the map. Who entered meanwhile has a reservation.
            (None, None) if matches!(state.backing, Backing::Mapped) => {
                state.backing = Backing::None;
            }
            (_, None) => {}
        }
        index.drop_if_idle(fold.cluster);
    }
}
