//! A connection's life on a core, and how it gets from one core to another under load.
//!
//! A move is between the core of the controller (home) and any other, in these steps:
//!
//! 1. At the next PDU boundary reading stops, and no command that waits for memory starts.
//! 2. Commands in the volume finish and their answers leave. If that takes longer than
//!    a second the move is given up and the connection goes on where it is.
//! 3. The queue's place in the controller changes hands, without a moment in between: from the
//!    connection to its [`StandIn`], or back.
//! 4. Socket, bytes read and not used, and the table of commands go to the other core in one
//!    message. R2Ts that are outstanding stay good, since tags and buffers go along.
//!
//! The host sees none of this: no answer is lost, none comes twice, and commands keep their order
//! since the socket is read by one core at a time. What happens to the queue from outside in
//! between (Abort, the end of its controller) waits in the connection's own mailbox.

use std::rc::Rc;
use std::sync::Arc;

use reactor::net::{DetachedStream, TcpStream};
use reactor::{JoinHandle, mailbox};

use super::connection::{Connection, TcpLink};
use super::handshake::Negotiated;
use super::intake::Intake;
use super::socket::Socket;
use super::wish::Stage;
use super::{closing, receive};
use crate::complaints::Complaint;
use crate::nvmf::away::{About, Away, FromHome, ToHome, from_home_capacity, to_home_capacity};
use crate::nvmf::controller::Controller;
use crate::nvmf::directory::CoreTarget;
use crate::nvmf::handover::TargetMessage;
use crate::nvmf::moves::{Destination, Returning, Traveller};
use crate::nvmf::owner::Owner;
use crate::nvmf::port::CloseReason;
use crate::nvmf::queue::{Carried, listen, watch};
use crate::nvmf::stand_in::{Post, StandIn};
use crate::nvmf::target::{Served, Target};

/// A connection between two cores.
pub(crate) struct Moving {
    stream: DetachedStream,
    negotiated: Negotiated,
    carried: Carried,
    unread: Vec<u8>,
    /// It is to end, and was on the move when that was asked.
    ending: Option<CloseReason>,
    /// What the home core says to it.
    from_home: mailbox::Receiver<FromHome>,
}

/// A connection on its way from home.
pub(crate) struct Departure {
    moving: Moving,
    about: Arc<About>,
    to_home: mailbox::Sender<ToHome>,
}

/// The tasks of a connection beside its receiver.
struct Crew {
    sender: JoinHandle<()>,
    /// Away from home: who hears what home says.
    listener: Option<JoinHandle<mailbox::Receiver<FromHome>>>,
}

/// Serves an entered connection until it ends or has moved. `from_home` comes with one that is away.
pub(super) async fn run(
    mut connection: Rc<Connection>,
    mut intake: Intake,
    from_home: Option<mailbox::Receiver<FromHome>>,
) {
    let mut crew = Crew {
        sender: reactor::spawn(closing::send_loop(Rc::clone(&connection))),
        listener: from_home.map(|mailbox| reactor::spawn(listen(Rc::clone(&connection), mailbox))),
    };
    drop(reactor::spawn(watch(Rc::downgrade(&connection))));
    loop {
        match receive::receive(&connection, &mut intake).await {
            Some(reason) => return end(connection, crew, reason).await,
            None => match depart(connection, crew, &intake).await {
                Some(stayed) => (connection, crew) = stayed,
                None => return,
            },
        }
    }
}

async fn end(connection: Rc<Connection>, crew: Crew, reason: CloseReason) {
    connection.link.socket.end(reason);
    connection.finish().await;
    connection.link.wish.set(Stage::Going);
    connection.hush(true);
    crew.sender.await;
    if let Some(listener) = crew.listener {
        drop(listener.await);
    }
    connection.target.leave(connection.id());
}

