//! The null target over RDMA: answers, fetches what is written to it, and keeps nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rdma::{
    Card, CardOptions, Completion, Done, Incoming, Inline, Listener, PairOptions, Payload,
    QueuePair, Received, Remote, Work,
};
use reactor::Spin;
use reactor::buf::{Buf, alloc, try_alloc};
use reactor::time::{sleep, timeout};
use wire::nvme::command::ReadWrite;
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};
use wire::rdma::{CmAccept, CmReject, CmRequest, CmStatus, PrivateDataError};

use super::Disguise;
use super::admin::{self, Registers};
use crate::card;
use crate::cli::NullArgs;
use crate::error::PerfError;

/// Messages on the way to it, from all hosts.
const RECEIVE_ENTRIES: u32 = 512;
/// Receives that one queue is told of.
const QUEUE_RECEIVES_MAX: u32 = 256;
/// Work of a queue for one command: fetching or giving its data, and its answer.
const WORK_PER_COMMAND: u32 = 3;
/// Entries of the completion queue.
const COMPLETION_ENTRIES: u32 = 64 << 10;
/// Fetches of one queue that may be on the way.
const READ_DEPTH: u8 = 16;
/// Bytes of buffers for data on its way here.
const BUFFER_BYTES: usize = 4 << 20;
/// Longest command: one buffer.
const IO_BYTES_MAX: u32 = 1 << 20;
/// How long the core polls when nothing comes.
const SPIN: Duration = Duration::from_micros(200);
/// Longest wait for a connection to stand.
const ACCEPT_LIMIT: Duration = Duration::from_secs(10);
/// Tag of what needs no telling apart; fetches have their command identifier.
const ANSWER: u64 = u64::MAX;

/// Serves until the time is over, or for ever. Prints one `ready:` line with the address.
///
/// Errors: `Rdma` when there is no card or no such address on it, `Reactor`.
pub fn run(args: &NullArgs, disguise: Disguise) -> Result<(), PerfError> {
    let receive_bytes = disguise.capsule_bytes.next_power_of_two() as usize;
    let buffer_bytes = BUFFER_BYTES + RECEIVE_ENTRIES as usize * receive_bytes;
    let config = card::core("null".to_owned(), args.core, Spin::For(SPIN), buffer_bytes);
    let (cards, time) = (args.card.open()?, args.time);
    let main = move || async move {
        let card = cards.card(CardOptions {
            receive_entries: RECEIVE_ENTRIES,
            receive_data_bytes: disguise.capsule_bytes,
            completion_entries: COMPLETION_ENTRIES,
            ..CardOptions::default()
        })?;
        let listening = serve(card, disguise).await?;
        match time {
            None => listening.await,
            Some(time) => Ok(timeout(time, listening).await.unwrap_or(Ok(()))?),
        }
    };
    reactor::cores::run(config, main)?
}

/// Listens, says so, and gives what accepts.
async fn serve(
    card: Card,
    disguise: Disguise,
) -> Result<impl Future<Output = Result<(), PerfError>>, PerfError> {
    let listener = card.listen(disguise.address).await?;
    let disguise = Disguise {
        address: listener.address(),
        ..disguise
    };
    let content = content().await;
    disguise.announce();
    Ok(accept(listener, disguise, content))
}

/// What every read is answered with.
async fn content() -> Buf {
    let mut content = alloc(IO_BYTES_MAX as usize).await;
    let source = super::content();
    for (to, from) in content.as_mut().iter_mut().zip(source) {
        *to = *from;
    }
    content
}

