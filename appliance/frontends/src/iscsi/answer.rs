//! Responses of commands: Data-In, status and sense data.
//!
//! Source: RFC 7143 sections 11.4 (SCSI Response), 11.7 (Data-In), 13.13 (MaxBurstLength).

use reactor::buf::Buf;
use wire::iscsi::{DataIn, Extent, R2t, Residual, ScsiResponse};

use super::connection::Connection;
use super::session::Session;
use crate::scsi::{Outcome, SENSE_BYTES_MAX};

/// What the response of a command needs to know of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub itt: u32,
    /// Room for data at the initiator.
    pub to_host_bytes: u32,
    pub residual: Residual,
    pub r2t_count: u32,
}

impl Connection {
    /// Queues the data and the response of a command.
    pub(super) fn answer(&self, session: &Session, ending: &Ending, outcome: Outcome) {
        if self.is_finished() {
            return;
        }
        let is_good = outcome.is_good();
        let data = outcome.data.filter(|_| is_good).and_then(|mut data| {
            data.truncate(ending.to_host_bytes as usize);
            (!data.is_empty()).then_some(data)
        });
        match data {
            Some(data) => self.send_data(session, ending, outcome.status.0, data),
            None => self.send_response(session, ending, outcome.status.0, outcome.sense),
        }
    }

    /// Sends data in pieces that the initiator takes; the last one carries the status.
    fn send_data(&self, session: &Session, ending: &Ending, status: u8, data: Buf) {
        let total = data.len();
        let piece = (self.peer_segment_bytes.get() as usize).max(1);
        let burst = session.terms.max_burst_bytes as usize;
        let (mut offset, mut sn) = (0, 0);
        while total - offset > 0 {
            let burst_left = burst - offset % burst;
            let len = piece.min(total - offset).min(burst_left);
            let extent = Extent {
                sn,
                offset: offset as u32,
                len_bytes: len as u32,
            };
            let pdu = if offset + len == total {
                let numbers = self.response_numbers();
                DataIn::with_status(ending.itt, extent, status, ending.residual, numbers)
            } else {
                let is_last = len == burst_left;
                DataIn::new(ending.itt, extent, is_last, self.numbers())
            };
            if len == total {
                return self.outbox.payload(pdu.as_wire(), data);
            }
            self.outbox
                .payload(pdu.as_wire(), data.slice(offset..offset + len));
            offset += len;
            sn += 1;
        }
    }

    fn send_response(
        &self,
        session: &Session,
        ending: &Ending,
        status: u8,
        sense: Option<wire::scsi::Sense>,
    ) {
        // The data segment is the length of the sense data in two bytes, then the sense data.
        let mut segment = [0; 2 + SENSE_BYTES_MAX];
        let mut len = 0;
        if let (Some(sense), Some(nexus)) = (sense, session.nexus()) {
            let mut bytes = [0; SENSE_BYTES_MAX];
            let count = nexus.sense_bytes(&sense, &mut bytes);
            segment[..2].copy_from_slice(&(count as u16).to_be_bytes());
            segment[2..].copy_from_slice(&bytes);
            len = 2 + count;
        }
        let pdu = ScsiResponse::new(
            ending.itt,
            status,
            ending.residual,
            ending.r2t_count,
            len,
            self.response_numbers(),
        );
        let segment = segment.get(..len).unwrap_or_default();
        self.outbox.small(pdu.as_wire(), segment);
    }

    /// Asks for data of a command.
    pub(super) fn ask(
        &self,
        itt: u32,
        ttt: u32,
        lun: [u8; 8],
        (sn, offset, len_bytes): (u32, u32, u32),
    ) {
        let extent = Extent {
            sn,
            offset,
            len_bytes,
        };
        let pdu = R2t::new(itt, ttt, lun, extent, self.numbers());
        self.counters.r2t_sent.set(self.counters.r2t_sent.get() + 1);
        self.outbox.small(pdu.as_wire(), &[]);
    }
}
