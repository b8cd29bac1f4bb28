//! Write path 5/9: group commit. Next: `volume::index` (6).
//!
//! Requests append their records to the open batch. A batch is sealed when the current turn of the
//! loop is over and fewer than `MAX_IN_FLIGHT` batches are on their way, or when it is full; all
//! requests of a batch share its one device write. Batches may land in any order. They complete in
//! order: then the index learns of the records and the requests return.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{Buf, BufList};
use reactor::sync::Notify;
use reactor::time::Instant;
use store::journal::batch::{self, Header};
use store::journal::{MAX_BATCH_BLOCKS, MAX_HEADER_BLOCKS, MAX_RECORDS, Record, RecordKind};
use store::{BLOCK_BYTES, CLUSTER_BYTES, Cluster, JournalMark, crc32c};

use crate::admission::Credit;
use crate::core::{ClusterHold, Core};
use crate::error::VolumeError;
use crate::locks::PageLock;
use crate::metrics::add;
use crate::mutation::{self, Mutation};
use crate::pages::{PAGE, PAGE_BYTES, PageRange, slot_of};
use crate::request::MAX_REQUEST_BYTES;

/// Batches on their way to the device.
const MAX_IN_FLIGHT: usize = 4;
/// Full batches that wait for one of those to land.
const MAX_SEALED: usize = 2;
/// Batches kept for reuse.
const MAX_SPARE: usize = 16;
/// The most parts of one request: each cluster that it touches may go its own way.
pub(crate) const MAX_PARTS: usize = MAX_REQUEST_BYTES / CLUSTER_BYTES as usize + 1;
/// How often a journal write is tried before the volume stops.
const WRITE_TRIES: u32 = 4;
/// The first pause between tries; doubled each time.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// A record to be, with its data.
pub(crate) struct Part {
    pub kind: RecordKind,
    pub range: PageRange,
    /// Write and direct: the pages. None for zero.
    pub buf: Option<Buf>,
    /// Direct: where the data already is.
    pub cluster: Cluster,
    /// Write: the payload may stay in memory afterwards.
    pub retain: bool,
}

/// The records of one request, which stay together in one batch.
#[derive(Default)]
pub(crate) struct Group {
    parts: [Option<Part>; MAX_PARTS],
    len: usize,
}

impl Group {
    /// Adds a part. Panics above [`MAX_PARTS`].
    pub fn push(&mut self, part: Part) {
        self.parts[self.len] = Some(part);
        self.len += 1;
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts[..self.len].iter().flatten()
    }

    fn drain(&mut self) -> impl Iterator<Item = Part> {
        self.parts[..self.len].iter_mut().filter_map(Option::take)
    }

    fn header_bytes(&self) -> usize {
        let crcs = |part: &Part| {
            if part.buf.is_some() {
                part.range.count as usize
            } else {
                0
            }
        };
        self.parts()
            .map(|part| 32 + (crcs(part) * 4).next_multiple_of(8))
            .sum()
    }

    fn payload_blocks(&self) -> usize {
        let written = |part: &&Part| part.kind == RecordKind::Write;
        self.parts()
            .filter(written)
            .map(|part| part.range.count as usize)
            .sum()
    }
}

/// What a request holds until it is in the index (or has failed).
pub(crate) struct Hold {
    _lock: PageLock,
    _clusters: Option<ClusterHold>,
    credit: Credit,
}

impl Hold {
    /// `clusters`: none for zeros, which need no place.
    pub fn new(lock: PageLock, clusters: Option<ClusterHold>, credit: Credit) -> Self {
        Self {
            _lock: lock,
            _clusters: clusters,
            credit,
        }
    }
}

/// Records on their way to the device, and the requests that wait for them.
pub(crate) struct Batch {
    body: RefCell<Body>,
    outcome: RefCell<Option<Result<(), VolumeError>>>,
    done: Notify,
}

