//! The transport's rules about the data of a command.
//!
//! Source: RFC 7143 sections 11.7 (Data-In, Data-Out), 11.8 (R2T), 13.18 and 13.19 (all data in
//! order, which is what the login asks for).

use wire::iscsi::{DataIn, R2t};

use crate::queue::{Kind, Slot};

/// How far the data of a command got.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Initiator task tag: the slot, and a count that tells it from those before it.
    pub itt: u32,
    /// Data sent without being asked for, and what R2Ts asked for, in bytes.
    pub granted_bytes: u32,
    received_bytes: u32,
    next_sn: u32,
}

impl Slot<Transfer> {
    /// Takes the header of a Data-In PDU with `len_bytes` of data and gives their offset.
    pub fn take_data(
        &mut self,
        pdu: &DataIn,
        len_bytes: u32,
        io_bytes: u32,
    ) -> Result<u32, &'static str> {
        let offset = pdu.buffer_offset.get();
        if self.io.kind != Kind::Read {
            return Err("data for a command that reads nothing");
        }
        if pdu.data_sn.get() != self.transfer.next_sn {
            return Err("its DataSN is not the next one");
        }
        if offset != self.transfer.received_bytes {
            return Err("data out of order");
        }
        if len_bytes > io_bytes - offset {
            return Err("more data than the command asked for");
        }
        self.transfer.received_bytes = offset + len_bytes;
        self.transfer.next_sn += 1;
        Ok(offset)
    }

    /// Takes an R2T for a command with `io_bytes` to send; one may ask for at most `burst_bytes`.
    pub fn take_grant(
        &mut self,
        r2t: &R2t,
        io_bytes: u32,
        burst_bytes: u32,
    ) -> Result<(), &'static str> {
        let (offset, len_bytes) = (r2t.buffer_offset.get(), r2t.desired_len.get());
        if self.io.kind != Kind::Write {
            return Err("asks for data of a command that sends none");
        }
        if r2t.r2t_sn.get() != self.transfer.next_sn {
            return Err("its R2TSN is not the next one");
        }
        if offset != self.transfer.granted_bytes {
            return Err("asks for data out of order");
        }
        if len_bytes > io_bytes - offset {
            return Err("asks for more than is left to send");
        }
        if len_bytes == 0 || len_bytes > burst_bytes {
            return Err("asks for nothing, or for more than MaxBurstLength");
        }
        self.transfer.granted_bytes += len_bytes;
        self.transfer.next_sn += 1;
        Ok(())
    }

    /// A success must have moved everything.
    pub fn check_success(&self, io_bytes: u32) -> Result<(), &'static str> {
        match self.io.kind {
            Kind::Read if self.transfer.received_bytes != io_bytes => {
                Err("success before all data came")
            }
            Kind::Write if self.transfer.granted_bytes != io_bytes => {
                Err("success before all data was asked for")
            }
            _ => Ok(()),
        }
    }
}
