//! One NVMe queue over one RDMA connection: many commands in flight.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use rdma::{
    Card, Completion as Event, Inline, Lost, PairOptions, Payload, PostError, QueuePair, RdmaError,
    Received, Work, WorkError,
};
use reactor::time::timeout;
use wire::fabrics::connect::{ConnectCommand, ConnectData, ConnectResponse, cattr};
use wire::nvme::command::Fuse;
use wire::nvme::{Cqe, Sgl, Sqe};
use wire::rdma::{ADMIN_CAPSULE_DATA_BYTES, CmAccept, CmReject, CmRequest};
use wire::tcp::PduType;
use zerocopy::little_endian::U16;

use super::Options;
use super::transfer::{Flying, buffer};
use crate::table::Table;
use crate::{Cid, Command, Completion, HostError, QueueId};

/// RDMA READs of the controller that may be on the way at once.
const READ_DEPTH: u8 = 16;
/// Tag of all messages: their ends need no telling apart.
const SENT: u64 = 0;

/// A queue over RDMA, admin or I/O.
pub struct Queue {
    card: Card,
    pair: QueuePair,
    options: Options,
    capsule_data_bytes: usize,
    table: Table<Flying>,
    /// Keys that the controller had forgotten here.
    invalidations: u64,
}

impl Queue {
    /// Makes the connection and says nothing over it yet: Connect is still to be sent.
    ///
    /// Errors: `Rdma`; `Rejected` when the controller says why; `PrivateData` for an accept that is
    /// none; `Timeout`.
    pub async fn open(
        card: &Card,
        address: SocketAddr,
        request: &CmRequest,
        options: &Options,
    ) -> Result<Self, HostError> {
        let limit = options.host.timeout;
        let pair_options = PairOptions {
            send_entries: request.send_entries(),
            read_depth: READ_DEPTH,
        };
        let connected = timeout(
            limit,
            card.connect(address, request.as_wire(), pair_options),
        );
        let (pair, said) = match connected.await {
            Ok(connected) => connected.map_err(rejected)?,
            Err(_) => return Err(timed_out("connecting", limit, Vec::new())),
        };
        let receives = u32::from(CmAccept::check(&said)?.crqsize.get());
        let entries = request.send_entries().min(receives);
        if entries < 2 {
            let problem = format!("the controller has {receives} receives for this queue");
            return Err(HostError::Answer {
                what: "RDMA_CM_ACCEPT",
                problem,
            });
        }
        Ok(Self {
            card: card.clone(),
            pair,
            options: options.clone(),
            capsule_data_bytes: ADMIN_CAPSULE_DATA_BYTES as usize,
            table: Table::new(entries),
            invalidations: 0,
        })
    }

    /// Makes the connection and sends Connect. Also gives the Connect response.
    /// `capsule_data_bytes` is what a capsule of this queue may carry.
    ///
    /// Errors: as [`Self::open`]; `Command` when Connect fails.
    pub async fn connect(
        card: &Card,
        address: SocketAddr,
        id: QueueId<'_>,
        capsule_data_bytes: usize,
        options: &Options,
    ) -> Result<(Self, ConnectResponse), HostError> {
        let entries = u16::try_from(id.entries).unwrap_or(u16::MAX);
        let cntlid = if options.names_controller {
            id.cntlid
        } else {
            0
        };
        let request = CmRequest::new(id.qid, entries, cntlid);
        let mut queue = Self::open(card, address, &request, options).await?;
        queue.capsule_data_bytes = capsule_data_bytes;
        let host = &options.host;
        let data = ConnectData::new(host.hostid, id.cntlid, id.subnqn, &host.hostnqn)?;
        let kato_ms = if id.qid == 0 { host.kato_ms } else { 0 };
        let mut connect = ConnectCommand::new(0, id.qid, u32::from(entries), kato_ms)?;
        if !host.sq_flow_control {
            connect.cattr |= cattr::DISABLE_SQ_FLOW_CONTROL;
        }
        let command = Command::sending(connect.to_sqe(), data.as_wire().to_vec());
        let done = queue.call("Connect", command).await?;
        Ok((queue, ConnectResponse::decode(done.cqe.dw0())))
    }

    /// Commands without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    /// Most commands that can be in flight: one entry of the ring stays free.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// The connection below, for tests that break the rules.
    #[must_use]
    pub fn pair(&self) -> &QueuePair {
        &self.pair
    }

    /// The card, to expose memory that no command of this host describes.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Keys that the controller had this host's card forget.
    #[must_use]
    pub fn invalidations(&self) -> u64 {
        self.invalidations
    }