#[derive(Default)]
struct Body {
    records: Vec<Record>,
    /// One for each record: its payload, and whether it may stay in memory.
    payloads: Vec<Option<(Buf, bool)>>,
    crcs: Vec<u32>,
    /// Bytes of the records in the header.
    records_len: usize,
    payload_blocks: usize,
    first_lsn: u64,
    holds: Vec<Hold>,
    landed: bool,
    /// Set when placed.
    position: u64,
    header_len: usize,
    sequence: u64,
}

impl Batch {
    fn new() -> Rc<Self> {
        let body = Body {
            records: Vec::with_capacity(MAX_RECORDS),
            payloads: Vec::with_capacity(MAX_RECORDS),
            crcs: Vec::with_capacity(1024),
            holds: Vec::with_capacity(MAX_RECORDS),
            ..Body::default()
        };
        Rc::new(Self {
            body: RefCell::new(body),
            outcome: RefCell::new(None),
            done: Notify::new(),
        })
    }

    /// Waits until the batch and all before it are on the device and in the index.
    pub async fn completed(&self) -> Result<(), VolumeError> {
        loop {
            if let Some(outcome) = &*self.outcome.borrow() {
                return outcome.clone();
            }
            self.done.notified().await;
        }
    }

    fn finish(&self, outcome: Result<(), VolumeError>) {
        // Locks and credits wake others: let go of them outside of the borrow.
        let mut holds = std::mem::take(&mut self.body.borrow_mut().holds);
        holds.clear();
        self.body.borrow_mut().holds = holds;
        // A spare batch would keep the hosts' memory from them.
        self.body.borrow_mut().payloads.clear();
        *self.outcome.borrow_mut() = Some(outcome);
        self.done.notify_all();
    }

    fn fits(&self, group: &Group) -> bool {
        let body = self.body.borrow();
        let header_len = batch::header_len(body.records_len + group.header_bytes());
        let header_blocks = header_len / BLOCK_BYTES;
        let blocks = header_blocks + body.payload_blocks + group.payload_blocks();
        body.records.len() + group.len <= MAX_RECORDS
            && header_blocks <= MAX_HEADER_BLOCKS
            && blocks <= MAX_BATCH_BLOCKS
    }

    fn is_empty(&self) -> bool {
        self.body.borrow().records.is_empty()
    }
}

impl Body {
    fn reset(&mut self) {
        self.records.clear();
        self.payloads.clear();
        self.crcs.clear();
        self.holds.clear();
        (self.records_len, self.payload_blocks, self.landed) = (0, 0, false);
    }

    fn push(&mut self, part: Part) {
        let page_count = part.range.count as u32;
        let is_write = part.kind == RecordKind::Write;
        let is_direct = part.kind == RecordKind::Direct;
        let record = Record {
            kind: part.kind,
            first_page: part.range.first,
            page_count,
            payload_block: if is_write {
                self.payload_blocks as u32
            } else {
                0
            },
            cluster: part.cluster,
            page_in_cluster: if is_direct {
                slot_of(part.range.first) as u32
            } else {
                0
            },
        };
        if let Some(buf) = &part.buf {
            assert_eq!(
                buf.len(),
                page_count as usize * PAGE_BYTES,
                "payload of whole pages"
            );
            self.crcs.extend(buf.chunks_exact(PAGE_BYTES).map(crc32c));
        }
        self.records_len += record.encoded_len();
        self.records.push(record);
        if is_write {
            self.payload_blocks += page_count as usize;
        }
        self.payloads
            .push(part.buf.filter(|_| is_write).map(|buf| (buf, part.retain)));
    }

    fn last_lsn(&self) -> u64 {
        self.first_lsn + self.records.len() as u64 - 1
    }

    fn end(&self) -> u64 {
        self.position + (self.header_len + self.payload_blocks * BLOCK_BYTES) as u64
    }
}

/// Where a completed batch ends: a point the tail may move to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub last_lsn: u64,
    pub end: u64,
    pub next_sequence: u64,
}

