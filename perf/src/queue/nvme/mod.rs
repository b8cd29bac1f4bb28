//! An I/O queue of NVMe/TCP.
//!
//! Source: NVMe/TCP 1.0 section 3.3 (transfers); NVM command set 1.0 sections 3.2.4 and 3.2.6.

mod handshake;
#[cfg(test)]
mod tests;
mod transfer;

pub use handshake::{Opening, open};

use wire::nvme::command::ReadWrite;
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::digest::{self, Crc32c, DIGEST_BYTES};
use wire::tcp::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Framing, H2cData, Layout, Link, Pdu, PduType,
    R2t, TermReq,
};

use super::{Done, Input, Io, Kind, Output, Payload, Shape, Slot, Slots};
use crate::error::PerfError;
use transfer::Transfer;

/// What the handshake settled.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Form of the PDUs that come in.
    pub link: Link,
    /// Form of the PDUs that go out.
    pub outgoing: Framing,
    /// MAXH2CDATA: most bytes in one H2CData PDU.
    pub max_h2c_bytes: u32,
}

/// Rest of a C2HData PDU whose header was taken.
#[derive(Debug)]
struct Body {
    cid: u16,
    offset: usize,
    pad: usize,
    data: usize,
    digest: usize,
    last: bool,
    success: bool,
    sum: Option<Crc32c>,
}

/// A connected I/O queue.
#[derive(Debug)]
pub struct Queue {
    shape: Shape,
    terms: Terms,
    pub(super) slots: Slots<Transfer>,
    pub(super) payload: Payload,
    pub(super) input: Input,
    pub(super) output: Output,
    body: Option<Body>,
}

impl Queue {
    /// A queue with nothing in flight. `pattern` is what writes send when no data is kept.
    pub fn new(shape: Shape, terms: Terms, pattern: Vec<u8>) -> Self {
        let mut terms = terms;
        terms.link.max_data_bytes = shape.io_bytes;
        Self {
            shape,
            terms,
            slots: Slots::new(shape.depth),
            payload: Payload::new(&shape, pattern),
            input: Input::new(shape.io_bytes),
            output: Output::new(),
            body: None,
        }
    }

    /// True when another command fits.
    pub fn has_room(&self) -> bool {
        self.slots.in_flight() < usize::from(self.shape.depth)
    }

