//! Write path 8/9: fold. Next: `store::pool::publish` (9).
//!
//! For one cluster: decides where it will be, writes its dirty pages there, and gives the new
//! entry of the map. Three cases: the volume owns the cluster and pages are written in place (the
//! journal shadows them until the publish); it is new, and holds only what is dirty; a direct
//! write of the whole cluster took a fresh one, and the old one goes.

use std::rc::Rc;

use reactor::buf::{Buf, BufList};
use store::{CLUSTER_BLOCKS, Cluster, Entry, crc32c};

use crate::core::Core;
use crate::error::VolumeError;
use crate::index::{Backing, DirtyCluster, Pending, Source};
use crate::metrics::add;
use crate::pages::{CLUSTER_PAGES, PAGE, PAGE_BYTES, bit_of, bits, slot_of};
use crate::read::{READ_TRIES, is_intact};

use super::plan::{ClusterPlan, Item};

/// One cluster on its way into the map.
pub(super) struct Work {
    cluster: u64,
    /// What the map said.
    before: Entry,
    location: Option<Cluster>,
    /// Pages that are zeros.
    zero: u64,
    /// Items still current, in page order.
    items: Vec<Item>,
    /// Pages to copy from the old cluster to the new one.
    carry: u64,
    /// A page to be written as explicit zeros, so that a cluster somebody counts on stays mapped.
    keep_slot: Option<usize>,
}

/// One cluster whose data is on the device.
pub(super) struct Folded {
    pub cluster: u64,
    pub entry: Entry,
    /// The items that the entry has.
    pub settled: Vec<Item>,
    /// The zeros that it has.
    pub zero: u64,
    pub allocated: Option<Cluster>,
    pub freed: Option<Cluster>,
}

impl Work {
    /// Whether the map names another cluster than before, or one where it named none.
    fn is_moved(&self) -> bool {
        self.location != self.before.location
    }

    /// Pages to be written.
    pub fn page_count(&self) -> usize {
        self.items.len()
    }

    /// For sorting by device address.
    pub fn target(&self) -> u32 {
        self.location.map_or(0, |cluster| cluster.0)
    }
}

impl Core {
    /// Decides where a cluster of the plan goes. None: there is nothing to do for it.
    pub(super) async fn resolve(
        &self,
        plan: &ClusterPlan,
        cut_lsn: u64,
    ) -> Result<Option<Work>, VolumeError> {
        let before = self.map.lookup(plan.cluster).await;
        let before = before.map_err(|error| self.store_error("map lookup", error))?;
        // No await from here on: index, map and decision belong together.
        let items = self.items_of(plan.cluster, cut_lsn);
        if before.location.is_some() {
            self.drop_reservation(plan.cluster);
        }
        self.drop_unused_places(plan.cluster, &before);
        if items.is_empty() && (plan.zero == 0 || before.location.is_none()) {
            self.settle_nothing(plan);
            return Ok(None);
        }
        let location = self.choose(plan, &items, &before)?;
        let mut work = Work {
            cluster: plan.cluster,
            location: Some(location),
            zero: plan.zero,
            carry: 0,
            keep_slot: None,
            before,
            items,
        };
        if work.is_moved() {
            work.carry = self.carry_mask(&work);
        } else if self.would_be_empty(&work) {
            self.empty_cluster(&mut work);
        }
        Ok(Some(work))
    }

    /// The cluster was reserved in doubt; the map has a place for it.
    fn drop_reservation(&self, cluster: u64) {
        if let Some(state) = self.index.borrow_mut().cluster_mut(cluster)
            && !state.unmapping
        {
            state.backing = Backing::Mapped;
        }
    }

    /// Places of direct writes that no entry names and nobody writes to are given back when the
    /// tail has passed their records.
    fn drop_unused_places(&self, cluster: u64, before: &Entry) {
        let mut index = self.index.borrow_mut();
        let Some(state) = index.cluster(cluster) else {
            return;
        };
        // While others count on a place, a fresh cluster stays theirs.
        let wanted = before.location.is_none() && (state.data != 0 || state.in_flight > 0);
        let is_unused = |place: &Cluster| !wanted && !index.names(cluster, *place);
        let pending = state.pending.filter(|pending| pending.in_flight() == 0);
        let pending = pending.map(|pending| pending.cluster).filter(is_unused);
        let mut unused = state.superseded.clone();
        unused.retain(|place| is_unused(place));

        let state = index.cluster_mut(cluster).expect("looked up above");
        state.superseded.retain(|place| !unused.contains(place));
        if pending.is_some() {
            state.pending = None;
            if before.location.is_none() {
                state.backing = Backing::None;
            }
        }
        let given_up = unused.into_iter().chain(pending);
        let unpublished = given_up.filter(|place| before.location != Some(*place));
        self.flusher.abandoned.borrow_mut().extend(unpublished);
    }