    /// The connection alone, for a user that goes on by itself.
    #[must_use]
    pub fn into_pair(self) -> QueuePair {
        self.pair
    }

    /// Changes the limit of every later wait.
    pub fn set_timeout(&mut self, limit: Duration) {
        self.options.host.timeout = limit;
    }

    /// Ends the connection without a word above the connection manager; what is in flight gets no
    /// answer. Dropping the queue does the same.
    pub fn disconnect(&self) {
        self.pair.disconnect();
    }

    /// Sends one command and gives its identifier.
    ///
    /// Errors: `QueueFull`, and whatever ends the connection.
    pub async fn submit(&mut self, command: Command) -> Result<Cid, HostError> {
        let cid = self.table.free_cid(1)?;
        self.send_command(cid, command).await?;
        self.pair.kick();
        Ok(cid)
    }

    /// Sends a fused pair; the two completions are given as one, under the returned identifier:
    /// the first one that failed, else the second.
    pub async fn submit_fused(
        &mut self,
        mut first: Command,
        mut second: Command,
    ) -> Result<Cid, HostError> {
        let one = self.table.free_cid(2)?;
        first.sqe.set_fuse(Fuse::FIRST);
        second.sqe.set_fuse(Fuse::SECOND);
        self.send_command(one, first).await?;
        let two = self.table.free_cid(1)?;
        self.send_command(two, second).await?;
        self.table.fuse(one, two);
        self.pair.kick();
        Ok(two)
    }

    /// Sends `sqe` as it is, with `data` behind it, and keeps nothing of it: its answer comes from
    /// [`Self::next_message`].
    pub async fn send_capsule(&mut self, sqe: &Sqe, data: &[u8]) -> Result<(), HostError> {
        self.post_capsule(sqe, data).await?;
        self.pair.kick();
        Ok(())
    }

    /// Sends any message.
    pub async fn send_message(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        let mut buf = buffer(bytes.len()).await?;
        buf.as_mut().copy_from_slice(bytes);
        self.post(Payload::Buf(buf)).await?;
        self.pair.kick();
        Ok(())
    }

    /// Waits for the next message, whatever it says.
    ///
    /// Errors: `Lost` and `Work` when the connection ends; `Timeout`.
    pub async fn next_message(&mut self) -> Result<Received, HostError> {
        let limit = self.options.host.timeout;
        let messages = async {
            loop {
                if let Some(message) = message(self.pair.next().await)? {
                    return Ok(message);
                }
            }
        };
        match timeout(limit, messages).await {
            Ok(message) => message,
            Err(_) => Err(timed_out("waiting for a message", limit, self.table.cids())),
        }
    }

    /// Waits until the connection has ended, and says why; messages that still come are dropped.
    ///
    /// Errors: `Timeout` when it stands.
    pub async fn wait_lost(&mut self) -> Result<Lost, HostError> {
        let limit = self.options.host.timeout;
        let ended = async {
            loop {
                if let Err(why) = self.pair.next().await {
                    return why;
                }
            }
        };
        let ended = timeout(limit, ended).await;
        ended.map_err(|_| timed_out("waiting for the end", limit, Vec::new()))
    }

    /// Waits for the next completion, in the controller's order.
    pub async fn next_completion(&mut self) -> Result<Completion, HostError> {
        let limit = self.options.host.timeout;
        let done = self.poll_completion(limit).await?;
        done.ok_or_else(|| self.silent(limit))
    }

