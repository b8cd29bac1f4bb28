//! A queue of iSCSI: a session with one connection.
//!
//! Source: RFC 7143 sections 4.2 (numbers, data transfer) and 11 (PDUs).

pub mod cdb;
mod login;
mod numbers;
mod receive;
mod session;
mod steps;
#[cfg(test)]
mod tests;
mod transfer;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use wire::iscsi::digest;
use wire::iscsi::{Digests, Extent, Layout, Link, NO_TAG, NopOut, Opcode, R2t, ScsiCommand, flags};

pub use login::{Settled, Wishes};
pub use numbers::Numbers;
pub use session::Session;
pub use steps::targets;

use super::{Input, Io, Kind, Output, Payload, Shape, Slots, socket};
use crate::error::PerfError;
use receive::Body;
use transfer::Transfer;

/// The 8 bytes of a logical unit number.
pub type Lun = [u8; 8];

/// Which unit of which target to open sessions with, and how.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The target.
    pub address: SocketAddr,
    /// Its name.
    pub target: String,
    /// Logical unit.
    pub lun: Lun,
    /// What is asked for in the login.
    pub wishes: Wishes,
    /// Longest wait for each step.
    pub timeout: Duration,
}

/// Opens the session of queue `qid`: login, then TEST UNIT READY until the unit has told what
/// happened before. The socket comes back in non-blocking mode.
///
/// Errors: `Login`, `Negotiation`, `Scsi`, and what ends a connection.
pub fn open(opening: &Opening, qid: u16) -> Result<(TcpStream, Terms), PerfError> {
    let mut session = Session::login(opening, qid)?;
    session.wait_until_ready()?;
    let (connection, terms) = session.into_parts();
    socket::unblock(&connection)?;
    Ok((connection, terms))
}

/// What the login settled.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Form of the PDUs that come in.
    pub link: Link,
    /// Logical unit.
    pub lun: Lun,
    /// What was negotiated.
    pub settled: Settled,
    /// Where the session stands.
    pub numbers: Numbers,
}

/// A connected queue.
#[derive(Debug)]
pub struct Queue {
    shape: Shape,
    terms: Terms,
    pub(super) slots: Slots<Transfer>,
    pub(super) payload: Payload,
    pub(super) input: Input,
    pub(super) output: Output,
    body: Option<Body>,
    /// Sense data of the response that is being received.
    sense: Vec<u8>,
    /// Commands so far, for tags.
    count: u16,
}

impl Queue {
    /// A queue with nothing in flight. `pattern` is what writes send when no data is kept.
    pub fn new(shape: Shape, terms: Terms, pattern: Vec<u8>) -> Self {
        Self {
            shape,
            terms,
            slots: Slots::new(shape.depth),
            payload: Payload::new(&shape, pattern),
            input: Input::new(shape.io_bytes),
            output: Output::new(),
            body: None,
            sense: Vec::with_capacity(receive::SENSE_MAX_BYTES),
            count: 0,
        }
    }

    /// True when another command fits, here and into the target's command window.
    pub fn has_room(&self) -> bool {
        self.slots.in_flight() < usize::from(self.shape.depth) && self.terms.numbers.is_open()
    }

    /// Queues a command, and the data that may go with it unasked.
    pub fn submit(
        &mut self,
        io: Io,
        choice: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), PerfError> {
        let cid = self.slots.take(io).expect("the caller asked for room");
        let start = match io.kind {
            Kind::Write => self.payload.place(cid, choice, fill),
            Kind::Read | Kind::Flush => 0,
        };
        // A tag differs from those that the slot had before: a late PDU meets no other command.
        self.count = self.count.wrapping_add(1) & 0x7fff;
        let itt = u32::from(self.count) << 16 | u32::from(cid);
        let (immediate, unasked) = match io.kind {
            Kind::Write => self.terms.settled.unasked(self.shape.io_bytes),
            Kind::Read | Kind::Flush => (0, 0),
        };
        if let Some(slot) = self.slots.get(cid) {
            slot.payload = start;
            slot.transfer.itt = itt;
            slot.transfer.granted_bytes = unasked;
        }
        let mut command = self.command(itt, &io);
        command.data_len = wire::iscsi::pdu::data_len(immediate as usize);
        if unasked > immediate {
            command.flags &= !wire::iscsi::pdu::FINAL;
        }
        self.queue_pdu(command.as_wire(), start, immediate as usize);
        self.data_out(itt, NO_TAG, start, (immediate, unasked));
        Ok(())
    }