/// Where the journal of a volume continues after open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalStart {
    pub epoch: u64,
    pub open_sequence: u64,
    pub settled: bool,
    pub tail: Mark,
    pub head: Mark,
}

/// The journal of an open volume: batches, and the counters that say where it is.
pub(crate) struct Journal {
    open: RefCell<Option<Rc<Batch>>>,
    sealed: RefCell<VecDeque<Rc<Batch>>>,
    flying: RefCell<VecDeque<Rc<Batch>>>,
    spare: RefCell<Vec<Rc<Batch>>>,
    marks: RefCell<VecDeque<Mark>>,
    work: Notify,
    room: Notify,
    landed: Notify,
    next_lsn: Cell<u64>,
    next_sequence: Cell<u64>,
    head: Cell<u64>,
    tail: Cell<Mark>,
    completed_lsn: Cell<u64>,
    durable_lsn: Cell<u64>,
    epoch: u64,
    open_sequence: u64,
    settled: bool,
}

impl Journal {
    pub fn new(start: JournalStart) -> Self {
        Self {
            open: RefCell::default(),
            sealed: RefCell::new(VecDeque::with_capacity(MAX_SEALED + 1)),
            flying: RefCell::new(VecDeque::with_capacity(MAX_IN_FLIGHT + 1)),
            spare: RefCell::new(Vec::with_capacity(MAX_SPARE)),
            marks: RefCell::new(VecDeque::with_capacity(1024)),
            work: Notify::new(),
            room: Notify::new(),
            landed: Notify::new(),
            next_lsn: Cell::new(start.head.last_lsn + 1),
            next_sequence: Cell::new(start.head.next_sequence),
            head: Cell::new(start.head.end),
            tail: Cell::new(start.tail),
            completed_lsn: Cell::new(start.head.last_lsn),
            durable_lsn: Cell::new(start.head.last_lsn),
            epoch: start.epoch,
            open_sequence: start.open_sequence,
            settled: start.settled,
        }
        .with_mark(start.head)
    }

    fn with_mark(self, head: Mark) -> Self {
        self.marks.borrow_mut().push_back(head);
        self
    }

    /// Ring bytes that cannot be reused yet.
    pub fn used_bytes(&self) -> u64 {
        self.head.get() - self.tail.get().end
    }

    /// Highest LSN that has completed: in the journal on the device, and in the index.
    pub fn completed_lsn(&self) -> u64 {
        self.completed_lsn.get()
    }

    /// Highest LSN known to survive power loss.
    pub fn durable_lsn(&self) -> u64 {
        self.durable_lsn.get()
    }

    /// Highest LSN that the published map has.
    pub fn checkpoint_lsn(&self) -> u64 {
        self.tail.get().last_lsn
    }

    /// A device flush that began when `lsn` had completed has ended.
    pub fn made_durable(&self, lsn: u64) {
        self.durable_lsn.set(self.durable_lsn.get().max(lsn));
    }

    /// The end of the batch with this last LSN, which must have completed.
    pub fn mark_of(&self, last_lsn: u64) -> Mark {
        let marks = self.marks.borrow();
        let found = marks
            .iter()
            .take_while(|mark| mark.last_lsn <= last_lsn)
            .last();
        found.copied().unwrap_or(self.tail.get())
    }

    /// What to publish when the map has everything up to `mark`.
    pub fn published_as(&self, mark: Mark) -> JournalMark {
        JournalMark {
            epoch: self.epoch,
            open_sequence: self.open_sequence,
            settled: self.settled,
            tail_position: mark.end,
            tail_sequence: mark.next_sequence,
            tail_lsn: mark.last_lsn + 1,
        }
    }