    /// Waits at most `limit` for the next completion.
    pub async fn poll_completion(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Completion>, HostError> {
        let deadline = reactor::now() + limit;
        loop {
            if let Some(done) = self.table.next_done() {
                return Ok(Some(done));
            }
            let left = deadline.saturating_duration_since(reactor::now());
            if !self.progress(left).await? {
                return Ok(None);
            }
        }
    }

    /// Sends one command and waits for it; others that complete meanwhile are kept.
    ///
    /// Errors: `Command` when its status is not success.
    pub async fn call(
        &mut self,
        what: &'static str,
        command: Command,
    ) -> Result<Completion, HostError> {
        let cid = self.submit(command).await?;
        self.wait_for(cid).await?.ok(what)
    }

    /// Waits for the command `cid`; others that complete meanwhile are kept.
    pub async fn wait_for(&mut self, cid: Cid) -> Result<Completion, HostError> {
        let limit = self.options.host.timeout;
        loop {
            if let Some(done) = self.table.take_done(cid) {
                return Ok(done);
            }
            if !self.progress(limit).await? {
                return Err(self.silent(limit));
            }
        }
    }

    /// Handles one event; false when none came within `limit`.
    async fn progress(&mut self, limit: Duration) -> Result<bool, HostError> {
        let Ok(event) = timeout(limit, self.pair.next()).await else {
            return Ok(false);
        };
        if let Some(message) = message(event)? {
            self.answer(&message)?;
        }
        Ok(true)
    }

    fn answer(&mut self, message: &Received) -> Result<(), HostError> {
        let kind = PduType::CAPSULE_RESP;
        if message.len_bytes as usize != Cqe::SIZE {
            let problem = format!("a response has {} bytes", message.len_bytes);
            return Err(HostError::Answer {
                what: "response capsule",
                problem,
            });
        }
        let cqe = *Cqe::decode(&message.header)?;
        if let Some(key) = message.invalidated {
            let cid = cqe.cid.get();
            self.table.find(kind, cid)?.invalidate(cid, key)?;
            self.invalidations += 1;
        }
        self.table.complete(cqe)
    }

    async fn send_command(&mut self, cid: Cid, mut command: Command) -> Result<(), HostError> {
        command.sqe.cid = U16::new(cid);
        let len_bytes = command.send.len().max(command.receive_bytes) as u32;
        let fits = command.send.len() <= self.capsule_data_bytes;
        if self.options.host.in_capsule && fits && !command.send.is_empty() {
            let inside = Sgl::InCapsule {
                offset: 0,
                len_bytes,
            };
            command.sqe.dptr = inside.encode();
            self.post_capsule(&command.sqe, &command.send).await?;
            self.table.insert(cid, Flying::default());
            return Ok(());
        }
        let flying = Flying::new(&self.card, &command, self.options.invalidate).await?;
        if let Some(descriptor) = flying.descriptor(len_bytes) {
            command.sqe.dptr = descriptor.encode();
        }
        self.post_capsule(&command.sqe, &[]).await?;
        self.table.insert(cid, flying);
        Ok(())
    }

    async fn post_capsule(&mut self, sqe: &Sqe, data: &[u8]) -> Result<(), HostError> {
        let payload = match Inline::new(sqe.as_wire()) {
            Some(inline) if data.is_empty() => Payload::Inline(inline),
            _ => {
                let mut buf = buffer(Sqe::SIZE + data.len()).await?;
                let (head, tail) = buf.as_mut().split_at_mut(Sqe::SIZE);
                head.copy_from_slice(sqe.as_wire());
                tail.copy_from_slice(data);
                Payload::Buf(buf)
            }
        };
        self.post(payload).await
    }

    /// Posts a message, after what is on the way when the send queue is full.
    async fn post(&mut self, payload: Payload) -> Result<(), HostError> {
        let limit = self.options.host.timeout;
        let mut work = Work::Send {
            payload,
            invalidate: None,
        };
        loop {
            match self.pair.post(SENT, work) {
                Ok(()) => return Ok(()),
                Err(PostError::Full(back) | PostError::Lost(back)) => work = back,
            }
            self.pair.kick();
            if !self.progress(limit).await? {
                return Err(self.silent(limit));
            }
        }
    }

    fn silent(&self, limit: Duration) -> HostError {
        timed_out("waiting for a completion", limit, self.table.cids())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("pair", &self.pair)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// The message that an event brings; none for one that tells of work that ended well or flushed,
/// after which the end of the connection comes.
fn message(event: Result<Event, Lost>) -> Result<Option<Received>, HostError> {
    match event {
        Ok(Event::Received(message)) => Ok(Some(message)),
        Ok(Event::Done { .. }) => Ok(None),
        Ok(Event::Failed {
            error: WorkError::Flushed,
            ..
        }) => Ok(None),
        Ok(Event::Failed { error, .. }) => Err(HostError::Work(error)),
        Err(why) => Err(HostError::Lost(why)),
    }
}

fn rejected(error: RdmaError) -> HostError {
    if let RdmaError::Refused { private_data, .. } = &error
        && let Ok(reject) = CmReject::check(private_data)
        && reject.sts.get() != 0
    {
        return HostError::Rejected {
            status: reject.status(),
        };
    }
    error.into()
}

fn timed_out(doing: &'static str, limit: Duration, in_flight: Vec<Cid>) -> HostError {
    HostError::Timeout {
        doing,
        after_ms: limit.as_millis() as u64,
        in_flight,
    }
}
