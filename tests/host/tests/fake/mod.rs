//! A controller that does just enough, on one thread, and on request something wrong.
#![allow(dead_code, reason = "every test file uses another part")]

mod answers;
pub mod over_rdma;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use wire::fabrics::FabricsType;
use wire::nvme::command::AdminOpcode;
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::{
    C2hData, CapsuleResp, CommonHeader, Framing, IcResp, Layout, Link, Pdu, R2t, Receiver, digest,
    flags, icreq,
};

use answers::{BLOCKS, CAPSULE_DATA_BYTES, bytes_of};

/// Most bytes of one H2CData PDU here: larger writes take several.
pub const MAXH2CDATA: u32 = 8192;

/// What the controller does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Reads end with SUCCESS on the data although the host wants flow control.
    SuccessWithFlowControl,
    /// The second C2HData of a read repeats the offset of the first.
    DataTwice,
    /// A read's last C2HData comes before the last byte.
    DataShort,
    /// One bit of the data flips after its digest was made.
    DataDigest,
    /// One bit of a response flips after its digest was made.
    HeaderDigest,
    /// The R2T asks for more than the command has.
    GreedyR2t,
    /// The response names another command.
    OtherCid,
    /// The connection closes instead of an answer.
    Close,
    /// No answer at all.
    Silence,
}

/// Starts a controller; each connection is served on a thread of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "the scripted controller runs on a thread"
)]
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || Fake::new(stream, fault).serve());
        }
    });
    address
}

struct Fake {
    stream: TcpStream,
    link: Link,
    /// Form of what the host receives.
    outgoing: Framing,
    fault: Fault,
    disk: Vec<u8>,
    io: bool,
    enabled: bool,
}

/// The connection ended, in whatever way.
struct Gone;

