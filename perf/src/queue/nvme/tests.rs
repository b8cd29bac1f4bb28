//! The queue against scripted bytes: what a controller may say, and what it may not.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use wire::nvme::{Cqe, Sgl};
use wire::tcp::{FatalStatus, PduError};
use wire::tcp::{IcReq, IcResp, Layout, Receiver, TermFrame, flags};

use super::*;
use crate::queue::script::{Script, data, io};

const IO_BYTES: u32 = 4096;
const SHAPE: Shape = Shape {
    depth: 4,
    block_bytes: 512,
    io_bytes: IO_BYTES,
    capsule_bytes: 8192,
    nsid: 1,
    keep_data: true,
};

fn terms(digests: bool) -> Terms {
    let framing = Framing {
        header_digest: digests,
        data_digest: digests,
        pda: 0,
    };
    Terms {
        link: Link {
            ready: true,
            framing,
            ..Link::new(Receiver::Host)
        },
        outgoing: framing,
        max_h2c_bytes: 4096,
    }
}

fn queue(shape: Shape, digests: bool) -> Queue {
    Queue::new(shape, terms(digests), vec![7; 1 << 20])
}

fn submit(queue: &mut Queue, kind: Kind) {
    let content = data(queue.shape.io_bytes);
    queue
        .submit(io(kind), 0, |to| to.copy_from_slice(&content))
        .unwrap();
}

/// Sends everything, however often the socket is full.
fn sent_bytes(queue: &mut Queue, piece: usize) -> Vec<u8> {
    let mut script = Script::saying(Vec::new(), piece);
    while !queue.output.is_empty() {
        queue
            .output
            .send(&mut script, queue.payload.bytes())
            .unwrap();
    }
    script.sent
}

/// Feeds `bytes` in pieces; gives what completed.
fn feed(queue: &mut Queue, bytes: Vec<u8>, piece: usize) -> Result<Vec<Done>, PerfError> {
    let mut script = Script::saying(bytes, piece);
    let mut done = Vec::new();
    while queue.input.receive(&mut script)? > 0 {
        queue.process(&mut done)?;
    }
    Ok(done)
}

fn pdu(header: &[u8], layout: &Layout, data: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    if layout.header_digest > 0 {
        bytes.extend(digest::header_digest(header));
    }
    bytes.resize(layout.data_offset(), 0);
    bytes.extend(data);
    if layout.data_digest > 0 {
        bytes.extend(digest::crc32c(data).to_le_bytes());
    }
    bytes
}

fn c2h(cid: u16, offset: u32, data: &[u8], extra: u8, digests: bool) -> Vec<u8> {
    let span = (offset, data.len() as u32);
    let framing = terms(digests).outgoing;
    let (header, layout) = C2hData::new(cid, span, extra, &framing).unwrap();
    pdu(header.as_wire(), &layout, data)
}

fn response(cid: u16, status: Status, digests: bool) -> Vec<u8> {
    let framing = terms(digests).outgoing;
    let (header, layout) = CapsuleResp::new(Cqe::new(cid, 0, status, 0), &framing);
    pdu(header.as_wire(), &layout, &[])
}

fn r2t(cid: u16, ttag: u16, offset: u32, len: u32) -> Vec<u8> {
    let (header, layout) = R2t::new(cid, ttag, offset, len, &Framing::default());
    pdu(header.as_wire(), &layout, &[])
}

#[test]
fn a_read_ends_with_the_success_flag_however_the_bytes_are_cut() {
    let content = data(IO_BYTES);
    for digests in [false, true] {
        let last = flags::LAST_PDU | flags::SUCCESS;
        let bytes = c2h(0, 0, &content, last, digests);
        for piece in [1, 3, 8, 23, 24, 27, 28, 29, 1000, 1 << 20] {
            let mut queue = queue(SHAPE, digests);
            submit(&mut queue, Kind::Read);
            let done = feed(&mut queue, bytes.clone(), piece).unwrap();
            assert_eq!(done.len(), 1, "piece {piece}");
            assert_eq!(
                (done[0].io, done[0].status),
                (io(Kind::Read), Status::SUCCESS.into())
            );
            assert_eq!(queue.payload.buffer(0), content, "piece {piece}");
            assert_eq!(queue.slots.in_flight(), 0);
        }
    }
}

