//! One command of a session, from its header to its response.

use std::rc::Rc;

use reactor::Instant;
use reactor::buf::Buf;
use wire::iscsi::{Bhs, NO_TAG, Opcode, ScsiCommand, TaskAttribute};

use super::connection::Connection;
use crate::scsi::{Outcome, Plan};

/// Most requests for data of one command at once.
pub(super) const MAX_OPEN: usize = 8;

/// Where a command is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing in the slot.
    #[default]
    Free,
    /// Commands with lower numbers have to come first.
    Early,
    /// Its data is coming.
    Receiving,
    /// Waits for payload memory.
    Queued,
    /// Waits for other commands, because of an ORDERED one.
    Blocked,
    /// With the logical unit.
    Executing,
}

/// What becomes of a command that was aborted while it was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aborted {
    /// It ends without a response.
    Silently,
    /// It ends with TASK ABORTED.
    WithStatus,
}

/// A request for data that the initiator has not answered in full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Its target transfer tag.
    pub ttt: u32,
    /// Where its data ends, in bytes of the command's data.
    pub end: u32,
}

/// A slot of the table.
#[derive(Debug)]
pub(super) struct Task {
    /// Where it is.
    pub phase: Phase,
    /// As it came.
    pub header: Bhs,
    /// The connection it came by, which gets its response.
    pub connection: Option<Rc<Connection>>,
    /// Its number counts in the window.
    pub is_numbered: bool,
    /// Order of delivery.
    pub order: u64,
    /// How it stands to the others.
    pub attribute: TaskAttribute,
    /// What it does; none before its delivery, or when it was refused.
    pub plan: Option<Plan>,
    /// It ends so as soon as no data is on its way any more.
    pub fault: Option<Outcome>,
    /// Data the initiator announced, either way.
    pub expected_bytes: u32,
    /// Data from the host that its command descriptor block asks for.
    pub wanted_bytes: u32,
    /// Data from the host that it is executed with.
    pub need_bytes: u32,
    /// Data from the host that came.
    pub received_bytes: u32,
    /// Data from the host that came or was asked for.
    pub asked_bytes: u32,
    /// Payload memory, while it is being filled.
    pub data: Option<Buf>,
    /// Payload bytes charged to the session.
    pub held_bytes: usize,
    /// Immediate data is being received.
    pub immediate_open: bool,
    /// Unsolicited data is to come.
    pub unsolicited_open: bool,
    /// Requests for data, in their order.
    pub open: [Open; MAX_OPEN],
    /// How many of them.
    pub open_count: u8,
    /// R2TSN of the next request.
    pub r2t_sn: u32,
    /// DataSN that has to come next.
    pub data_sn: u32,
    /// When the current wait for the host's data began or last made progress.
    pub progress: Instant,
    /// Aborted while it was executed.
    pub aborted: Option<Aborted>,
    /// Tells uses of the slot apart.
    pub generation: u32,
}

impl Task {
    pub fn empty(generation: u32) -> Self {
        Self {
            phase: Phase::Free,
            header: Bhs::zeroed(),
            connection: None,
            is_numbered: false,
            order: 0,
            attribute: TaskAttribute::SIMPLE,
            plan: None,
            fault: None,
            expected_bytes: 0,
            wanted_bytes: 0,
            need_bytes: 0,
            received_bytes: 0,
            asked_bytes: 0,
            data: None,
            held_bytes: 0,
            immediate_open: false,
            unsolicited_open: false,
            open: [Open {
                ttt: NO_TAG,
                end: 0,
            }; MAX_OPEN],
            open_count: 0,
            r2t_sn: 0,
            data_sn: 0,
            progress: Instant::from_nanos(0),
            aborted: None,
            generation,
        }
    }

    /// Whether it is a SCSI command, and not another request that waits for its turn.
    pub fn is_command(&self) -> bool {
        self.header.opcode() == Opcode::SCSI_COMMAND
    }

    /// Whether it came by this connection.
    pub fn is_of(&self, connection: &Rc<Connection>) -> bool {
        let by = self.connection.as_ref();
        by.is_some_and(|by| Rc::ptr_eq(by, connection))
    }

    /// Its header as a SCSI command's.
    pub fn command(&self) -> ScsiCommand {
        zerocopy::transmute!(self.header)
    }

    /// Its tag.
    pub fn itt(&self) -> u32 {
        self.header.itt.get()
    }

    /// Whether it waits for the host: for data, or for the commands before it.
    pub fn is_owed(&self) -> bool {
        matches!(self.phase, Phase::Receiving | Phase::Early)
    }

    /// Notes a request for data; the caller checked that there is room.
    pub fn push_open(&mut self, open: Open) {
        if let Some(place) = self.open.get_mut(usize::from(self.open_count)) {
            *place = open;
            self.open_count += 1;
        }
    }

    /// The request that has to be answered now.
    pub fn first_open(&self) -> Option<Open> {
        (self.open_count != 0).then_some(self.open[0])
    }

    /// Takes the request with this tag out. With a fault they may end in any order.
    pub fn close_open(&mut self, ttt: u32) {
        let count = usize::from(self.open_count);
        let found = self.open[..count].iter().position(|open| open.ttt == ttt);
        if let Some(at) = found {
            self.open.copy_within(at + 1..count, at);
            self.open_count -= 1;
        }
    }

    /// Whether a request with this tag is open.
    pub fn has_open(&self, ttt: u32) -> bool {
        let count = usize::from(self.open_count);
        self.open[..count].iter().any(|open| open.ttt == ttt)
    }
}
