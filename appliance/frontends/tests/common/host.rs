//! A small blocking NVMe/TCP host on the `wire` crate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use wire::fabrics::connect::{CNTLID_DYNAMIC, ConnectCommand, ConnectData, cattr};
use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::command::{Identify, ReadWrite};
use wire::nvme::identify::Cns;
use wire::nvme::register::{Config, PropertySize, offset};
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::digest::{crc32c, header_digest};
use wire::tcp::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Framing, H2cData, IcReq, IcResp, Layout, Link,
    PduType, R2t, Receiver, TermReq, flags, icreq,
};

pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";
pub const HOST_ID: [u8; 16] = *b"host-identifier!";

/// What ICReq asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link0 {
    pub header_digest: bool,
    pub data_digest: bool,
    pub hpda: u8,
}

/// One connection of a host.
pub struct Host {
    pub stream: TcpStream,
    pub framing: Framing,
    pub maxh2cdata: u32,
    pub link: Link,
    next_cid: u16,
    pub no_flow_control: bool,
}

/// A PDU as it came.
#[derive(Debug)]
pub struct Received {
    pub kind: PduType,
    pub header: Vec<u8>,
    pub data: Vec<u8>,
}

/// Result of a command.
#[derive(Debug)]
pub struct Done {
    pub status: Status,
    pub result: u64,
    pub sqhd: u16,
    pub data: Vec<u8>,
    /// A response capsule came; otherwise the data carried SUCCESS.
    pub has_response: bool,
}

impl Host {
    /// Opens a socket and nothing more.
    pub fn raw(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the target listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Self {
            stream,
            framing: Framing::default(),
            maxh2cdata: 0,
            link: Link::new(Receiver::Host),
            next_cid: 0,
            no_flow_control: false,
        }
    }

    /// Opens a socket and shakes hands.
    pub fn open(address: SocketAddr, want: Link0) -> Self {
        let mut host = Self::raw(address);
        host.shake_hands(want);
        host
    }

    pub fn shake_hands(&mut self, want: Link0) {
        let header = if want.header_digest {
            icreq::dgst::HEADER
        } else {
            0
        };
        let data = if want.data_digest {
            icreq::dgst::DATA
        } else {
            0
        };
        let request = IcReq::new(want.hpda, header | data, 0);
        self.write(request.as_wire());
        let answer = self.receive();
        assert_eq!(answer.kind, PduType::IC_RESP, "{answer:?}");
        let response = *IcResp::decode(&answer.header).expect("a whole ICResp");
        response.check(&request).expect("a correct ICResp");
        self.framing = Framing {
            header_digest: response.dgst & icreq::dgst::HEADER != 0,
            data_digest: response.dgst & icreq::dgst::DATA != 0,
            pda: response.cpda,
        };
        self.maxh2cdata = response.maxh2cdata.get();
        self.link = Link {
            receiver: Receiver::Host,
            ready: true,
            framing: Framing {
                pda: want.hpda,
                ..self.framing
            },
            max_capsule_data_bytes: 0,
            max_data_bytes: u32::MAX,
        };
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the target reads");
    }

    /// Next PDU, checked; panics when the connection ends.
    pub fn receive(&mut self) -> Received {
        self.try_receive().expect("the connection stands")
    }

    /// Next PDU; none at the end of the stream.
    pub fn try_receive(&mut self) -> Option<Received> {
        let mut head = [0; CommonHeader::SIZE];
        if !read_or_end(&mut self.stream, &mut head) {
            return None;
        }
        let common = *CommonHeader::decode(&head).expect("8 bytes");
        let layout = self
            .link
            .frame(&common)
            .expect("the target frames its PDUs");
        let mut bytes = head.to_vec();
        bytes.resize(layout.total(), 0);
        self.stream
            .read_exact(&mut bytes[head.len()..])
            .expect("the rest of the PDU");
        let header = bytes[..layout.header].to_vec();
        if layout.header_digest != 0 {
            let received = &bytes[layout.header..][..4];
            assert_eq!(
                received,
                header_digest(&header),
                "header digest of {common:?}"
            );
        }
        let data = bytes[layout.data_offset()..][..layout.data].to_vec();
        if layout.data_digest != 0 {
            let received = &bytes[layout.data_offset() + layout.data..];
            assert_eq!(
                received,
                crc32c(&data).to_le_bytes(),
                "data digest of {common:?}"
            );
        }
        wire::tcp::Pdu::parse(&header, &layout).expect("the target's PDUs parse");
        Some(Received {
            kind: common.kind,
            header,
            data,
        })
    }

