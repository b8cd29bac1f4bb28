//! The queue against scripted bytes: what a target may say, and what it may not.

use proptest::prelude::*;
use wire::iscsi::{
    Bhs, DataIn, DataOut, NopIn, Receiver, Reject, RejectReason, Residual, ScsiResponse,
    TargetNumbers,
};
use wire::scsi::{self, Sense, SenseCode, SenseKey};

use super::*;
use crate::queue::script::{Script, data, io};
use crate::queue::{Done, Status};

const IO_BYTES: u32 = 4096;
const SHAPE: Shape = Shape {
    depth: 4,
    block_bytes: 512,
    io_bytes: IO_BYTES,
    capsule_bytes: 0,
    nsid: 0,
    keep_data: true,
};
/// CmdSN and StatSN that come first.
const FIRST_SN: u32 = u32::MAX - 1;

fn terms(digests: bool, settled: Settled) -> Terms {
    Terms {
        link: Link {
            full_feature: true,
            digests: Digests {
                header: digests,
                data: digests,
            },
            max_data_bytes: 1 << 20,
            ..Link::new(Receiver::Initiator)
        },
        lun: [0, 7, 0, 0, 0, 0, 0, 0],
        settled,
        numbers: Numbers {
            cmd_sn: FIRST_SN,
            exp_stat_sn: FIRST_SN,
            max_cmd_sn: FIRST_SN.wrapping_add(100),
        },
    }
}

fn queue(shape: Shape, digests: bool) -> Queue {
    Queue::new(shape, terms(digests, Settled::default()), vec![7; 1 << 20])
}

/// Submits a command and gives its tag.
fn submit(queue: &mut Queue, kind: Kind) -> u32 {
    let content = data(queue.shape.io_bytes);
    queue
        .submit(io(kind), 0, |to| to.copy_from_slice(&content))
        .unwrap();
    let tags = (0..queue.shape.depth).filter_map(|cid| {
        let slot = queue.slots.get(cid)?;
        Some(slot.transfer.itt)
    });
    tags.max_by_key(|itt| itt >> 16).unwrap()
}

fn sent_bytes(queue: &mut Queue, piece: usize) -> Vec<u8> {
    let mut script = Script::saying(Vec::new(), piece);
    while !queue.output.is_empty() {
        let payload = queue.payload.bytes();
        queue.output.send(&mut script, payload).unwrap();
    }
    script.sent
}

fn feed(queue: &mut Queue, bytes: Vec<u8>, piece: usize) -> Result<Vec<Done>, PerfError> {
    let mut script = Script::saying(bytes, piece);
    let mut done = Vec::new();
    while queue.input.receive(&mut script)? > 0 {
        queue.process(&mut done)?;
    }
    Ok(done)
}

fn pdu(header: &[u8], data: &[u8], digests: bool) -> Vec<u8> {
    let digests = Digests {
        header: digests,
        data: digests,
    };
    let layout = Layout::to_send(0, data.len(), digests);
    let mut bytes = header.to_vec();
    if digests.header {
        bytes.extend(digest::header_digest(header));
    }
    bytes.extend(data);
    bytes.resize(bytes.len() + layout.padding, 0);
    if layout.data_digest > 0 {
        bytes.extend(digest::data_digest(data));
    }
    bytes
}

/// The numbers of the status that comes as number `n`.
fn numbers(n: u32) -> TargetNumbers {
    TargetNumbers {
        stat_sn: FIRST_SN.wrapping_add(n),
        exp_cmd_sn: FIRST_SN.wrapping_add(1),
        max_cmd_sn: FIRST_SN.wrapping_add(100),
    }
}

fn extent(sn: u32, offset: u32, len: usize) -> Extent {
    Extent {
        sn,
        offset,
        len_bytes: len as u32,
    }
}

fn data_in(itt: u32, sn: u32, offset: u32, data: &[u8], digests: bool) -> Vec<u8> {
    let header = DataIn::new(itt, extent(sn, offset, data.len()), false, numbers(0));
    pdu(header.as_wire(), data, digests)
}

