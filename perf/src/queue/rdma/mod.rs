//! An I/O queue of NVMe/RDMA: completions of the card go in, work comes out.
//!
//! The target's card reads what is written out of this process' memory and writes what is read into
//! it. Without `--verify` that memory is exposed once: a buffer for the reads of each slot, and one
//! with the pattern that all writes take their data from; with it each command exposes the buffer
//! of its slot. Data inside a capsule is the one copy: it is in one piece with its command.
//!
//! Source: NVMe RDMA transport 1.0 sections 3.1 (set-up), 3.2 (capsules), 3.3 (data).

mod memory;
#[cfg(test)]
mod tests;
use std::net::SocketAddr;
use std::time::Duration;

use host::rdma::{Options, Queue};
use host::{HostOptions, QueueId};
use rdma::{
    Card, Completion, Inline, Lost, Payload, PostError, QueuePair, Received, Remote, Work,
    WorkError,
};
use reactor::buf::try_alloc;
use wire::nvme::{Cqe, Sgl, Sqe};
use wire::tcp::PduType;

use super::{Done, Io, Kind, Link, Shape, Slots, nvme};
use crate::card::Cards;
use crate::error::PerfError;
use memory::Memory;

/// Most events that one look at a queue takes, so that the others get their turn.
const EVENTS_MAX: u32 = 256;
/// Work of a queue that is posted and not done: a command and what is still told of the one before.
const WORK_PER_COMMAND: u32 = 2;
/// Tag of all messages.
const SENT: u64 = 0;

/// Which queue of which controller to open, and how.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The target.
    pub address: SocketAddr,
    /// Subsystem.
    pub subnqn: String,
    /// Controller that the admin queue got.
    pub cntlid: u16,
    /// Entries of the queue: one more than can be in flight.
    pub entries: u32,
    /// This host.
    pub host: HostOptions,
    /// Where the core of the queue has its card from.
    pub cards: Cards,
}

/// A connected I/O queue.
#[derive(Debug)]
pub struct Rdma {
    pair: QueuePair,
    shape: Shape,
    slots: Slots<()>,
    memory: Memory,
    /// Messages since the doorbell rang.
    posted: u32,
    /// Came while nothing was looked at.
    early: Option<Result<Completion, Lost>>,
}

impl Rdma {
    /// Opens I/O queue `qid` on `card`, which belongs to the calling core.
    ///
    /// Errors: `Admin` for everything that connecting can meet; `Option` when the target has room
    /// for fewer commands; `Buffers`.
    pub async fn open(
        card: &Card,
        opening: &Opening,
        qid: u16,
        shape: Shape,
        pattern: Vec<u8>,
    ) -> Result<Self, PerfError> {
        let id = QueueId {
            subnqn: &opening.subnqn,
            cntlid: opening.cntlid,
            qid,
            entries: opening.entries,
        };
        let capsule_bytes = shape.capsule_bytes as usize;
        let options = Options::from(opening.host.clone());
        let connected = Queue::connect(card, opening.address, id, capsule_bytes, &options).await;
        let (queue, response) = connected.map_err(|source| PerfError::Admin {
            doing: "connecting the queue",
            address: opening.address.to_string(),
            source,
        })?;
        if response.cntlid != opening.cntlid {
            return Err(refuse(0, "Connect answers with another controller"));
        }
        if queue.capacity() < usize::from(shape.depth) {
            let problem = format!("the target has room for {} on a queue", queue.capacity());
            return Err(PerfError::option("--qd", shape.depth, problem));
        }
        Self::new(card, queue.into_pair(), shape, pattern)
    }

    /// A queue with nothing in flight on a pair that Connect went over.
    ///
    /// Errors: `Buffers`, `Rdma`.
    pub fn new(
        card: &Card,
        pair: QueuePair,
        shape: Shape,
        pattern: Vec<u8>,
    ) -> Result<Self, PerfError> {
        Ok(Self {
            pair,
            shape,
            slots: Slots::new(shape.depth),
            memory: Memory::new(card, &shape, pattern)?,
            posted: 0,
            early: None,
        })
    }

    /// Waits until something came. Cancel: nothing is lost.
    pub async fn wait(&mut self) {
        if self.early.is_none() {
            self.early = Some(self.pair.next().await);
        }
    }

    /// Ends the connection and waits until the card gave everything back, `limit` at most.
    pub async fn close(self, limit: Duration) {
        self.pair.disconnect();
        let ended = async { while self.pair.next().await.is_ok() {} };
        // A card that is slow about it goes on by itself.
        let _ = reactor::time::timeout(limit, ended).await;
    }

    fn is_inside(&self, io: &Io) -> bool {
        io.kind == Kind::Write && self.shape.io_bytes <= self.shape.capsule_bytes
    }