    /// Nothing of the plan is left to write: its zeros are true of the map as it is.
    fn settle_nothing(&self, plan: &ClusterPlan) {
        let mut index = self.index.borrow_mut();
        index.settle_zeros(plan.cluster, plan.zero);
        index.drop_if_idle(plan.cluster);
    }

    /// Where the cluster will be: where direct writes have put its newest data, else where the map
    /// has it, else in a place that is promised to it.
    fn choose(
        &self,
        plan: &ClusterPlan,
        items: &[Item],
        before: &Entry,
    ) -> Result<Cluster, VolumeError> {
        let mut index = self.index.borrow_mut();
        let state = index
            .cluster_mut(plan.cluster)
            .expect("a planned cluster is in the index");
        let place = newest_place(items).or(before.location);
        let journaled = items
            .iter()
            .filter(|item| item.entry.direct_place().is_none());
        let to_write = mask_of(journaled);
        let location = match place {
            Some(place) => place,
            None => self.promised_place(plan.cluster, state, to_write)?,
        };
        // Direct writes that come now must not use these pages.
        if let Some(pending) = &mut state.pending
            && pending.cluster == location
        {
            pending.used |= to_write;
        }
        Ok(location)
    }

    /// The place for pages of a cluster that is not in the map and has them in the journal only.
    fn promised_place(
        &self,
        cluster: u64,
        state: &mut DirtyCluster,
        to_write: u64,
    ) -> Result<Cluster, VolumeError> {
        // Not one that a direct write of these very pages is on its way to.
        let pending = state.pending.filter(|it| it.in_flight() & to_write == 0);
        let known = pending.map(|pending| pending.cluster);
        if let Some(place) = known.or_else(|| state.superseded.first().copied()) {
            return Ok(place);
        }
        let Backing::Reserved(reservation) = &mut state.backing else {
            unreachable!("cluster {cluster}: dirty data without a place")
        };
        let taken = self.pool.allocate(Some(reservation));
        let place = taken.map_err(|error| self.store_error("allocate", error))?;
        // Direct writes that come now go to the same cluster.
        state.pending.get_or_insert(Pending::new(place));
        state.backing = Backing::Mapped;
        Ok(place)
    }

    /// Pages of the old cluster that nothing has replaced.
    fn carry_mask(&self, work: &Work) -> u64 {
        let index = self.index.borrow();
        let state = index.cluster(work.cluster);
        // Newer data and newer zeros hide the page; both are in the journal behind the new tail.
        let hidden = state.map_or(0, |state| state.data | state.zero());
        work.before.valid & !work.zero & !hidden & !mask_of(work.items.iter())
    }

    fn would_be_empty(&self, work: &Work) -> bool {
        work.items.is_empty() && work.before.valid & !work.zero == 0
    }

    /// No page is left. The cluster goes back to the pool, unless somebody counts on it: then one
    /// page stays, as zeros that are written out. The published map has that page, so that no
    /// direct write can be using it.
    fn empty_cluster(&self, work: &mut Work) {
        let mut index = self.index.borrow_mut();
        let Some(state) = index.cluster_mut(work.cluster) else {
            return;
        };
        if state.in_flight > 0 || state.data != 0 || state.pending.is_some() {
            let taken = state.pending.map_or(0, |pending| pending.in_flight());
            let valid = work.before.valid;
            work.keep_slot = bits(valid & !(state.data | taken))
                .chain(bits(valid))
                .next();
            return;
        }
        state.unmapping = true;
        state.backing = Backing::None;
        work.location = None;
    }

    /// Writes a cluster's pages and makes its entry. Errors: the device does not take a write.
    pub(super) async fn write_cluster(
        self: Rc<Self>,
        mut work: Work,
    ) -> Result<Folded, VolumeError> {
        self.leave_out_replaced(&mut work.items);
        let mut entry = Entry::EMPTY;
        if let Some(location) = work.location {
            entry = self.write_pages(&work, location).await?;
        }
        let if_moved = |location: Option<Cluster>| location.filter(|_| work.is_moved());
        let (allocated, freed) = (if_moved(work.location), if_moved(work.before.location));
        Ok(Folded {
            cluster: work.cluster,
            entry,
            settled: work.items,
            zero: work.zero,
            allocated,
            freed,
        })
    }

