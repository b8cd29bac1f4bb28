//! From an accepted socket to a connection of a session: the login, and the move to the core of
//! the volume it names.
//!
//! Strictly one step after another; everything here ends by `login_timeout`. What is answered is
//! decided by the machine in `login`.

use std::net::SocketAddr;
use std::rc::Rc;

use reactor::net::TcpStream;
use wire::iscsi::digest::PADDING;
use wire::iscsi::{AHS_MAX_BYTES, Digests, Link, LoginStatus, Opcode, Receiver};
use zerocopy::big_endian::U32;

use super::handover::{CoreMessage, Handover};
use super::intake::{Intake, Sink};
use super::login::{Admission, Login, Named, Negotiated, Reply, Step};
use super::options::Auth;
use super::reason::{CloseReason, Socket};
use super::session::{Identity, Joining, Session};
use super::target::{Login as Pass, Target};
use super::unit::Unit;
use crate::complaints::Complaint;
use crate::seats::Seat;

/// What greeting a socket gave.
pub(super) struct Greeted {
    pub socket: Socket,
    pub seat: Seat,
    pub intake: Intake,
    pub session: Rc<Session>,
    pub joining: Joining,
    pub cid: u16,
    pub digests: Digests,
    /// Of the first response in full feature phase.
    pub stat_sn: u32,
    pub peer_segment_bytes: u32,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// A socket on its way to being a connection.
struct Guest<'a> {
    target: &'a Target,
    socket: Socket,
    seat: Seat,
    intake: Intake,
    login: Login,
    portal: u16,
    peer: SocketAddr,
    local: SocketAddr,
}

/// How a login went.
enum Outcome {
    /// It is over.
    Done(Rc<Session>, Joining, Box<Negotiated>),
    /// Its volume lives on another core.
    Elsewhere(Named),
}

