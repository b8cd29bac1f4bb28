//! What comes in: headers are judged, data is passed over or kept, statuses complete commands.

use wire::iscsi::digest::{self, Crc32c, DIGEST_BYTES};
use wire::iscsi::{
    AsyncEvent, AsyncMessage, BHS_BYTES, Bhs, DataIn, Layout, NO_TAG, NopIn, Opcode, R2t, Reject,
    RejectReason, Residual, Response, ScsiResponse, flags,
};
use wire::scsi;

use super::transfer::Transfer;
use super::{Queue, refuse};
use crate::error::PerfError;
use crate::queue::{Done, Slot, Status};

/// Most sense data with its length before it, in bytes.
pub const SENSE_MAX_BYTES: usize = 2 + 252;

/// What the data of a PDU is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Data of a read; ends the command when it carries a status.
    Read {
        cid: u16,
        offset: usize,
        status: Option<u8>,
    },
    /// Sense data of a response.
    Sense { cid: u16, status: u8 },
    /// Nothing that is needed here.
    Nothing,
}

/// Rest of a PDU whose header was taken.
#[derive(Debug)]
pub struct Body {
    purpose: Purpose,
    data: usize,
    padding: usize,
    digest: usize,
    sum: Option<Crc32c>,
}

impl Queue {
    /// Takes everything complete out of the received bytes; completions go to `done`.
    ///
    /// Errors: all of them end the queue.
    pub fn process(&mut self, done: &mut Vec<Done>) -> Result<(), PerfError> {
        while self.take_body(done)? && self.take_header(done)? {}
        self.input.compact();
        Ok(())
    }

    /// Takes one header. False when it is not there in full.
    fn take_header(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        let bytes = self.input.unread();
        let Some(header) = bytes.first_chunk::<BHS_BYTES>() else {
            return Ok(false);
        };
        let layout = self.terms.link.frame(Bhs::decode(header)?)?;
        if layout.header_digest > 0 {
            let Some(sum) = bytes.get(layout.header()..).and_then(|b| b.first_chunk()) else {
                return Ok(false);
            };
            digest::check_header(header, *sum)?;
        }
        // Copied out, 48 bytes, because what follows changes the queue it lies in.
        let header = *header;
        self.input.take(layout.data_offset());
        let purpose = self.take_pdu(&header, &layout, done)?;
        if layout.data > 0 {
            self.body = Some(Body {
                purpose,
                data: layout.data,
                padding: layout.padding,
                digest: layout.data_digest,
                sum: (layout.data_digest > 0).then(Crc32c::new),
            });
        }
        Ok(true)
    }

