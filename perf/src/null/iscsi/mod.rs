//! One iSCSI connection of the null target, which is also its session.

mod login;
mod unit;

use std::net::TcpStream;

use wire::iscsi::digest::{self, DIGEST_BYTES};
use wire::iscsi::text::TextWriter;
use wire::iscsi::{
    Bhs, DataIn, DataOut, Digests, Extent, Layout, Link, LoginRequest, LoginResponse, LoginStatus,
    LogoutResponse, LogoutResult, NO_TAG, NopIn, Opcode, R2t, Receiver, Residual, ScsiCommand,
    ScsiResponse, Stage, TargetNumbers, TaskResponse, TaskResult, TextResponse,
};
use wire::scsi::{Sense, Status};

use super::connection::UNSENT_MAX;
use super::{Disguise, content};
use crate::error::PerfError;
use crate::queue::{Input, Output};
use login::Settled;
use unit::Reply;

/// Commands that it takes at once.
const WINDOW: u32 = 4095;
/// Longest answer to a login.
const TEXT_BYTES_MAX: usize = 4096;

/// A write whose data is on the way.
#[derive(Debug)]
struct Transfer {
    itt: u32,
    lun: [u8; 8],
    offset: u32,
    end: u32,
    total: u32,
    r2t_sn: u32,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    disguise: Disguise,
    link: Link,
    settled: Settled,
    input: Input,
    output: Output,
    used: bool,
    skip: usize,
    stat_sn: u32,
    exp_cmd_sn: u32,
    attention: bool,
    transfers: Vec<Transfer>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(socket: TcpStream, disguise: Disguise) -> Self {
        Self {
            socket,
            disguise,
            link: Link::new(Receiver::Target),
            settled: Settled::new(),
            // What the host will send is not known yet.
            input: Input::new(0),
            output: Output::new(),
            used: false,
            skip: 0,
            stat_sn: 1,
            exp_cmd_sn: 0,
            attention: true,
            transfers: Vec::new(),
        }
    }

    /// True until the unit was used: it may be looked at less often.
    pub fn is_quiet(&self) -> bool {
        !self.used
    }

    /// One receive, all answers to it, one send. True when something came.
    ///
    /// Errors: whatever ends the connection.
    pub fn turn(&mut self) -> Result<bool, PerfError> {
        let mut worked = false;
        if self.output.unsent_bytes() < UNSENT_MAX {
            worked = self.input.receive(&mut self.socket)? > 0;
        }
        if worked {
            loop {
                self.skip -= self.input.take(self.skip);
                if self.skip > 0 || !self.take_pdu()? {
                    break;
                }
            }
            self.input.compact();
        }
        let sent = self.output.send(&mut self.socket, content());
        sent.map_err(|source| PerfError::Socket {
            doing: "sending",
            source,
        })?;
        Ok(worked)
    }

    /// Takes one PDU but for data that is dropped. False when it is not there.
    fn take_pdu(&mut self) -> Result<bool, PerfError> {
        let bytes = self.input.unread();
        let Ok(header) = Bhs::decode(bytes) else {
            return Ok(false);
        };
        let header = *header;
        let layout = self.link.frame(&header)?;
        let has_text = [Opcode::LOGIN_REQUEST, Opcode::TEXT_REQUEST].contains(&header.opcode());
        let needed = if has_text {
            layout.total()
        } else {
            layout.data_offset()
        };
        let Some(whole) = bytes.get(..needed) else {
            return Ok(false);
        };
        if let Some(sum) = whole
            .get(layout.header()..)
            .filter(|_| self.settled.digests[0])
            && let Some(sum) = sum.first_chunk::<DIGEST_BYTES>()
        {
            digest::check_header(header.as_wire(), *sum)?;
        }
        // The text is short, and comes before any load.
        let text = if has_text {
            let data = whole.get(layout.data_offset()..layout.data_offset() + layout.data);
            data.unwrap_or_default().to_vec()
        } else {
            Vec::new()
        };
        self.input.take(needed);
        self.skip = layout.total() - needed;
        self.dispatch(&header, &layout, &text)?;
        Ok(true)
    }

