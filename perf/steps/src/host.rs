//! A host that costs little: bursts of capsules made beforehand, and answers that are counted.

use std::io::IoSlice;
use std::net::SocketAddr;

use frontends::volume_nqn;
use reactor::net::TcpStream;
use wire::fabrics::connect::{CNTLID_DYNAMIC, ConnectCommand, ConnectData};
use wire::fabrics::property::PropertySet;
use wire::nvme::Sqe;
use wire::nvme::register::{Config, PropertySize, offset};
use wire::tcp::{CapsuleCmd, CapsuleResp, CommonHeader, Framing, IcReq, PduType};

/// Entries of each queue.
const ENTRIES: u32 = 64;
const BUFFER_BYTES: usize = 256 << 10;

/// One connection, without digests, as hosts have it unless told otherwise.
pub(crate) struct Queue {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were received and not looked at.
    held: usize,
}

/// The bytes of a command capsule.
pub(crate) fn capsule(sqe: Sqe, data: &[u8]) -> Vec<u8> {
    let (pdu, _) = CapsuleCmd::new(sqe, data.len(), &Framing::default()).expect("it fits");
    [pdu.as_wire(), data].concat()
}

/// The I/O queue of a new controller; the first queue of the pair is the admin queue, to be kept.
pub(crate) async fn attach(server: SocketAddr, volume: &str) -> [Queue; 2] {
    let (mut admin, cntlid) = Queue::open(server, volume, 0, CNTLID_DYNAMIC).await;
    let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
    let set = PropertySet::new(2, PropertySize::FOUR, offset::CC, u64::from(config.0));
    admin.run(&capsule(set.to_sqe(), &[]), 1).await;
    let (io, _) = Queue::open(server, volume, 1, cntlid).await;
    [admin, io]
}

impl Queue {
    async fn open(server: SocketAddr, volume: &str, qid: u16, cntlid: u16) -> (Queue, u16) {
        let stream = TcpStream::connect(server)
            .await
            .expect("the target listens");
        let mut queue = Queue {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            held: 0,
        };
        queue.run(IcReq::new(0, 0, 0).as_wire(), 1).await;
        let command = ConnectCommand::new(1, qid, ENTRIES, 0).expect("a size");
        let host = "nqn.2014-08.org.example:host";
        let data = ConnectData::new([7; 16], cntlid, &volume_nqn(volume), host).expect("names");
        let result = queue
            .run(&capsule(command.to_sqe(), data.as_wire()), 1)
            .await;
        (queue, result as u16)
    }

    /// Sends `bytes`, waits for `count` answers, and gives the last one's dword 0.
    pub(crate) async fn run(&mut self, bytes: &[u8], count: u64) -> u32 {
        let sent = self.stream.try_send(&[IoSlice::new(bytes)]);
        assert_eq!(
            sent.ok(),
            Some(bytes.len()),
            "a calm world takes a burst whole"
        );
        let (mut answered, mut dw0) = (0, 0);
        while answered < count {
            self.fill().await;
            let mut at = 0;
            while let Some(len) = pdu_len(&self.buffer[at..self.held]) {
                if let Some(last) = answer(&self.buffer[at..at + len]) {
                    (answered, dw0) = (answered + 1, last);
                }
                at += len;
            }
            self.buffer.copy_within(at..self.held, 0);
            self.held -= at;
        }
        dw0
    }

    /// Receives what is there, at least one byte.
    async fn fill(&mut self) {
        self.stream.readable().await.expect("the target lives");
        let received = self.stream.try_recv(&mut self.buffer[self.held..]);
        let count = received.expect("it is readable");
        assert!(count > 0, "the target closed the connection");
        self.held += count;
    }
}

/// The length of the PDU that `bytes` begin with, when it is there as a whole.
fn pdu_len(bytes: &[u8]) -> Option<usize> {
    let common = CommonHeader::decode(bytes).ok()?;
    let len = common.plen.get() as usize;
    (len <= bytes.len()).then_some(len)
}

/// Dword 0 of the answer, when the PDU is one and not data.
fn answer(pdu: &[u8]) -> Option<u32> {
    let kind = CommonHeader::decode(pdu).expect("a whole PDU").kind;
    match kind {
        PduType::IC_RESP => Some(0),
        PduType::C2H_DATA => None,
        PduType::CAPSULE_RESP => {
            let cqe = CapsuleResp::decode(pdu).expect("a whole PDU").cqe;
            assert!(cqe.status().is_success(), "{:?}", cqe.status());
            Some(cqe.dw0())
        }
        other => panic!("{other:?} answers nothing that was asked"),
    }
}
