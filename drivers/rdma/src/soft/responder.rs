//! What comes in: bytes become frames, requests of the peer are carried out, its answers are heeded.

use std::ops::ControlFlow;
use std::rc::Rc;

use reactor::buf::Buf;

use crate::HEADER_BYTES;
use crate::completion::{Completion, Received};
use crate::error::{Lost, WorkError};
use crate::inbox::Receives;
use crate::work::Remote;

use super::frame::{FRAME_BYTES, Frame, Kind, Refusal};
use super::pair::{Pair, Parting};
use super::receives::ReceiveQueue;

/// Whether anything that follows is of interest.
type Flow = ControlFlow<()>;

/// Takes the peer's bytes in pieces of any size.
#[derive(Default)]
pub(super) struct Parser {
    header: [u8; FRAME_BYTES],
    filled: usize,
    payload: Option<Payload>,
}

/// Where the payload of a frame goes.
struct Payload {
    len: usize,
    at: usize,
    sink: Sink,
}

enum Sink {
    Nowhere,
    Message(Arriving),
    Read,
    Write(Remote),
}

/// A message that fills a receive. Dropped half full, it gives the receive back.
struct Arriving {
    receives: Rc<ReceiveQueue>,
    received: Received,
    is_whole: bool,
}

impl Parser {
    /// Acts on `bytes`. Breaks when the connection is over.
    pub fn take_in(&mut self, pair: &Pair, mut bytes: &[u8]) -> Flow {
        while !bytes.is_empty() {
            let count = match &mut self.payload {
                Some(payload) => payload.take_in(pair, bytes),
                None => self.take_in_header(pair, bytes)?,
            };
            bytes = bytes.get(count..).unwrap_or_default();
            let whole = self.payload.take_if(|payload| payload.at == payload.len);
            if let Some(payload) = whole {
                payload.end(pair);
            }
            if pair.socket.ending().is_some() {
                return Flow::Break(());
            }
        }
        Flow::Continue(())
    }

    fn take_in_header(&mut self, pair: &Pair, bytes: &[u8]) -> ControlFlow<(), usize> {
        let count = bytes.len().min(FRAME_BYTES - self.filled);
        self.header[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        if self.filled == FRAME_BYTES {
            self.filled = 0;
            let Some(frame) = Frame::decode(&self.header) else {
                pair.refuse_peer();
                return ControlFlow::Break(());
            };
            if pair.card.faults.breaks() {
                pair.break_down();
                return ControlFlow::Break(());
            }
            self.begin(pair, frame)?;
        }
        ControlFlow::Continue(count)
    }

    fn begin(&mut self, pair: &Pair, frame: Frame) -> Flow {
        let sink = match pair.is_down() {
            true => pair.last_words(frame)?,
            false => pair.obey(frame)?,
        };
        self.payload = sink.map(|sink| Payload {
            len: frame.len as usize,
            at: 0,
            sink,
        });
        Flow::Continue(())
    }
}

impl Payload {
    fn take_in(&mut self, pair: &Pair, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.len - self.at);
        let bytes = bytes.get(..count).unwrap_or_default();
        if pair.is_down() {
            self.sink = Sink::Nowhere;
        }
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Message(arriving) => arriving.fill(self.at, bytes),
            Sink::Read => {
                let filled = pair.queue.borrow_mut().fill(self.at, bytes);
                if let Err(trouble) = filled {
                    pair.heed(Err(trouble));
                }
            }
            Sink::Write(remote) => {
                let to = Remote {
                    address: remote.address.wrapping_add(self.at as u64),
                    key: remote.key,
                };
                if !pair.card.regions.write(to, bytes) {
                    pair.refuse(Refusal::Access, WorkError::Local);
                }
            }
        }
        self.at += count;
        count
    }

    fn end(self, pair: &Pair) {
        if pair.is_down() {
            return;
        }
        match self.sink {
            Sink::Nowhere => {}
            Sink::Message(arriving) => pair.deliver(arriving),
            Sink::Read => {
                let mut queue = pair.queue.borrow_mut();
                let outcome = queue.read_done(&mut |completion| pair.complete(completion));
                drop(queue);
                pair.heed(outcome);
            }
            Sink::Write(_) => pair.carried_out(),
        }
    }
}