    /// `mark` is published as the tail: the ring in front of it is free.
    pub fn move_tail(&self, mark: Mark) {
        assert!(mark.end >= self.tail.get().end, "the tail never moves back");
        self.tail.set(mark);
        let mut marks = self.marks.borrow_mut();
        while marks
            .front()
            .is_some_and(|front| front.last_lsn <= mark.last_lsn)
        {
            marks.pop_front();
        }
    }

    /// The published tail.
    pub fn tail(&self) -> Mark {
        self.tail.get()
    }

    fn new_batch(&self) -> Rc<Batch> {
        let mut spare = self.spare.borrow_mut();
        let free = spare.iter().position(|batch| Rc::strong_count(batch) == 1);
        let Some(index) = free else {
            let batch = Batch::new();
            if spare.len() < MAX_SPARE {
                spare.push(batch.clone());
            }
            return batch;
        };
        let batch = spare[index].clone();
        batch.body.borrow_mut().reset();
        *batch.outcome.borrow_mut() = None;
        batch
    }

    fn take_next(&self) -> Option<Rc<Batch>> {
        let sealed = self.sealed.borrow_mut().pop_front();
        let batch = sealed.or_else(|| self.open.borrow_mut().take());
        self.room.notify_all();
        batch
    }

    /// Whether no batch is open, waiting or on its way.
    pub fn is_idle(&self) -> bool {
        !self.has_work() && self.flying.borrow().is_empty()
    }

    fn has_work(&self) -> bool {
        !self.sealed.borrow().is_empty() || self.open.borrow().is_some()
    }
}

/// Lets go of what batches hold when the executor ends under them. The holds refer to the core,
/// which has the batches: without this its memory would stay with the process.
struct Release<'a>(&'a Journal);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let open = self.0.open.take();
        let queues = [&self.0.sealed, &self.0.flying].map(RefCell::take);
        for batch in open.into_iter().chain(queues.into_iter().flatten()) {
            drop(std::mem::take(&mut batch.body.borrow_mut().holds));
        }
    }
}

impl Core {
    /// Appends the records of one request and returns their batch. The LSNs are given here.
    ///
    /// Waits while the open batch is full and others wait to be written. Cancel: before the append
    /// nothing has happened; after it the records are written whatever becomes of the request.
    pub async fn append(&self, group: &mut Group, hold: Hold) -> Result<Rc<Batch>, VolumeError> {
        let journal = &self.journal;
        let batch = loop {
            self.check_writable()?;
            let open = journal.open.borrow().clone();
            match open {
                Some(batch) if batch.fits(group) => break batch,
                Some(full) if journal.sealed.borrow().len() < MAX_SEALED => {
                    journal.sealed.borrow_mut().push_back(full);
                    *journal.open.borrow_mut() = None;
                }
                Some(_) => journal.room.notified().await,
                None => {
                    let batch = journal.new_batch();
                    assert!(batch.fits(group), "a request fits an empty batch");
                    *journal.open.borrow_mut() = Some(batch);
                }
            }
        };
        let mut body = batch.body.borrow_mut();
        let lsn = journal.next_lsn.get();
        if body.records.is_empty() {
            body.first_lsn = lsn;
        }
        journal.next_lsn.set(lsn + group.len as u64);
        group.drain().for_each(|part| body.push(part));
        body.holds.push(hold);
        drop(body);
        journal.work.notify_one();
        Ok(batch)
    }

    /// Seals, places and starts batches, for as long as the volume is open.
    pub async fn run_committer(self: Rc<Self>) {
        let _release = Release(&self.journal);
        loop {
            while !self.journal.has_work() {
                self.journal.work.notified().await;
            }
            // The rest of this turn's requests may join.
            reactor::yield_now().await;
            while self.journal.flying.borrow().len() >= MAX_IN_FLIGHT {
                self.journal.landed.notified().await;
            }
            let Some(batch) = self.journal.take_next() else {
                continue;
            };
            assert!(!batch.is_empty(), "a batch exists only with records");
            match self.place(&batch).await {
                Ok(()) => self.launch(batch).await,
                Err(error) => batch.finish(Err(error)),
            }
        }
    }