    fn command(&mut self, itt: u32, io: &Io) -> ScsiCommand {
        let io_bytes = self.shape.io_bytes;
        let blocks = io_bytes / self.shape.block_bytes;
        let lba = io.unit * u64::from(blocks);
        let (cdb, direction, len_bytes) = match io.kind {
            Kind::Read => (cdb::read(lba, blocks), flags::READ, io_bytes),
            Kind::Write => (cdb::write(lba, blocks, io.fua), flags::WRITE, io_bytes),
            Kind::Flush => (cdb::flush(), 0, 0),
        };
        let numbers = self.terms.numbers.next();
        ScsiCommand::new(itt, self.terms.lun, cdb, direction, len_bytes, numbers)
    }

    /// Queues the Data-Out PDUs of one sequence: the command's bytes from `from` to `end`.
    fn data_out(&mut self, itt: u32, ttt: u32, start: usize, (from, end): (u32, u32)) {
        let (mut offset, mut sn) = (from, 0);
        while offset < end {
            let len_bytes = (end - offset).min(self.terms.settled.max_send_bytes);
            let extent = Extent {
                sn,
                offset,
                len_bytes,
            };
            let last = offset + len_bytes == end;
            let exp_stat_sn = self.terms.numbers.exp_stat_sn;
            let lun = self.terms.lun;
            let pdu = wire::iscsi::DataOut::new(itt, ttt, lun, extent, last, exp_stat_sn);
            self.queue_pdu(pdu.as_wire(), start + offset as usize, len_bytes as usize);
            offset += len_bytes;
            sn += 1;
        }
    }

    /// Queues a PDU with `len` bytes of data from `start` of the payload on.
    fn queue_pdu(&mut self, header: &[u8], start: usize, len: usize) {
        let layout = Layout::to_send(0, len, self.terms.link.digests);
        self.output.head(header);
        if layout.header_digest > 0 {
            self.output.head(&digest::header_digest(header));
        }
        if layout.data == 0 {
            return;
        }
        self.output.payload(start, layout.data);
        if layout.padding > 0 {
            self.output.zeroes(layout.padding);
        }
        if layout.data_digest > 0 {
            let sum = digest::data_digest(self.payload.range(start, layout.data));
            self.output.head(&sum);
        }
    }

    /// Answers an R2T.
    fn grant(&mut self, r2t: &R2t) -> Result<(), PerfError> {
        let (itt, ttt) = (r2t.itt.get(), r2t.ttt.get());
        let (io_bytes, burst_bytes) = (self.shape.io_bytes, self.terms.settled.max_burst_bytes);
        let slot = self.find(Opcode::R2T, itt)?;
        slot.take_grant(r2t, io_bytes, burst_bytes)
            .map_err(|problem| refuse(Opcode::R2T, itt, problem))?;
        let start = slot.payload;
        let (from, len_bytes) = (r2t.buffer_offset.get(), r2t.desired_len.get());
        self.data_out(itt, ttt, start, (from, from + len_bytes));
        Ok(())
    }

    /// Answers a ping.
    fn pong(&mut self, ttt: u32, lun: Lun) {
        let pdu = NopOut::new(NO_TAG, ttt, lun, 0, self.terms.numbers.now());
        self.queue_pdu(pdu.as_wire(), 0, 0);
    }
}

/// The digests of both directions.
fn digests(wishes: &Wishes) -> Digests {
    Digests {
        header: wishes.header_digest,
        data: wishes.data_digest,
    }
}

fn refuse(opcode: Opcode, tag: u32, problem: &'static str) -> PerfError {
    PerfError::IscsiProtocol {
        opcode,
        tag,
        problem,
    }
}