/// Greets a socket that was just accepted. None when it ended or moved to another core.
pub(super) async fn fresh(
    target: &Target,
    portal: u16,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<Greeted> {
    let local = stream.local_addr().ok()?;
    let socket = Socket::new(stream);
    let seat = target.take_seat()?;
    let pass = target.begin_login()?;
    let mut guest = Guest {
        target,
        socket,
        seat,
        intake: Intake::new(),
        login: Login::new(target.options().offer(), reactor::random_bytes),
        portal,
        peer,
        local,
    };
    let outcome = guest.timed(&pass, None).await;
    drop(pass);
    finish(guest, outcome).await
}

/// Goes on where another core stopped: the names are known, and nothing was answered.
pub(super) async fn resumed(target: &Target, handover: Handover) -> Option<Greeted> {
    let pass = target.begin_login()?;
    let stream = TcpStream::attach(handover.stream).ok()?;
    let mut guest = Guest {
        target,
        socket: Socket::new(stream),
        seat: handover.seat,
        intake: Intake::resume(&handover.unread),
        login: handover.login,
        portal: handover.portal,
        peer: handover.peer,
        local: handover.local,
    };
    let outcome = guest.timed(&pass, Some(handover.named)).await;
    drop(pass);
    finish(guest, outcome).await
}

async fn finish(mut guest: Guest<'_>, outcome: Result<Outcome, CloseReason>) -> Option<Greeted> {
    match outcome {
        Ok(Outcome::Done(session, joining, negotiated)) => {
            let totals = guest.target.totals();
            totals.logins.set(totals.logins.get() + 1);
            guest.intake.set_link(Link {
                receiver: Receiver::Target,
                full_feature: true,
                digests: negotiated.digests,
                max_data_bytes: negotiated.max_recv_data_bytes,
                max_ahs_bytes: AHS_MAX_BYTES as u32,
            });
            Some(Greeted {
                socket: guest.socket,
                seat: guest.seat,
                intake: guest.intake,
                session,
                joining,
                cid: negotiated.named.cid,
                digests: negotiated.digests,
                stat_sn: negotiated.stat_sn.wrapping_add(1),
                peer_segment_bytes: negotiated.max_send_data_bytes,
                peer: guest.peer,
                local: guest.local,
            })
        }
        Ok(Outcome::Elsewhere(named)) => {
            guest.hand_over(named).await;
            None
        }
        Err(reason) => {
            guest.end(reason).await;
            None
        }
    }
}

impl Guest<'_> {
    /// Runs to the end of the login, within the time it has and while there is room.
    async fn timed(&mut self, pass: &Pass, named: Option<Named>) -> Result<Outcome, CloseReason> {
        let limit = self.target.options().login_timeout;
        let target = self.target.clone();
        let steps = async {
            let run = reactor::time::timeout(limit, self.run(named));
            match net::first(run, pass.crowded_out()).await {
                Some(Ok(outcome)) => outcome,
                Some(Err(_)) => Err(CloseReason::LoginTimeout),
                None => Err(CloseReason::Limit),
            }
        };
        target
            .until_closing(steps)
            .await
            .unwrap_or(Err(CloseReason::Shutdown))
    }

    async fn run(&mut self, named: Option<Named>) -> Result<Outcome, CloseReason> {
        let mut step = match named {
            Some(named) => self.admit(&named),
            None => self.next_request().await?,
        };
        loop {
            step = match step {
                Step::Reply(reply) => {
                    self.send(&reply).await?;
                    self.next_request().await?
                }
                Step::Named(named) if self.lives_elsewhere(&named) => {
                    return Ok(Outcome::Elsewhere(named));
                }
                Step::Named(named) => self.admit(&named),
                Step::Finished(negotiated) => match self.enter(&negotiated).await {
                    Ok((session, joining)) => {
                        self.welcome(&session, negotiated.named.tsih != 0).await?;
                        return Ok(Outcome::Done(session, joining, negotiated));
                    }
                    Err(status) => Step::Refused(self.login.refuse(status)),
                },
                Step::Refused(reply) => {
                    self.complain(reply.header.status());
                    // The connection ends anyway; a peer that reads nothing gets nothing.
                    let _ = self.send(&reply).await;
                    return Err(CloseReason::LoginRefused);
                }
            }
        }
    }

    /// Reads one login request; anything else ends the connection.
    async fn next_request(&mut self) -> Result<Step, CloseReason> {
        let incoming = match self.intake.next(&self.socket).await? {
            Ok(incoming) if incoming.bhs.opcode() == Opcode::LOGIN_REQUEST => incoming,
            // Its answer has the tags of the login request before it.
            _ if self.login.named().is_some() => {
                let status = LoginStatus::INVALID_DURING_LOGIN;
                return Ok(Step::Refused(self.login.refuse(status)));
            }
            _ => return Err(CloseReason::ProtocolError),
        };
        let mut text = vec![0; incoming.layout.data];
        let sink = Sink::Memory {
            skip: 0,
            bytes: &mut text,
        };
        self.intake
            .take_data(&self.socket, &incoming.layout, sink)
            .await?;
        let request = zerocopy::transmute!(incoming.bhs);
        Ok(self.login.receive(&request, &text))
    }

    fn lives_elsewhere(&self, named: &Named) -> bool {
        let Some(iqn) = &named.target else {
            return false;
        };
        if named.discovery || self.target.unit(iqn).is_some() {
            return false;
        }
        let home = self.target.options().directory.home_of(iqn);
        home.is_some_and(|(home, _)| home != self.target.home())
    }

    /// Decides whether the login may go on here.
    fn admit(&mut self, named: &Named) -> Step {
        match self.terms(named) {
            Ok(admission) => self.login.proceed(admission),
            Err(status) => Step::Refused(self.login.refuse(status)),
        }
    }

    fn terms(&self, named: &Named) -> Result<Admission, LoginStatus> {
        let chap = match &self.target.options().auth {
            Auth::None => None,
            Auth::Chap(secrets) => Some(secrets.clone()),
        };
        let unit = self.unit(named)?;
        let session = match named.tsih {
            0 => None,
            _ => Some(self.session_to_join(&unit, named)?.negotiated.clone()),
        };
        Ok(Admission {
            portal_group_tag: self.portal,
            target_alias: None,
            chap,
            session,
        })
    }

    fn unit(&self, named: &Named) -> Result<Rc<Unit>, LoginStatus> {
        if self.target.is_closing() {
            return Err(LoginStatus::UNAVAILABLE);
        }
        if named.discovery {
            return Ok(Rc::clone(self.target.discovery()));
        }
        let iqn = named.target.as_deref();
        let unit = iqn.and_then(|iqn| self.target.unit(iqn));
        let unit = unit.ok_or(LoginStatus::NOT_FOUND)?;
        if unit.is_removed() {
            return Err(LoginStatus::NOT_FOUND);
        }
        if !unit.hosts.allows(&named.initiator) {
            return Err(LoginStatus::NOT_AUTHORIZED);
        }
        Ok(unit)
    }

    fn identity(&self, named: &Named) -> Identity {
        Identity {
            initiator: named.initiator.clone(),
            isid: named.isid,
            portal: self.portal,
        }
    }

    /// The session that a further connection asks for.
    fn session_to_join(&self, unit: &Unit, named: &Named) -> Result<Rc<Session>, LoginStatus> {
        let found = unit.session(named.tsih).filter(|found| {
            let own = &found.identity;
            !found.is_over() && own.initiator == named.initiator && own.isid == named.isid
        });
        let session = found.ok_or(LoginStatus::NO_SESSION)?;
        if session.identity.portal != self.portal {
            return Err(LoginStatus::CANNOT_INCLUDE);
        }
        let is_new = session.connection(named.cid).is_none();
        let most = usize::from(session.negotiated.max_connections);
        if is_new && session.connection_count() >= most {
            return Err(LoginStatus::TOO_MANY_CONNECTIONS);
        }
        Ok(session)
    }

    /// Makes the session of a login, or finds the one it joins. What it takes the place of is over
    /// when this returns.
    async fn enter(&self, negotiated: &Negotiated) -> Result<(Rc<Session>, Joining), LoginStatus> {
        let named = &negotiated.named;
        let unit = self.unit(named)?;
        if named.tsih != 0 {
            return self.join(&unit, named).await;
        }
        let options = self.target.options();
        let seat = options.directory.take_session(options.max_sessions);
        let seat = seat.ok_or(LoginStatus::OUT_OF_RESOURCES)?;
        let identity = self.identity(named);
        loop {
            while let Some(old) = unit.session_of(&identity) {
                old.end(CloseReason::Reinstated);
                unit.gone(old.tsih).await;
            }
            unit.wait_drained(&identity.initiator).await;
            if unit.session_of(&identity).is_none() {
                break;
            }
        }
        // It may be gone since.
        let unit = self.unit(named)?;
        let tsih = unit.allocate_tsih().ok_or(LoginStatus::OUT_OF_RESOURCES)?;
        let negotiated = negotiated.clone();
        let session = Session::begin(self.target, &unit, identity, tsih, negotiated, seat);
        let joining = session.hold();
        Ok((session, joining))
    }

    async fn join(
        &self,
        unit: &Unit,
        named: &Named,
    ) -> Result<(Rc<Session>, Joining), LoginStatus> {
        let session = self.session_to_join(unit, named)?;
        let joining = session.hold();
        while let Some(old) = session.connection(named.cid) {
            old.close(CloseReason::Reinstated);
            let is_gone = || !session.has_connection(&old);
            session.when(is_gone).await;
        }
        if session.is_over() {
            return Err(LoginStatus::NO_SESSION);
        }
        Ok((session, joining))
    }

    /// Sends the last response of a login that succeeded.
    async fn welcome(&mut self, session: &Session, joined: bool) -> Result<(), CloseReason> {
        let mut reply = self.login.finish(session.tsih);
        if joined {
            let table = session.table.borrow();
            reply.header.exp_cmd_sn = U32::new(table.window.expected());
            reply.header.max_cmd_sn = U32::new(table.max_cmd_sn());
        }
        self.send(&reply).await
    }

    fn complain(&self, status: LoginStatus) {
        let named = self.login.named();
        self.target.complaints().about(Complaint::Login, || {
            tracing::info!(
                peer = %self.peer, initiator = named.map(|named| named.initiator.as_str()),
                target = named.and_then(|named| named.target.as_deref()), ?status, "login refused"
            );
        });
    }

    async fn send(&self, reply: &Reply) -> Result<(), CloseReason> {
        let text = &reply.text;
        let padding = text.len().next_multiple_of(4) - text.len();
        let mut bytes = Vec::with_capacity(48 + text.len() + padding);
        bytes.extend_from_slice(reply.header.as_wire());
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(PADDING.get(..padding).unwrap_or_default());
        Ok(self.socket.send_all(&bytes).await?)
    }

    /// Sends the socket with all that is known to the core of the volume.
    async fn hand_over(self, named: Named) {
        let iqn = named.target.as_deref().unwrap_or_default();
        let Some((_, mailbox)) = self.target.options().directory.home_of(iqn) else {
            return;
        };
        // An operation that was cancelled in this turn leaves the socket in the next one.
        reactor::next_turn().await;
        let complain = |what: &str| {
            self.target.complaints().about(Complaint::Handover, || {
                tracing::warn!(peer = %self.peer, "{what}: connection closed");
            });
        };
        let Ok(stream) = self.socket.into_stream().detach() else {
            return complain("connection could not move");
        };
        let handover = Handover {
            stream,
            seat: self.seat,
            peer: self.peer,
            local: self.local,
            portal: self.portal,
            unread: self.intake.bytes().to_vec(),
            login: self.login,
            named,
        };
        let message = CoreMessage::Login(Box::new(handover));
        if mailbox.try_send(message).is_err() {
            complain("core is overloaded");
        }
    }

    /// Ends a socket that did not become a connection.
    async fn end(self, reason: CloseReason) {
        self.target.complaints().about(Complaint::Unconnected, || {
            tracing::info!(peer = %self.peer, ?reason, "login ended before it was done");
        });
        // Only a refusal says anything.
        if reason == CloseReason::LoginRefused
            && let Some(rest) = reason.last_words()
        {
            let _ = reactor::time::timeout(rest, self.socket.discard()).await;
        }
        self.target.totals().refused(reason);
        self.socket.shutdown();
    }
}