    fn dispatch(&mut self, header: &Bhs, layout: &Layout, text: &[u8]) -> Result<(), PerfError> {
        let bytes = header.as_wire();
        let command = ScsiCommand::decode(bytes)?;
        let is_ordered = !header.is_immediate() && header.opcode() != Opcode::DATA_OUT;
        if is_ordered {
            self.exp_cmd_sn = command.cmd_sn.get().wrapping_add(1);
        }
        let itt = header.itt.get();
        match header.opcode() {
            Opcode::SCSI_COMMAND => self.command(command, layout.data as u32),
            Opcode::DATA_OUT => return self.data_out(DataOut::decode(bytes)?, layout),
            Opcode::LOGIN_REQUEST => return self.login(LoginRequest::decode(bytes)?, text),
            Opcode::TEXT_REQUEST => {
                let text = format!("TargetName={}\0", login::IQN).into_bytes();
                let numbers = self.numbered();
                let pdu = TextResponse::last(itt, header.lun, text.len(), numbers);
                self.send(pdu.as_wire(), &text);
            }
            Opcode::NOP_OUT if itt != NO_TAG => {
                let numbers = self.numbered();
                let pdu = NopIn::answer(itt, header.lun, 0, numbers);
                self.send(pdu.as_wire(), &[]);
            }
            Opcode::NOP_OUT => {}
            Opcode::TASK_REQUEST => {
                let numbers = self.numbered();
                let pdu = TaskResponse::new(itt, TaskResult::UNSUPPORTED, numbers);
                self.send(pdu.as_wire(), &[]);
            }
            Opcode::LOGOUT_REQUEST => {
                let numbers = self.numbered();
                let pdu = LogoutResponse::new(itt, LogoutResult::CLOSED, (0, 0), numbers);
                self.send(pdu.as_wire(), &[]);
            }
            _ => return Err(PerfError::Closed { doing: "receiving" }),
        }
        Ok(())
    }

    fn login(&mut self, request: &LoginRequest, text: &[u8]) -> Result<(), PerfError> {
        let form = request.form();
        let mut buffer = [0; TEXT_BYTES_MAX];
        let mut out = TextWriter::new(&mut buffer);
        let operational = form.current == Stage::OPERATIONAL;
        self.settled
            .answer(text, &self.disguise, operational, &mut out)?;
        self.exp_cmd_sn = request.cmd_sn.get();
        let numbers = self.numbered();
        let status = LoginStatus::SUCCESS;
        let done = form.transit && form.next == Stage::FULL_FEATURE;
        let tsih = u16::from(done);
        let pdu = LoginResponse::new(request, form, tsih, status, out.len(), numbers);
        self.send(pdu.as_wire(), out.bytes());
        if done {
            self.link = Link {
                full_feature: true,
                digests: self.digests(),
                max_data_bytes: self.disguise.max_h2c_bytes,
                ..self.link
            };
        }
        Ok(())
    }

    fn command(&mut self, command: &ScsiCommand, immediate_bytes: u32) {
        let itt = command.itt.get();
        let expected = command.expected_len.get();
        match unit::answer(&self.disguise, &command.cdb, &mut self.attention) {
            Reply::Good => self.respond(itt, Status::GOOD, None),
            Reply::Check(sense) => self.respond(itt, Status::CHECK_CONDITION, Some(&sense)),
            Reply::Data(data) => {
                let actual = data.len() as u32;
                let data = data.get(..expected as usize).unwrap_or(&data);
                let extent = Extent {
                    len_bytes: data.len() as u32,
                    ..Extent::default()
                };
                let residual = Residual::of(expected, actual);
                let numbers = self.numbered();
                let pdu = DataIn::with_status(itt, extent, Status::GOOD.0, residual, numbers);
                self.send(pdu.as_wire(), data);
            }
            Reply::Read(actual) => self.read(itt, expected.min(actual)),
            Reply::Write(actual) => {
                let total = expected.min(actual);
                let is_final = command.flags & wire::iscsi::pdu::FINAL != 0;
                let unasked = self.settled.first_burst_bytes.min(total);
                self.write(Transfer {
                    itt,
                    lun: command.lun,
                    offset: immediate_bytes.min(total),
                    end: if is_final { 0 } else { unasked },
                    total,
                    r2t_sn: 0,
                });
            }
        }
    }

