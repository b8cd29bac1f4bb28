//! What a pair does with the peer's frames: its requests are carried out or refused, its answers
//! are heeded.

use std::ops::ControlFlow;

use crate::HEADER_BYTES;
use crate::completion::Completion;
use crate::error::{Lost, WorkError};
use crate::work::Remote;

use super::frame::{Frame, Kind, Refusal};
use super::pair::{Pair, Parting};
use super::parser::{Arriving, Sink};
use super::queue::Trouble;

impl Pair {
    /// While this side says its last words: only the peer's last words matter.
    pub fn last_words(&self, frame: Frame) -> ControlFlow<(), Option<Sink>> {
        match frame.kind {
            Kind::Disconnect => ControlFlow::Break(()),
            Kind::Refusal if frame.code != Refusal::NotReady as u8 => ControlFlow::Break(()),
            Kind::Send | Kind::Write | Kind::ReadData => ControlFlow::Continue(Some(Sink::Nowhere)),
            _ => ControlFlow::Continue(None),
        }
    }

    /// Acts on a frame. Says where its payload goes, if it has one.
    pub fn obey(&self, frame: Frame) -> ControlFlow<(), Option<Sink>> {
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
            Err(Trouble::Fail(error)) => {
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
        let arriving = Arriving::new(receives.clone(), frame, buf);
        Some(Sink::Message(arriving))
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

    /// A message is whole.
    pub fn deliver(&self, arriving: Arriving) {
        if let Some(key) = arriving.invalidates()
            && !self.card.regions.forget(key)
        {
            return self.refuse(Refusal::Invalid, WorkError::Local);
        }
        let received = arriving.finish();
        if let Some(data) = &received.data {
            self.card.faults.follow(true, data);
        }
        self.complete(Completion::Received(received));
        self.carried_out();
    }

    pub fn carried_out(&self) {
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
    pub fn refuse(&self, refusal: Refusal, error: WorkError) {
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