/// Moves, or gives the connection back when it has to stay.
async fn depart(
    connection: Rc<Connection>,
    mut crew: Crew,
    intake: &Intake,
) -> Option<(Rc<Connection>, Crew)> {
    connection.link.wish.set(Stage::Held);
    if !connection.fall_quiet().await {
        connection.stay();
        return Some((connection, crew));
    }
    let to = connection.link.wish.to.take();
    match (crew.listener.take(), to) {
        (None, Some(Destination::Core(core))) => {
            leave_home(connection, crew.sender, intake, core).await;
            None
        }
        (Some(listener), Some(Destination::Home)) => {
            connection.link.wish.set(Stage::Hushed);
            connection.hush(true);
            let from_home = listener.await;
            // Its last message may have been an Abort, whose answer has to leave.
            if connection.fall_quiet().await {
                go_home(connection, crew.sender, intake, from_home).await;
                return None;
            }
            connection.stay();
            let listener = listen(Rc::clone(&connection), from_home);
            crew.listener = Some(reactor::spawn(listener));
            Some((connection, crew))
        }
        (listener, _) => {
            crew.listener = listener;
            connection.stay();
            Some((connection, crew))
        }
    }
}

async fn leave_home(
    connection: Rc<Connection>,
    sender: JoinHandle<()>,
    intake: &Intake,
    core: CoreTarget,
) {
    let Some(controller) = connection.owner.here().cloned() else {
        return;
    };
    let Some(about) = About::of(&controller, connection.target.core()) else {
        return;
    };
    let target = connection.target.clone();
    let entries = connection.table.borrow().entries();
    let (to_home, from_away) = mailbox::channel(to_home_capacity(entries));
    let (to_away, from_home) = mailbox::channel(from_home_capacity(entries));
    let about = Arc::new(about);
    let stand_in = StandIn::begin(
        &target,
        Post {
            controller,
            qid: connection.qid,
            entries,
            about: Arc::clone(&about),
            to_away,
            from_away,
            core: core.core,
            can_come_home: true,
        },
    );
    // Should the socket be lost from here on, the stand-in sees the end of its mailbox.
    let Some(moving) = pack(connection, sender, intake, from_home).await else {
        return;
    };
    let departure = Departure {
        moving,
        about,
        to_home,
    };
    let message = TargetMessage::Connection(Box::new(departure));
    let Err(full) = core.mailbox.try_send(message) else {
        return target.totals().moved();
    };
    target.totals().stayed();
    target.balance().stayed(stand_in.id());
    if let TargetMessage::Connection(departure) = full.into_inner() {
        departure.turned_back();
    }
}

async fn go_home(
    connection: Rc<Connection>,
    sender: JoinHandle<()>,
    intake: &Intake,
    from_home: mailbox::Receiver<FromHome>,
) {
    let Some(away) = connection.owner.away().cloned() else {
        return;
    };
    let target = connection.target.clone();
    if let Some(moving) = pack(connection, sender, intake, from_home).await {
        target.totals().moved();
        away.send(ToHome::Returned(Box::new(moving)));
    }
}

/// Ends the tasks of this core and makes one message of the connection. None when the socket is lost.
async fn pack(
    connection: Rc<Connection>,
    sender: JoinHandle<()>,
    intake: &Intake,
    from_home: mailbox::Receiver<FromHome>,
) -> Option<Moving> {
    connection.link.wish.set(Stage::Going);
    connection.link.outbox.queue.wake();
    sender.await;
    let target = connection.target.clone();
    target.totals().keep(connection.counted_here());
    target.totals().waited(connection.mailbox_waits());
    let connection = last_holder(connection).await;
    let ending = connection.link.socket.ending();
    let (link, carried) = connection.take_apart();
    match link.socket.into_stream().detach() {
        Ok(stream) => Some(Moving {
            stream,
            negotiated: link.negotiated,
            carried,
            unread: intake.bytes().to_vec(),
            ending,
            from_home,
        }),
        Err(error) => {
            target.complaints().about(Complaint::Handover, || {
                tracing::warn!(peer = %carried.peer, %error, "connection could not move: closed");
            });
            target.totals().refused(CloseReason::SocketError);
            None
        }
    }
}

