//! The queue pair below a queue: what is posted on it, and what has not left yet.
//!
//! Everything is bounded by the queue's entries: at most one fetch and one answer wait for each
//! command, and answers that the host's card does not take are as many as the host has sent commands
//! since, which ends the connection at [`RdmaLink::MOST_WAITING`] times its entries.
//! Source: NVMe RDMA transport 1.0 section 3.2 (data transfers, responses).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use rdma::{Inline, Payload, PostError, QueuePair, Remote, Work};
use reactor::Instant;
use reactor::buf::Buf;
use reactor::sync::Notify;
use wire::nvme::{Cqe, Sgl, Sqe};

use crate::nvmf::port::CloseReason;
use crate::nvmf::queue::{Fetch, Link, Queue};
use crate::nvmf::transport::Transport;

/// Entries of the send queue that a queue of `entries` needs: for each command a fetch, or data and
/// its response; and as many responses again, whose completions come later than the host's next
/// command.
pub(crate) const fn send_entries(entries: u32) -> u32 {
    4 * entries + 8
}

/// Tag of all that is not a fetch.
const NO_FETCH: u64 = u64::MAX;

/// Work that waits for room on the send queue, in order.
enum Waiting {
    Fetch(Fetch, Buf, Remote),
    Answer(Answer),
}

/// A response, and before it the data.
struct Answer {
    cqe: Cqe,
    data: Option<(Buf, Remote)>,
    invalidate: Option<u32>,
}

/// An answer that was posted.
struct Leaving {
    data_bytes: usize,
    since: Instant,
}

/// One queue pair of a queue.
pub(crate) struct RdmaLink {
    pub pair: QueuePair,
    entries: usize,
    ending: Cell<Option<CloseReason>>,
    ended: Notify,
    waiting: RefCell<VecDeque<Waiting>>,
    leaving: RefCell<VecDeque<Leaving>>,
    payload_bytes: Cell<usize>,
    sent_bytes: Cell<u64>,
    /// Something was posted since the last doorbell.
    is_posted: Cell<bool>,
    posted: Notify,
    left: Notify,
    is_drained: Cell<bool>,
    /// The pair is lost and everything posted on it has come back.
    is_over: Cell<bool>,
}

impl RdmaLink {
    /// A host that lets this many times its entries wait takes nothing.
    const MOST_WAITING: usize = 4;

    pub fn new(pair: QueuePair, entries: u16) -> Self {
        let entries = usize::from(entries);
        Self {
            pair,
            entries,
            ending: Cell::new(None),
            ended: Notify::new(),
            waiting: RefCell::new(VecDeque::with_capacity(2 * entries)),
            leaving: RefCell::new(VecDeque::with_capacity(2 * entries)),
            payload_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            is_posted: Cell::new(false),
            posted: Notify::new(),
            left: Notify::new(),
            is_drained: Cell::new(false),
            is_over: Cell::new(false),
        }
    }