    /// Expects a termination request and the end of the connection after it.
    pub fn expect_term(&mut self) -> (u16, u32) {
        let pdu = self.receive();
        assert_eq!(pdu.kind, PduType::C2H_TERM_REQ, "{pdu:?}");
        let request = *TermReq::decode(&pdu.header).expect("a whole termination request");
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        assert!(
            self.try_receive().is_none(),
            "nothing comes after a termination request"
        );
        (request.fes.get(), request.fei.get())
    }

    /// True when the target closes without another PDU.
    pub fn is_closed(&mut self) -> bool {
        self.try_receive().is_none()
    }

    pub fn cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// Bytes of a PDU with all its digests.
    pub fn assemble(&self, header: &[u8], layout: &Layout, data: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        if layout.header_digest != 0 {
            bytes.extend_from_slice(&header_digest(header));
        }
        bytes.resize(layout.data_offset(), 0);
        bytes.extend_from_slice(data);
        if layout.data_digest != 0 {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        bytes
    }

    pub fn capsule(&self, sqe: Sqe, data: &[u8]) -> Vec<u8> {
        let (pdu, layout) = CapsuleCmd::new(sqe, data.len(), &self.framing).expect("it fits");
        self.assemble(pdu.as_wire(), &layout, data)
    }

    pub fn send(&mut self, sqe: Sqe, data: &[u8]) {
        let bytes = self.capsule(sqe, data);
        self.write(&bytes);
    }

    /// Sends the part of `data` that an R2T asked for, in PDUs of at most MAXH2CDATA.
    pub fn send_data(&mut self, r2t: &R2t, data: &[u8]) {
        let mut at = r2t.r2to.get() as usize;
        let end = at + r2t.r2tl.get() as usize;
        while at < end {
            let len = (end - at).min(self.maxh2cdata as usize);
            self.send_h2c(
                r2t.cccid.get(),
                r2t.ttag.get(),
                (at, len),
                at + len == end,
                data,
            );
            at += len;
        }
    }

    pub fn send_h2c(
        &mut self,
        cid: u16,
        ttag: u16,
        (at, len): (usize, usize),
        last: bool,
        data: &[u8],
    ) {
        let span = (at as u32, len as u32);
        let (pdu, layout) = H2cData::new(cid, ttag, span, last, &self.framing).expect("it fits");
        let bytes = self.assemble(pdu.as_wire(), &layout, &data[at..at + len]);
        self.write(&bytes);
    }

    /// Waits for the response of command `cid`; `data` answers R2Ts.
    pub fn finish(&mut self, cid: u16, data: &[u8]) -> Done {
        let mut read = Vec::new();
        loop {
            let pdu = self.receive();
            match pdu.kind {
                PduType::R2T => {
                    let r2t = *R2t::decode(&pdu.header).expect("a whole R2T");
                    assert_eq!(r2t.cccid.get(), cid, "no other command is in flight");
                    self.send_data(&r2t, data);
                }
                PduType::C2H_DATA => {
                    let header = *C2hData::decode(&pdu.header).expect("a whole C2HData");
                    assert_eq!(header.cccid.get(), cid);
                    assert_eq!(
                        header.datao.get() as usize,
                        read.len(),
                        "data comes in order"
                    );
                    read.extend_from_slice(&pdu.data);
                    if header.ch.has(flags::SUCCESS) {
                        return Done {
                            status: Status::SUCCESS,
                            result: 0,
                            sqhd: 0,
                            data: read,
                            has_response: false,
                        };
                    }
                }
                PduType::CAPSULE_RESP => {
                    let cqe = response(&pdu);
                    assert_eq!(cqe.cid.get(), cid, "the response is of this command");
                    return Done {
                        status: cqe.status(),
                        result: cqe.result.get(),
                        sqhd: cqe.sqhd.get(),
                        data: read,
                        has_response: true,
                    };
                }
                other => panic!("{other:?} is not part of a command"),
            }
        }
    }

    /// Runs a command that is alone on the queue; its CID is replaced.
    pub fn run(&mut self, sqe: Sqe) -> Done {
        self.run_with(sqe, &[], &[])
    }

    /// As `run`; `capsule` goes with the command, `data` on request.
    pub fn run_with(&mut self, mut sqe: Sqe, capsule: &[u8], data: &[u8]) -> Done {
        let cid = self.cid();
        sqe.cid.set(cid);
        self.send(sqe, capsule);
        self.finish(cid, data)
    }

    pub fn connect_with(
        &mut self,
        qid: u16,
        entries: u32,
        data: &ConnectData,
        kato_ms: u32,
    ) -> Done {
        let mut command = ConnectCommand::new(0, qid, entries, kato_ms).expect("a good size");
        if self.no_flow_control {
            command.cattr = cattr::DISABLE_SQ_FLOW_CONTROL;
        }
        self.run_with(command.to_sqe(), data.as_wire(), &[])
    }

    pub fn connect(&mut self, qid: u16, entries: u32, subnqn: &str, cntlid: u16) -> Done {
        let data = ConnectData::new(HOST_ID, cntlid, subnqn, HOST_NQN).expect("good names");
        self.connect_with(qid, entries, &data, 0)
    }

    pub fn property_get(&mut self, offset: u32, size: PropertySize) -> Done {
        self.run(PropertyGet::new(0, size, offset).to_sqe())
    }

    pub fn property_set(&mut self, offset: u32, value: u64) -> Done {
        self.run(PropertySet::new(0, PropertySize::FOUR, offset, value).to_sqe())
    }

    pub fn enable(&mut self) {
        let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
        assert!(
            self.property_set(offset::CC, u64::from(config.0))
                .status
                .is_success()
        );
        let csts = self.property_get(offset::CSTS, PropertySize::FOUR).result;
        assert_eq!(csts & 1, 1, "the controller is ready");
    }

    pub fn identify(&mut self, cns: Cns, nsid: u32) -> Done {
        let sgl = Sgl::Transport { len_bytes: 4096 };
        self.run(
            Identify {
                cns,
                ..Identify::default()
            }
            .encode(0, nsid, sgl),
        )
    }

    pub fn read_blocks(&mut self, lba: u64, blocks: u32, block_bytes: u32) -> Done {
        self.run(read_sqe(lba, blocks, block_bytes))
    }

    pub fn write_blocks(&mut self, lba: u64, data: &[u8], block_bytes: u32) -> Done {
        let blocks = data.len() as u32 / block_bytes;
        if data.len() <= 8192 {
            let sgl = Sgl::InCapsule {
                offset: 0,
                len_bytes: data.len() as u32,
            };
            self.run_with(io_sqe(NvmOpcode::WRITE, lba, blocks, sgl), data, &[])
        } else {
            let sgl = Sgl::Transport {
                len_bytes: data.len() as u32,
            };
            self.run_with(io_sqe(NvmOpcode::WRITE, lba, blocks, sgl), &[], data)
        }
    }
}

/// A host with an enabled controller: its admin queue and one I/O queue.
pub struct Attached {
    pub admin: Host,
    pub io: Host,
    pub cntlid: u16,
}

/// Connects, enables, and connects I/O queue 1 with `entries` entries.
pub fn attach(address: SocketAddr, want: Link0, entries: u32) -> Attached {
    let mut admin = Host::open(address, want);
    let nqn = super::volume_nqn();
    let done = admin.connect(0, 32, &nqn, CNTLID_DYNAMIC);
    assert!(done.status.is_success(), "{done:?}");
    let cntlid = (done.result & 0xffff) as u16;
    admin.enable();
    let io = attach_io(address, want, entries, cntlid, 1);
    Attached { admin, io, cntlid }
}

pub fn attach_io(address: SocketAddr, want: Link0, entries: u32, cntlid: u16, qid: u16) -> Host {
    let mut io = Host::open(address, want);
    let done = io.connect(qid, entries, &super::volume_nqn(), cntlid);
    assert!(done.status.is_success(), "queue {qid}: {done:?}");
    io
}

pub fn response(pdu: &Received) -> Cqe {
    assert_eq!(pdu.kind, PduType::CAPSULE_RESP, "{pdu:?}");
    CapsuleResp::decode(&pdu.header)
        .expect("a whole response")
        .cqe
}

pub fn io_sqe(opcode: NvmOpcode, lba: u64, blocks: u32, sgl: Sgl) -> Sqe {
    ReadWrite::new(lba, blocks)
        .expect("a good count")
        .encode(opcode, 0, 1, Some(sgl))
}

pub fn read_sqe(lba: u64, blocks: u32, block_bytes: u32) -> Sqe {
    io_sqe(
        NvmOpcode::READ,
        lba,
        blocks,
        Sgl::Transport {
            len_bytes: blocks * block_bytes,
        },
    )
}

/// Bytes that differ from block to block and from seed to seed.
pub fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at / 512) as u8 ^ (at % 251) as u8 ^ seed.wrapping_mul(31))
        .collect()
}

fn read_or_end(stream: &mut TcpStream, bytes: &mut [u8]) -> bool {
    let mut have = 0;
    while have < bytes.len() {
        match stream.read(&mut bytes[have..]) {
            Ok(0) => {
                assert_eq!(have, 0, "the stream ends inside a header");
                return false;
            }
            Ok(len) => have += len,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("no PDU came: {error}"),
        }
    }
    true
}