impl Fake {
    fn new(stream: TcpStream, fault: Fault) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        Self {
            stream,
            link: Link::new(Receiver::Controller),
            outgoing: Framing::default(),
            fault,
            disk: vec![0; BLOCKS * 4096],
            io: false,
            enabled: false,
        }
    }

    fn serve(mut self) {
        let mut result = self.shake_hands();
        while result.is_ok() {
            result = self.command();
        }
    }

    fn shake_hands(&mut self) -> Result<(), Gone> {
        let (header, layout, _data) = self.receive()?;
        let Ok(Pdu::IcReq(request)) = Pdu::parse(&header, &layout) else {
            return Err(Gone);
        };
        let header_digest = request.dgst & icreq::dgst::HEADER != 0;
        let data_digest = request.dgst & icreq::dgst::DATA != 0;
        self.outgoing = Framing {
            header_digest,
            data_digest,
            pda: request.hpda,
        };
        self.link.ready = true;
        self.link.framing = Framing {
            header_digest,
            data_digest,
            pda: 0,
        };
        self.link.max_capsule_data_bytes = CAPSULE_DATA_BYTES;
        self.link.max_data_bytes = MAXH2CDATA;
        self.send(IcResp::new(0, request.dgst, MAXH2CDATA).as_wire())
    }

    fn receive(&mut self) -> Result<(Vec<u8>, Layout, Vec<u8>), Gone> {
        let mut bytes = vec![0; CommonHeader::SIZE];
        self.stream.read_exact(&mut bytes).map_err(|_| Gone)?;
        let common = CommonHeader::decode(&bytes).map_err(|_| Gone)?;
        let layout = self
            .link
            .frame(common)
            .expect("the host sends correct PDUs");
        bytes.resize(layout.total(), 0);
        self.stream
            .read_exact(&mut bytes[CommonHeader::SIZE..])
            .map_err(|_| Gone)?;
        let header = bytes[..layout.header].to_vec();
        if layout.header_digest > 0 {
            assert_eq!(bytes[layout.header..][..4], digest::header_digest(&header));
        }
        let data = bytes[layout.data_offset()..][..layout.data].to_vec();
        if layout.data_digest > 0 {
            assert_eq!(
                bytes[layout.total() - 4..],
                digest::crc32c(&data).to_le_bytes()
            );
        }
        Ok((header, layout, data))
    }

    fn command(&mut self) -> Result<(), Gone> {
        let (header, layout, inside) = self.receive()?;
        let Ok(Pdu::CapsuleCmd(capsule)) = Pdu::parse(&header, &layout) else {
            panic!("only capsules start something");
        };
        let sqe = capsule.sqe;
        if sqe.is_fabrics() {
            return self.fabrics(&sqe);
        }
        if self.io {
            self.nvm(&sqe, inside)
        } else {
            self.admin(&sqe)
        }
    }

    fn fabrics(&mut self, sqe: &Sqe) -> Result<(), Gone> {
        if sqe.fabrics_type() == Some(FabricsType::CONNECT) {
            self.io = sqe.cdw10.get() >> 16 != 0;
        }
        let result = answers::fabrics(sqe, &mut self.enabled);
        self.respond(sqe, Status::SUCCESS, result)
    }

    fn admin(&mut self, sqe: &Sqe) -> Result<(), Gone> {
        match sqe.admin_opcode() {
            AdminOpcode::IDENTIFY => {
                let data = answers::identify(sqe);
                self.send_data(sqe, &data)
            }
            AdminOpcode::SET_FEATURES => {
                self.respond(sqe, Status::SUCCESS, u64::from(sqe.cdw11.get()))
            }
            _ => self.respond(sqe, Status::INVALID_OPCODE, 0),
        }
    }

    fn nvm(&mut self, sqe: &Sqe, inside: Vec<u8>) -> Result<(), Gone> {
        match self.fault {
            Fault::Close => return Err(Gone),
            Fault::Silence => return Ok(()),
            _ => {}
        }
        match sqe.nvm_opcode() {
            NvmOpcode::READ => {
                let range = bytes_of(sqe);
                let data = self.disk[range].to_vec();
                self.send_data(sqe, &data)
            }
            NvmOpcode::WRITE | NvmOpcode::COMPARE => {
                let range = bytes_of(sqe);
                let data = match sqe.sgl() {
                    Ok(Sgl::InCapsule { .. }) => inside,
                    _ => self.ask_for(sqe, range.len())?,
                };
                let same = self.disk[range.clone()] == data;
                if sqe.nvm_opcode() == NvmOpcode::WRITE {
                    self.disk[range].copy_from_slice(&data);
                } else if !same {
                    return self.respond(sqe, Status::COMPARE_FAILURE, 0);
                }
                self.respond(sqe, Status::SUCCESS, 0)
            }
            NvmOpcode::FLUSH => self.respond(sqe, Status::SUCCESS, 0),
            _ => self.respond(sqe, Status::INVALID_OPCODE, 0),
        }
    }

    /// One R2T for each half of the data.
    fn ask_for(&mut self, sqe: &Sqe, len: usize) -> Result<Vec<u8>, Gone> {
        let mut data = Vec::new();
        let half = (len / 2).next_multiple_of(4);
        for (start, len) in [(0, half), (half, len - half)] {
            let greed = if self.fault == Fault::GreedyR2t { 4 } else { 0 };
            let (start, len) = (start as u32, len as u32 + greed);
            let tag = 77;
            let (r2t, layout) = R2t::new(sqe.cid.get(), tag, start, len, &self.outgoing);
            self.send_pdu(r2t.as_wire(), &layout, &[])?;
            let mut got = 0;
            while got < len {
                let (header, layout, piece) = self.receive()?;
                let Ok(Pdu::H2cData(pdu)) = Pdu::parse(&header, &layout) else {
                    panic!("data was asked for");
                };
                assert_eq!((pdu.ttag.get(), pdu.datao.get()), (tag, start + got));
                got += piece.len() as u32;
                assert_eq!(pdu.is_last(), got == len);
                data.extend(piece);
            }
        }
        Ok(data)
    }

    /// Data in two PDUs; on I/O queues the last one is also the response.
    fn send_data(&mut self, sqe: &Sqe, data: &[u8]) -> Result<(), Gone> {
        let half = data.len() / 2;
        let success = self.io && self.fault != Fault::OtherCid;
        let short = if self.io && self.fault == Fault::DataShort {
            4
        } else {
            0
        };
        for (start, end) in [(0, half), (half, data.len() - short)] {
            let piece = &data[start..end];
            let last = start == half;
            let twice = last && self.io && self.fault == Fault::DataTwice;
            let offset = if twice { 0 } else { start as u32 };
            let extra = match (last, success) {
                (true, true) => flags::LAST_PDU | flags::SUCCESS,
                (true, false) => flags::LAST_PDU,
                _ => 0,
            };
            let span = (offset, piece.len() as u32);
            let pdu = C2hData::new(sqe.cid.get(), span, extra, &self.outgoing);
            let (pdu, layout) = pdu.expect("a PDU");
            self.send_pdu(pdu.as_wire(), &layout, piece)?;
        }
        if success {
            Ok(())
        } else {
            self.respond(sqe, Status::SUCCESS, 0)
        }
    }

    fn respond(&mut self, sqe: &Sqe, status: Status, result: u64) -> Result<(), Gone> {
        let wrong = self.io && !sqe.is_fabrics() && self.fault == Fault::OtherCid;
        let cid = sqe.cid.get() ^ if wrong { 0x4000 } else { 0 };
        let (pdu, layout) = CapsuleResp::new(Cqe::new(cid, 0, status, result), &self.outgoing);
        self.send_pdu(pdu.as_wire(), &layout, &[])
    }

    fn send_pdu(&mut self, header: &[u8], layout: &Layout, data: &[u8]) -> Result<(), Gone> {
        let mut bytes = header.to_vec();
        if layout.header_digest > 0 {
            bytes.extend(digest::header_digest(header));
            if self.io && self.fault == Fault::HeaderDigest {
                bytes[9] ^= 1;
            }
        }
        bytes.resize(bytes.len() + layout.pad, 0);
        bytes.extend(data);
        if layout.data_digest > 0 {
            bytes.extend(digest::crc32c(data).to_le_bytes());
            if self.io && self.fault == Fault::DataDigest {
                bytes[layout.data_offset()] ^= 1;
            }
        }
        self.send(&bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.stream.write_all(bytes).map_err(|_| Gone)
    }
}
