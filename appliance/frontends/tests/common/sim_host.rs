//! A host in the simulator: queues of one controller over simulated sockets.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use frontends::volume_nqn;
use reactor::net::TcpStream;
use wire::fabrics::connect::{ConnectCommand, ConnectData};
use wire::fabrics::property::PropertySet;
use wire::nvme::command::ReadWrite;
use wire::nvme::register::{Config, PropertySize, offset};
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe};
use wire::tcp::digest::{crc32c, header_digest};
use wire::tcp::{
    CapsuleCmd, CapsuleResp, CommonHeader, Framing, H2cData, IcReq, Layout, Link, PduType, R2t,
    Receiver, icreq,
};

use super::VOLUME;

pub const BLOCK: usize = 4096;

/// One queue.
pub struct Queue {
    pub stream: TcpStream,
    link: Link,
    framing: Framing,
}

pub async fn send_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_send(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub async fn recv_exact(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match stream.try_recv(&mut bytes[done..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refused(what: &str, cqe: &Cqe) -> io::Error {
    io::Error::other(format!("{what}: {:?}", cqe.status()))
}

impl Queue {
    /// Connects, shakes hands with both digests, and connects queue `qid`.
    pub async fn open(server: SocketAddr, qid: u16, cntlid: u16) -> io::Result<(Self, u16)> {
        Self::open_as(server, "nqn.2014-08.org.example:host".into(), qid, cntlid).await
    }

    /// As `open`, for the host of this name.
    pub async fn open_as(
        server: SocketAddr,
        host: String,
        qid: u16,
        cntlid: u16,
    ) -> io::Result<(Self, u16)> {
        Self::open_with(server, (&host, [7; 16]), qid, cntlid).await
    }

    /// As `open`, for the host of this name and identifier.
    pub async fn open_with(
        server: SocketAddr,
        (host, host_id): (&str, [u8; 16]),
        qid: u16,
        cntlid: u16,
    ) -> io::Result<(Self, u16)> {
        let stream = TcpStream::connect(server).await?;
        let mut queue = Self {
            stream,
            link: Link::new(Receiver::Host),
            framing: Framing::default(),
        };
        let request = IcReq::new(0, icreq::dgst::HEADER | icreq::dgst::DATA, 0);
        send_all(&queue.stream, request.as_wire()).await?;
        queue.receive().await?;
        queue.framing = Framing {
            header_digest: true,
            data_digest: true,
            pda: 0,
        };
        queue.link = Link {
            receiver: Receiver::Host,
            ready: true,
            framing: queue.framing,
            max_capsule_data_bytes: 0,
            max_data_bytes: u32::MAX,
        };
        let kato_ms = if qid == 0 { 2000 } else { 0 };
        let command = ConnectCommand::new(1, qid, 16, kato_ms).expect("a size");
        let data = ConnectData::new(host_id, cntlid, &volume_nqn(VOLUME), host).expect("names");
        let (cqe, _) = queue.run(command.to_sqe(), data.as_wire(), &[]).await?;
        if !cqe.status().is_success() {
            return Err(refused("connect", &cqe));
        }
        Ok((queue, cqe.dw0() as u16))
    }

    /// Form of the PDUs it sends.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    pub async fn enable(&mut self) -> io::Result<()> {
        let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
        let set = PropertySet::new(2, PropertySize::FOUR, offset::CC, u64::from(config.0));
        self.run(set.to_sqe(), &[], &[]).await.map(|_| ())
    }

    pub async fn receive(&mut self) -> io::Result<(PduType, Vec<u8>, Vec<u8>)> {
        let mut head = [0; CommonHeader::SIZE];
        recv_exact(&self.stream, &mut head).await?;
        let common = *CommonHeader::decode(&head).expect("8 bytes");
        let layout = self
            .link
            .frame(&common)
            .expect("the target frames its PDUs");
        let mut bytes = head.to_vec();
        bytes.resize(layout.total(), 0);
        recv_exact(&self.stream, &mut bytes[head.len()..]).await?;
        let data = bytes[layout.data_offset()..][..layout.data].to_vec();
        assert_ne!(
            common.kind,
            PduType::C2H_TERM_REQ,
            "this host breaks no rule"
        );
        Ok((common.kind, bytes[..layout.header].to_vec(), data))
    }

    pub async fn send(&mut self, header: &[u8], layout: &Layout, data: &[u8]) -> io::Result<()> {
        let mut bytes = header.to_vec();
        if layout.header_digest != 0 {
            bytes.extend_from_slice(&header_digest(header));
        }
        bytes.resize(layout.data_offset(), 0);
        bytes.extend_from_slice(data);
        if layout.data_digest != 0 {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        send_all(&self.stream, &bytes).await
    }

    /// Runs one command; `data` answers its R2T.
    pub async fn run(
        &mut self,
        sqe: Sqe,
        capsule: &[u8],
        data: &[u8],
    ) -> io::Result<(Cqe, Vec<u8>)> {
        self.start(sqe, capsule).await?;
        self.finish(data).await
    }

    /// Sends a command.
    pub async fn start(&mut self, sqe: Sqe, capsule: &[u8]) -> io::Result<()> {
        let (pdu, layout) = CapsuleCmd::new(sqe, capsule.len(), &self.framing).expect("it fits");
        self.send(pdu.as_wire(), &layout, capsule).await
    }

    /// Waits for the next response; `data` answers an R2T.
    pub async fn finish(&mut self, data: &[u8]) -> io::Result<(Cqe, Vec<u8>)> {
        let mut read = Vec::new();
        loop {
            let (kind, header, bytes) = self.receive().await?;
            match kind {
                PduType::R2T => {
                    let r2t = *R2t::decode(&header).expect("a whole R2T");
                    let (cid, ttag) = (r2t.cccid.get(), r2t.ttag.get());
                    let span = (0, data.len() as u32);
                    let (pdu, layout) =
                        H2cData::new(cid, ttag, span, true, &self.framing).expect("it fits");
                    self.send(pdu.as_wire(), &layout, data).await?;
                }
                PduType::C2H_DATA => read.extend_from_slice(&bytes),
                _ => {
                    let response = CapsuleResp::decode(&header).expect("a response");
                    return Ok((response.cqe, read));
                }
            }
        }
    }

    pub async fn write(&mut self, lba: u64, value: u64, blocks: usize) -> io::Result<()> {
        let data = block_data(value, blocks);
        let len_bytes = data.len() as u32;
        let fields = ReadWrite::new(lba, blocks as u32).expect("a count");
        let (cqe, _) = if data.len() <= 8192 {
            let sgl = Sgl::InCapsule {
                offset: 0,
                len_bytes,
            };
            self.run(fields.encode(NvmOpcode::WRITE, 3, 1, Some(sgl)), &data, &[])
                .await?
        } else {
            let sgl = Sgl::Transport { len_bytes };
            self.run(fields.encode(NvmOpcode::WRITE, 3, 1, Some(sgl)), &[], &data)
                .await?
        };
        if cqe.status().is_success() {
            Ok(())
        } else {
            Err(refused("write", &cqe))
        }
    }

    /// The value in all blocks of the range.
    pub async fn read(&mut self, lba: u64, blocks: usize) -> io::Result<u64> {
        let fields = ReadWrite::new(lba, blocks as u32).expect("a count");
        let sgl = Sgl::Transport {
            len_bytes: (blocks * BLOCK) as u32,
        };
        let sqe = fields.encode(NvmOpcode::READ, 4, 1, Some(sgl));
        let (cqe, data) = self.run(sqe, &[], &[]).await?;
        if !cqe.status().is_success() {
            return Err(refused("read", &cqe));
        }
        Ok(block_value(&data, blocks))
    }
}

/// Each block of a write says which write it is of.
pub fn block_data(value: u64, blocks: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(blocks * BLOCK / 8)
}

/// Which write was read: one, and whole.
pub fn block_value(data: &[u8], blocks: usize) -> u64 {
    let value = u64::from_le_bytes(data[..8].try_into().expect("8 bytes"));
    assert!(data == block_data(value, blocks), "a torn write");
    value
}