#[test]
fn a_read_may_come_in_parts_with_a_response_after() {
    let content = data(IO_BYTES);
    let mut bytes = c2h(0, 0, &content[..1024], 0, false);
    bytes.extend(c2h(0, 1024, &content[1024..], flags::LAST_PDU, false));
    bytes.extend(response(0, Status::SUCCESS, false));
    let mut queue = queue(SHAPE, false);
    submit(&mut queue, Kind::Read);
    let done = feed(&mut queue, bytes, 100).unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!(queue.payload.buffer(0), content);
}

#[test]
fn many_completions_come_out_of_one_receive() {
    let shape = Shape {
        keep_data: false,
        ..SHAPE
    };
    let mut queue = queue(shape, false);
    let last = flags::LAST_PDU | flags::SUCCESS;
    let mut bytes = Vec::new();
    for cid in [2, 0, 3, 1] {
        submit(&mut queue, Kind::Read);
        bytes.extend(c2h(cid, 0, &data(IO_BYTES), last, false));
    }
    assert!(!queue.has_room());
    let done = feed(&mut queue, bytes, 1 << 20).unwrap();
    let order: Vec<u16> = done.iter().map(|done| done.cid).collect();
    assert_eq!(order, [2, 0, 3, 1]);
}

#[test]
fn a_small_write_travels_in_its_capsule() {
    for (digests, piece) in [(false, 1), (false, 50), (true, 1000), (true, 1 << 20)] {
        let mut queue = queue(SHAPE, digests);
        submit(&mut queue, Kind::Write);
        let sent = sent_bytes(&mut queue, piece);
        let capsule = CapsuleCmd::decode(&sent).unwrap();
        let range = ReadWrite::decode(&capsule.sqe).unwrap();
        assert_eq!((range.slba, range.block_count()), (24, 8));
        let inside = Sgl::InCapsule {
            offset: 0,
            len_bytes: IO_BYTES,
        };
        assert_eq!(capsule.sqe.sgl().unwrap(), inside);
        let framing = terms(digests).outgoing;
        let (_, layout) = CapsuleCmd::new(capsule.sqe, IO_BYTES as usize, &framing).unwrap();
        assert_eq!(sent, pdu(capsule.as_wire(), &layout, &data(IO_BYTES)));
        let done = feed(&mut queue, response(0, Status::SUCCESS, digests), 5).unwrap();
        assert_eq!(done.len(), 1);
    }
}

