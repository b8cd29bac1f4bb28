//! From an accepted socket to a connected queue: ICReq, ICResp, Connect, and the move to the core
//! of the subsystem.
//!
//! Strictly one step after another, so that the connection proper knows its controller from the
//! start. Everything here ends by `connect_timeout`.

use std::net::SocketAddr;

use reactor::net::{DetachedStream, TcpStream};
use wire::fabrics::FabricsType;
use wire::fabrics::connect::ConnectData;
use wire::nvme::{Cqe, Sqe, Status};
use wire::tcp::digest::header_digest;
use wire::tcp::{CapsuleResp, Grant, H2cData, Layout, Pdu, PduError, PduType, R2t};
use wire::text::DISCOVERY_NQN;

use super::connection::{Connection, Greeted};
use super::handshake::{Negotiated, fatal, refuse, shake_hands};
use super::intake::{Intake, Sink, parse};
use super::socket::Socket;
use crate::complaints::Complaint;
use crate::nvmf::fabrics::{self, ConnectRequest, Connected};
use crate::nvmf::handover::TargetMessage;
use crate::nvmf::moves::Traveller;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::{DataPlace, Transfer};
use crate::nvmf::port::CloseReason;
use crate::nvmf::target::{Greeting, Target};
use crate::nvmf::transport::Transport;
use crate::seats::Seat;

/// Transfer tag for the data of a Connect that does not come in its capsule.
const CONNECT_TTAG: u16 = 0;

/// A socket on its way to being a connection.
struct Guest<'a> {
    target: &'a Target,
    socket: Socket,
    seat: Seat,
    intake: Intake,
    negotiated: Negotiated,
    peer: SocketAddr,
    local: SocketAddr,
    sqhd: u16,
}

/// All there is to know about a connection whose Connect has not been answered, on its way to the
/// core of its subsystem.
struct Handover {
    stream: DetachedStream,
    seat: Seat,
    peer: SocketAddr,
    local: SocketAddr,
    negotiated: Negotiated,
    /// Bytes read after Connect.
    unread: Vec<u8>,
    /// The Connect command, still to be answered.
    sqe: Sqe,
    /// Queue head after it.
    sqhd: u16,
    /// Its checked content.
    request: ConnectRequest,
}

impl Traveller for Handover {
    fn arrive(self: Box<Self>, target: &Target) {
        let target = target.clone();
        drop(reactor::spawn(async move {
            if let Some(greeted) = resumed(&target, *self).await {
                Connection::serve(target, greeted).await;
            }
        }));
    }
}

/// How a Connect ended.
enum Step {
    /// Refused; the host may send another.
    Again,
    /// It is a queue of a controller here.
    Connected(Connected, ConnectRequest, u16),
    /// Its subsystem lives on another core.
    Elsewhere(Box<(Sqe, ConnectRequest)>),
}

/// Greets a socket that was just accepted. None when it ended or moved to another core.
pub(super) async fn fresh(target: &Target, stream: TcpStream, peer: SocketAddr) -> Option<Greeted> {
    let local = stream.local_addr().ok()?;
    let socket = Socket::new(stream);
    let seat = target.take_seat()?;
    let pass = target.begin_greeting()?;
    let mut guest = Guest {
        target,
        socket,
        seat,
        intake: Intake::new(),
        negotiated: Negotiated::default(),
        peer,
        local,
        sqhd: 0,
    };
    let greeted = guest.timed(&pass, None).await;
    drop(pass);
    finish(guest, greeted).await
}

/// Goes on where another core stopped: the Connect is still to be answered.
async fn resumed(target: &Target, handover: Handover) -> Option<Greeted> {
    let pass = target.begin_greeting()?;
    let stream = TcpStream::attach(handover.stream).ok()?;
    let negotiated = handover.negotiated;
    let mut guest = Guest {
        target,
        socket: Socket::new(stream),
        seat: handover.seat,
        intake: Intake::resume(negotiated.link(target.options()), &handover.unread),
        negotiated,
        peer: handover.peer,
        local: handover.local,
        sqhd: handover.sqhd,
    };
    let command = Some((handover.sqe, handover.request));
    let greeted = guest.timed(&pass, command).await;
    drop(pass);
    finish(guest, greeted).await
}

async fn finish(guest: Guest<'_>, step: Result<Step, CloseReason>) -> Option<Greeted> {
    match step {
        Ok(Step::Connected(connected, request, connect_cid)) => Some(Greeted {
            socket: guest.socket,
            seat: guest.seat,
            intake: guest.intake,
            negotiated: guest.negotiated,
            connected,
            entries: request.entries,
            no_flow_control: request.no_flow_control,
            connect_cid,
            sqhd: guest.sqhd,
            peer: guest.peer,
            local: guest.local,
        }),
        Ok(Step::Elsewhere(command)) => {
            guest.hand_over(*command).await;
            None
        }
        Ok(Step::Again) => None,
        Err(reason) => {
            guest.end(reason).await;
            None
        }
    }
}

