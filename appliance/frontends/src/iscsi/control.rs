//! Requests that are not SCSI commands: NOP-Out, text, logout, task management.
//!
//! Immediate ones are carried out as they come, the others when it is the turn of their number.
//! Source: RFC 7143 sections 11.5, 11.10, 11.14, 11.18.

use std::rc::Rc;

use reactor::buf::Buf;
use wire::iscsi::{
    Bhs, LogoutReason, LogoutRequest, LogoutResponse, LogoutResult, NO_TAG, NopIn, NopOut, Opcode,
    RejectReason,
};

use super::command::{admit, discard};
use super::connection::Connection;
use super::intake::{Incoming, Intake, Sink};
use super::management;
use super::reason::CloseReason;
use super::session::Session;
use super::table::TaskRef;
use super::task::{Aborted, Phase};
use super::text;

/// Takes a request with its data.
pub(super) async fn request(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<(), CloseReason> {
    let bhs = &incoming.bhs;
    if bhs.itt.get() == NO_TAG {
        // The answer to a ping, or an unasked sign of life; it must be immediate.
        discard(connection, intake, incoming).await?;
        if bhs.opcode() != Opcode::NOP_OUT || !bhs.is_immediate() {
            connection.reject(RejectReason::INVALID_PDU_FIELD, bhs);
        }
        return Ok(());
    }
    if bhs.is_immediate() {
        let (data, good) = take(connection, intake, incoming).await?;
        if good {
            handle(connection, bhs, data);
        }
        return Ok(());
    }
    let Some(task) = admit(connection, intake, incoming).await? else {
        return Ok(());
    };
    let (data, good) = take(connection, intake, incoming).await?;
    let session = &connection.session;
    session.request_arrived(task, data, good);
    session.deliver_early();
    Ok(())
}

/// Receives the data of a request. False when its digest is wrong; the PDU is rejected then.
async fn take(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<(Option<Buf>, bool), CloseReason> {
    let len = incoming.layout.data;
    if len == 0 {
        return Ok((None, true));
    }
    let socket = &connection.socket;
    let mut buf = match reactor::buf::try_alloc(len) {
        Some(buf) => buf,
        None => socket.or_ended(reactor::buf::alloc(len)).await?,
    };
    let sink = Sink::Memory {
        skip: 0,
        bytes: buf.as_mut(),
    };
    let good = intake.take_data(socket, &incoming.layout, sink).await?;
    if !good {
        connection.reject(RejectReason::DATA_DIGEST_ERROR, &incoming.bhs);
    }
    Ok((good.then_some(buf), good))
}

impl Session {
    /// A numbered request is here with its data.
    fn request_arrived(&self, task: TaskRef, data: Option<Buf>, good: bool) {
        let phase = {
            let mut table = self.table.borrow_mut();
            let Some(slot) = table.live(task) else { return };
            slot.data = data;
            if !good {
                // Its number is taken, and that is all.
                if slot.phase == Phase::Early {
                    return table.make_void(task.index);
                }
                drop(table);
                return self.retire(task.index);
            }
            slot.phase
        };
        if phase != Phase::Early {
            self.carry_out(task.index);
        }
    }

    /// It is the turn of a request that is no SCSI command, or of what is left of an aborted one.
    pub(super) fn carry_out(&self, index: u16) {
        let (connection, header, data) = {
            let mut table = self.table.borrow_mut();
            let slot = table.task_mut(index);
            (slot.connection.take(), slot.header, slot.data.take())
        };
        self.retire(index);
        if let Some(connection) = connection {
            handle(&connection, &header, data);
        }
    }
}

fn handle(connection: &Rc<Connection>, header: &Bhs, data: Option<Buf>) {
    if connection.is_finished() {
        return;
    }
    match header.opcode() {
        Opcode::NOP_OUT => echo(connection, zerocopy::transmute!(*header), data),
        Opcode::TEXT_REQUEST => {
            let bytes = data.as_deref().unwrap_or_default();
            text::request(connection, header, bytes);
        }
        Opcode::LOGOUT_REQUEST => logout(connection, zerocopy::transmute!(*header)),
        Opcode::TASK_REQUEST => management::request(connection, zerocopy::transmute!(*header)),
        _ => connection.reject(RejectReason::COMMAND_NOT_SUPPORTED, header),
    }
}

/// Answers a ping with its own data, as much of it as the initiator takes.
fn echo(connection: &Connection, ping: NopOut, data: Option<Buf>) {
    let most = connection.peer_segment_bytes.get() as usize;
    let len = data.as_ref().map_or(0, |data| data.len().min(most));
    let numbers = connection.response_numbers();
    let pdu = NopIn::answer(ping.itt.get(), ping.lun, len, numbers);
    match data {
        Some(mut data) => {
            data.truncate(len);
            connection.outbox.payload(pdu.as_wire(), data);
        }
        None => connection.outbox.small(pdu.as_wire(), &[]),
    }
}

/// Ends a connection or the session: its tasks are ended first, so that nothing of them can take
/// effect after the answer.
fn logout(connection: &Rc<Connection>, request: LogoutRequest) {
    let session = &connection.session;
    if connection.leaving.replace(true) {
        // Nothing follows a logout.
        return connection.reject(RejectReason::WAITING_FOR_LOGOUT, header_of(&request));
    }
    let leaving = match request.reason() {
        LogoutReason::CLOSE_SESSION => session.connections(),
        LogoutReason::CLOSE_CONNECTION => match session.connection(request.cid.get()) {
            Some(named) => vec![named],
            None => return stay(connection, &request, LogoutResult::NO_CID),
        },
        LogoutReason::REMOVE_FOR_RECOVERY => {
            return stay(connection, &request, LogoutResult::NO_RECOVERY);
        }
        _ => {
            connection.leaving.set(false);
            return connection.reject(RejectReason::INVALID_PDU_FIELD, header_of(&request));
        }
    };
    for leaver in &leaving {
        session.end_tasks(Aborted::Silently, |task| task.is_of(leaver));
    }
    let connection = Rc::clone(connection);
    drop(reactor::spawn(async move {
        let session = &connection.session;
        session
            .when(|| leaving.iter().all(|one| session.executing_of(one) == 0))
            .await;
        say(&connection, &request, LogoutResult::CLOSED);
        connection.leaving.set(false);
        for leaver in leaving {
            leaver.close(CloseReason::LoggedOut);
        }
    }));
}

/// Says why there is no logout; another may be asked for.
fn stay(connection: &Connection, request: &LogoutRequest, result: LogoutResult) {
    connection.leaving.set(false);
    say(connection, request, result);
}

fn header_of(request: &LogoutRequest) -> &Bhs {
    zerocopy::transmute_ref!(request)
}

fn say(connection: &Connection, request: &LogoutRequest, result: LogoutResult) {
    let numbers = connection.response_numbers();
    let pdu = LogoutResponse::new(request.itt.get(), result, (0, 0), numbers);
    connection.outbox.small(pdu.as_wire(), &[]);
}
