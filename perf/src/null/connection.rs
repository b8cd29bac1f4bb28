//! One connection of the null target: bytes become commands, commands become answers.

use std::net::TcpStream;

use wire::fabrics::connect::ConnectCommand;
use wire::nvme::command::ReadWrite;
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::digest::{self, DIGEST_BYTES};
use wire::tcp::icreq::dgst;
use wire::tcp::{
    ADMIN_CAPSULE_DATA_BYTES, C2hData, CapsuleResp, CommonHeader, Framing, Grant, H2cData, IcReq,
    IcResp, Layout, Link, Pdu, PduError, PduType, R2t, Receiver, TermFrame, flags,
};

use super::admin::{self, Registers};
use super::{Disguise, IO_BYTES_MAX, content};
use crate::error::PerfError;
use crate::queue::{Input, Output};

/// Bytes of answers waiting to be sent, above which nothing more is received.
pub const UNSENT_MAX: usize = 64 << 20;

/// What to do about an I/O command.
#[derive(Debug)]
enum Reply {
    /// Send so many bytes.
    Data(u32),
    /// Ask for so many bytes.
    Ask(u32),
    /// Complete it.
    Status(Status),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    disguise: Disguise,
    link: Link,
    outgoing: Framing,
    io: bool,
    registers: Registers,
    input: Input,
    output: Output,
    skip: usize,
    /// What the R2Ts asked for and did not come yet.
    grants: Vec<Grant>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(socket: TcpStream, disguise: Disguise) -> Self {
        Self {
            socket,
            disguise,
            link: Link::new(Receiver::Controller),
            outgoing: Framing::default(),
            io: false,
            registers: Registers::default(),
            // What the host will send is not known yet.
            input: Input::new(0),
            output: Output::new(),
            skip: 0,
            grants: Vec::new(),
        }
    }

    /// True for a connection that is not an I/O queue: it may be looked at less often.
    pub fn is_quiet(&self) -> bool {
        !self.io
    }

    /// One receive, all answers to it, one send. True when something came.
    ///
    /// Errors: whatever ends the connection; a protocol error was reported to the host.
    pub fn turn(&mut self) -> Result<bool, PerfError> {
        let mut worked = false;
        if self.output.unsent_bytes() < UNSENT_MAX {
            worked = self.input.receive(&mut self.socket)? > 0;
        }
        if worked {
            let result = self.process();
            if let Err(PerfError::Wire(wire::Error::Pdu(error))) = &result {
                self.terminate(error);
            }
            result?;
        }
        self.send()?;
        Ok(worked)
    }

    fn send(&mut self) -> Result<(), PerfError> {
        let sent = self.output.send(&mut self.socket, content());
        sent.map(drop).map_err(|source| PerfError::Socket {
            doing: "sending",
            source,
        })
    }

    /// Tells the host why; that it arrives is not waited for.
    fn terminate(&mut self, error: &PduError) {
        let header = self.input.unread();
        let frame = TermFrame::new(Receiver::Controller, error, header);
        self.output.head(frame.as_wire());
        let _ = self.send();
    }

    fn process(&mut self) -> Result<(), PerfError> {
        loop {
            self.skip -= self.input.take(self.skip);
            if self.skip > 0 || !self.take_pdu()? {
                break;
            }
        }
        self.input.compact();
        Ok(())
    }

    /// Takes one header. False when it is not there in full.
    fn take_pdu(&mut self) -> Result<bool, PerfError> {
        let bytes = self.input.unread();
        if bytes.len() < CommonHeader::SIZE {
            return Ok(false);
        }
        let header = CommonHeader::decode(bytes)?;
        let layout = self.link.frame(header).map_err(wire::Error::from)?;
        let Some(head) = bytes.get(..layout.header + layout.header_digest) else {
            return Ok(false);
        };
        let (header, sum) = head.split_at(layout.header);
        if let Some(sum) = sum.first_chunk::<DIGEST_BYTES>() {
            digest::check_header(header, *sum).map_err(wire::Error::from)?;
        }
        // Data is dropped unseen, so its digest is not checked either.
        let rest = layout.total() - head.len();
        let taken = head.len();
        match Pdu::parse(header, &layout)? {
            Pdu::IcReq(request) => {
                let request = *request;
                self.shake(&request);
            }
            Pdu::CapsuleCmd(capsule) => {
                let sqe = capsule.sqe;
                self.command(&sqe, layout.data > 0)?;
            }
            Pdu::H2cData(data) => {
                let data = *data;
                self.transfer(&data)?;
            }
            _ => return Err(PerfError::Closed { doing: "receiving" }),
        }
        self.input.take(taken);
        self.skip = rest;
        Ok(true)
    }

    fn shake(&mut self, request: &IcReq) {
        let digests = request.dgst & (dgst::HEADER | dgst::DATA);
        let response = IcResp::new(0, digests, self.disguise.max_h2c_bytes);
        self.output.head(response.as_wire());
        let framing = Framing {
            header_digest: digests & dgst::HEADER != 0,
            data_digest: digests & dgst::DATA != 0,
            pda: 0,
        };
        self.outgoing = Framing {
            pda: request.hpda,
            ..framing
        };
        self.link = Link {
            ready: true,
            framing,
            max_capsule_data_bytes: self.disguise.capsule_bytes.max(ADMIN_CAPSULE_DATA_BYTES),
            max_data_bytes: self.disguise.max_h2c_bytes,
            ..self.link
        };
    }

