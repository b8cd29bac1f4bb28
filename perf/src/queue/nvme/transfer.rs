//! The transport's rules about the data of a command.
//!
//! Source: NVMe/TCP 1.0 section 3.3.2: R2Ts cover the data in order and once; C2HData comes in
//! order and without gaps, and the last PDU says that it is the last.

use wire::tcp::{C2hData, R2t};

use crate::queue::{Kind, Slot};

/// How far the data of a command got.
#[derive(Debug, Default)]
pub struct Transfer {
    granted_bytes: u32,
    received_bytes: u32,
    last_seen: bool,
}

impl Slot<Transfer> {
    /// Takes the header of a C2HData PDU and gives the offset of its data.
    pub fn take_data(&mut self, pdu: &C2hData, io_bytes: u32) -> Result<u32, &'static str> {
        let (offset, len_bytes) = (pdu.datao.get(), pdu.datal.get());
        if self.io.kind != Kind::Read {
            return Err("data for a command that reads nothing");
        }
        if self.transfer.last_seen {
            return Err("data after the last PDU");
        }
        if offset != self.transfer.received_bytes {
            return Err("data out of order");
        }
        if len_bytes > io_bytes - offset {
            return Err("more data than the command asked for");
        }
        self.transfer.received_bytes = offset + len_bytes;
        self.transfer.last_seen = pdu.is_last();
        if self.transfer.last_seen && self.transfer.received_bytes != io_bytes {
            return Err("last PDU before the last byte");
        }
        Ok(offset)
    }

    /// Takes an R2T for a command with `io_bytes` to send.
    pub fn take_grant(&mut self, r2t: &R2t, io_bytes: u32) -> Result<(), &'static str> {
        if self.io.kind != Kind::Write {
            return Err("asks for data of a command that sends none");
        }
        if r2t.r2to.get() != self.transfer.granted_bytes {
            return Err("asks for data out of order");
        }
        if r2t.r2tl.get() > io_bytes.saturating_sub(self.transfer.granted_bytes) {
            return Err("asks for more than is left to send");
        }
        self.transfer.granted_bytes += r2t.r2tl.get();
        Ok(())
    }

    /// A success must have brought everything. A write may succeed before its last R2T only if
    /// its data was inside the capsule, which the target alone knows, so that is not judged here.
    pub fn check_success(&self, io_bytes: u32) -> Result<(), &'static str> {
        if self.io.kind == Kind::Read && self.transfer.received_bytes != io_bytes {
            return Err("success before all data came");
        }
        Ok(())
    }
}