#[test]
fn a_large_write_answers_every_r2t_in_steps_of_maxh2cdata() {
    let shape = Shape {
        io_bytes: 12_288,
        ..SHAPE
    };
    let mut queue = queue(shape, false);
    submit(&mut queue, Kind::Write);
    assert_eq!(
        sent_bytes(&mut queue, 40).len(),
        CapsuleCmd::SIZE,
        "no data before the R2T"
    );
    let mut asked = r2t(0, 77, 0, 10_240);
    asked.extend(r2t(0, 78, 10_240, 2_048));
    assert_eq!(feed(&mut queue, asked, 7).unwrap(), []);
    let sent = sent_bytes(&mut queue, 900);
    let expected = [
        (77, 0, 4_096, false),
        (77, 4_096, 4_096, false),
        (77, 8_192, 2_048, true),
        (78, 10_240, 2_048, true),
    ];
    let content = data(12_288);
    let mut rest = &sent[..];
    for (ttag, offset, len, last) in expected {
        let header = H2cData::decode(rest).unwrap();
        let span = (header.datao.get(), header.datal.get());
        assert_eq!(
            (header.ttag.get(), span, header.is_last()),
            (ttag, (offset, len), last)
        );
        let (start, len) = (offset as usize, len as usize);
        assert_eq!(rest[24..24 + len], content[start..start + len]);
        rest = &rest[24 + len..];
    }
    assert!(rest.is_empty());
    assert_eq!(
        feed(&mut queue, response(0, Status::SUCCESS, false), 9)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn writes_take_their_data_from_the_pattern_when_nothing_is_kept() {
    let shape = Shape {
        keep_data: false,
        ..SHAPE
    };
    let mut queue = Queue::new(shape, terms(false), data(8192));
    for choice in [0, 1, 63, 64, u64::MAX] {
        queue
            .submit(io(Kind::Write), choice, |_| panic!("nothing to fill"))
            .unwrap();
        let sent = sent_bytes(&mut queue, 1 << 20);
        let start = (choice % 65) as usize * 64;
        assert_eq!(
            sent[72..],
            data(8192)[start..start + 4096],
            "choice {choice}"
        );
        feed(&mut queue, response(0, Status::SUCCESS, false), 24).unwrap();
    }
}

#[test]
fn a_failed_command_completes_with_its_status() {
    let mut queue = queue(SHAPE, false);
    submit(&mut queue, Kind::Read);
    let done = feed(&mut queue, response(0, Status::LBA_OUT_OF_RANGE, false), 24).unwrap();
    assert_eq!(done[0].status, Status::LBA_OUT_OF_RANGE.into());
    assert!(queue.has_room());
}

#[test]
fn the_oldest_command_is_known() {
    let mut queue = queue(SHAPE, false);
    for issued_ns in [30, 10, 20] {
        let io = Io {
            issued_ns,
            ..io(Kind::Flush)
        };
        queue.submit(io, 0, |_| {}).unwrap();
    }
    assert_eq!(queue.slots.oldest().map(|io| io.issued_ns), Some(10));
}

/// Runs `bytes` against one command of `kind` and gives the rule they break.
fn broken_rule(kind: Kind, bytes: Vec<u8>) -> &'static str {
    let mut queue = queue(SHAPE, false);
    submit(&mut queue, kind);
    match feed(&mut queue, bytes, 1 << 20) {
        Err(PerfError::Protocol { problem, .. }) => problem,
        other => panic!("expected a broken rule, got {other:?}"),
    }
}

#[test]
fn rules_about_data_to_the_host_are_kept() {
    let content = data(IO_BYTES);
    let last = flags::LAST_PDU;
    let rule = |kind, bytes| broken_rule(kind, bytes);
    assert_eq!(
        rule(Kind::Read, c2h(1, 0, &content, last, false)),
        "no such command is in flight"
    );
    assert_eq!(
        rule(Kind::Write, c2h(0, 0, &content, last, false)),
        "data for a command that reads nothing"
    );
    assert_eq!(
        rule(Kind::Read, c2h(0, 512, &content[..512], 0, false)),
        "data out of order"
    );
    assert_eq!(
        rule(Kind::Read, c2h(0, 0, &content[..512], last, false)),
        "last PDU before the last byte"
    );
    let twice = [
        c2h(0, 0, &content, last, false),
        c2h(0, 4096, &content, 0, false),
    ];
    assert_eq!(rule(Kind::Read, twice.concat()), "data after the last PDU");
    let more = [
        c2h(0, 0, &content, 0, false),
        c2h(0, 4096, &content[..4], 0, false),
    ];
    assert_eq!(
        rule(Kind::Read, more.concat()),
        "more data than the command asked for"
    );
    assert_eq!(
        rule(Kind::Read, response(0, Status::SUCCESS, false)),
        "success before all data came"
    );
}

#[test]
fn rules_about_r2ts_are_kept() {
    let shape = Shape {
        io_bytes: 12_288,
        ..SHAPE
    };
    let rule = |kind, bytes| {
        let mut queue = queue(shape, false);
        submit(&mut queue, kind);
        match feed(&mut queue, bytes, 1 << 20) {
            Err(PerfError::Protocol { problem, .. }) => problem,
            other => panic!("expected a broken rule, got {other:?}"),
        }
    };
    let none = "asks for data of a command that sends none";
    assert_eq!(rule(Kind::Read, r2t(0, 1, 0, 4096)), none);
    assert_eq!(
        rule(Kind::Write, r2t(0, 1, 4, 4096)),
        "asks for data out of order"
    );
    let twice = [r2t(0, 1, 0, 4096), r2t(0, 2, 0, 4096)].concat();
    assert_eq!(rule(Kind::Write, twice), "asks for data out of order");
    let left = "asks for more than is left to send";
    assert_eq!(rule(Kind::Write, r2t(0, 1, 0, 12_292)), left);
    assert_eq!(
        broken_rule(Kind::Write, r2t(0, 1, 0, 4096)),
        left,
        "it was in the capsule"
    );
}

#[test]
fn other_pdus_have_no_place() {
    let late = IcResp::new(0, 0, 4096).as_wire().to_vec();
    let mut queue = queue(SHAPE, false);
    assert!(matches!(
        feed(&mut queue, late, 128),
        Err(PerfError::Wire(_))
    ));
    let mut queue = self::queue(SHAPE, false);
    let error = PduError::Sequence {
        kind: PduType::CAPSULE_CMD,
    };
    let term = TermFrame::new(Receiver::Controller, &error, &[0; 8]);
    let result = feed(&mut queue, term.as_wire().to_vec(), 1);
    let Err(PerfError::Terminated { status, .. }) = result else {
        panic!("expected a termination, got {result:?}");
    };
    assert_eq!(status, FatalStatus::SEQUENCE);
}

#[test]
fn a_wrong_digest_is_seen() {
    let good = c2h(
        0,
        0,
        &data(IO_BYTES),
        flags::LAST_PDU | flags::SUCCESS,
        true,
    );
    for at in [12, 24, 28, 2000, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        let mut queue = queue(SHAPE, true);
        submit(&mut queue, Kind::Read);
        let result = feed(&mut queue, bytes, 100);
        assert!(
            matches!(result, Err(PerfError::Wire(_))),
            "byte {at}: {result:?}"
        );
    }
}

#[test]
fn the_end_of_the_stream_is_an_error() {
    struct Ended;
    impl Read for Ended {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }
    let mut queue = queue(SHAPE, false);
    assert!(matches!(
        queue.input.receive(&mut Ended),
        Err(PerfError::Closed { .. })
    ));
}

fn opening(digest: bool) -> Opening {
    Opening {
        address: ([127, 0, 0, 1], 4420).into(),
        subnqn: "nqn.2026-11.io.bedplate:demo".to_owned(),
        hostnqn: "nqn.2026-11.io.bedplate.perf:host".to_owned(),
        hostid: [1; 16],
        cntlid: 5,
        entries: 33,
        header_digest: digest,
        data_digest: digest,
        max_r2t: 1,
        timeout: std::time::Duration::from_secs(1),
    }
}

/// Reads what the script says, takes all writes.
struct Peer(Script);

impl Read for Peer {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.sent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shake(answer: &IcResp, digest: bool) -> (Result<Terms, PerfError>, Vec<u8>) {
    let mut peer = Peer(Script::saying(answer.as_wire().to_vec(), 5));
    let terms = handshake::handshake(&mut peer, &opening(digest));
    (terms, peer.0.sent)
}

#[test]
fn the_handshake_takes_over_what_the_target_says() {
    let (terms, sent) = shake(&IcResp::new(3, 3, 131_072), true);
    let terms = terms.unwrap();
    assert_eq!(IcReq::decode(&sent).unwrap().dgst, 3);
    assert_eq!((terms.outgoing.pda, terms.max_h2c_bytes), (3, 131_072));
    assert!(terms.outgoing.header_digest && terms.link.framing.data_digest);
}

#[test]
fn a_handshake_that_cannot_be_is_refused() {
    let (refused, _) = shake(&IcResp::new(0, 0, 4096), true);
    assert!(
        matches!(refused, Err(PerfError::Protocol { .. })),
        "digest not granted"
    );
    for bad in [
        IcResp::new(32, 0, 4096),
        IcResp::new(0, 3, 4096),
        IcResp::new(0, 0, 4095),
    ] {
        let (refused, _) = shake(&bad, false);
        assert!(matches!(refused, Err(PerfError::Wire(_))), "{bad:?}");
    }
    let mut wrong_pdu = Peer(Script::saying(response(0, Status::SUCCESS, false), 24));
    let refused = handshake::handshake(&mut wrong_pdu, &opening(false));
    assert!(matches!(refused, Err(PerfError::Wire(_))));
}

/// A valid conversation about three commands: a read, a write in two R2Ts, a flush.
fn conversation() -> (Queue, Vec<u8>) {
    let shape = Shape {
        io_bytes: 12_288,
        ..SHAPE
    };
    let mut queue = queue(shape, false);
    for kind in [Kind::Read, Kind::Write, Kind::Flush] {
        submit(&mut queue, kind);
    }
    let bytes = [
        c2h(0, 0, &data(12_288), flags::LAST_PDU | flags::SUCCESS, false),
        r2t(1, 1, 0, 8192),
        response(2, Status::SUCCESS, false),
        r2t(1, 2, 8192, 4096),
        response(1, Status::SUCCESS, false),
    ];
    (queue, bytes.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1usize..500) {
        let (mut queue, _) = conversation();
        let _ = feed(&mut queue, bytes, piece);
    }

    #[test]
    fn a_damaged_conversation_is_survived(
        damage in prop::collection::vec((0usize..12_500, any::<u8>()), 1..4),
        piece in 1usize..5000,
    ) {
        let (mut queue, mut bytes) = conversation();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = feed(&mut queue, bytes, piece);
        // Whatever the target asks for, no byte of a write is sent twice.
        prop_assert!(sent_bytes(&mut queue, 1 << 20).len() <= 3 * 72 + 12_288 + 3100 * 24);
    }

    #[test]
    fn the_conversation_completes_however_it_is_cut(piece in 1usize..15_000) {
        let (mut queue, bytes) = conversation();
        let done = feed(&mut queue, bytes, piece).unwrap();
        prop_assert_eq!(done.len(), 3);
    }
}
