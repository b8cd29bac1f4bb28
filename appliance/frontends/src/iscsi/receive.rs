//! The receiver of a connection: PDUs in, each to the place that handles its kind.
//!
//! Source: RFC 7143 sections 7.7 (format errors), 11 (PDUs).

use std::rc::Rc;

use wire::iscsi::{Bhs, Opcode, PduError, RejectReason};

use super::connection::Connection;
use super::intake::{Incoming, Intake};
use super::reason::CloseReason;
use super::{command, control, data_out};

/// Reads until the connection ends, and says why it does.
pub(super) async fn receive(connection: &Rc<Connection>, intake: &mut Intake) -> CloseReason {
    loop {
        let read = next_pdu(connection, intake).await;
        let errors = &connection.counters.digest_errors;
        errors.set(intake.digest_errors);
        if let Err(reason) = read {
            return reason;
        }
    }
}

async fn next_pdu(connection: &Rc<Connection>, intake: &mut Intake) -> Result<(), CloseReason> {
    // An initiator that takes no answers gets no more work done: its commands stay in the socket.
    while connection.is_congested() {
        connection
            .socket
            .or_ended(connection.outbox.queue.drained())
            .await?;
    }
    let next = intake.next(&connection.socket).await?;
    connection.heard.set(reactor::now());
    connection.pinged.set(None);
    match next {
        Ok(incoming) => dispatch(connection, intake, &incoming).await,
        Err((header, error)) => refuse(connection, &header, &error),
    }
}

async fn dispatch(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<(), CloseReason> {
    match incoming.bhs.opcode() {
        Opcode::DATA_OUT => data_out::data_out(connection, intake, incoming).await,
        Opcode::SCSI_COMMAND if connection.session.unit.is_discovery() => {
            command::discard(connection, intake, incoming).await?;
            connection.reject(RejectReason::PROTOCOL_ERROR, &incoming.bhs);
            Ok(())
        }
        Opcode::SCSI_COMMAND => command::scsi_command(connection, intake, incoming).await,
        Opcode::SNACK_REQUEST => {
            connection.reject(RejectReason::SNACK_REJECT, &incoming.bhs);
            Ok(())
        }
        _ => control::request(connection, intake, incoming).await,
    }
}

/// A PDU that breaks the protocol. After a format error nothing that follows can be trusted.
fn refuse(connection: &Connection, header: &Bhs, error: &PduError) -> Result<(), CloseReason> {
    connection.reject(error.reason(), header);
    if error.is_fatal() {
        return Err(CloseReason::ProtocolError);
    }
    Ok(())
}

impl Connection {
    fn is_congested(&self) -> bool {
        let queue = &self.outbox.queue;
        queue.is_congested() || queue.payload_bytes() > self.session.options().session_data_bytes
    }
}
