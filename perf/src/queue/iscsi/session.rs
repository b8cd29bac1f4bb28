//! The connection of a session in the few steps before a queue takes over.
//!
//! These round trips use a blocking socket with a time limit.
//!
//! Source: RFC 7143 section 11.

use std::net::TcpStream;

use wire::iscsi::digest::{self, DIGEST_BYTES};
use wire::iscsi::{
    BHS_BYTES, Bhs, Layout, Link, NO_TAG, NopIn, NopOut, Opcode, Receiver, Reject, RejectReason,
    ScsiResponse,
};

use super::login::Settled;
use super::{Lun, Numbers, Opening, Terms, refuse};
use crate::error::PerfError;
use crate::queue::socket::{self, read_exact, write};

/// A session with one connection and one command at a time.
#[derive(Debug)]
pub struct Session {
    socket: TcpStream,
    pub(super) link: Link,
    pub(super) lun: Lun,
    pub(super) isid: [u8; 6],
    pub(super) numbers: Numbers,
    pub(super) settled: Settled,
    pub(super) tag: u32,
}

/// A PDU that came.
pub(super) struct Received {
    pub header: [u8; BHS_BYTES],
    pub data: Vec<u8>,
}

impl Session {
    /// Connects; the login is still to come.
    pub(super) fn connect(opening: &Opening, number: u16) -> Result<Self, PerfError> {
        let [_, a, b, c] = opening.wishes.isid.to_be_bytes();
        let [high, low] = number.to_be_bytes();
        Ok(Self {
            socket: socket::connect(opening.address, opening.timeout)?,
            link: Link::new(Receiver::Initiator),
            lun: opening.lun,
            // 10b: a random number and a qualifier, RFC 7143 section 11.12.5.
            isid: [0x80, a, b, c, high, low],
            numbers: Numbers {
                cmd_sn: 1,
                ..Numbers::default()
            },
            settled: Settled::default(),
            tag: 0,
        })
    }

    /// The socket, still blocking, and what the login settled.
    pub fn into_parts(self) -> (TcpStream, Terms) {
        let terms = Terms {
            link: self.link,
            lun: self.lun,
            settled: self.settled,
            numbers: self.numbers,
        };
        (self.socket, terms)
    }

    /// Commands that the target takes at once.
    pub fn window(&self) -> u32 {
        self.numbers.window()
    }

    /// What was negotiated.
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// What may come at any time.
    pub(super) fn other(&mut self, came: &Received) -> Result<(), PerfError> {
        match Bhs::decode(&came.header)?.opcode() {
            Opcode::NOP_IN => {
                let pdu = NopIn::decode(&came.header)?;
                if pdu.ttt.get() == NO_TAG {
                    return Ok(());
                }
                let numbers = self.numbers.now();
                let pong = NopOut::new(NO_TAG, pdu.ttt.get(), pdu.lun, 0, numbers);
                self.send(pong.as_wire(), &[])
            }
            Opcode::REJECT => Err(PerfError::Rejected {
                reason: RejectReason(Reject::decode(&came.header)?.reason),
            }),
            opcode => Err(refuse(opcode, NO_TAG, "was not asked for")),
        }
    }

    pub(super) fn send(&mut self, header: &[u8], data: &[u8]) -> Result<(), PerfError> {
        let layout = Layout::to_send(0, data.len(), self.link.digests);
        let mut bytes = header.to_vec();
        if layout.header_digest > 0 {
            bytes.extend(digest::header_digest(header));
        }
        bytes.extend(data);
        bytes.resize(bytes.len() + layout.padding, 0);
        if layout.data_digest > 0 {
            bytes.extend(digest::data_digest(data));
        }
        write(&mut self.socket, "sending", &bytes)
    }

    /// Reads one PDU in full, and takes its window.
    pub(super) fn receive(&mut self, doing: &'static str) -> Result<Received, PerfError> {
        let mut header = [0; BHS_BYTES];
        read_exact(&mut self.socket, doing, &mut header)?;
        let layout = self.link.frame(Bhs::decode(&header)?)?;
        if layout.header_digest > 0 {
            let mut sum = [0; DIGEST_BYTES];
            read_exact(&mut self.socket, doing, &mut sum)?;
            digest::check_header(&header, sum)?;
        }
        let mut data = vec![0; layout.data + layout.padding];
        read_exact(&mut self.socket, doing, &mut data)?;
        if layout.data_digest > 0 {
            let mut sum = [0; DIGEST_BYTES];
            read_exact(&mut self.socket, doing, &mut sum)?;
            digest::check_data(wire::crc::crc32c(&data), sum)?;
        }
        data.truncate(layout.data);
        if self.link.full_feature {
            // The window is at the same place in every PDU of a target.
            let numbers = ScsiResponse::decode(&header)?;
            self.numbers
                .see(numbers.exp_cmd_sn.get(), numbers.max_cmd_sn.get());
        }
        Ok(Received { header, data })
    }
}