    /// Returns when the connection is to end.
    pub async fn ended(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.ending.get() {
                return reason;
            }
            self.ended.notified().await;
        }
    }

    /// True until it is to end.
    pub fn is_open(&self) -> bool {
        self.ending.get().is_none()
    }

    /// Says whether everything that has come was looked at.
    pub fn set_drained(&self, is_drained: bool) {
        self.is_drained.set(is_drained);
    }

    /// Rings the doorbell once a turn for what was posted in it, until the connection is over.
    pub async fn ring(&self) {
        while !self.is_over.get() {
            self.posted.notified().await;
            reactor::turn_end().await;
            self.is_posted.set(false);
            self.pair.kick();
        }
    }

    /// The host has the oldest answer. True when that made room for data.
    pub fn answer_left(&self) -> bool {
        let left = self.leaving.borrow_mut().pop_front();
        let data_bytes = left.map_or(0, |left| left.data_bytes);
        self.payload_bytes
            .set(self.payload_bytes.get() - data_bytes);
        let sent_bytes = (data_bytes + Cqe::SIZE) as u64;
        self.sent_bytes.set(self.sent_bytes.get() + sent_bytes);
        self.post_waiting();
        if self.leaving.borrow().is_empty() {
            self.left.notify_all();
        }
        data_bytes != 0
    }

    /// Returns when the host has every answer.
    pub async fn flushed(&self) {
        while !self.leaving.borrow().is_empty() || !self.waiting.borrow().is_empty() {
            self.left.notified().await;
        }
    }

    /// Everything posted has come back, and nothing leaves any more: gives back what waited.
    pub fn set_over(&self) {
        self.is_over.set(true);
        self.waiting.borrow_mut().clear();
        self.leaving.borrow_mut().clear();
        self.payload_bytes.set(0);
        self.left.notify_all();
        self.posted.notify_one();
    }

    fn send(&self, work: Waiting) {
        let is_behind = !self.waiting.borrow().is_empty();
        if is_behind || self.pair.room() < work.entries() {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() >= Self::MOST_WAITING * self.entries {
                drop(waiting);
                return self.end(CloseReason::Stalled);
            }
            return waiting.push_back(work);
        }
        self.post(work);
    }

    fn post_waiting(&self) {
        loop {
            let next = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.front() {
                    Some(work) if self.pair.room() >= work.entries() => waiting.pop_front(),
                    _ => None,
                }
            };
            match next {
                Some(work) => self.post(work),
                None => return,
            }
        }
    }

    /// There is room for it.
    fn post(&self, work: Waiting) {
        let posted = match work {
            Waiting::Fetch(fetch, into, from) => {
                self.pair.post(tag_of(fetch), Work::Read { into, from })
            }
            Waiting::Answer(answer) => self.post_answer(answer),
        };
        match posted {
            Ok(()) => self.want_doorbell(),
            // The pair says itself that it is lost.
            Err(PostError::Lost(_)) => {}
            Err(PostError::Full(_)) => self.end(CloseReason::SocketError),
        }
    }

    fn post_answer(&self, answer: Answer) -> Result<(), PostError> {
        let Answer {
            cqe,
            data,
            invalidate,
        } = answer;
        let data_bytes = data.as_ref().map_or(0, |(data, _)| data.len());
        if let Some((data, to)) = data {
            self.pair.post(NO_FETCH, Work::Write { data, to })?;
        }
        let Some(inline) = Inline::new(cqe.as_wire()) else {
            return Ok(());
        };
        let payload = Payload::Inline(inline);
        let send = Work::Send {
            payload,
            invalidate,
        };
        self.pair.post(NO_FETCH, send)?;
        let since = reactor::now();
        self.leaving
            .borrow_mut()
            .push_back(Leaving { data_bytes, since });
        Ok(())
    }

    fn want_doorbell(&self) {
        if !self.is_posted.replace(true) {
            self.posted.notify_one();
        }
    }
}

impl Waiting {
    /// Places on the send queue that it takes.
    fn entries(&self) -> u32 {
        match self {
            Self::Fetch(..) => 1,
            Self::Answer(answer) => 1 + u32::from(answer.data.is_some()),
        }
    }
}

fn tag_of(fetch: Fetch) -> u64 {
    u64::from(fetch.serial) << 16 | u64::from(fetch.index)
}

/// The command slot and its use that a completed read was for.
pub(crate) fn fetched_slot(tag: u64) -> Option<(u16, u32)> {
    (tag != NO_FETCH).then_some((tag as u16, (tag >> 16) as u32))
}

/// Where a command's host memory is, and the key to forget with the response.
pub(super) fn remote(sqe: &Sqe) -> Option<(Remote, Option<u32>)> {
    match sqe.sgl() {
        Ok(Sgl::Keyed {
            address,
            key,
            invalidate,
            ..
        }) => Some((Remote { address, key }, invalidate.then_some(key))),
        _ => None,
    }
}

impl Link for RdmaLink {
    const TRANSPORT: Transport = Transport::Rdma;
    const READS_HOST_MEMORY: bool = true;

    fn fetch(queue: &Rc<Queue<Self>>, fetch: Fetch) {
        let (sqe, buf) = {
            let mut table = queue.table.borrow_mut();
            let slot = table.slot_mut(fetch.index);
            (slot.sqe, slot.data.take())
        };
        match (remote(&sqe), buf) {
            (Some((from, _)), Some(into)) => queue.link.send(Waiting::Fetch(fetch, into, from)),
            // The plan lets no other command come here.
            (_, buf) => queue.received(fetch.index, buf, false),
        }
    }

    fn answer(queue: &Queue<Self>, sqe: &Sqe, cqe: Cqe, data: Option<Buf>) {
        let (to, invalidate) = match remote(sqe) {
            Some((to, invalidate)) => (Some(to), invalidate),
            None => (None, None),
        };
        let data = data.zip(to);
        let link = &queue.link;
        let data_bytes = data.as_ref().map_or(0, |(data, _)| data.len());
        link.payload_bytes
            .set(link.payload_bytes.get() + data_bytes);
        link.send(Waiting::Answer(Answer {
            cqe,
            data,
            invalidate,
        }));
    }

    fn payload_bytes(&self) -> usize {
        self.payload_bytes.get()
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.leaving.borrow().front().map(|first| first.since)
    }

    fn end(&self, reason: CloseReason) {
        if self.is_open() {
            self.ending.set(Some(reason));
            self.ended.notify_all();
        }
    }

    fn ending(&self) -> Option<CloseReason> {
        self.ending.get()
    }

    fn is_drained(&self) -> bool {
        self.is_drained.get() || self.ending.get().is_some()
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }
}
