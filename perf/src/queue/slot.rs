//! The commands in flight, and the transport's rules about their data.
//!
//! Source: NVMe/TCP 1.0 section 3.3.2: R2Ts cover the data in order and once; C2HData comes in
//! order and without gaps, and the last PDU says that it is the last.

use wire::tcp::{C2hData, R2t};

use super::{Io, Kind};

/// One command in flight.
#[derive(Debug)]
pub struct Slot {
    /// The command.
    pub io: Io,
    /// Where its data starts in the queue's payload.
    pub payload: usize,
    granted_bytes: u32,
    received_bytes: u32,
    last_seen: bool,
}

impl Slot {
    /// Takes the header of a C2HData PDU and gives the offset of its data.
    pub fn take_data(&mut self, pdu: &C2hData, io_bytes: u32) -> Result<u32, &'static str> {
        let (offset, len_bytes) = (pdu.datao.get(), pdu.datal.get());
        if self.io.kind != Kind::Read {
            return Err("data for a command that reads nothing");
        }
        if self.last_seen {
            return Err("data after the last PDU");
        }
        if offset != self.received_bytes {
            return Err("data out of order");
        }
        if len_bytes > io_bytes - offset {
            return Err("more data than the command asked for");
        }
        self.received_bytes = offset + len_bytes;
        self.last_seen = pdu.is_last();
        if self.last_seen && self.received_bytes != io_bytes {
            return Err("last PDU before the last byte");
        }
        Ok(offset)
    }

    /// Takes an R2T for a command with `io_bytes` to send.
    pub fn take_grant(&mut self, r2t: &R2t, io_bytes: u32) -> Result<(), &'static str> {
        if self.io.kind != Kind::Write {
            return Err("asks for data of a command that sends none");
        }
        if r2t.r2to.get() != self.granted_bytes {
            return Err("asks for data out of order");
        }
        if r2t.r2tl.get() > io_bytes.saturating_sub(self.granted_bytes) {
            return Err("asks for more than is left to send");
        }
        self.granted_bytes += r2t.r2tl.get();
        Ok(())
    }

    /// A success must have brought everything. A write may succeed before its last R2T only if
    /// its data was inside the capsule, which the target alone knows, so that is not judged here.
    pub fn check_success(&self, io_bytes: u32) -> Result<(), &'static str> {
        if self.io.kind == Kind::Read && self.received_bytes != io_bytes {
            return Err("success before all data came");
        }
        Ok(())
    }
}

/// All slots of a queue; the slot's number is the command identifier.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
}

impl Slots {
    /// `depth` free slots.
    pub fn new(depth: u16) -> Self {
        Self {
            slots: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
        }
    }

    /// Slots in use.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a command into a free slot; `None` when all are in use.
    pub fn take(&mut self, io: Io) -> Option<u16> {
        let cid = self.free.pop()?;
        *self.slots.get_mut(usize::from(cid))? = Some(Slot {
            io,
            payload: 0,
            granted_bytes: 0,
            received_bytes: 0,
            last_seen: false,
        });
        Some(cid)
    }

    /// Says where the data of a command lies.
    pub fn set_payload(&mut self, cid: u16, start: usize) {
        if let Some(slot) = self.get(cid) {
            slot.payload = start;
        }
    }

    /// The command `cid`, if it is in flight.
    pub fn get(&mut self, cid: u16) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(cid))?.as_mut()
    }

    /// Ends the command `cid`.
    pub fn free(&mut self, cid: u16) {
        let slot = self.slots.get_mut(usize::from(cid)).and_then(Option::take);
        if slot.is_some() {
            self.free.push(cid);
        }
    }

    /// The command that was issued first.
    pub fn oldest(&self) -> Option<&Io> {
        let in_flight = self.slots.iter().flatten().map(|slot| &slot.io);
        in_flight.min_by_key(|io| io.issued_ns)
    }
}
