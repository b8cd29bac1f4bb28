//! One command in flight, and the transport's rules about its PDUs.
//!
//! Source: NVMe/TCP 1.0 section 3.3.2 (transfers): R2Ts cover the data in order and once; C2HData
//! comes in order and without gaps, the last one carries LAST_PDU.

use wire::nvme::Cqe;
use wire::tcp::{C2hData, PduType, R2t};

use crate::table::Transfer;
use crate::{Cid, Completion, HostError};

#[derive(Debug)]
pub(crate) struct Pending {
    pub send: Vec<u8>,
    granted_bytes: usize,
    receive: Vec<u8>,
    received_bytes: usize,
    last_seen: bool,
}

impl Pending {
    pub fn new(send: Vec<u8>, receive_bytes: usize) -> Self {
        Self {
            send,
            granted_bytes: 0,
            receive: vec![0; receive_bytes],
            received_bytes: 0,
            last_seen: false,
        }
    }

    /// Checks an R2T and gives the range of the data it asks for.
    pub fn grant(&mut self, r2t: &R2t) -> Result<std::ops::Range<usize>, HostError> {
        let (start, len) = (r2t.r2to.get() as usize, r2t.r2tl.get() as usize);
        let refuse = |problem| {
            Err(HostError::Protocol {
                kind: PduType::R2T,
                cid: r2t.cccid.get(),
                problem,
            })
        };
        if start != self.granted_bytes {
            return refuse("asks for data out of order");
        }
        if len == 0 || start + len > self.send.len() {
            return refuse("asks for more than the command's data");
        }
        self.granted_bytes = start + len;
        Ok(start..start + len)
    }

    /// Takes the data of one C2HData PDU.
    pub fn take(&mut self, pdu: &C2hData, data: &[u8]) -> Result<(), HostError> {
        let offset = pdu.datao.get() as usize;
        let end = offset + data.len();
        let refuse = |problem| {
            let cid = pdu.cccid.get();
            Err(HostError::Protocol {
                kind: PduType::C2H_DATA,
                cid,
                problem,
            })
        };
        if self.last_seen {
            return refuse("data after the last PDU");
        }
        if offset != self.received_bytes {
            return refuse("data out of order");
        }
        let Some(slot) = self.receive.get_mut(offset..end) else {
            return refuse("more data than the command asked for");
        };
        slot.copy_from_slice(data);
        self.received_bytes = end;
        self.last_seen = pdu.is_last();
        if self.last_seen && end != self.receive.len() {
            return refuse("last PDU before the last byte");
        }
        Ok(())
    }
}

impl Transfer for Pending {
    fn finish(self, cid: Cid, cqe: Cqe) -> Result<Completion, HostError> {
        let refuse = |problem| {
            Err(HostError::Protocol {
                kind: PduType::CAPSULE_RESP,
                cid,
                problem,
            })
        };
        if !cqe.status().is_success() {
            return Ok(Completion {
                cid,
                cqe,
                data: None,
            });
        }
        if self.received_bytes != self.receive.len() {
            return refuse("success before all data came");
        }
        if !self.receive.is_empty() && !self.last_seen {
            return refuse("all data came, none was marked as last");
        }
        let data = if self.receive.is_empty() {
            None
        } else {
            Some(self.receive)
        };
        Ok(Completion { cid, cqe, data })
    }
}
