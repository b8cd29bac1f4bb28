//! One queue pair: its state, what its user can do with it, and its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use net::{SendQueue, Socket};
use reactor::Instant;
use reactor::buf::Buf;
use reactor::sync::Notify;

use crate::completion::Completion;
use crate::error::{Lost, WorkError};
use crate::inbox::Inbox;
use crate::options::PairOptions;
use crate::work::{Payload, Work};

use super::card::{Shared, Slot};
use super::completions::{Event, Line};
use super::frame::{Frame, Kind};
use super::queue::{Next, Trouble, WorkQueue};
use super::tasks;

/// A peer that does not keep to the protocol.
const NONSENSE: WorkError = WorkError::Other(1);
/// Messages that may wait in the inbox before it grows.
const INBOX_ENTRIES: usize = 64;

/// See the file's documentation. The tasks of a pair share it with its user.
pub(super) struct Pair {
    pub card: Rc<Shared>,
    number: u32,
    pub socket: Socket<()>,
    /// Frames on their way to the peer.
    pub output: SendQueue,
    /// Rings once, when the pair goes down.
    pub downed: Notify,
    pub queue: RefCell<WorkQueue>,
    /// Bytes of the peer that came in so far, to see whether it is there.
    pub heard_bytes: Cell<u64>,
    /// As a responder: the next request's number.
    pub expected: Cell<u32>,
    /// As a responder: requests are thrown away until `expected` comes again.
    pub is_refusing: Cell<bool>,
    /// As a responder: the peer is to hear that all before `expected` is carried out.
    pub is_answer_due: Cell<bool>,
    line: Rc<Line>,
    is_down: Cell<bool>,
    _slot: Slot,
}

/// How a pair goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// What waits to be sent still leaves, for a while.
    LastWords,
    /// Nothing leaves any more.
    AtOnce,
}

