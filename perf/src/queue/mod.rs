//! One I/O queue as a state machine: commands go in, bytes come out, bytes go in, completions
//! come out. It does no I/O itself, so a test can feed it any bytes.
//!
//! A payload is never copied in user space: a write is sent from where its data lies, and the data
//! of a read is dropped where the socket put it, unless the run verifies it.
//!
//! Source: NVMe/TCP 1.0 section 3.3 (transfers); NVM command set 1.0 sections 3.2.4 and 3.2.6.

mod handshake;
mod input;
mod output;
mod slot;
#[cfg(test)]
mod tests;

pub use handshake::{Opening, open};
pub use input::Input;
pub use output::Output;

use wire::nvme::command::ReadWrite;
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::digest::{self, Crc32c, DIGEST_BYTES};
use wire::tcp::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Framing, H2cData, Layout, Link, Pdu, PduType,
    R2t, TermReq,
};

use crate::error::PerfError;
use slot::{Slot, Slots};

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
}

/// One command to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// What it does.
    pub kind: Kind,
    /// Which unit of the block size of the run, counted from the start of the namespace.
    pub unit: u64,
    /// Force Unit Access.
    pub fua: bool,
    /// When it should have started, in nanoseconds of the run's clock.
    pub intended_ns: u64,
    /// When it did.
    pub issued_ns: u64,
}

/// One command that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its slot; the slot's buffer keeps the data until the next command takes it.
    pub cid: u16,
    /// The command.
    pub io: Io,
    /// Its status.
    pub status: Status,
}

/// What the run asks of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Most commands in flight.
    pub depth: u16,
    /// Logical block of the namespace in bytes.
    pub block_bytes: u32,
    /// Bytes of each read and write.
    pub io_bytes: u32,
    /// Data that fits into a command capsule, in bytes.
    pub capsule_bytes: u32,
    /// Namespace.
    pub nsid: u32,
    /// Keep what reads bring; each slot then has a buffer of its own for writes as well.
    pub keep_data: bool,
}

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
    slots: Slots,
    /// What writes send and verified reads keep; see [`Shape::keep_data`].
    payload: Vec<u8>,
    pub(crate) input: Input,
    output: Output,
    body: Option<Body>,
}

impl Queue {
    /// A queue with nothing in flight. `pattern` is what writes send when no data is kept.
    pub fn new(shape: Shape, terms: Terms, pattern: Vec<u8>) -> Self {
        let io_bytes = shape.io_bytes as usize;
        let payload = if shape.keep_data {
            vec![0; io_bytes * usize::from(shape.depth)]
        } else {
            pattern
        };
        debug_assert!(payload.len() >= io_bytes);
        let mut terms = terms;
        terms.link.max_data_bytes = shape.io_bytes;
        Self {
            shape,
            terms,
            slots: Slots::new(shape.depth),
            payload,
            input: Input::new(shape.io_bytes),
            output: Output::new(),
            body: None,
        }
    }

    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// True when another command fits.
    pub fn has_room(&self) -> bool {
        self.slots.in_flight() < usize::from(self.shape.depth)
    }

    /// The command in flight that was issued first.
    pub fn oldest(&self) -> Option<&Io> {
        self.slots.oldest()
    }

    /// The buffer of a slot. Only with [`Shape::keep_data`].
    pub fn buffer(&self, cid: u16) -> &[u8] {
        let io_bytes = self.shape.io_bytes as usize;
        let start = usize::from(cid) * io_bytes;
        self.payload.get(start..start + io_bytes).unwrap_or(&[])
    }

    /// True when all that was queued was sent.
    pub fn is_sent(&self) -> bool {
        self.output.is_empty()
    }

    /// Sends what the socket takes; gives how many calls it made.
    pub fn send(&mut self, socket: &mut impl std::io::Write) -> Result<u32, PerfError> {
        self.output
            .send(socket, &self.payload)
            .map_err(|source| PerfError::Socket {
                doing: "sending",
                source,
            })
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
            Kind::Write => self.place(cid, choice, fill),
            Kind::Read | Kind::Flush => 0,
        };
        let inside = io.kind == Kind::Write && self.shape.io_bytes <= self.shape.capsule_bytes;
        let sqe = self.entry(cid, &io, inside)?;
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

    /// Where the data of a write lies.
    fn place(&mut self, cid: u16, choice: u64, fill: impl FnOnce(&mut [u8])) -> usize {
        let io_bytes = self.shape.io_bytes as usize;
        if self.shape.keep_data {
            let start = usize::from(cid) * io_bytes;
            if let Some(buffer) = self.payload.get_mut(start..start + io_bytes) {
                fill(buffer);
            }
            return start;
        }
        // Steps of 64 bytes: enough different places, and copies stay aligned to cache lines.
        let places = (self.payload.len() - io_bytes) / 64 + 1;
        (choice % places as u64) as usize * 64
    }

    fn entry(&self, cid: u16, io: &Io, inside: bool) -> Result<Sqe, PerfError> {
        let nsid = self.shape.nsid;
        let opcode = match io.kind {
            Kind::Flush => return Ok(Sqe::flush(cid, nsid)),
            Kind::Read => NvmOpcode::READ,
            Kind::Write => NvmOpcode::WRITE,
        };
        let len_bytes = self.shape.io_bytes;
        let sgl = if inside {
            Sgl::InCapsule {
                offset: 0,
                len_bytes,
            }
        } else {
            Sgl::Transport { len_bytes }
        };
        let blocks = len_bytes / self.shape.block_bytes;
        let range = ReadWrite {
            fua: io.fua,
            ..ReadWrite::new(io.unit * u64::from(blocks), blocks)?
        };
        Ok(range.encode(opcode, cid, nsid, Some(sgl)))
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
            let data = self.payload.get(start..start + layout.data);
            let sum = digest::crc32c(data.unwrap_or_default());
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
            if self.shape.keep_data {
                let at = usize::from(body.cid) * self.shape.io_bytes as usize + body.offset;
                if let Some(to) = self.payload.get_mut(at..at + bytes.len()) {
                    to.copy_from_slice(bytes);
                }
            }
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

    fn find(&mut self, kind: PduType, cid: u16) -> Result<&mut Slot, PerfError> {
        self.slots
            .get(cid)
            .ok_or_else(|| refuse(kind, cid, "no such command is in flight"))
    }
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
