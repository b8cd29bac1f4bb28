//! The receiver of a connection: PDUs in, commands and data to their places.
//!
//! Source: NVMe/TCP 1.0 sections 3.3 (data transfers), 3.6.2 (PDUs).

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use reactor::buf::Buf;
use wire::nvme::{Sqe, Status};
use wire::tcp::{Grant, H2cData, Layout, Pdu, PduError, PduType, field};

use super::connection::Connection;
use super::handshake::fatal;
use super::intake::{Intake, Sink, parse};
use crate::nvmf::plan::{DataPlace, Transfer};
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::{Phase, Refusal};

/// What the header of a PDU asks for, copied out of the receive buffer.
enum Incoming {
    Command(Sqe),
    Data(H2cData),
}

/// Reads until the connection ends, and says why it does, or until it is to move: none.
pub(super) async fn receive(
    connection: &Rc<Connection>,
    intake: &mut Intake,
) -> Option<CloseReason> {
    let reason = loop {
        if connection.link.wish.is_made() {
            break None;
        }
        if let Err(reason) = next_pdu(connection, intake).await {
            break Some(reason);
        }
    };
    let errors = &connection.counters.digest_errors;
    errors.set(intake.digest_errors);
    reason
}

async fn next_pdu(connection: &Rc<Connection>, intake: &mut Intake) -> Result<(), CloseReason> {
    // A host that takes no answers gets no more work done: its commands stay in the socket.
    while connection.link.outbox.queue.is_congested() {
        connection
            .link
            .socket
            .or_ended(connection.link.outbox.queue.drained())
            .await?;
    }
    let header = {
        let mut header = pin!(intake.next_header(&connection.link.socket));
        poll_fn(|cx| connection.link.wish.poll_or_made(header.as_mut(), cx)).await
    };
    let Some(header) = header else {
        return Ok(());
    };
    let layout = match header? {
        Ok(layout) => layout,
        Err(error) => return Err(connection.terminate(&error, intake.front_header())),
    };
    let incoming = match parse(intake, &layout) {
        Ok(Pdu::CapsuleCmd(capsule)) => Incoming::Command(capsule.sqe),
        Ok(Pdu::H2cData(pdu)) => Incoming::Data(*pdu),
        Ok(Pdu::H2cTermReq(request)) => {
            connection.complain_of(request.status());
            return Err(CloseReason::PeerTerminated);
        }
        Ok(_) => {
            let error = PduError::Sequence {
                kind: PduType::IC_REQ,
            };
            return Err(connection.terminate(&error, intake.front_header()));
        }
        Err(error) => {
            let error = fatal(error);
            return Err(connection.terminate(&error, intake.front_header()));
        }
    };
    match incoming {
        Incoming::Command(sqe) => command(connection, intake, &layout, sqe).await,
        Incoming::Data(pdu) => data(connection, intake, &layout, pdu).await,
    }
}

async fn command(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    layout: &Layout,
    sqe: Sqe,
) -> Result<(), CloseReason> {
    let index = match connection.admit(&sqe) {
        Ok(index) => index,
        Err(Refusal::DuplicateCid) => {
            discard(connection, intake, layout).await?;
            connection.answer_unentered(&sqe, Status::COMMAND_ID_CONFLICT.with_dnr());
            return Ok(());
        }
        Err(Refusal::Full) => return Err(connection.terminate_overrun(intake.front_header())),
    };
    match connection.check(index, &sqe, layout.data as u32) {
        Ok(Transfer::FromHost {
            len_bytes,
            place: DataPlace::Capsule { offset },
        }) => in_capsule(connection, intake, layout, (index, offset, len_bytes)).await,
        Ok(transfer) => {
            discard(connection, intake, layout).await?;
            connection.enqueue(index, transfer);
            Ok(())
        }
        Err(status) => {
            discard(connection, intake, layout).await?;
            connection.answer(index, status.into());
            Ok(())
        }
    }
}

async fn discard(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    layout: &Layout,
) -> Result<(), CloseReason> {
    intake.consume(layout.header + layout.header_digest);
    if layout.data != 0 {
        intake
            .take_data(&connection.link.socket, layout, Sink::Discard)
            .await?;
    }
    Ok(())
}

/// Receives in-capsule data. When the pool is empty the connection waits with the data unread.
async fn in_capsule(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    layout: &Layout,
    (index, offset, len_bytes): (u16, u32, u32),
) -> Result<(), CloseReason> {
    intake.consume(layout.header + layout.header_digest);
    let len = len_bytes as usize;
    let mut buf = match reactor::buf::try_alloc(len) {
        Some(buf) => buf,
        None => {
            connection
                .link
                .socket
                .or_ended(reactor::buf::alloc(len))
                .await?
        }
    };
    // Only now: an Abort until here finds the command waiting.
    if !connection.begin_receiving(index, len) {
        intake
            .take_data(&connection.link.socket, layout, Sink::Discard)
            .await?;
        return Ok(());
    }
    let sink = Sink::Memory {
        skip: offset as usize,
        bytes: buf.as_mut(),
    };
    let good = intake
        .take_data(&connection.link.socket, layout, sink)
        .await?;
    connection.received(index, Some(buf), good);
    Ok(())
}

/// Receives one H2CData PDU straight into the command's buffer.
async fn data(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    layout: &Layout,
    pdu: H2cData,
) -> Result<(), CloseReason> {
    let accepted = accept(connection, &pdu);
    let (index, last) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return Err(connection.terminate(&error, intake.front_header())),
    };
    intake.consume(layout.header + layout.header_digest);
    let mut buf = connection.table.borrow_mut().slot_mut(index).data.take();
    let good = {
        let start = pdu.datao.get() as usize;
        let place = buf
            .as_mut()
            .and_then(|buf| buf.as_mut().get_mut(start..start + layout.data));
        let sink = place.map_or(Sink::Discard, |bytes| Sink::Memory { skip: 0, bytes });
        intake
            .take_data(&connection.link.socket, layout, sink)
            .await?
    };
    received(connection, index, buf, (last, good));
    Ok(())
}

/// Checks an H2CData header against the R2T it answers and counts its data.
fn accept(connection: &Connection, pdu: &H2cData) -> Result<(u16, bool), PduError> {
    let mut table = connection.table.borrow_mut();
    let ttag = pdu.ttag.get();
    let unknown = PduError::HeaderField {
        kind: PduType::H2C_DATA,
        offset: field::TTAG,
        value: u64::from(ttag),
    };
    let index = table.by_ttag(ttag).ok_or(unknown)?;
    let slot = table.slot_mut(index);
    let mut grant = Grant {
        cccid: slot.sqe.cid.get(),
        ttag,
        next_offset: slot.received_bytes,
        remaining_bytes: slot.expected_bytes - slot.received_bytes,
    };
    let last = grant.accept(pdu)?;
    slot.received_bytes = grant.next_offset;
    slot.progress = reactor::now();
    Ok((index, last))
}

/// A part of a command's data is here, or all of it.
fn received(
    connection: &Rc<Connection>,
    index: u16,
    buf: Option<Buf>,
    (is_last, is_good): (bool, bool),
) {
    let is_damaged = {
        let mut table = connection.table.borrow_mut();
        let slot = table.slot_mut(index);
        slot.damaged |= !is_good;
        if !is_last && slot.phase == Phase::Receiving {
            slot.data = buf;
            return;
        }
        slot.damaged
    };
    if is_last {
        connection.received(index, buf, !is_damaged);
    }
}