async fn accept(listener: Listener, disguise: Disguise, content: Buf) -> Result<(), PerfError> {
    loop {
        match listener.accept().await {
            Ok(incoming) => {
                let queue = serve_one(incoming, disguise, content.clone());
                reactor::spawn(queue).detach();
            }
            // Of one request; the pause keeps a card that fails from using up the core.
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn serve_one(incoming: Incoming, disguise: Disguise, content: Buf) {
    let request = match CmRequest::check(incoming.private_data()) {
        Ok(request) => *request,
        Err(error) => return reject(incoming, &error),
    };
    let entries = request.send_entries().min(QUEUE_RECEIVES_MAX);
    let options = PairOptions {
        send_entries: entries * WORK_PER_COMMAND,
        read_depth: READ_DEPTH,
    };
    let accept = CmAccept::new(entries as u16);
    let pair = timeout(ACCEPT_LIMIT, incoming.accept(accept.as_wire(), options)).await;
    // A host that goes away meanwhile comes again.
    let Ok(Ok(pair)) = pair else { return };
    let queue = Queue {
        pair,
        disguise,
        content,
        registers: Registers::default(),
        is_io: request.qid.get() != 0,
        fetching: BTreeMap::new(),
        waiting: VecDeque::new(),
        broken: false,
    };
    queue.run().await;
}

fn reject(incoming: Incoming, error: &PrivateDataError) {
    let status: CmStatus = error.status();
    incoming.reject(CmReject::new(status).as_wire());
}

/// One queue of a host.
struct Queue {
    pair: QueuePair,
    disguise: Disguise,
    content: Buf,
    registers: Registers,
    is_io: bool,
    /// Commands whose data is on the way, by tag.
    fetching: BTreeMap<u64, u16>,
    /// Writes that wait for a buffer: identifier, where their data is, and how much.
    waiting: VecDeque<(u16, Remote, u32)>,
    /// The host broke a rule, or the send queue is full, which a host that keeps to its queue does
    /// not reach.
    broken: bool,
}

impl Queue {
    async fn run(mut self) {
        while !self.broken {
            let Ok(event) = self.pair.next().await else {
                return;
            };
            self.handle(event).await;
            while !self.broken
                && let Some(Ok(event)) = self.pair.try_next()
            {
                self.handle(event).await;
            }
            self.pair.kick();
        }
        self.pair.disconnect();
    }

    async fn handle(&mut self, event: Completion) {
        match event {
            Completion::Received(message) => self.command(&message).await,
            Completion::Done {
                tag,
                done: Done::Read(data),
            } => {
                drop(data);
                if let Some(cid) = self.fetching.remove(&tag) {
                    self.respond(cid, Status::SUCCESS, 0);
                }
                self.fetch_waiting().await;
            }
            Completion::Done { .. } | Completion::Failed { .. } => {}
        }
    }

    async fn command(&mut self, message: &Received) {
        let sqe = match Sqe::decode(&message.header) {
            Ok(sqe) if message.len_bytes as usize >= Sqe::SIZE => *sqe,
            _ => {
                self.broken = true;
                return;
            }
        };
        if !self.is_io || sqe.is_fabrics() {
            return self.admin(&sqe).await;
        }
        let cid = sqe.cid.get();
        let inside_bytes = message.data.as_ref().map_or(0, |data| data.len() as u32);
        match self.judge(&sqe, inside_bytes) {
            Reply::Status(status) => self.respond(cid, status, 0),
            Reply::Give(to, len_bytes) => {
                let data = self.content.slice(..len_bytes as usize);
                self.post(ANSWER, Work::Write { data, to });
                self.respond(cid, Status::SUCCESS, 0);
            }
            Reply::Fetch(from, len_bytes) => {
                // A host that keeps to its queue does not get there.
                self.broken |= self.waiting.len() >= QUEUE_RECEIVES_MAX as usize;
                self.waiting.push_back((cid, from, len_bytes));
                self.fetch_waiting().await;
            }
        }
    }

    /// What to do about an I/O command.
    fn judge(&self, sqe: &Sqe, inside_bytes: u32) -> Reply {
        let opcode = sqe.nvm_opcode();
        if opcode == NvmOpcode::FLUSH {
            return Reply::Status(Status::SUCCESS);
        }
        if ![NvmOpcode::READ, NvmOpcode::WRITE].contains(&opcode) {
            return Reply::Status(Status::INVALID_OPCODE);
        }
        let blocks = ReadWrite::decode(sqe).map_or(u32::MAX, |range| range.block_count());
        let len_bytes = blocks.saturating_mul(self.disguise.block_bytes);
        if len_bytes > IO_BYTES_MAX {
            return Reply::Status(Status::INVALID_FIELD);
        }
        match (opcode, sqe.sgl()) {
            (_, Ok(sgl)) if sgl.data_len_bytes() != len_bytes => {
                Reply::Status(Status::SGL_DATA_LENGTH_INVALID)
            }
            (NvmOpcode::READ, Ok(Sgl::Keyed { address, key, .. })) => {
                Reply::Give(Remote { address, key }, len_bytes)
            }
            (NvmOpcode::WRITE, Ok(Sgl::Keyed { address, key, .. })) => {
                Reply::Fetch(Remote { address, key }, len_bytes)
            }
            (NvmOpcode::WRITE, Ok(Sgl::InCapsule { .. })) if inside_bytes == len_bytes => {
                Reply::Status(Status::SUCCESS)
            }
            _ => Reply::Status(Status::SGL_TYPE_INVALID),
        }
    }

    /// Fetches as much as there are buffers for. Only a queue with nothing on the way waits for
    /// one: the others have theirs coming back.
    async fn fetch_waiting(&mut self) {
        while let Some((cid, from, len_bytes)) = self.waiting.pop_front() {
            let len = len_bytes as usize;
            let into = match try_alloc(len) {
                Some(buf) => buf,
                None if self.fetching.is_empty() => {
                    self.pair.kick();
                    alloc(len).await
                }
                None => {
                    self.waiting.push_front((cid, from, len_bytes));
                    return;
                }
            };
            let tag = u64::from(cid);
            if self.fetching.insert(tag, cid).is_some() {
                // The identifier is in use.
                self.broken = true;
                return;
            }
            self.post(tag, Work::Read { into, from });
        }
    }

    async fn admin(&mut self, sqe: &Sqe) {
        let cid = sqe.cid.get();
        match admin::answer(&mut self.registers, &self.disguise, sqe) {
            None => {}
            Some(Err(status)) => self.respond(cid, status, 0),
            Some(Ok((result, bytes))) => {
                if !bytes.is_empty() && !self.give(sqe, &bytes).await {
                    return self.respond(cid, Status::SGL_TYPE_INVALID, 0);
                }
                self.respond(cid, Status::SUCCESS, result);
            }
        }
    }

    /// Writes the data of an admin command; false when the host does not say where to.
    async fn give(&mut self, sqe: &Sqe, bytes: &[u8]) -> bool {
        let Ok(Sgl::Keyed {
            address,
            key,
            len_bytes,
            ..
        }) = sqe.sgl()
        else {
            return false;
        };
        let bytes = bytes.get(..len_bytes as usize).unwrap_or(bytes);
        let mut data = alloc(bytes.len()).await;
        data.as_mut().copy_from_slice(bytes);
        let to = Remote { address, key };
        self.post(ANSWER, Work::Write { data, to });
        true
    }

    fn respond(&mut self, cid: u16, status: Status, result: u64) {
        let cqe = Cqe::new(cid, 0, status, result);
        match Inline::new(cqe.as_wire()) {
            Some(inline) => {
                let payload = Payload::Inline(inline);
                let invalidate = None;
                self.post(
                    ANSWER,
                    Work::Send {
                        payload,
                        invalidate,
                    },
                );
            }
            None => self.broken = true,
        }
    }

    fn post(&mut self, tag: u64, work: Work) {
        // Of a pair that is lost the next event tells.
        if let Err(rdma::PostError::Full(_)) = self.pair.post(tag, work) {
            self.broken = true;
        }
    }
}

/// What to do about an I/O command.
enum Reply {
    /// Complete it.
    Status(Status),
    /// Write so many bytes there.
    Give(Remote, u32),
    /// Read so many bytes from there.
    Fetch(Remote, u32),
}
