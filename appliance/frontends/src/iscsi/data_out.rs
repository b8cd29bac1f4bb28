//! Data from the host: where it belongs, whether it comes in order, and what follows it.
//!
//! Both orders are fixed (DataPDUInOrder and DataSequenceInOrder are Yes), so one cursor for each
//! command says what has to come next. Data of commands that are gone is passed over silently:
//! it was on its way when they were aborted.
//! Source: RFC 7143 sections 11.7 (Data-Out), 7.8 (digests), 7.9 (sequence errors).

use std::rc::Rc;

use reactor::buf::Buf;
use wire::iscsi::{DataOut, NO_TAG, RejectReason};

use super::command::{Room, aborted_command, code};
use super::connection::Connection;
use super::intake::{Incoming, Intake, Sink};
use super::reason::CloseReason;
use super::session::Session;
use super::table::TaskRef;
use super::task::Task;

/// Where the data of a PDU belongs.
struct Place {
    task: TaskRef,
    offset: usize,
    /// It ends the sequence it belongs to.
    is_last: bool,
}

/// Receives one Data-Out PDU straight into its command's buffer.
pub(super) async fn data_out(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<(), CloseReason> {
    let pdu: DataOut = zerocopy::transmute!(incoming.bhs);
    let session = &connection.session;
    let len = incoming.layout.data;
    let Some(place) = session.place(connection, &pdu, len) else {
        let totals = session.target.totals();
        totals.stray_data.set(totals.stray_data.get() + 1);
        return super::command::discard(connection, intake, incoming).await;
    };
    let mut buf = session.take_buffer(place.task);
    let good = {
        let room = buf.as_mut().and_then(|buf| {
            let end = buf.len().min(place.offset + len);
            buf.as_mut().get_mut(place.offset.min(end)..end)
        });
        let sink = room.map_or(Sink::Discard, |bytes| Sink::Memory { skip: 0, bytes });
        intake
            .take_data(&connection.socket, &incoming.layout, sink)
            .await?
    };
    if !good {
        connection.reject(RejectReason::DATA_DIGEST_ERROR, &incoming.bhs);
    }
    session.data_arrived(&place, pdu.ttt.get(), buf, good);
    Ok(())
}

impl Session {
    /// Finds the command of a PDU and checks its order. None: the data is of no use to anybody.
    fn place(&self, connection: &Rc<Connection>, pdu: &DataOut, len: usize) -> Option<Place> {
        let ttt = pdu.ttt.get();
        let place = {
            let mut table = self.table.borrow_mut();
            let index = match ttt {
                NO_TAG => table.find(pdu.itt.get()),
                _ => table.by_ttt(ttt),
            }?;
            let task = table.reference(index);
            let slot = table.live(task)?;
            let is_own = slot.connection.as_ref()?;
            let is_meant = slot.itt() == pdu.itt.get()
                && Rc::ptr_eq(is_own, connection)
                && (ttt != NO_TAG || slot.unsolicited_open);
            if !is_meant {
                return None;
            }
            slot.progress = reactor::now();
            let is_last = self.check(slot, pdu, len as u32);
            Place {
                task,
                offset: pdu.buffer_offset.get() as usize,
                is_last,
            }
        };
        self.give_buffer(place.task, len);
        Some(place)
    }

    /// Checks a PDU against what has to come next, and moves the cursor. Returns whether it ends
    /// its sequence; after a fault only FINAL says so.
    fn check(&self, slot: &mut Task, pdu: &DataOut, len_bytes: u32) -> bool {
        let is_final = pdu.flags & wire::iscsi::pdu::FINAL != 0;
        if slot.fault.is_some() {
            return is_final;
        }
        let limit = match slot.first_open() {
            Some(open) if pdu.ttt.get() == open.ttt => open.end,
            None if pdu.ttt.get() == NO_TAG => {
                slot.expected_bytes.min(self.terms.first_burst_bytes)
            }
            // The answer to a later request, before that to the first one.
            _ => {
                slot.fault = Some(aborted_command(code::INCORRECT_AMOUNT_OF_DATA));
                return is_final;
            }
        };
        let end = pdu.buffer_offset.get().checked_add(len_bytes);
        let is_short = pdu.ttt.get() != NO_TAG && is_final && end != Some(limit);
        if pdu.data_sn.get() != slot.data_sn {
            slot.fault = Some(aborted_command(code::PROTOCOL_SERVICE_CRC_ERROR));
        } else if pdu.buffer_offset.get() != slot.received_bytes
            || end.is_none_or(|end| end > limit)
            || is_short
        {
            slot.fault = Some(aborted_command(code::INCORRECT_AMOUNT_OF_DATA));
        } else {
            slot.data_sn = slot.data_sn.wrapping_add(1);
            slot.received_bytes += len_bytes;
            return is_final || end == Some(limit);
        }
        is_final
    }

    /// Unsolicited data that comes without immediate data before it needs its buffer now.
    fn give_buffer(&self, task: TaskRef, len: usize) {
        let needs = {
            let mut table = self.table.borrow_mut();
            table
                .live(task)
                .is_some_and(|slot| slot.data.is_none() && slot.fault.is_none())
        };
        if !needs {
            return;
        }
        if let Room::Here(buf) = self.first_buffer(task, len, false)
            && let Some(slot) = self.table.borrow_mut().live(task)
        {
            slot.data = Some(buf);
        }
    }

    fn take_buffer(&self, task: TaskRef) -> Option<Buf> {
        let mut table = self.table.borrow_mut();
        let slot = table.live(task)?;
        slot.fault.is_none().then(|| slot.data.take()).flatten()
    }

    fn data_arrived(&self, place: &Place, ttt: u32, buf: Option<Buf>, good: bool) {
        {
            let mut table = self.table.borrow_mut();
            let Some(slot) = table.live(place.task) else {
                return;
            };
            if buf.is_some() {
                slot.data = buf;
            }
            if !good && slot.fault.is_none() {
                slot.fault = Some(aborted_command(code::PROTOCOL_SERVICE_CRC_ERROR));
            }
            slot.progress = reactor::now();
            if !place.is_last {
                return;
            }
            slot.data_sn = 0;
            match ttt {
                NO_TAG => slot.unsolicited_open = false,
                _ => slot.close_open(ttt),
            }
            slot.asked_bytes = slot.asked_bytes.max(slot.received_bytes);
        }
        self.advance(place.task);
    }
}