    /// A message of the command alone, or with its data behind it.
    fn message(&self, sqe: &Sqe, data: &[u8]) -> Result<Payload, PerfError> {
        if data.is_empty()
            && let Some(inline) = Inline::new(sqe.as_wire())
        {
            return Ok(Payload::Inline(inline));
        }
        let buf = try_alloc(Sqe::SIZE + data.len());
        let mut buf = buf.ok_or(PerfError::Buffers)?;
        let (head, tail) = buf.as_mut().split_at_mut(Sqe::SIZE);
        head.copy_from_slice(sqe.as_wire());
        tail.copy_from_slice(data);
        Ok(Payload::Buf(buf))
    }

    fn handle(
        &mut self,
        event: Result<Completion, Lost>,
        done: &mut Vec<Done>,
    ) -> Result<(), PerfError> {
        match event {
            Ok(Completion::Received(message)) => {
                done.push(self.answer(&message)?);
                Ok(())
            }
            Ok(Completion::Done { .. }) => Ok(()),
            // The end of the connection follows, and says why.
            Ok(Completion::Failed {
                error: WorkError::Flushed,
                ..
            }) => Ok(()),
            Ok(Completion::Failed { error, .. }) => Err(PerfError::Work(error)),
            Err(why) => Err(PerfError::Lost(why)),
        }
    }

    fn answer(&mut self, message: &Received) -> Result<Done, PerfError> {
        if message.len_bytes as usize != Cqe::SIZE {
            return Err(refuse(0, "a response has another length than 16 bytes"));
        }
        let cqe = *Cqe::decode(&message.header)?;
        let cid = cqe.cid.get();
        if message.invalidated.is_some() {
            return Err(refuse(cid, "invalidates a key although nobody asked"));
        }
        let slot = self.slots.get(cid);
        let io = slot.ok_or_else(|| refuse(cid, "no such command is in flight"))?;
        let io = io.io;
        self.memory.take_back(cid);
        self.slots.free(cid);
        let status = cqe.status().into();
        Ok(Done { cid, io, status })
    }
}

impl Link for Rdma {
    fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    fn has_room(&self) -> bool {
        self.in_flight() < usize::from(self.shape.depth) && self.pair.room() > 0
    }

    fn oldest(&self) -> Option<&Io> {
        self.slots.oldest()
    }

    fn buffer(&self, cid: u16) -> &[u8] {
        self.memory.buffer(cid)
    }

    fn submit(
        &mut self,
        io: Io,
        choice: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), PerfError> {
        let cid = self.slots.take(io).expect("the caller asked for room");
        let len_bytes = self.shape.io_bytes;
        let inside = self.is_inside(&io);
        if io.kind == Kind::Write {
            self.memory.fill(cid, choice, fill);
        }
        let sgl = match io.kind {
            Kind::Flush => None,
            Kind::Write if inside => Some(Sgl::InCapsule {
                offset: 0,
                len_bytes,
            }),
            Kind::Write => Some(keyed(self.memory.lend_for_read(cid)?, len_bytes)),
            Kind::Read => Some(keyed(self.memory.lend_for_write(cid)?, len_bytes)),
        };
        let sqe = nvme::entry(&self.shape, cid, &io, sgl)?;
        let data = if inside { self.memory.data(cid) } else { &[] };
        let work = Work::Send {
            payload: self.message(&sqe, data)?,
            invalidate: None,
        };
        match self.pair.post(SENT, work) {
            Ok(()) => {
                self.posted += 1;
                Ok(())
            }
            Err(PostError::Full(_)) => Err(PerfError::Buffers),
            // Why it was lost comes out of the pair.
            Err(PostError::Lost(_)) => Ok(()),
        }
    }

    fn receive(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        let before = done.len();
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.early.take().or_else(|| self.pair.try_next()) else {
                break;
            };
            self.handle(event, done)?;
        }
        Ok(done.len() > before)
    }

    fn send(&mut self) -> Result<u32, PerfError> {
        if self.posted == 0 {
            return Ok(0);
        }
        self.posted = 0;
        self.pair.kick();
        Ok(1)
    }
}

/// Work that a queue with `depth` commands in flight may have posted.
pub fn send_entries(depth: u16) -> u32 {
    u32::from(depth) * WORK_PER_COMMAND
}

fn keyed(remote: Remote, len_bytes: u32) -> Sgl {
    Sgl::Keyed {
        address: remote.address,
        len_bytes,
        key: remote.key,
        invalidate: false,
    }
}

fn refuse(cid: u16, problem: &'static str) -> PerfError {
    let kind = PduType::CAPSULE_RESP;
    PerfError::Protocol { kind, cid, problem }
}