    /// Sends `len` bytes of the content.
    fn read(&mut self, itt: u32, len: u32) {
        self.used = true;
        let (mut offset, mut sn) = (0, 0);
        while offset < len {
            let burst_end = (offset / self.settled.max_burst_bytes + 1)
                .saturating_mul(self.settled.max_burst_bytes)
                .min(len);
            let extent = Extent {
                sn,
                offset,
                len_bytes: (burst_end - offset).min(self.settled.send_max_bytes),
            };
            let end = offset + extent.len_bytes;
            let pdu = if end == len {
                let numbers = self.numbered();
                DataIn::with_status(itt, extent, Status::GOOD.0, Residual::None, numbers)
            } else {
                DataIn::new(itt, extent, end == burst_end, self.numbers())
            };
            self.head(pdu.as_wire());
            let len = extent.len_bytes as usize;
            self.output.payload(0, len);
            self.output.zeroes(len.next_multiple_of(4) - len);
            if self.settled.digests[1] {
                let data = content().get(..len).unwrap_or_default();
                self.output.head(&digest::data_digest(data));
            }
            (offset, sn) = (end, sn + 1);
        }
    }

    /// Goes on with a write: waits for its sequence, asks for the next one, or ends it.
    fn write(&mut self, mut transfer: Transfer) {
        self.used = true;
        if transfer.offset < transfer.end {
            self.transfers.push(transfer);
            return;
        }
        let left = transfer.total - transfer.offset;
        if left == 0 {
            self.respond(transfer.itt, Status::GOOD, None);
            return;
        }
        let extent = Extent {
            sn: transfer.r2t_sn,
            offset: transfer.offset,
            len_bytes: left.min(self.settled.max_burst_bytes),
        };
        let (itt, lun) = (transfer.itt, transfer.lun);
        let pdu = R2t::new(itt, transfer.r2t_sn, lun, extent, self.numbers());
        self.head(pdu.as_wire());
        transfer.end = transfer.offset + extent.len_bytes;
        transfer.r2t_sn += 1;
        self.transfers.push(transfer);
    }

    fn data_out(&mut self, pdu: &DataOut, layout: &Layout) -> Result<(), PerfError> {
        let (itt, len_bytes) = (pdu.itt.get(), layout.data as u32);
        let mine = |transfer: &Transfer| transfer.itt == itt;
        let refuse = |problem| PerfError::IscsiProtocol {
            opcode: Opcode::DATA_OUT,
            tag: itt,
            problem,
        };
        let place = self.transfers.iter().position(mine);
        let place = place.ok_or_else(|| refuse("no data is expected for it"))?;
        let mut transfer = self.transfers.swap_remove(place);
        let in_order = pdu.buffer_offset.get() == transfer.offset;
        if !in_order || len_bytes > transfer.end - transfer.offset {
            return Err(refuse("not the data that was asked for"));
        }
        transfer.offset += len_bytes;
        self.write(transfer);
        Ok(())
    }

    fn respond(&mut self, itt: u32, status: Status, sense: Option<&Sense>) {
        let mut data = Vec::new();
        if let Some(sense) = sense {
            let sense = sense.fixed();
            data.extend((sense.len() as u16).to_be_bytes());
            data.extend(sense);
        }
        let numbers = self.numbered();
        let pdu = ScsiResponse::new(itt, status.0, Residual::None, 0, data.len(), numbers);
        self.send(pdu.as_wire(), &data);
    }

    fn digests(&self) -> Digests {
        let [header, data] = self.settled.digests;
        Digests { header, data }
    }

    fn numbers(&self) -> TargetNumbers {
        TargetNumbers {
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.exp_cmd_sn,
            max_cmd_sn: self.exp_cmd_sn.wrapping_add(WINDOW - 1),
        }
    }

    /// The numbers of a PDU with a status.
    fn numbered(&mut self) -> TargetNumbers {
        let numbers = self.numbers();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        numbers
    }

    fn head(&mut self, header: &[u8]) {
        self.output.head(header);
        if self.link.digests.header {
            self.output.head(&digest::header_digest(header));
        }
    }

    /// Queues a PDU with a copy of `data`.
    fn send(&mut self, header: &[u8], data: &[u8]) {
        self.head(header);
        let layout = Layout::to_send(0, data.len(), self.link.digests);
        self.output.head(data);
        if layout.padding > 0 {
            self.output.zeroes(layout.padding);
        }
        if layout.data_digest > 0 {
            self.output.head(&digest::data_digest(data));
        }
    }
}