impl Pair {
    /// While this side says its last words: only the peer's last words matter.
    fn last_words(&self, frame: Frame) -> ControlFlow<(), Option<Sink>> {
        match frame.kind {
            Kind::Disconnect => ControlFlow::Break(()),
            Kind::Refusal if frame.code != Refusal::NotReady as u8 => ControlFlow::Break(()),
            Kind::Send | Kind::Write | Kind::ReadData => ControlFlow::Continue(Some(Sink::Nowhere)),
            _ => ControlFlow::Continue(None),
        }
    }

    /// Acts on a frame. Says where its payload goes, if it has one.
    fn obey(&self, frame: Frame) -> ControlFlow<(), Option<Sink>> {
        let mut done = |completion| self.complete(completion);
        let sequence = frame.sequence;
        let outcome = match frame.kind {
            Kind::Send | Kind::Write | Kind::ReadRequest => {
                return ControlFlow::Continue(self.request(frame));
            }
            Kind::Disconnect => {
                self.go_down(WorkError::Flushed, Lost::ByPeer, Parting::AtOnce);
                return ControlFlow::Break(());
            }
            Kind::Answered => self.queue.borrow_mut().answered(sequence, &mut done),
            Kind::ReadData => {
                let len = frame.len as usize;
                let mut queue = self.queue.borrow_mut();
                let outcome = queue.read_begins(sequence, len, &mut done);
                drop(queue);
                if outcome.is_ok() {
                    return ControlFlow::Continue(Some(Sink::Read));
                }
                outcome
            }
            Kind::Refusal => return self.refused(frame),
            _ => {
                self.refuse_peer();
                return ControlFlow::Break(());
            }
        };
        self.heed(outcome);
        match frame.kind {
            // A Read that failed on purpose: its data still comes.
            Kind::ReadData => ControlFlow::Continue(Some(Sink::Nowhere)),
            _ => ControlFlow::Continue(None),
        }
    }

    fn refused(&self, frame: Frame) -> ControlFlow<(), Option<Sink>> {
        let mut done = |completion| self.complete(completion);
        let Some(refusal) = Refusal::from_code(frame.code) else {
            self.refuse_peer();
            return ControlFlow::Break(());
        };
        let mut queue = self.queue.borrow_mut();
        if refusal == Refusal::NotReady {
            let outcome = queue.not_ready(frame.sequence, &mut done);
            drop(queue);
            self.heed(outcome);
            return ControlFlow::Continue(None);
        }
        let outcome = queue.refused(frame.sequence, refusal.error(), &mut done);
        drop(queue);
        match outcome {
            // The peer has ended the connection with its refusal.
            Err(super::queue::Trouble::Fail(error)) => {
                self.go_down(error, Lost::Failed(error), Parting::AtOnce);
            }
            other => self.heed(other),
        }
        ControlFlow::Break(())
    }

    /// Carries out a request, or refuses it.
    fn request(&self, frame: Frame) -> Option<Sink> {
        let has_payload = frame.kind != Kind::ReadRequest;
        if frame.sequence != self.expected.get() {
            // What was sent before the peer heard that we are not ready.
            if !self.is_refusing.get() {
                self.refuse_peer();
            }
            return has_payload.then_some(Sink::Nowhere);
        }
        self.is_refusing.set(false);
        let sink = match frame.kind {
            Kind::Send => self.message(frame),
            Kind::Write => self.write(frame),
            _ => {
                self.read(frame);
                None
            }
        };
        has_payload.then(|| sink.unwrap_or(Sink::Nowhere))
    }

