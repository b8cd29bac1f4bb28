//! From a request to a connected queue: the queue pair, then Connect, its first capsule.
//!
//! Strictly one step after another, so that the queue proper knows its controller from the start.
//! Everything here ends by `connect_timeout`.
//! Source: NVMe RDMA transport 1.0 section 3.1; base 2.0 section 6.3 (Connect).

use std::net::SocketAddr;
use std::rc::Rc;

use rdma::{
    Completion, Done, HEADER_BYTES, Incoming, Inline, PairOptions, Payload, QueuePair, Received,
    Work,
};
use reactor::buf::Buf;
use wire::fabrics::connect::ConnectData;
use wire::nvme::{Cqe, Sqe, Status};
use wire::rdma::CmAccept;

use super::connection::{self, Connection, reason_of};
use super::link::{RdmaLink, remote, send_entries};
use super::request::Asked;
use crate::complaints::Complaint;
use crate::nvmf::fabrics::{self, ConnectRequest};
use crate::nvmf::join::{Joined, join};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::{DataPlace, Transfer};
use crate::nvmf::port::CloseReason;
use crate::nvmf::queue::{Carried, Ends, Link, Queue};
use crate::nvmf::target::{Greeting, Target};
use crate::nvmf::transport::Transport;
use crate::seats::Seat;

/// Reads that a queue has on the way at once, where host and card allow as many.
const READ_DEPTH: u8 = 16;

/// A queue pair on its way to being a queue.
struct Guest<'a> {
    target: &'a Target,
    pair: QueuePair,
    asked: Asked,
    ends: Ends,
    sqhd: u16,
}

/// A Connect that was carried out.
struct Connected {
    joined: Joined,
    sqe: Sqe,
    request: ConnectRequest,
}

/// Serves a request until its connection has ended; returns at once.
pub(super) fn begin(target: &Target, incoming: Incoming, seat: Seat, asked: Asked) {
    let Some(pass) = target.begin_greeting() else {
        return incoming.reject(&[]);
    };
    let target = target.clone();
    drop(reactor::spawn(async move {
        let ends = Ends {
            peer: incoming.peer(),
            local: incoming.local(),
        };
        let greeted = greet(&target, incoming, asked, ends, &pass).await;
        drop(pass);
        match greeted {
            Ok((pair, sqhd, connected)) => {
                let carried = carried(seat, ends, sqhd, &connected);
                serve(target, pair, carried, connected).await;
            }
            Err(reason) => end(&target, ends.peer, reason),
        }
    }));
}

/// Runs to a connected queue, within the time a new connection has and while there is room.
async fn greet(
    target: &Target,
    incoming: Incoming,
    asked: Asked,
    ends: Ends,
    pass: &Greeting,
) -> Result<(QueuePair, u16, Connected), CloseReason> {
    let steps = async {
        let pair = accept(target, incoming, asked).await?;
        let mut guest = Guest {
            target,
            pair,
            asked,
            ends,
            sqhd: 0,
        };
        let connected = guest.run().await?;
        Ok((guest.pair, guest.sqhd, connected))
    };
    let limit = target.options().connect_timeout;
    let steps = async {
        let run = reactor::time::timeout(limit, steps);
        match net::first(run, pass.crowded_out()).await {
            Some(Ok(greeted)) => greeted,
            Some(Err(_)) => Err(CloseReason::ConnectTimeout),
            None => Err(CloseReason::Limit),
        }
    };
    let steps = target.until_closing(steps).await;
    steps.unwrap_or(Err(CloseReason::Shutdown))
}

async fn accept(
    target: &Target,
    incoming: Incoming,
    asked: Asked,
) -> Result<QueuePair, CloseReason> {
    let peer = incoming.peer();
    let options = PairOptions {
        send_entries: send_entries(u32::from(asked.entries)),
        read_depth: READ_DEPTH,
    };
    let accepted = CmAccept::new(asked.entries);
    let pair = incoming.accept(accepted.as_wire(), options).await;
    pair.map_err(|error| {
        target.complaints().about(Complaint::Unconnected, || {
            tracing::warn!(%peer, %error, "RDMA connection could not be made");
        });
        CloseReason::SocketError
    })
}