impl Pair {
    /// A connected pair at work.
    pub fn start(
        slot: Slot,
        number: u32,
        socket: Socket<()>,
        options: PairOptions,
        peer_read_depth: u8,
    ) -> Rc<Self> {
        let card = slot.card().clone();
        let entries = options.send_entries as usize;
        let read_depth = options.read_depth.min(peer_read_depth);
        let inbox = Inbox::new(entries + INBOX_ENTRIES, card.receives.clone());
        let pair = Rc::new(Self {
            number,
            socket,
            // All that can be sent and sent again, and the answers to the peer's reads.
            output: SendQueue::new(2 * (entries + usize::from(peer_read_depth)) + 8),
            downed: Notify::new(),
            queue: RefCell::new(WorkQueue::new(entries, read_depth)),
            heard_bytes: Cell::new(0),
            expected: Cell::new(0),
            is_refusing: Cell::new(false),
            is_answer_due: Cell::new(false),
            line: Line::new(inbox),
            is_down: Cell::new(false),
            card,
            _slot: slot,
        });
        pair.card.faults.add_pair(&pair);
        reactor::spawn(tasks::send(pair.clone())).detach();
        reactor::spawn(tasks::receive(pair.clone())).detach();
        reactor::spawn(tasks::watch(Rc::downgrade(&pair))).detach();
        pair
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn inbox(&self) -> &Inbox {
        &self.line.inbox
    }

    pub fn is_down(&self) -> bool {
        self.is_down.get()
    }

    /// Tells the user, in order.
    pub fn complete(&self, completion: Completion) {
        let mut is_flush = false;
        if let Completion::Failed { error, .. } = &completion {
            is_flush = *error == WorkError::Flushed;
            self.card.count_failed(u64::from(!is_flush));
        }
        let delay = self.card.faults.delay(is_flush);
        let event = Event::Completion(completion);
        self.card.completions.push(&self.line, event, delay);
    }

    /// The pair is in error from now on: the first work that is not over fails with `first`, what
    /// follows is flushed, then the pair is lost. Only the first time counts.
    pub fn go_down(&self, first: WorkError, why: Lost, parting: Parting) {
        if self.is_down.replace(true) {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        queue.flush(first, &mut |completion| self.complete(completion));
        drop(queue);
        let event = Event::Lost(why);
        self.card
            .completions
            .push(&self.line, event, Duration::ZERO);
        if parting == Parting::AtOnce {
            self.socket.end(());
        }
        self.downed.notify_one();
        self.output.wake();
    }

    /// Work failed here, and the peer does not know.
    pub fn fail_work(&self, error: WorkError) {
        self.push_disconnect();
        self.go_down(error, Lost::Failed(error), Parting::LastWords);
    }

    /// The connection is gone: nobody answers what was sent.
    pub fn break_down(&self) {
        self.give_up(WorkError::Unreachable);
    }

    /// The peer does not keep to the protocol.
    pub fn refuse_peer(&self) {
        tracing::debug!(
            pair = self.number,
            "the peer of a simulated card sent nonsense"
        );
        self.give_up(NONSENSE);
    }

    fn give_up(&self, error: WorkError) {
        let first = match self.queue.borrow().has_sent() {
            true => error,
            false => WorkError::Flushed,
        };
        self.go_down(first, Lost::Failed(error), Parting::AtOnce);
    }

    /// What an answer of the peer led to.
    pub fn heed(&self, outcome: Result<(), Trouble>) {
        match outcome {
            Ok(()) => self.output.wake(),
            Err(Trouble::Fail(error)) => self.fail_work(error),
            Err(Trouble::Nonsense) => self.refuse_peer(),
        }
    }

    pub fn push_frame(&self, frame: Frame, payload: Option<Buf>) {
        self.output.push_bytes(&frame.encode());
        if let Some(buf) = payload {
            self.output.push_buf(buf);
        }
    }

    /// What was carried out is answered even if the pair goes down right after.
    fn push_due_answer(&self) {
        if self.is_answer_due.take() {
            let answered = self.expected.get().wrapping_sub(1);
            self.push_frame(Frame::new(Kind::Answered, answered, 0), None);
        }
    }

    fn push_disconnect(&self) {
        self.push_due_answer();
        let frame = Frame::new(Kind::Disconnect, 0, 0);
        self.push_frame(frame, None);
        if self.card.faults.tells_twice() {
            self.push_frame(frame, None);
        }
    }

    /// Ends it, and tells the peer.
    pub fn disconnect(&self) {
        if !self.is_down() {
            self.push_disconnect();
            self.go_down(WorkError::Flushed, Lost::Here, Parting::LastWords);
        }
    }

    /// Puts everything that may leave now into the output. Says when to come again by itself.
    pub fn transmit(&self) -> Option<Instant> {
        self.push_due_answer();
        while !self.is_down() {
            let mut queue = self.queue.borrow_mut();
            let failed = match queue.next(reactor::now()) {
                Next::Nothing => return None,
                Next::Wait(until) => return Some(until),
                Next::Send(sequence, work) => {
                    self.push_request(sequence, work);
                    None
                }
                Next::Fail(error) => Some(error),
            };
            drop(queue);
            if let Some(error) = failed {
                self.fail_work(error);
            } else if self.card.faults.breaks() {
                self.break_down();
            }
        }
        None
    }

    fn push_request(&self, sequence: u32, work: &Work) {
        match work {
            Work::Send {
                payload,
                invalidate,
            } => {
                let (short, long): (&[u8], _) = match payload {
                    Payload::Inline(inline) => (inline.bytes(), None),
                    Payload::Buf(buf) => (&[], Some(buf)),
                };
                let len = short.len() + long.map_or(0, |buf| buf.len());
                let frame = Frame {
                    code: u8::from(invalidate.is_some()),
                    key: invalidate.unwrap_or(0),
                    ..Frame::new(Kind::Send, sequence, len as u32)
                };
                self.push_frame(frame, None);
                self.output.push_bytes(short);
                if let Some(buf) = long {
                    self.output.push_buf(buf.clone());
                }
            }
            Work::Read { into, from } => {
                let frame = Frame {
                    key: from.key,
                    address: from.address,
                    ..Frame::new(Kind::ReadRequest, sequence, into.len() as u32)
                };
                self.push_frame(frame, None);
            }
            Work::Write { data, to } => {
                let frame = Frame {
                    key: to.key,
                    address: to.address,
                    ..Frame::new(Kind::Write, sequence, data.len() as u32)
                };
                self.push_frame(frame, Some(data.clone()));
            }
        }
    }
}