    /// Does what a header says; gives what its data is for.
    fn take_pdu(
        &mut self,
        header: &[u8; BHS_BYTES],
        layout: &Layout,
        done: &mut Vec<Done>,
    ) -> Result<Purpose, PerfError> {
        match Bhs::decode(header)?.opcode() {
            Opcode::DATA_IN => self.data_in(DataIn::decode(header)?, layout, done),
            Opcode::SCSI_RESPONSE => self.response(ScsiResponse::decode(header)?, layout, done),
            Opcode::R2T => {
                let pdu = R2t::decode(header)?;
                self.see(pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
                self.grant(pdu)?;
                Ok(Purpose::Nothing)
            }
            Opcode::NOP_IN => {
                let pdu = NopIn::decode(header)?;
                self.see(pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
                if pdu.ttt.get() != NO_TAG {
                    self.pong(pdu.ttt.get(), pdu.lun);
                }
                Ok(Purpose::Nothing)
            }
            Opcode::ASYNC_MESSAGE => self.event(AsyncMessage::decode(header)?),
            Opcode::REJECT => Err(PerfError::Rejected {
                reason: RejectReason(Reject::decode(header)?.reason),
            }),
            opcode => Err(refuse(opcode, NO_TAG, "was not asked for")),
        }
    }

    fn data_in(
        &mut self,
        pdu: &DataIn,
        layout: &Layout,
        done: &mut Vec<Done>,
    ) -> Result<Purpose, PerfError> {
        let (itt, io_bytes) = (pdu.itt.get(), self.shape.io_bytes);
        self.see(pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
        let offset = self
            .find(Opcode::DATA_IN, itt)?
            .take_data(pdu, layout.data as u32, io_bytes)
            .map_err(|problem| refuse(Opcode::DATA_IN, itt, problem))?;
        let mut status = None;
        if pdu.flags & flags::STATUS != 0 {
            self.status(Opcode::DATA_IN, itt, pdu.stat_sn.get())?;
            check_residual(Opcode::DATA_IN, itt, pdu.flags, pdu.residual.get())?;
            status = Some(pdu.status);
        }
        let cid = itt as u16;
        if let (Some(status), 0) = (status, layout.data) {
            done.push(self.complete(cid, Status::scsi(status, &[]))?);
        }
        Ok(Purpose::Read {
            cid,
            offset: offset as usize,
            status,
        })
    }

    fn response(
        &mut self,
        pdu: &ScsiResponse,
        layout: &Layout,
        done: &mut Vec<Done>,
    ) -> Result<Purpose, PerfError> {
        let opcode = Opcode::SCSI_RESPONSE;
        let (itt, cid) = (pdu.itt.get(), pdu.itt.get() as u16);
        self.see(pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
        self.find(opcode, itt)?;
        self.status(opcode, itt, pdu.stat_sn.get())?;
        if pdu.response != Response::COMPLETED.0 {
            return Err(refuse(opcode, itt, "the target failed at the command"));
        }
        if scsi::Status(pdu.status) == scsi::Status::GOOD {
            check_residual(opcode, itt, pdu.flags, pdu.residual.get())?;
        }
        if layout.data == 0 {
            done.push(self.complete(cid, Status::scsi(pdu.status, &[]))?);
            return Ok(Purpose::Nothing);
        }
        self.sense.clear();
        Ok(Purpose::Sense {
            cid,
            status: pdu.status,
        })
    }

    /// An event. Sense data of a unit is passed over: the next command says it as well.
    fn event(&mut self, pdu: &AsyncMessage) -> Result<Purpose, PerfError> {
        self.see(pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
        self.status(Opcode::ASYNC_MESSAGE, NO_TAG, pdu.stat_sn.get())?;
        match AsyncEvent(pdu.event) {
            AsyncEvent::SCSI => Ok(Purpose::Nothing),
            event => Err(PerfError::Event { event }),
        }
    }

    /// Takes what is there of the PDU's data. False when some of it is still to come.
    fn take_body(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        let Some(body) = &mut self.body else {
            return Ok(true);
        };
        let bytes = self.input.unread();
        let bytes = bytes.get(..body.data + body.padding).unwrap_or(bytes);
        if let Some(sum) = &mut body.sum {
            sum.update(bytes);
        }
        let data = bytes.get(..body.data).unwrap_or(bytes);
        match &mut body.purpose {
            Purpose::Read { cid, offset, .. } => {
                self.payload.store(*cid, *offset, data);
                *offset += data.len();
            }
            Purpose::Sense { .. } => {
                let space = SENSE_MAX_BYTES - self.sense.len();
                self.sense
                    .extend_from_slice(data.get(..space).unwrap_or(data));
            }
            Purpose::Nothing => {}
        }
        body.data -= data.len();
        body.padding -= bytes.len() - data.len();
        let taken = bytes.len();
        self.input.take(taken);
        if body.data + body.padding > 0 {
            return Ok(false);
        }
        self.end_body(done)
    }

    /// Checks the digest once it is there, and completes the command whose status this was.
    fn end_body(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        let Some(body) = &mut self.body else {
            return Ok(true);
        };
        if let Some(sum) = &body.sum {
            let Some(received) = self.input.unread().first_chunk::<DIGEST_BYTES>() else {
                return Ok(false);
            };
            digest::check_data(sum.value(), *received)?;
            self.input.take(body.digest);
        }
        let purpose = body.purpose;
        self.body = None;
        let (cid, status) = match purpose {
            Purpose::Read { cid, status, .. } => {
                (cid, status.map(|status| Status::scsi(status, &[])))
            }
            Purpose::Sense { cid, status } => {
                let sense = self.sense.get(2..).unwrap_or_default();
                (cid, Some(Status::scsi(status, sense)))
            }
            Purpose::Nothing => return Ok(true),
        };
        if let Some(status) = status {
            done.push(self.complete(cid, status)?);
        }
        Ok(true)
    }

    fn complete(&mut self, cid: u16, status: Status) -> Result<Done, PerfError> {
        let io_bytes = self.shape.io_bytes;
        let missing = || refuse(Opcode::SCSI_RESPONSE, u32::from(cid), "no such command");
        let slot = self.slots.get(cid).ok_or_else(missing)?;
        if status.is_success() {
            let itt = slot.transfer.itt;
            slot.check_success(io_bytes)
                .map_err(|problem| refuse(Opcode::SCSI_RESPONSE, itt, problem))?;
        }
        let io = slot.io;
        self.slots.free(cid);
        Ok(Done { cid, io, status })
    }

    pub(super) fn find(
        &mut self,
        opcode: Opcode,
        itt: u32,
    ) -> Result<&mut Slot<Transfer>, PerfError> {
        self.slots
            .get(itt as u16)
            .filter(|slot| slot.transfer.itt == itt)
            .ok_or_else(|| refuse(opcode, itt, "no such command is in flight"))
    }

    fn see(&mut self, exp_cmd_sn: u32, max_cmd_sn: u32) {
        self.terms.numbers.see(exp_cmd_sn, max_cmd_sn);
    }

    fn status(&mut self, opcode: Opcode, itt: u32, stat_sn: u32) -> Result<(), PerfError> {
        let taken = self.terms.numbers.take_status(stat_sn);
        taken.map_err(|problem| refuse(opcode, itt, problem))
    }
}

/// A success of a load has no residual: both sides meant the same length.
fn check_residual(opcode: Opcode, itt: u32, bits: u8, count: u32) -> Result<(), PerfError> {
    match Residual::decode(bits, count) {
        Residual::None => Ok(()),
        _ => Err(refuse(opcode, itt, "success with a residual")),
    }
}