impl Guest<'_> {
    /// Runs to a connected queue, within the time a new connection has and while there is room.
    async fn timed(
        &mut self,
        pass: &Greeting,
        connect: Option<(Sqe, ConnectRequest)>,
    ) -> Result<Step, CloseReason> {
        let limit = self.target.options().connect_timeout;
        let target = self.target.clone();
        let steps = async {
            let run = reactor::time::timeout(limit, self.run(connect));
            match net::first(run, pass.crowded_out()).await {
                Some(Ok(step)) => step,
                Some(Err(_)) => Err(CloseReason::ConnectTimeout),
                None => Err(CloseReason::Limit),
            }
        };
        target
            .until_closing(steps)
            .await
            .unwrap_or(Err(CloseReason::Shutdown))
    }

    async fn run(&mut self, connect: Option<(Sqe, ConnectRequest)>) -> Result<Step, CloseReason> {
        let mut step = match connect {
            Some((sqe, request)) => self.connect(sqe, request, true).await?,
            None => {
                self.negotiated =
                    shake_hands(&self.socket, &mut self.intake, self.target, self.peer).await?;
                Step::Again
            }
        };
        while matches!(step, Step::Again) {
            step = self.next_command().await?;
        }
        Ok(step)
    }

    /// Reads one command; everything but a good Connect is refused.
    async fn next_command(&mut self) -> Result<Step, CloseReason> {
        let layout = match self.intake.next_header(&self.socket).await? {
            Ok(layout) => layout,
            Err(error) => return Err(self.refuse(&error).await),
        };
        let sqe = match parse(&self.intake, &layout) {
            Ok(Pdu::CapsuleCmd(capsule)) => capsule.sqe,
            Ok(Pdu::H2cTermReq(_)) => return Err(CloseReason::PeerTerminated),
            Ok(_) => return Err(self.out_of_sequence().await),
            Err(error) => {
                let error = fatal(error);
                return Err(self.refuse(&error).await);
            }
        };
        self.sqhd = self.sqhd.wrapping_add(1);
        self.intake.consume(layout.header + layout.header_digest);
        let mut data = [0; ConnectData::SIZE];
        match self.read_data(&sqe, &layout, &mut data).await? {
            Ok(()) => {}
            Err(status) => return self.respond(&sqe, status.into()).await,
        }
        let entries = self.target.options().max_queue_entries;
        match fabrics::check_connect(&sqe, &data, entries, Transport::Tcp) {
            Ok(request) => self.connect(sqe, request, false).await,
            Err(outcome) => self.respond(&sqe, outcome).await,
        }
    }

    async fn refuse(&self, error: &PduError) -> CloseReason {
        refuse(&self.socket, &self.intake, error, self.target, self.peer).await
    }

    /// Data before an R2T, or a PDU that only a connected queue may send.
    async fn out_of_sequence(&mut self) -> CloseReason {
        let error = PduError::Sequence {
            kind: PduType::H2C_DATA,
        };
        self.refuse(&error).await
    }

    /// Gets the data of a Connect, from the capsule or on request. The inner error refuses the
    /// command.
    async fn read_data(
        &mut self,
        sqe: &Sqe,
        layout: &Layout,
        data: &mut [u8],
    ) -> Result<Result<(), Status>, CloseReason> {
        let plan = match sqe.fabrics_type() {
            Some(FabricsType::CONNECT) => fabrics::plan(sqe, layout.data as u32, Transport::Tcp),
            _ => Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
        };
        let sink = match plan {
            Ok(Transfer::FromHost {
                place: DataPlace::Capsule { offset },
                ..
            }) => Sink::Memory {
                skip: offset as usize,
                bytes: &mut *data,
            },
            _ => Sink::Discard,
        };
        if layout.data != 0 && !self.intake.take_data(&self.socket, layout, sink).await? {
            return Ok(Err(Status::TRANSIENT_TRANSPORT_ERROR));
        }
        match plan {
            Ok(Transfer::FromHost {
                place: DataPlace::Transport,
                ..
            }) => self.fetch_data(sqe, data).await,
            Ok(_) => Ok(Ok(())),
            Err(status) => Ok(Err(status)),
        }
    }

    /// Asks for the data of a Connect and takes it; nothing else may come in between.
    async fn fetch_data(
        &mut self,
        sqe: &Sqe,
        data: &mut [u8],
    ) -> Result<Result<(), Status>, CloseReason> {
        let framing = self.negotiated.outgoing();
        let cid = sqe.cid.get();
        let (pdu, layout) = R2t::new(cid, CONNECT_TTAG, 0, data.len() as u32, &framing);
        let mut grant = Grant::of(&pdu);
        self.send(pdu.as_wire(), &layout).await?;
        let mut good = true;
        while grant.remaining_bytes != 0 {
            let (pdu, layout) = self.next_data().await?;
            let start = grant.next_offset as usize;
            if let Err(error) = grant.accept(&pdu) {
                return Err(self.refuse(&error).await);
            }
            self.intake.consume(layout.header + layout.header_digest);
            let bytes = data.get_mut(start..).unwrap_or_default();
            let sink = Sink::Memory { skip: 0, bytes };
            good &= self.intake.take_data(&self.socket, &layout, sink).await?;
        }
        Ok(if good {
            Ok(())
        } else {
            Err(Status::TRANSIENT_TRANSPORT_ERROR)
        })
    }

    async fn next_data(&mut self) -> Result<(H2cData, Layout), CloseReason> {
        let layout = match self.intake.next_header(&self.socket).await? {
            Ok(layout) => layout,
            Err(error) => return Err(self.refuse(&error).await),
        };
        let found = match parse(&self.intake, &layout) {
            Ok(Pdu::H2cData(pdu)) => Some(*pdu),
            Ok(_) => None,
            Err(error) => {
                let error = fatal(error);
                return Err(self.refuse(&error).await);
            }
        };
        match found {
            Some(pdu) => Ok((pdu, layout)),
            None => Err(self.out_of_sequence().await),
        }
    }

    /// Carries out a checked Connect here, or finds the core that can.
    async fn connect(
        &mut self,
        sqe: Sqe,
        request: ConnectRequest,
        moved: bool,
    ) -> Result<Step, CloseReason> {
        let nqn = &request.subsystem_nqn;
        let is_here = nqn == DISCOVERY_NQN || self.target.subsystem(nqn).is_some();
        if !is_here && !moved {
            let home = self.target.options().directory.home_of(nqn);
            if home.is_some_and(|(home, _)| home != self.target.home()) {
                return Ok(Step::Elsewhere(Box::new((sqe, request))));
            }
        }
        match fabrics::connect(self.target, &request, self.local).await {
            Ok(connected) => Ok(Step::Connected(connected, request, sqe.cid.get())),
            Err(outcome) => {
                self.target.complaints().about(Complaint::Connect, || {
                    tracing::info!(
                        peer = %self.peer, host = %request.host.nqn, subsystem = %nqn,
                        qid = request.qid, status = ?outcome.status, "connect refused"
                    );
                });
                self.respond(&sqe, outcome).await
            }
        }
    }

    async fn respond(&mut self, sqe: &Sqe, outcome: Outcome) -> Result<Step, CloseReason> {
        let cqe = Cqe::new(sqe.cid.get(), self.sqhd, outcome.status, outcome.result);
        let (pdu, layout) = CapsuleResp::new(cqe, &self.negotiated.outgoing());
        self.send(pdu.as_wire(), &layout).await?;
        Ok(Step::Again)
    }

    async fn send(&self, header: &[u8], layout: &Layout) -> Result<(), CloseReason> {
        self.socket.send_all(header).await?;
        if layout.header_digest != 0 {
            self.socket.send_all(&header_digest(header)).await?;
        }
        Ok(())
    }

    /// Sends the socket with all that is known to the core of the subsystem.
    async fn hand_over(self, (sqe, request): (Sqe, ConnectRequest)) {
        let directory = &self.target.options().directory;
        let Some((_, mailbox)) = directory.home_of(&request.subsystem_nqn) else {
            return;
        };
        // An operation that was cancelled in this turn leaves the socket in the next one.
        reactor::next_turn().await;
        let stream = match self.socket.into_stream().detach() {
            Ok(stream) => stream,
            Err(error) => {
                self.target.complaints().about(Complaint::Handover, || {
                    tracing::warn!(peer = %self.peer, %error, "connection could not move: closed");
                });
                return;
            }
        };
        let handover = Handover {
            stream,
            seat: self.seat,
            peer: self.peer,
            local: self.local,
            negotiated: self.negotiated,
            unread: self.intake.bytes().to_vec(),
            sqe,
            sqhd: self.sqhd,
            request,
        };
        if mailbox
            .try_send(TargetMessage::Connection(Box::new(handover)))
            .is_err()
        {
            self.target.complaints().about(Complaint::Handover, || {
                tracing::warn!(peer = %self.peer, "core is overloaded: connection closed");
            });
        }
    }

    /// Ends a socket that did not become a connection.
    async fn end(self, reason: CloseReason) {
        self.target.complaints().about(Complaint::Unconnected, || {
            tracing::info!(peer = %self.peer, ?reason, "connection ended before it was connected");
        });
        if reason == CloseReason::ProtocolError {
            let linger = self.target.options().linger;
            let _ = reactor::time::timeout(linger, self.socket.discard()).await;
        }
        self.target.totals().refused(reason);
        self.socket.shutdown();
    }
}