/// The last data with status number `n`.
fn last_data(itt: u32, sn: u32, offset: u32, data: &[u8], n: u32, digests: bool) -> Vec<u8> {
    let extent = extent(sn, offset, data.len());
    let header = DataIn::with_status(itt, extent, 0, Residual::None, numbers(n));
    pdu(header.as_wire(), data, digests)
}

fn response(itt: u32, n: u32, digests: bool) -> Vec<u8> {
    let header = ScsiResponse::new(itt, 0, Residual::None, 0, 0, numbers(n));
    pdu(header.as_wire(), &[], digests)
}

fn r2t(itt: u32, ttt: u32, sn: u32, offset: u32, len: usize) -> Vec<u8> {
    let header = R2t::new(itt, ttt, [0; 8], extent(sn, offset, len), numbers(0));
    pdu(header.as_wire(), &[], false)
}

/// The PDUs that were sent, each with its data.
fn pdus(mut bytes: &[u8]) -> Vec<(Bhs, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = *Bhs::decode(bytes).unwrap();
        let end = 48 + header.data_bytes();
        found.push((header, bytes[48..end].to_vec()));
        bytes = &bytes[end..];
    }
    found
}

#[test]
fn a_read_ends_with_the_status_in_its_last_data_however_the_bytes_are_cut() {
    let content = data(IO_BYTES);
    for digests in [false, true] {
        for piece in [1, 3, 47, 48, 49, 52, 53, 1000, 1 << 20] {
            let mut queue = queue(SHAPE, digests);
            let itt = submit(&mut queue, Kind::Read);
            let mut bytes = data_in(itt, 0, 0, &content[..1021], digests);
            bytes.extend(last_data(itt, 1, 1021, &content[1021..], 0, digests));
            let done = feed(&mut queue, bytes, piece).unwrap();
            assert_eq!(done.len(), 1, "piece {piece}");
            assert!(done[0].status.is_success());
            assert_eq!(queue.payload.buffer(0), content, "piece {piece}");
            assert_eq!(queue.slots.in_flight(), 0);
        }
    }
}

#[test]
fn a_read_may_end_with_a_response() {
    let content = data(IO_BYTES);
    let mut queue = queue(SHAPE, false);
    let itt = submit(&mut queue, Kind::Read);
    let mut bytes = data_in(itt, 0, 0, &content, false);
    bytes.extend(response(itt, 0, false));
    assert_eq!(feed(&mut queue, bytes, 100).unwrap().len(), 1);
    assert_eq!(queue.payload.buffer(0), content);
}

#[test]
fn commands_say_what_they_are_about() {
    let mut queue = queue(SHAPE, false);
    for (n, (kind, opcode)) in [(Kind::Read, 0x88), (Kind::Write, 0x8a), (Kind::Flush, 0x91)]
        .into_iter()
        .enumerate()
    {
        submit(&mut queue, kind);
        let sent = sent_bytes(&mut queue, 1 << 20);
        let command = ScsiCommand::decode(&sent).unwrap();
        assert_eq!(command.cdb[0], opcode);
        assert_eq!(command.lun[1], 7);
        assert_eq!(command.cmd_sn.get(), FIRST_SN.wrapping_add(n as u32));
        assert_eq!(command.is_read(), kind == Kind::Read);
        assert_eq!(command.is_write(), kind == Kind::Write);
        let expected = if kind == Kind::Flush { 0 } else { IO_BYTES };
        assert_eq!(command.expected_len.get(), expected);
        if kind != Kind::Flush {
            // Unit 3 of 8 blocks.
            assert_eq!(command.cdb[9], 24);
        }
    }
}