    /// Leaves to the next cycle what has been written again since the plan was made, as
    /// [`Core::items_of`] does. All of it stays when nothing else would be left: somebody may count
    /// on the cluster.
    fn leave_out_replaced(&self, items: &mut Vec<Item>) {
        let index = self.index.borrow();
        let is_left = |item: &Item| {
            item.entry.direct_place().is_some() || index.page(item.page) == Some(item.entry)
        };
        if items.iter().any(is_left) {
            items.retain(is_left);
        }
    }

    async fn write_pages(&self, work: &Work, location: Cluster) -> Result<Entry, VolumeError> {
        let mut entry = Entry {
            location: Some(location),
            ..Entry::EMPTY
        };
        let kept = if work.before.location == Some(location) {
            work.before.valid & !work.zero
        } else {
            work.carry
        };
        for slot in bits(kept) {
            set_page(&mut entry, slot, work.before.crc[slot]);
        }
        for item in &work.items {
            set_page(&mut entry, slot_of(item.page), item.entry.crc);
        }
        if let Some(slot) = work.keep_slot {
            let zeros = self.zero_page().await;
            set_page(&mut entry, slot, crc32c(&zeros));
            self.write_run(location, slot, BufList::from(zeros)).await?;
        }
        self.write_items(work, location).await?;
        self.carry_pages(work, location).await?;
        Ok(entry)
    }

    async fn zero_page(&self) -> Buf {
        let mut buf = reactor::buf::engine_alloc(PAGE_BYTES).await;
        buf.zero_fill();
        buf
    }

    /// Writes the items that are not in their place yet, adjacent pages in one write. A page that
    /// the journal has lost is not written; its checksum goes to the map all the same, so that
    /// reads of it fail.
    async fn write_items(&self, work: &Work, location: Cluster) -> Result<(), VolumeError> {
        let mut rest = work.items.as_slice();
        while let Some(first) = rest.first() {
            if first.entry.direct_place() == Some(location) {
                rest = &rest[1..];
                continue;
            }
            let list = self.gather(adjacent(rest, location)).await;
            let count = (list.len_bytes() / PAGE_BYTES).max(1);
            self.give_way(count).await;
            if list.is_empty() {
                self.count_lost(first.page);
            } else {
                self.write_run(location, slot_of(first.page), list).await?;
            }
            let (done, next) = rest.split_at(count);
            let mut index = self.index.borrow_mut();
            done.iter()
                .for_each(|item| index.note_written(item.entry.source));
            rest = next;
        }
        Ok(())
    }

    /// The data of the leading ones of these adjacent items, from memory and from the device: up to
    /// the first that cannot be had now. Empty when the device does not give the first one back.
    async fn gather(&self, items: &[Item]) -> BufList {
        let mut list = BufList::new();
        let (mut rest, mut most, mut holds_scratch) = (items, items.len(), false);
        while let Some(item) = rest.first() {
            if let Some(buf) = self.in_memory(item) {
                list.push(buf);
                rest = &rest[1..];
                continue;
            }
            let count = self.device_run(rest).min(most);
            // Who holds scratch memory must not wait for more of it: others do as we do.
            let scratch = match holds_scratch {
                false => Some(reactor::buf::engine_alloc(count * PAGE_BYTES).await),
                true => reactor::buf::engine_pool().try_alloc(count * PAGE_BYTES),
            };
            let Some(scratch) = scratch else { break };
            match self.read_items(&rest[..count], scratch).await {
                Some(buf) => {
                    list.push(buf);
                    (rest, holds_scratch) = (&rest[count..], true);
                }
                // Page by page, so that one bad page does not take the others along.
                None if count > 1 => most = 1,
                None => break,
            }
        }
        list
    }

    /// The data of an item whose payload is retained.
    fn in_memory(&self, item: &Item) -> Option<Buf> {
        let Source::Journal { payload, .. } = item.entry.source else {
            return None;
        };
        let index = self.index.borrow();
        // Once the entry is gone its payload's place may be another's.
        let is_current = index.page(item.page) == Some(item.entry);
        is_current.then(|| index.payload(item.page, payload))?
    }

