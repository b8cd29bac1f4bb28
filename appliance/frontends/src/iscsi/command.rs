//! Commands that arrive: their number, their place in the table, what they need, and the data
//! that comes with them.
//!
//! A command of the next number is delivered at once, also while the data that came with it is
//! still being received; one that is early waits, with its data, for those before it.
//! Source: RFC 7143 sections 4.2.2.1 (numbers), 11.3 (SCSI Command), 7.8 (digest errors).

use std::rc::Rc;

use reactor::buf::{Buf, MAX_BUF_BYTES};
use wire::iscsi::{Opcode, RejectReason, TaskAttribute};
use wire::scsi::{Sense, SenseCode, SenseKey, Status};

use super::connection::Connection;
use super::intake::{Incoming, Intake, Sink};
use super::reason::CloseReason;
use super::session::Session;
use super::table::{Admitted, TaskRef, number_of};
use super::task::{Phase, Task};
use crate::scsi::{Outcome, Plan, Transfer};

/// Additional sense codes of RFC 7143 section 11.4.7.2, all with ABORTED COMMAND.
pub(super) mod code {
    use wire::scsi::SenseCode;

    pub const UNEXPECTED_UNSOLICITED_DATA: SenseCode = SenseCode(0x0c0c);
    pub const INCORRECT_AMOUNT_OF_DATA: SenseCode = SenseCode(0x0c0d);
    pub const PROTOCOL_SERVICE_CRC_ERROR: SenseCode = SenseCode(0x4705);
}

/// How a command ends that the transport itself has to fail.
pub(super) fn aborted_command(code: SenseCode) -> Outcome {
    Outcome::check(Sense::new(SenseKey::ABORTED_COMMAND, code))
}