/// What a write of 20,000 bytes, rounded to blocks, sends before the first R2T: lengths of the
/// data of each PDU.
fn unasked(settled: Settled) -> Vec<usize> {
    let shape = Shape {
        io_bytes: 19_968,
        ..SHAPE
    };
    let mut queue = Queue::new(shape, terms(false, settled), Vec::new());
    submit(&mut queue, Kind::Write);
    let sent = pdus(&sent_bytes(&mut queue, 999));
    let (last, before) = sent.split_last().unwrap();
    assert!(last.0.is_final() && before.iter().all(|pdu| !pdu.0.is_final()));
    let together: Vec<u8> = sent.iter().flat_map(|pdu| pdu.1.clone()).collect();
    assert_eq!(together, data(19_968)[..together.len()]);
    sent.iter().map(|pdu| pdu.1.len()).collect()
}

#[test]
fn data_goes_unasked_as_far_as_was_settled() {
    let settled = |immediate_data, initial_r2t, first_burst_bytes| Settled {
        immediate_data,
        initial_r2t,
        first_burst_bytes,
        max_send_bytes: 8192,
        ..Settled::default()
    };
    let all = 65_536;
    assert_eq!(unasked(settled(true, true, all)), [8192]);
    assert_eq!(unasked(settled(true, false, all)), [8192, 8192, 3584]);
    assert_eq!(unasked(settled(true, false, 10_240)), [8192, 2048]);
    assert_eq!(unasked(settled(true, true, 512)), [512]);
    assert_eq!(unasked(settled(false, false, 10_240)), [0, 8192, 2048]);
    assert_eq!(unasked(settled(false, true, all)), [0]);
}

#[test]
fn a_write_answers_every_r2t_in_steps_of_what_the_target_takes() {
    let settled = Settled {
        immediate_data: false,
        max_send_bytes: 4096,
        ..Settled::default()
    };
    let shape = Shape {
        io_bytes: 12_288,
        ..SHAPE
    };
    let mut queue = Queue::new(shape, terms(false, settled), Vec::new());
    let itt = submit(&mut queue, Kind::Write);
    sent_bytes(&mut queue, 40);
    let mut asked = r2t(itt, 77, 0, 0, 10_240);
    asked.extend(r2t(itt, 78, 1, 10_240, 2048));
    assert_eq!(feed(&mut queue, asked, 7).unwrap(), []);
    let sent = sent_bytes(&mut queue, 900);
    let expected = [
        (77, 0, 0, 4096, false),
        (77, 1, 4096, 4096, false),
        (77, 2, 8192, 2048, true),
        (78, 0, 10_240, 2048, true),
    ];
    let found = pdus(&sent);
    assert_eq!(found.len(), expected.len());
    for ((header, content), (ttt, sn, offset, len, last)) in found.iter().zip(expected) {
        let pdu = DataOut::decode(header.as_wire()).unwrap();
        assert_eq!((pdu.ttt.get(), pdu.data_sn.get()), (ttt, sn));
        assert_eq!((pdu.buffer_offset.get(), content.len()), (offset, len));
        assert_eq!((pdu.itt.get(), header.is_final()), (itt, last));
        assert_eq!(content[..], data(12_288)[offset as usize..][..len]);
    }
    assert_eq!(
        feed(&mut queue, response(itt, 0, false), 9).unwrap().len(),
        1
    );
}

#[test]
fn a_failed_command_completes_with_its_sense_data() {
    let sense = Sense::illegal(SenseCode::LBA_OUT_OF_RANGE).fixed();
    let mut segment = (sense.len() as u16).to_be_bytes().to_vec();
    segment.extend(sense);
    for digests in [false, true] {
        let mut queue = queue(SHAPE, digests);
        let itt = submit(&mut queue, Kind::Read);
        let check = scsi::Status::CHECK_CONDITION;
        let residual = Residual::Underflow(IO_BYTES);
        let header = ScsiResponse::new(itt, check.0, residual, 0, segment.len(), numbers(0));
        let bytes = pdu(header.as_wire(), &segment, digests);
        let done = feed(&mut queue, bytes, 5).unwrap();
        let named = Some((SenseKey::ILLEGAL_REQUEST, SenseCode::LBA_OUT_OF_RANGE));
        assert_eq!(done[0].status, Status::Scsi(check, named));
        assert!(queue.has_room());
    }
}

