//! What comes in: bytes in pieces of any size become frames, and their payloads find their place.

use std::ops::ControlFlow;
use std::rc::Rc;

use reactor::buf::Buf;

use crate::HEADER_BYTES;
use crate::completion::Received;
use crate::error::WorkError;
use crate::inbox::Receives;
use crate::work::Remote;

use super::frame::{FRAME_BYTES, Frame, Refusal};
use super::pair::Pair;
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

pub(super) enum Sink {
    Nowhere,
    Message(Arriving),
    Read,
    Write(Remote),
}

/// A message that fills a receive. Dropped half full, it gives the receive back.
pub(super) struct Arriving {
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

impl Arriving {
    /// `buf` is the receive's memory for data.
    pub fn new(receives: Rc<ReceiveQueue>, frame: Frame, buf: Option<Buf>) -> Self {
        let received = Received {
            header: [0; HEADER_BYTES],
            len_bytes: frame.len,
            data: buf,
            invalidated: (frame.code == 1).then_some(frame.key),
        };
        Self {
            receives,
            received,
            is_whole: false,
        }
    }

    /// A key that the message takes away.
    pub fn invalidates(&self) -> Option<u32> {
        self.received.invalidated
    }

    /// The message, all of which is here; the receive is held until its user takes it.
    pub fn finish(mut self) -> Received {
        self.is_whole = true;
        let len = self.received.len_bytes as usize;
        let data = self.received.data.take();
        let mut received = Received {
            data: None,
            ..self.received
        };
        match data {
            Some(mut buf) if len > HEADER_BYTES => {
                buf.truncate(len - HEADER_BYTES);
                received.data = Some(buf);
            }
            unused => self.receives.give_back(unused),
        }
        received
    }

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