    fn command(&mut self, sqe: &Sqe, has_data: bool) -> Result<(), PerfError> {
        if !self.io || sqe.is_fabrics() {
            return self.admin(sqe);
        }
        let cid = sqe.cid.get();
        match self.judge(sqe, has_data) {
            Reply::Data(len_bytes) => self.data(cid, len_bytes as usize)?,
            Reply::Ask(len_bytes) => self.ask(cid, len_bytes)?,
            Reply::Status(status) => self.respond(cid, status, 0),
        }
        Ok(())
    }

    /// What to do about an I/O command.
    fn judge(&self, sqe: &Sqe, has_data: bool) -> Reply {
        let opcode = sqe.nvm_opcode();
        if opcode == NvmOpcode::FLUSH {
            return Reply::Status(Status::SUCCESS);
        }
        if ![NvmOpcode::READ, NvmOpcode::WRITE].contains(&opcode) {
            return Reply::Status(Status::INVALID_OPCODE);
        }
        let blocks = ReadWrite::decode(sqe).map_or(u32::MAX, |range| range.block_count());
        let len_bytes = blocks.saturating_mul(self.disguise.block_bytes);
        match (opcode, sqe.sgl()) {
            _ if len_bytes as usize > IO_BYTES_MAX => Reply::Status(Status::INVALID_FIELD),
            (NvmOpcode::READ, _) => Reply::Data(len_bytes),
            (_, Ok(Sgl::InCapsule { .. })) if has_data => Reply::Status(Status::SUCCESS),
            (_, Ok(Sgl::Transport { .. })) => Reply::Ask(len_bytes),
            _ => Reply::Status(Status::SGL_TYPE_INVALID),
        }
    }

    fn admin(&mut self, sqe: &Sqe) -> Result<(), PerfError> {
        let cid = sqe.cid.get();
        if let Ok(connect) = ConnectCommand::from_sqe(sqe)
            && connect.qid.get() > 0
        {
            self.io = true;
        }
        match admin::answer(&mut self.registers, &self.disguise, sqe) {
            None => {}
            Some(Err(status)) => self.respond(cid, status, 0),
            Some(Ok((result, data))) if data.is_empty() => {
                self.respond(cid, Status::SUCCESS, result);
            }
            Some(Ok((_, data))) => {
                let span = (0, data.len() as u32);
                let (header, layout) = C2hData::new(cid, span, flags::LAST_PDU, &self.outgoing)
                    .map_err(wire::Error::from)?;
                self.head(header.as_wire(), &layout);
                self.output.head(&data);
                if layout.data_digest > 0 {
                    self.output.head(&digest::crc32c(&data).to_le_bytes());
                }
                self.respond(cid, Status::SUCCESS, 0);
            }
        }
        Ok(())
    }

    fn respond(&mut self, cid: u16, status: Status, result: u64) {
        let cqe = Cqe::new(cid, 0, status, result);
        let (response, layout) = CapsuleResp::new(cqe, &self.outgoing);
        self.head(response.as_wire(), &layout);
    }

    /// Sends the first `len` bytes of the content as the data of command `cid`.
    fn data(&mut self, cid: u16, len: usize) -> Result<(), PerfError> {
        let extra = flags::LAST_PDU | flags::SUCCESS;
        let (header, layout) =
            C2hData::new(cid, (0, len as u32), extra, &self.outgoing).map_err(wire::Error::from)?;
        self.head(header.as_wire(), &layout);
        self.output.payload(0, len);
        if layout.data_digest > 0 {
            let sum = digest::crc32c(content().get(..len).unwrap_or_default());
            self.output.head(&sum.to_le_bytes());
        }
        Ok(())
    }

    fn ask(&mut self, cid: u16, len_bytes: u32) -> Result<(), PerfError> {
        let kind = PduType::CAPSULE_CMD;
        if self.grants.iter().any(|grant| grant.cccid == cid) {
            return Err(PerfError::Protocol {
                kind,
                cid,
                problem: "the identifier is in use",
            });
        }
        let (r2t, layout) = R2t::new(cid, cid, 0, len_bytes, &self.outgoing);
        self.grants.push(Grant::of(&r2t));
        self.head(r2t.as_wire(), &layout);
        Ok(())
    }

    fn transfer(&mut self, data: &H2cData) -> Result<(), PerfError> {
        let ttag = data.ttag.get();
        let found = self.grants.iter().position(|grant| grant.ttag == ttag);
        let kind = PduType::H2C_DATA;
        let place = found.ok_or(wire::Error::from(PduError::Sequence { kind }))?;
        let Some(grant) = self.grants.get_mut(place) else {
            return Ok(());
        };
        if grant.accept(data).map_err(wire::Error::from)? {
            self.grants.swap_remove(place);
            self.respond(data.cccid.get(), Status::SUCCESS, 0);
        }
        Ok(())
    }

    /// Queues a header, its digest and the padding before data.
    fn head(&mut self, header: &[u8], layout: &Layout) {
        self.output.head(header);
        if layout.header_digest > 0 {
            self.output.head(&digest::header_digest(header));
        }
        if layout.pad > 0 {
            self.output.zeroes(layout.pad);
        }
    }
}