#[test]
fn the_window_of_the_target_is_respected() {
    let mut terms = terms(false, Settled::default());
    terms.numbers.max_cmd_sn = FIRST_SN.wrapping_add(1);
    let mut queue = Queue::new(SHAPE, terms, Vec::new());
    submit(&mut queue, Kind::Flush);
    assert!(queue.has_room());
    submit(&mut queue, Kind::Flush);
    assert!(!queue.has_room(), "two of a depth of four");
    let wider = TargetNumbers {
        max_cmd_sn: FIRST_SN.wrapping_add(2),
        ..numbers(0)
    };
    let ping = NopIn::ping(NO_TAG, [0; 8], wider);
    feed(&mut queue, ping.as_wire().to_vec(), 48).unwrap();
    assert!(queue.has_room());
    assert!(queue.output.unsent_bytes() == 2 * 48, "no answer is wanted");
}

#[test]
fn a_ping_is_answered() {
    let mut queue = queue(SHAPE, false);
    let ping = NopIn::ping(0x1234, [0, 9, 0, 0, 0, 0, 0, 0], numbers(0));
    feed(&mut queue, ping.as_wire().to_vec(), 11).unwrap();
    let sent = sent_bytes(&mut queue, 1 << 20);
    let pong = NopOut::decode(&sent).unwrap();
    assert_eq!((pong.itt.get(), pong.ttt.get()), (NO_TAG, 0x1234));
    assert_eq!((pong.lun[1], sent.len()), (9, 48));
    assert_eq!(pong.cmd_sn.get(), FIRST_SN, "takes no CmdSN");
}

/// Runs what `bytes` says about one command of `kind`; gives the rule it breaks.
fn broken_rule(shape: Shape, kind: Kind, bytes: impl Fn(u32) -> Vec<u8>) -> &'static str {
    let settled = Settled {
        immediate_data: false,
        ..Settled::default()
    };
    let mut queue = Queue::new(shape, terms(false, settled), Vec::new());
    let itt = submit(&mut queue, kind);
    match feed(&mut queue, bytes(itt), 1 << 20) {
        Err(PerfError::IscsiProtocol { problem, .. }) => problem,
        other => panic!("expected a broken rule, got {other:?}"),
    }
}

#[test]
fn rules_about_data_to_the_initiator_are_kept() {
    let content = data(IO_BYTES);
    let half = &content[..2048];
    let rule = |kind, bytes: &dyn Fn(u32) -> Vec<u8>| broken_rule(SHAPE, kind, bytes);
    let read = |bytes: &dyn Fn(u32) -> Vec<u8>| rule(Kind::Read, bytes);
    assert_eq!(
        read(&|itt| data_in(itt + 1, 0, 0, half, false)),
        "no such command is in flight"
    );
    assert_eq!(
        read(&|itt| data_in(itt ^ 1 << 16, 0, 0, half, false)),
        "no such command is in flight",
        "an older one of the slot"
    );
    assert_eq!(
        rule(Kind::Write, &|itt| data_in(itt, 0, 0, half, false)),
        "data for a command that reads nothing"
    );
    assert_eq!(
        read(&|itt| data_in(itt, 1, 0, half, false)),
        "its DataSN is not the next one"
    );
    assert_eq!(
        read(&|itt| data_in(itt, 0, 512, half, false)),
        "data out of order"
    );
    let more = |itt| {
        let first = data_in(itt, 0, 0, half, false);
        [first, data_in(itt, 1, 2048, &content, false)].concat()
    };
    assert_eq!(read(&more), "more data than the command asked for");
    assert_eq!(
        read(&|itt| last_data(itt, 0, 0, half, 0, false)),
        "success before all data came"
    );
    assert_eq!(
        read(&|itt| last_data(itt, 0, 0, &content, 1, false)),
        "its StatSN is not the next one"
    );
}