impl Guest<'_> {
    /// Takes commands until one is a good Connect; all others are refused.
    async fn run(&mut self) -> Result<Connected, CloseReason> {
        loop {
            let received = self.next_capsule().await?;
            let Ok(sqe) = Sqe::decode(&received.header) else {
                return Err(CloseReason::ProtocolError);
            };
            let sqe = *sqe;
            if (received.len_bytes as usize) < HEADER_BYTES {
                return Err(CloseReason::ProtocolError);
            }
            self.sqhd = self.sqhd.wrapping_add(1) % self.asked.entries;
            let step = match self.connect_data(&sqe, &received).await? {
                Ok(data) => self.connect(sqe, &data).await,
                Err(status) => Err(Outcome::failure(status)),
            };
            match step {
                Ok(connected) => return Ok(connected),
                Err(outcome) => self.respond(&sqe, outcome)?,
            }
        }
    }

    async fn next_capsule(&self) -> Result<Received, CloseReason> {
        loop {
            match self.pair.next().await.map_err(reason_of)? {
                Completion::Received(received) => return Ok(received),
                Completion::Done { .. } | Completion::Failed { .. } => {}
            }
        }
    }

    /// The data of a Connect, from the capsule or from the host's memory. The inner error refuses the
    /// command.
    async fn connect_data(
        &self,
        sqe: &Sqe,
        received: &Received,
    ) -> Result<Result<[u8; ConnectData::SIZE], Status>, CloseReason> {
        use wire::fabrics::FabricsType;
        if sqe.fabrics_type() != Some(FabricsType::CONNECT) {
            return Ok(Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()));
        }
        let capsule_bytes = match self.asked.qid {
            0 => 0,
            _ => received.len_bytes - HEADER_BYTES as u32,
        };
        let mut data = [0; ConnectData::SIZE];
        match fabrics::plan(sqe, capsule_bytes, Transport::Rdma) {
            Ok(Transfer::FromHost {
                place: DataPlace::Capsule { offset },
                ..
            }) => {
                let offset = offset as usize;
                let sent = received.data.as_deref().unwrap_or_default();
                let Some(sent) = sent.get(offset..offset + data.len()) else {
                    return Ok(Err(Status::SGL_OFFSET_INVALID.with_dnr()));
                };
                data.copy_from_slice(sent);
                Ok(Ok(data))
            }
            Ok(_) => {
                let read = self.read_data(sqe).await?;
                data.copy_from_slice(&read);
                Ok(Ok(data))
            }
            Err(status) => Ok(Err(status)),
        }
    }

    async fn read_data(&self, sqe: &Sqe) -> Result<Buf, CloseReason> {
        let Some((from, _)) = remote(sqe) else {
            return Err(CloseReason::ProtocolError);
        };
        let into = reactor::buf::alloc(ConnectData::SIZE).await;
        self.post(Work::Read { into, from })?;
        loop {
            match self.pair.next().await.map_err(reason_of)? {
                Completion::Done {
                    done: Done::Read(data),
                    ..
                } => return Ok(data),
                Completion::Done { .. } => {}
                Completion::Failed { .. } => return Err(CloseReason::SocketError),
                // Nothing may follow a Connect before it is answered.
                Completion::Received(_) => return Err(CloseReason::ProtocolError),
            }
        }
    }

    /// Carries out a Connect, here or on the core of its subsystem.
    async fn connect(&self, sqe: Sqe, data: &[u8]) -> Result<Connected, Outcome> {
        // A host may not want more than it said to the connection manager.
        let most = self.asked.entries;
        let request = fabrics::check_connect(&sqe, data, most, Transport::Rdma)?;
        match join(self.target, request.clone(), self.ends.local).await {
            Ok(joined) => Ok(Connected {
                joined,
                sqe,
                request,
            }),
            Err(outcome) => {
                self.target.complaints().about(Complaint::Connect, || {
                    tracing::info!(
                        peer = %self.ends.peer, host = %request.host.nqn,
                        subsystem = %request.subsystem_nqn, qid = request.qid,
                        status = ?outcome.status, "connect refused"
                    );
                });
                Err(outcome)
            }
        }
    }

    fn respond(&self, sqe: &Sqe, outcome: Outcome) -> Result<(), CloseReason> {
        let cqe = Cqe::new(sqe.cid.get(), self.sqhd, outcome.status, outcome.result);
        let inline = Inline::new(cqe.as_wire()).ok_or(CloseReason::ProtocolError)?;
        let invalidate = remote(sqe).and_then(|(_, invalidate)| invalidate);
        self.post(Work::Send {
            payload: Payload::Inline(inline),
            invalidate,
        })
    }

    fn post(&self, work: Work) -> Result<(), CloseReason> {
        let posted = self.pair.post(0, work);
        self.pair.kick();
        posted.map_err(|_| CloseReason::SocketError)
    }
}

fn carried(seat: Seat, ends: Ends, sqhd: u16, connected: &Connected) -> Carried {
    let (request, qid) = (&connected.request, connected.joined.qid);
    let mut carried = Carried::fresh(seat, ends, qid, request.entries, sqhd);
    carried.no_flow_control = request.no_flow_control;
    carried
}

/// Answers the Connect and goes on as a queue, until it ends.
async fn serve(target: Target, pair: QueuePair, carried: Carried, connected: Connected) {
    let Connected {
        joined,
        sqe,
        request,
    } = connected;
    let (sqhd, host) = (carried.table.sqhd(), carried.peer.ip());
    let link = RdmaLink::new(pair, request.entries);
    let home = joined.home;
    let homes = target.options().directory.homes().clone();
    let queue: Rc<Connection> = Queue::new(target, link, joined.owner, carried);
    let _note = (queue.qid == 0).then(|| homes.note(host, queue.owner.cntlid(), home));
    let entered = match queue.owner.here() {
        Some(controller) => controller.add_queue(queue.qid, queue.port()),
        None => Ok(()),
    };
    if let Err(status) = entered {
        // The queue was connected by another request while this one waited.
        queue.answer_unentered(&sqe, status);
        return connection::run_unentered(queue).await;
    }
    let sqhd = if queue.no_flow_control {
        u16::MAX
    } else {
        sqhd
    };
    let cqe = Cqe::new(sqe.cid.get(), sqhd, Status::SUCCESS, joined.result);
    RdmaLink::answer(&queue, &sqe, cqe, None);
    queue.log("connected");
    connection::run(queue, joined.from_home).await;
}

/// Tells of a pair that did not become a connection.
fn end(target: &Target, peer: SocketAddr, reason: CloseReason) {
    target.complaints().about(Complaint::Unconnected, || {
        tracing::info!(%peer, ?reason, "connection ended before it was connected");
    });
    target.totals().refused(reason);
}