    /// Queues a command. `fill` writes the data of a write when data is kept, else `choice` says
    /// where in the pattern it starts.
    ///
    /// Panics when there is no room: ask [`Self::has_room`] first.
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
        let inside = io.kind == Kind::Write && self.shape.io_bytes <= self.shape.capsule_bytes;
        let len_bytes = self.shape.io_bytes;
        let sgl = if inside {
            Sgl::InCapsule {
                offset: 0,
                len_bytes,
            }
        } else {
            Sgl::Transport { len_bytes }
        };
        let sqe = entry(&self.shape, cid, &io, Some(sgl))?;
        let data = if inside {
            self.shape.io_bytes as usize
        } else {
            0
        };
        let (capsule, layout) =
            CapsuleCmd::new(sqe, data, &self.terms.outgoing).map_err(wire::Error::from)?;
        self.slots.set_payload(cid, start);
        self.queue_pdu(capsule.as_wire(), &layout, start);
        Ok(())
    }

    /// Queues a PDU whose data, if any, starts at `start` of the payload.
    fn queue_pdu(&mut self, header: &[u8], layout: &Layout, start: usize) {
        self.output.head(header);
        if layout.header_digest > 0 {
            self.output.head(&digest::header_digest(header));
        }
        if layout.data == 0 {
            return;
        }
        self.output.zeroes(layout.pad);
        self.output.payload(start, layout.data);
        if layout.data_digest > 0 {
            let sum = digest::crc32c(self.payload.range(start, layout.data));
            self.output.head(&sum.to_le_bytes());
        }
    }

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
        if bytes.len() < CommonHeader::SIZE {
            return Ok(false);
        }
        let layout = self
            .terms
            .link
            .frame(CommonHeader::decode(bytes)?)
            .map_err(wire::Error::from)?;
        let Some(head) = bytes.get(..layout.header + layout.header_digest) else {
            return Ok(false);
        };
        let (header, sum) = head.split_at(layout.header);
        if let Some(sum) = sum.first_chunk::<DIGEST_BYTES>() {
            digest::check_header(header, *sum).map_err(wire::Error::from)?;
        }
        let taken = head.len();
        // Copied out, 24 bytes, because what follows changes the queue it lies in.
        match Pdu::parse(header, &layout)? {
            Pdu::C2hData(&pdu) => self.begin_body(&pdu, &layout)?,
            Pdu::CapsuleResp(&CapsuleResp { cqe, .. }) => {
                done.push(self.complete(cqe.cid.get(), cqe.status())?);
            }
            Pdu::R2t(&pdu) => self.grant(&pdu)?,
            Pdu::C2hTermReq(request) => return Err(terminated(request)),
            _ => {
                let kind = CommonHeader::decode(header)?.kind;
                return Err(refuse(kind, 0, "not allowed after the handshake"));
            }
        }
        self.input.take(taken);
        Ok(true)
    }

    fn begin_body(&mut self, pdu: &C2hData, layout: &Layout) -> Result<(), PerfError> {
        let cid = pdu.cccid.get();
        let len_bytes = pdu.datal.get();
        let io_bytes = self.shape.io_bytes;
        let slot = self.find(PduType::C2H_DATA, cid)?;
        let offset = slot
            .take_data(pdu, io_bytes)
            .map_err(|problem| refuse(PduType::C2H_DATA, cid, problem))?;
        self.body = Some(Body {
            cid,
            offset: offset as usize,
            pad: layout.pad,
            data: len_bytes as usize,
            digest: layout.data_digest,
            last: pdu.is_last(),
            success: pdu.is_success(),
            sum: (layout.data_digest > 0).then(Crc32c::new),
        });
        Ok(())
    }

    /// Takes what is there of the PDU's data. False when some of it is still to come.
    fn take_body(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        let Some(body) = &mut self.body else {
            return Ok(true);
        };
        let skipped = self.input.take(body.pad);
        body.pad -= skipped;
        if body.pad == 0 && body.data > 0 {
            let bytes = self.input.unread();
            let bytes = bytes.get(..body.data).unwrap_or(bytes);
            if let Some(sum) = &mut body.sum {
                sum.update(bytes);
            }
            self.payload.store(body.cid, body.offset, bytes);
            let taken = bytes.len();
            body.offset += taken;
            body.data -= taken;
            self.input.take(taken);
        }
        if body.pad + body.data > 0 {
            return Ok(false);
        }
        self.end_body(done)
    }

    /// Checks the digest once it is there, and completes the command when SUCCESS says so.
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
        let (cid, complete) = (body.cid, body.last && body.success);
        self.body = None;
        if complete {
            done.push(self.complete(cid, Status::SUCCESS)?);
        }
        Ok(true)
    }

    fn complete(&mut self, cid: u16, status: Status) -> Result<Done, PerfError> {
        let kind = PduType::CAPSULE_RESP;
        let io_bytes = self.shape.io_bytes;
        let slot = self.find(kind, cid)?;
        if status.is_success() {
            slot.check_success(io_bytes)
                .map_err(|problem| refuse(kind, cid, problem))?;
        }
        let io = slot.io;
        self.slots.free(cid);
        let status = status.into();
        Ok(Done { cid, io, status })
    }

    /// Answers an R2T with H2CData PDUs of at most MAXH2CDATA bytes.
    fn grant(&mut self, r2t: &R2t) -> Result<(), PerfError> {
        let (cid, ttag) = (r2t.cccid.get(), r2t.ttag.get());
        let inside = self.shape.io_bytes <= self.shape.capsule_bytes;
        let io_bytes = if inside { 0 } else { self.shape.io_bytes };
        let slot = self.find(PduType::R2T, cid)?;
        slot.take_grant(r2t, io_bytes)
            .map_err(|problem| refuse(PduType::R2T, cid, problem))?;
        let payload = slot.payload;
        let (mut offset, end) = (r2t.r2to.get(), r2t.r2to.get() + r2t.r2tl.get());
        while offset < end {
            let len = (end - offset).min(self.terms.max_h2c_bytes);
            let last = offset + len == end;
            let outgoing = self.terms.outgoing;
            let (pdu, layout) = H2cData::new(cid, ttag, (offset, len), last, &outgoing)
                .map_err(wire::Error::from)?;
            self.queue_pdu(pdu.as_wire(), &layout, payload + offset as usize);
            offset += len;
        }
        Ok(())
    }

    fn find(&mut self, kind: PduType, cid: u16) -> Result<&mut Slot<Transfer>, PerfError> {
        self.slots
            .get(cid)
            .ok_or_else(|| refuse(kind, cid, "no such command is in flight"))
    }
}

/// The entry of a command. `sgl` describes its data, if it has any.
///
/// Errors: `Wire` for a range that cannot be sent.
pub fn entry(shape: &Shape, cid: u16, io: &Io, sgl: Option<Sgl>) -> Result<Sqe, PerfError> {
    let nsid = shape.nsid;
    let opcode = match io.kind {
        Kind::Flush => return Ok(Sqe::flush(cid, nsid)),
        Kind::Read => NvmOpcode::READ,
        Kind::Write => NvmOpcode::WRITE,
    };
    let blocks = shape.io_bytes / shape.block_bytes;
    let range = ReadWrite {
        fua: io.fua,
        ..ReadWrite::new(io.unit * u64::from(blocks), blocks)?
    };
    Ok(range.encode(opcode, cid, nsid, sgl))
}

fn terminated(request: &TermReq) -> PerfError {
    PerfError::Terminated {
        status: request.status(),
        information: request.fei.get(),
    }
}

fn refuse(kind: PduType, cid: u16, problem: &'static str) -> PerfError {
    PerfError::Protocol { kind, cid, problem }
}