    /// Gives a batch its place in the ring, waiting for the flusher when there is none.
    async fn place(&self, batch: &Batch) -> Result<(), VolumeError> {
        let journal = &self.journal;
        let (header_len, len_bytes) = {
            let body = batch.body.borrow();
            let header_len = batch::header_len(body.records_len);
            (
                header_len,
                (header_len + body.payload_blocks * BLOCK_BYTES) as u64,
            )
        };
        let position = loop {
            self.check_writable()?;
            let position = self.ring.place(journal.head.get(), len_bytes);
            if position + len_bytes - journal.tail.get().end <= self.ring.len_bytes() {
                break position;
            }
            self.flusher.kick_for_room();
            self.admission.space.notified().await;
        };
        let mut body = batch.body.borrow_mut();
        body.position = position;
        body.header_len = header_len;
        body.sequence = journal.next_sequence.get();
        journal.next_sequence.set(body.sequence + 1);
        body.holds.iter_mut().for_each(|hold| hold.credit.placed());
        Ok(())
    }

    /// Builds the header and starts the device write.
    async fn launch(self: &Rc<Self>, batch: Rc<Batch>) {
        let journal = &self.journal;
        let header_len = batch.body.borrow().header_len;
        let mut header = reactor::buf::engine_alloc(header_len).await;
        // A batch before this one may have failed meanwhile: nothing goes behind the gap.
        if let Err(error) = self.check_writable() {
            return batch.finish(Err(error));
        }
        let mut list = BufList::new();
        let offset = {
            let body = batch.body.borrow();
            let fields = Header {
                epoch: journal.epoch,
                sequence: body.sequence,
                position: body.position,
                previous_end: journal.head.get(),
                first_lsn: body.first_lsn,
                durable_lsn: journal.durable_lsn.get(),
            };
            let out = header.as_mut();
            batch::encode(out, &self.identity, &fields, &body.records, &body.crcs);
            list.push(header);
            body.payloads
                .iter()
                .flatten()
                .for_each(|(buf, _)| list.push(buf.clone()));
            journal.head.set(body.end());
            self.ring.locate(body.position).device_offset
        };
        journal.flying.borrow_mut().push_back(batch.clone());
        if mutation::enabled(Mutation::AckBeforeJournal) {
            batch.body.borrow_mut().landed = true;
            self.complete_in_order();
        }
        reactor::spawn(self.clone().write_batch(batch, offset, list)).detach();
    }

    async fn write_batch(self: Rc<Self>, batch: Rc<Batch>, offset: u64, list: BufList) {
        let len_bytes = list.len_bytes() as u64;
        let start = reactor::now();
        reactor::crash_point("journal::write");
        // crash here: nothing of this batch was acknowledged; recovery ends the log before it.
        let result = self.write_with_retries(offset, list).await;
        // crash here: the batch may be on the device; recovery replays it, acknowledged or not.
        reactor::crash_point("journal::written");
        match result {
            Ok(()) => {
                self.count_batch(start, len_bytes);
                batch.body.borrow_mut().landed = true;
                self.complete_in_order();
            }
            Err(error) => {
                let error = self.device_error("journal write", error);
                self.fail(&error);
                self.fail_batches(&error);
            }
        }
        self.journal.landed.notify_one();
    }

    fn count_batch(&self, start: Instant, len_bytes: u64) {
        self.metrics.journal_write.record_since(start);
        add(&self.metrics.journal_batches, 1);
        add(&self.metrics.journal_bytes, len_bytes);
    }