    fn message(&self, frame: Frame) -> Option<Sink> {
        let receives = &self.card.receives;
        if frame.len as usize > HEADER_BYTES + receives.data_bytes() {
            self.refuse(Refusal::Invalid, WorkError::Length);
            return None;
        }
        if let Some(duration) = self.card.faults.dry() {
            receives.run_dry(reactor::now() + duration);
        }
        let Some(buf) = receives.take() else {
            self.not_ready();
            return None;
        };
        let received = Received {
            header: [0; HEADER_BYTES],
            len_bytes: frame.len,
            data: buf,
            invalidated: (frame.code == 1).then_some(frame.key),
        };
        Some(Sink::Message(Arriving {
            receives: receives.clone(),
            received,
            is_whole: false,
        }))
    }

    fn write(&self, frame: Frame) -> Option<Sink> {
        let remote = place(frame);
        let len = frame.len as usize;
        if len > 0 && !self.card.regions.is_writable(remote, len) {
            self.refuse(Refusal::Access, WorkError::Local);
            return None;
        }
        Some(Sink::Write(remote))
    }

    fn read(&self, frame: Frame) {
        let data = self.card.regions.read(place(frame), frame.len as usize);
        if data.is_none() && frame.len > 0 {
            return self.refuse(Refusal::Access, WorkError::Local);
        }
        // An answer to all requests before it, too.
        self.is_answer_due.set(false);
        self.expected.set(frame.sequence.wrapping_add(1));
        self.push_frame(Frame::new(Kind::ReadData, frame.sequence, frame.len), data);
        self.output.wake();
    }

    fn deliver(&self, mut arriving: Arriving) {
        if let Some(key) = arriving.received.invalidated
            && !self.card.regions.forget(key)
        {
            return self.refuse(Refusal::Invalid, WorkError::Local);
        }
        arriving.is_whole = true;
        let len = arriving.received.len_bytes as usize;
        let data = arriving.received.data.take();
        let mut received = Received {
            data: None,
            ..arriving.received
        };
        match data {
            Some(mut buf) if len > HEADER_BYTES => {
                buf.truncate(len - HEADER_BYTES);
                received.data = Some(buf);
            }
            unused => self.card.receives.give_back(unused),
        }
        self.complete(Completion::Received(received));
        self.carried_out();
    }

    fn carried_out(&self) {
        self.expected.set(self.expected.get().wrapping_add(1));
        self.is_answer_due.set(true);
        self.output.wake();
    }

    fn not_ready(&self) {
        self.is_refusing.set(true);
        self.card.faults.count_not_ready();
        self.push_refusal(Refusal::NotReady);
        self.output.wake();
    }

    /// The request fails at the peer, and the pair on both sides.
    fn refuse(&self, refusal: Refusal, error: WorkError) {
        self.push_refusal(refusal);
        self.go_down(WorkError::Flushed, Lost::Failed(error), Parting::LastWords);
    }

    fn push_refusal(&self, refusal: Refusal) {
        self.is_answer_due.set(false);
        let frame = Frame {
            code: refusal as u8,
            ..Frame::new(Kind::Refusal, self.expected.get(), 0)
        };
        self.push_frame(frame, None);
    }
}

fn place(frame: Frame) -> Remote {
    Remote {
        address: frame.address,
        key: frame.key,
    }
}

impl Arriving {
    fn fill(&mut self, at: usize, bytes: &[u8]) {
        let in_header = bytes.len().min(HEADER_BYTES.saturating_sub(at));
        let (head, tail) = bytes.split_at(in_header);
        if let Some(target) = self.received.header.get_mut(at..at + in_header) {
            target.copy_from_slice(head);
        }
        let at = (at + in_header).saturating_sub(HEADER_BYTES);
        let memory = self.received.data.as_mut().and_then(Buf::try_mut);
        if let Some(target) = memory.and_then(|memory| memory.get_mut(at..at + tail.len())) {
            target.copy_from_slice(tail);
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.is_whole {
            self.receives.give_back(self.received.data.take());
            self.receives.taken(1);
        }
    }
}