/// Takes the connection out of its target. Others hold it within a turn only.
async fn last_holder(mut connection: Rc<Connection>) -> Connection {
    // An operation that was cancelled in this turn leaves the socket in the next one.
    reactor::next_turn().await;
    connection.target.leave(connection.id());
    loop {
        match Rc::try_unwrap(connection) {
            Ok(connection) => return connection,
            Err(shared) => connection = shared,
        }
        reactor::next_turn().await;
    }
}

/// A connection whose controller is on another core.
impl Traveller for Departure {
    fn arrive(self: Box<Self>, target: &Target) {
        let away = Away::new(self.about, self.to_home);
        let moving = self.moving;
        let wire = (moving.stream, moving.negotiated);
        // Without it both mailboxes end here, and home knows.
        let Some(connection) = attach(target, wire, moving.carried, Owner::Away(away)) else {
            return;
        };
        let intake = resume(&connection, &moving.unread);
        set_out(&connection, moving.ending);
        drop(reactor::spawn(run(
            connection,
            intake,
            Some(moving.from_home),
        )));
    }

    fn turned_back(self: Box<Self>) {
        // By the way it would come from there. The mailbox is empty, so it has room.
        let _ = self
            .to_home
            .try_send(ToHome::Returned(Box::new(self.moving)));
    }
}

/// A connection that is at its controller again.
impl Returning for Moving {
    fn come_home(
        self: Box<Self>,
        target: &Target,
        controller: &Rc<Controller>,
        answer_abort: &dyn Fn(u8, bool),
    ) {
        let qid = self.carried.qid;
        let owner = Owner::Here(Rc::clone(controller));
        let mut moving = *self;
        let wire = (moving.stream, moving.negotiated);
        let Some(connection) = attach(target, wire, moving.carried, owner) else {
            return controller.remove_queue(qid);
        };
        controller.replace_queue(qid, connection.port());
        let mut ending = moving.ending;
        while let Some(message) = moving.from_home.try_recv() {
            match message {
                FromHome::Abort { ticket, cid } => {
                    answer_abort(ticket, connection.abort_command(cid));
                }
                FromHome::Close(reason) => ending = ending.or(Some(reason)),
                // It has come; whether it is drained is asked here; no command was under way.
                FromHome::ComeHome
                | FromHome::AreYouDrained
                | FromHome::Done { .. }
                | FromHome::PairDone { .. }
                // Admin queues do not move.
                | FromHome::Posted { .. }
                | FromHome::Cancelled { .. } => {}
            }
        }
        let intake = resume(&connection, &moving.unread);
        set_out(&connection, ending);
        drop(reactor::spawn(run(connection, intake, None)));
    }
}

fn attach(
    target: &Target,
    (stream, negotiated): (DetachedStream, Negotiated),
    carried: Carried,
    owner: Owner,
) -> Option<Rc<Connection>> {
    let stream = match TcpStream::attach(stream) {
        Ok(stream) => stream,
        Err(error) => {
            target.complaints().about(Complaint::Handover, || {
                tracing::warn!(peer = %carried.peer, %error, "connection could not move: closed");
            });
            target.totals().refused(CloseReason::SocketError);
            return None;
        }
    };
    let entries = carried.table.entries();
    let link = TcpLink::new(Socket::new(stream), negotiated, entries);
    Some(Connection::new(target.clone(), link, owner, carried))
}

fn resume(connection: &Connection, unread: &[u8]) -> Intake {
    let mut intake = Intake::resume(connection.form(), unread);
    intake.digest_errors = connection.counters.digest_errors.get();
    intake
}

/// Begins where it stopped, or ends when that was asked for meanwhile.
fn set_out(connection: &Rc<Connection>, ending: Option<CloseReason>) {
    connection.log("connection moved here");
    let closing = connection.target.is_closing();
    if let Some(reason) = ending.or(closing.then_some(CloseReason::Shutdown)) {
        connection.close(reason);
    }
    connection.pump();
}