    /// Where an item is on the device now.
    fn place_of(&self, item: &Item) -> u64 {
        match item.entry.source {
            Source::Journal { position, .. } => self.ring.locate(position).device_offset,
            Source::Direct { cluster } => cluster.page_offset(slot_of(item.page)),
        }
    }

    /// How many leading items are adjacent in the cluster and on the device.
    fn device_run(&self, items: &[Item]) -> usize {
        let first = items[0];
        let start = self.place_of(&first);
        let is_next = |(offset, item): (usize, &Item)| {
            let offset = offset as u64;
            item.page == first.page + offset && self.place_of(item) == start + offset * PAGE
        };
        let run = items.iter().enumerate();
        run.take_while(|(offset, item)| is_next((*offset, item)))
            .count()
    }

    /// Reads adjacent items that lie together on the device. None when it does not give them back
    /// as they were written.
    async fn read_items(&self, items: &[Item], into: Buf) -> Option<Buf> {
        let crcs = items.iter().map(|item| item.entry.crc);
        self.read_intact(self.place_of(&items[0]), crcs, into).await
    }

    /// Reads adjacent pages with these checksums into `buf`. None when the device does not give them
    /// back in several tries: an error or a misdirected read may be gone the next time, and what is
    /// given up here is lost.
    async fn read_intact(
        &self,
        offset: u64,
        crcs: impl Iterator<Item = u32> + Clone,
        mut buf: Buf,
    ) -> Option<Buf> {
        for _ in 0..READ_TRIES {
            let (result, read) = self.device.read(offset, buf).await;
            buf = read;
            let mut pages = buf.chunks_exact(PAGE_BYTES).zip(crcs.clone());
            if result.is_ok() && pages.all(|(page, crc)| is_intact(page, crc)) {
                return Some(buf);
            }
        }
        None
    }

    fn count_lost(&self, page: u64) {
        add(&self.metrics.corrupt_reads, 1);
        let volume = &self.info().name;
        tracing::error!(
            %volume, page,
            "the data of this page is damaged; reads of it fail until it is written again"
        );
    }

    /// Copies pages that stay valid to the cluster's new place. A page that is damaged is not
    /// copied; its checksum is, so that reads fail.
    async fn carry_pages(&self, work: &Work, location: Cluster) -> Result<(), VolumeError> {
        let Some(old) = work.before.location else {
            return Ok(());
        };
        for slot in bits(work.carry) {
            let crc = std::iter::once(work.before.crc[slot]);
            let buf = reactor::buf::engine_alloc(PAGE_BYTES).await;
            match self.read_intact(old.page_offset(slot), crc, buf).await {
                Some(buf) => self.write_run(location, slot, BufList::from(buf)).await?,
                None => self.count_lost(work.cluster * CLUSTER_PAGES + slot as u64),
            }
        }
        Ok(())
    }

    async fn write_run(
        &self,
        location: Cluster,
        slot: usize,
        list: BufList,
    ) -> Result<(), VolumeError> {
        let pages = list.len_bytes() / PAGE_BYTES;
        assert!(slot + pages <= CLUSTER_BLOCKS, "a run stays in its cluster");
        reactor::crash_point("flush::write");
        let result = self
            .write_with_retries(location.page_offset(slot), list)
            .await;
        result.map_err(|error| self.device_error("flush", error))
    }
}

/// The leading items that are adjacent and not in `location` yet.
fn adjacent(items: &[Item], location: Cluster) -> &[Item] {
    let is_next = |(offset, item): (usize, &Item)| {
        item.page == items[0].page + offset as u64 && item.entry.direct_place() != Some(location)
    };
    let count = items.iter().enumerate().take_while(|at| is_next(*at));
    &items[..count.count()]
}

/// The place of the newest direct write. There is another one only after a crash that left some
/// pages of that write undone.
fn newest_place(items: &[Item]) -> Option<Cluster> {
    let direct = items
        .iter()
        .filter(|item| item.entry.direct_place().is_some());
    direct
        .max_by_key(|item| item.entry.lsn)?
        .entry
        .direct_place()
}

fn mask_of<'a>(items: impl Iterator<Item = &'a Item>) -> u64 {
    items.fold(0, |mask, item| mask | bit_of(item.page))
}

fn set_page(entry: &mut Entry, slot: usize, crc: u32) {
    entry.valid |= 1 << slot;
    entry.crc[slot] = crc;
}