#[test]
fn rules_about_r2ts_are_kept() {
    let shape = Shape {
        io_bytes: 512 << 10,
        ..SHAPE
    };
    let rule = |kind, bytes: &dyn Fn(u32) -> Vec<u8>| broken_rule(shape, kind, bytes);
    let write = |bytes: &dyn Fn(u32) -> Vec<u8>| rule(Kind::Write, bytes);
    let none = "asks for data of a command that sends none";
    assert_eq!(rule(Kind::Read, &|itt| r2t(itt, 1, 0, 0, 4096)), none);
    assert_eq!(
        write(&|itt| r2t(itt, 1, 0, 4, 4096)),
        "asks for data out of order"
    );
    assert_eq!(
        write(&|itt| r2t(itt, 1, 1, 0, 4096)),
        "its R2TSN is not the next one"
    );
    let burst = "asks for nothing, or for more than MaxBurstLength";
    assert_eq!(write(&|itt| r2t(itt, 1, 0, 0, 0)), burst);
    assert_eq!(write(&|itt| r2t(itt, 1, 0, 0, (256 << 10) + 1)), burst);
    assert_eq!(
        write(&|itt| r2t(itt, 1, 0, 0, (512 << 10) + 1)),
        "asks for more than is left to send"
    );
    assert_eq!(
        write(&|itt| response(itt, 0, false)),
        "success before all data was asked for"
    );
}

#[test]
fn a_success_that_moved_less_is_refused() {
    let residual = Residual::Underflow(512);
    let short = |itt| {
        let header = ScsiResponse::new(itt, 0, residual, 0, 0, numbers(0));
        header.as_wire().to_vec()
    };
    let rule = broken_rule(SHAPE, Kind::Flush, short);
    assert_eq!(rule, "success with a residual");
}

#[test]
fn a_reject_ends_the_queue() {
    let mut queue = queue(SHAPE, false);
    let reject = Reject::new(RejectReason::PROTOCOL_ERROR, numbers(0));
    let bytes = pdu(reject.as_wire(), &[0; 48], false);
    let Err(PerfError::Rejected { reason }) = feed(&mut queue, bytes, 1 << 20) else {
        panic!("it goes on");
    };
    assert_eq!(reason, RejectReason::PROTOCOL_ERROR);
}

#[test]
fn a_wrong_digest_is_seen() {
    for at in [20, 49, 52, 2000, 4096 + 52] {
        let mut queue = queue(SHAPE, true);
        let itt = submit(&mut queue, Kind::Read);
        let mut bytes = last_data(itt, 0, 0, &data(IO_BYTES), 0, true);
        bytes[at] ^= 0x40;
        let result = feed(&mut queue, bytes, 100);
        assert!(
            matches!(result, Err(PerfError::Iscsi(_))),
            "byte {at}: {result:?}"
        );
    }
}

/// A valid conversation about three commands: a read, a write in two R2Ts, a flush.
fn conversation() -> (Queue, Vec<u8>) {
    let shape = Shape {
        io_bytes: 12_288,
        ..SHAPE
    };
    let settled = Settled {
        immediate_data: false,
        ..Settled::default()
    };
    let mut queue = Queue::new(shape, terms(false, settled), Vec::new());
    let tags = [Kind::Read, Kind::Write, Kind::Flush].map(|kind| submit(&mut queue, kind));
    let bytes = [
        last_data(tags[0], 0, 0, &data(12_288), 0, false),
        r2t(tags[1], 1, 0, 0, 8192),
        response(tags[2], 1, false),
        r2t(tags[1], 2, 1, 8192, 4096),
        response(tags[1], 2, false),
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
        damage in prop::collection::vec((0usize..12_600, any::<u8>()), 1..4),
        piece in 1usize..5000,
    ) {
        let (mut queue, mut bytes) = conversation();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = feed(&mut queue, bytes, piece);
        // Whatever the target asks for, no byte of a write is sent twice.
        prop_assert!(sent_bytes(&mut queue, 1 << 20).len() <= 3 * 48 + 12_288 + 3100 * 48);
    }

    #[test]
    fn the_conversation_completes_however_it_is_cut(piece in 1usize..15_000) {
        let (mut queue, bytes) = conversation();
        let done = feed(&mut queue, bytes, piece).unwrap();
        prop_assert_eq!(done.len(), 3);
    }
}