/// Takes a SCSI command with its immediate data.
pub(super) async fn scsi_command(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<(), CloseReason> {
    let session = &connection.session;
    let Some(task) = admit(connection, intake, incoming).await? else {
        return Ok(());
    };
    session.open(task, incoming);
    if session.is_delivered(task) {
        session.deliver(task.index);
        session.deliver_early();
    }
    if incoming.layout.data != 0 {
        immediate_data(connection, intake, incoming, task).await?;
    }
    session.advance(task);
    Ok(())
}

/// Gives a request its place in the table. None when it goes no further; its data is passed over
/// then.
pub(super) async fn admit(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<Option<TaskRef>, CloseReason> {
    let bhs = &incoming.bhs;
    let cmd_sn = (!bhs.is_immediate()).then(|| number_of(bhs));
    let session = &connection.session;
    let admitted = session.table.borrow_mut().admit(bhs, cmd_sn, connection);
    let reason = match admitted {
        Admitted::Now(task) | Admitted::Early(task) => return Ok(Some(task)),
        Admitted::Ignored => None,
        Admitted::TagInUse => Some(RejectReason::TASK_IN_PROGRESS),
        Admitted::TooMany => Some(RejectReason::IMMEDIATE_COMMAND_REJECT),
    };
    discard(connection, intake, incoming).await?;
    if let Some(reason) = reason {
        connection.reject(reason, bhs);
    }
    session.deliver_early();
    Ok(None)
}

/// Passes over the data of a PDU.
pub(super) async fn discard(
    connection: &Connection,
    intake: &mut Intake,
    incoming: &Incoming,
) -> Result<(), CloseReason> {
    let socket = &connection.socket;
    intake
        .take_data(socket, &incoming.layout, Sink::Discard)
        .await?;
    Ok(())
}

/// Receives immediate data. When the pool is empty the connection waits with the data unread.
async fn immediate_data(
    connection: &Rc<Connection>,
    intake: &mut Intake,
    incoming: &Incoming,
    task: TaskRef,
) -> Result<(), CloseReason> {
    let session = &connection.session;
    let len = incoming.layout.data;
    let mut buf = match session.first_buffer(task, len, incoming.bhs.is_final()) {
        Room::Here(buf) => Some(buf),
        Room::None => None,
        Room::Wait(len) => {
            let buf = connection.socket.or_ended(reactor::buf::alloc(len)).await?;
            session.charge_late(task, &buf).then_some(buf)
        }
    };
    let good = {
        let sink = match &mut buf {
            Some(buf) => Sink::Memory {
                skip: 0,
                bytes: buf.as_mut(),
            },
            None => Sink::Discard,
        };
        intake
            .take_data(&connection.socket, &incoming.layout, sink)
            .await?
    };
    if !good {
        connection.reject(RejectReason::DATA_DIGEST_ERROR, &incoming.bhs);
    }
    session.immediate_arrived(task, buf, len, good);
    Ok(())
}

/// Memory for data that comes with a command or soon after it.
pub(super) enum Room {
    /// Here it is.
    Here(Buf),
    /// So much is worth waiting for: the command starts as soon as this data is here.
    Wait(usize),
    /// The data is of no use, or there is no memory for a command that waits for more.
    None,
}

impl Session {
    /// Notes what the header of a fresh command announces.
    fn open(&self, task: TaskRef, incoming: &Incoming) {
        let mut table = self.table.borrow_mut();
        let slot = table.task_mut(task.index);
        let command = slot.command();
        slot.expected_bytes = command.expected_len.get();
        slot.attribute = command.attribute();
        slot.immediate_open = incoming.layout.data != 0;
        slot.unsolicited_open = command.is_write() && !incoming.bhs.is_final();
        slot.fault = self.fault_of(slot, incoming.layout.data);
    }

    /// What the transport itself has to say against a command.
    fn fault_of(&self, task: &Task, immediate: usize) -> Option<Outcome> {
        let command = task.command();
        if command.is_read() && command.is_write() {
            let sense = Sense::illegal(SenseCode::INVALID_INFORMATION_UNIT);
            return Some(Outcome::check(sense));
        }
        let terms = &self.terms;
        let uncalled_for = (immediate != 0 && !terms.immediate_data)
            || (task.unsolicited_open && terms.initial_r2t);
        if uncalled_for {
            return Some(aborted_command(code::UNEXPECTED_UNSOLICITED_DATA));
        }
        let most = task.expected_bytes.min(terms.first_burst_bytes) as usize;
        let is_too_much = immediate > most || (immediate != 0 && !command.is_write());
        is_too_much.then(|| aborted_command(code::INCORRECT_AMOUNT_OF_DATA))
    }

    fn is_delivered(&self, task: TaskRef) -> bool {
        let mut table = self.table.borrow_mut();
        let slot = table.live(task);
        slot.is_some_and(|slot| slot.phase != Phase::Early)
    }

    /// Delivers early commands whose turn has come.
    pub(super) fn deliver_early(&self) {
        loop {
            let next = self.table.borrow_mut().next_early();
            let Some(index) = next else { return };
            let (opcode, task) = {
                let table = self.table.borrow();
                (table.task(index).header.opcode(), table.reference(index))
            };
            if opcode == Opcode::SCSI_COMMAND {
                self.deliver(index);
                self.advance(task);
            } else {
                self.carry_out(index);
            }
        }
    }

    /// It is a command's turn: asks the logical unit what it needs.
    fn deliver(&self, index: u16) {
        let command = {
            let mut table = self.table.borrow_mut();
            let slot = table.task_mut(index);
            slot.progress = reactor::now();
            if slot.attribute == TaskAttribute::ORDERED {
                self.ordered.set(self.ordered.get() + 1);
            }
            if slot.fault.is_some() {
                return;
            }
            slot.command()
        };
        let planned = match self.nexus() {
            Some(nexus) => nexus.plan(command.lun, &command.cdb),
            None => Err(Outcome::status(Status::BUSY)),
        };
        let mut table = self.table.borrow_mut();
        let slot = table.task_mut(index);
        slot.fault = match planned {
            Ok(plan) => take_plan(slot, plan),
            Err(outcome) => Some(outcome),
        };
    }

    /// Memory for the first data of a command, of which `len` bytes come now.
    pub(super) fn first_buffer(&self, task: TaskRef, len: usize, is_all: bool) -> Room {
        let mut table = self.table.borrow_mut();
        let Some(slot) = table.live(task) else {
            return Room::None;
        };
        let is_early = slot.phase == Phase::Early;
        let need = if is_early {
            (slot.expected_bytes as usize).min(MAX_BUF_BYTES)
        } else {
            slot.need_bytes as usize
        };
        if slot.fault.is_some() || need == 0 {
            return Room::None;
        }
        if is_all && len >= need && !is_early {
            let buf = reactor::buf::try_alloc(need);
            return match buf {
                Some(buf) => {
                    self.charge(slot, need);
                    Room::Here(buf)
                }
                None => Room::Wait(need),
            };
        }
        // What waits for more data must leave memory for what does not.
        let first = need.min(len.max(self.terms.first_burst_bytes as usize));
        let found = self.spare_buffer(need).or_else(|| self.short_buffer(first));
        match found {
            Some(buf) => {
                self.charge(slot, buf.len());
                Room::Here(buf)
            }
            None => {
                slot.fault = Some(Outcome::status(Status::TASK_SET_FULL));
                Room::None
            }
        }
    }

    /// Charges memory that was waited for. False when the command was aborted meanwhile.
    fn charge_late(&self, task: TaskRef, buf: &Buf) -> bool {
        let mut table = self.table.borrow_mut();
        let Some(slot) = table.live(task) else {
            return false;
        };
        self.charge(slot, buf.len());
        true
    }

    /// The immediate data of a command is here.
    fn immediate_arrived(&self, task: TaskRef, buf: Option<Buf>, len: usize, good: bool) {
        let mut table = self.table.borrow_mut();
        let Some(slot) = table.live(task) else { return };
        slot.immediate_open = false;
        slot.data = buf;
        slot.received_bytes = len as u32;
        slot.asked_bytes = len as u32;
        if !good && slot.fault.is_none() {
            slot.fault = Some(aborted_command(code::PROTOCOL_SERVICE_CRC_ERROR));
        }
    }
}

/// Notes what a command needs. Gives the outcome of one whose data does not suit it.
fn take_plan(task: &mut Task, mut plan: Plan) -> Option<Outcome> {
    let command = task.command();
    let announced = match command.is_write() {
        true => command.expected_len.get(),
        false => 0,
    };
    task.wanted_bytes = from_host(plan);
    let fitted = plan.fit(announced);
    task.need_bytes = from_host(plan);
    task.plan = Some(plan);
    // No unit plans a transfer that no buffer holds; should one do, it fails here.
    let is_too_long = task.need_bytes as usize > MAX_BUF_BYTES;
    fitted.err().or_else(|| is_too_long.then(Outcome::internal))
}

fn from_host(plan: Plan) -> u32 {
    match plan.transfer() {
        Transfer::FromHost { len_bytes } => len_bytes,
        _ => 0,
    }
}