    /// Writes at one place until it succeeds or the tries are used up. The same bytes at the same
    /// place: a retry cannot make anything worse.
    pub async fn write_with_retries(
        &self,
        offset: u64,
        mut list: BufList,
    ) -> Result<(), block::BlockError> {
        let mut pause = RETRY_PAUSE;
        for _ in 1..WRITE_TRIES {
            let (result, same_list) = self.device.write(offset, list).await;
            match result {
                Ok(()) => return Ok(()),
                Err(block::BlockError::Io { .. }) => list = same_list,
                Err(error) => return Err(error),
            }
            reactor::time::sleep(pause).await;
            pause *= 2;
        }
        self.device.write(offset, list).await.0
    }

    /// Completes every batch that has landed and has none before it that has not.
    fn complete_in_order(&self) {
        loop {
            let front = self.journal.flying.borrow().front().cloned();
            let Some(batch) = front.filter(|batch| batch.body.borrow().landed) else {
                break;
            };
            self.journal.flying.borrow_mut().pop_front();
            self.apply(&batch.body.borrow());
            batch.finish(Ok(()));
        }
        self.flusher.has_dirty.notify_one();
        if self.wants_cycle() {
            self.flusher.kick_for_room();
        }
    }

    /// Tells the index what a batch says, and moves the completed LSN over it.
    fn apply(&self, body: &Body) {
        let journal = &self.journal;
        let payload_position = body.position + body.header_len as u64;
        let mut crcs = body.crcs.as_slice();
        let mut index = self.index.borrow_mut();
        for (offset, (record, payload)) in body.records.iter().zip(&body.payloads).enumerate() {
            let (own, rest) = crcs.split_at(record.crc_count());
            crcs = rest;
            let position = payload_position + u64::from(record.payload_block) * PAGE;
            let payload = payload
                .as_ref()
                .filter(|(_, retain)| *retain)
                .map(|(buf, _)| buf);
            let lsn = body.first_lsn + offset as u64;
            let is_zero = |cluster, mask| {
                let known = self.map.lookup_cached(cluster);
                known.is_some_and(|entry| entry.valid & mask == 0)
            };
            index.apply(record, lsn, position, |page| own[page], payload, is_zero);
            if record.kind == RecordKind::Direct {
                let pages = &self.flusher.direct_pages;
                pages.set(pages.get() + u64::from(record.page_count));
            }
        }
        drop(index);
        let last_lsn = body.last_lsn();
        assert_eq!(
            body.first_lsn,
            journal.completed_lsn.get() + 1,
            "batches complete in order"
        );
        journal.completed_lsn.set(last_lsn);
        if !self.device.geometry().volatile_cache {
            journal.durable_lsn.set(last_lsn);
        }
        let mark = Mark {
            last_lsn,
            end: body.end(),
            next_sequence: body.sequence + 1,
        };
        journal.marks.borrow_mut().push_back(mark);
    }

    /// The volume failed: every batch that has not completed fails with it.
    pub fn fail_batches(&self, error: &VolumeError) {
        let journal = &self.journal;
        loop {
            let flying = journal.flying.borrow_mut().pop_front();
            let next = flying.or_else(|| journal.take_next());
            let Some(batch) = next else { break };
            batch.finish(Err(error.clone()));
        }
        journal.room.notify_all();
        journal.landed.notify_one();
        self.admission.space.notify_all();
    }

    /// Makes everything that has completed survive power loss.
    ///
    /// Errors: a failed device flush stops the volume's writes. Cost: one device flush, shared
    /// with others; none when there is no volatile cache or nothing new.
    pub async fn flush_device(&self) -> Result<(), VolumeError> {
        let lsn = self.journal.completed_lsn();
        if self.journal.durable_lsn() >= lsn || mutation::enabled(Mutation::NoFlushOnFua) {
            return Ok(());
        }
        let start = reactor::now();
        reactor::crash_point("journal::flush");
        // crash here: what was not flushed may be lost; the Flush or FUA was not answered.
        if let Err(error) = self.device.flush().await {
            let error = self.device_error("device flush", error);
            self.fail(&error);
            return Err(error);
        }
        self.metrics.device_flush.record_since(start);
        self.journal.made_durable(lsn);
        Ok(())
    }
}
