//! Hosts that break every rule: their own connection ends with the right reason, nothing else.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process runs on the real clock"
)]

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Command, Host, HostError, HostOptions, IoQueue, Raw};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use system_tests::checker::Region;
use system_tests::{Random, Server, Setup, nqn};
use wire::nvme::command::ReadWrite;
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::{CapsuleCmd, FatalStatus, Framing, H2cData, IcReq, Pdu, TermFrame};
use zerocopy::little_endian::U16;

const MIB: u64 = 1 << 20;
/// How long a victim works at least.
const VICTIM_TIME: Duration = Duration::from_secs(2);

fn options() -> HostOptions {
    HostOptions::default()
}

fn open(server: &Server) -> Raw {
    Raw::open(server.address(), Duration::from_secs(15)).expect("the port accepts")
}

/// A connection after its handshake.
fn ready(server: &Server, options: &HostOptions) -> Raw {
    let mut raw = open(server);
    raw.handshake(options).expect("the handshake");
    raw
}

fn io_queue(server: &Server, options: HostOptions) -> (host::Controller, IoQueue) {
    let controller = Host::connect(server.address(), &nqn("demo"), options);
    let mut controller = controller.expect("the host connects");
    let queue = controller.io_queues(1).expect("an I/O queue").remove(0);
    (controller, queue)
}

/// The next thing the peer says is a termination with this status.
#[track_caller]
fn terminated(name: &str, raw: &mut Raw, status: FatalStatus, information: Option<u32>) {
    loop {
        match raw.read_pdu() {
            // Answers to what came before the offence.
            Ok(_) => {}
            Err(HostError::Terminated {
                status: found,
                information: told,
            }) => {
                assert_eq!(found, status, "{name}: information {told:#x}");
                if let Some(information) = information {
                    assert_eq!(told, information, "{name}");
                }
                break;
            }
            Err(error) => panic!("{name}: no termination request but: {error}"),
        }
    }
    raw.wait_closed()
        .unwrap_or_else(|error| panic!("{name}: still open: {error}"));
}

fn ic_req() -> Vec<u8> {
    IcReq::new(0, 0, 0).as_wire().to_vec()
}

/// `bytes` with the ones at `offset` replaced.
fn patched(mut bytes: Vec<u8>, offset: usize, patch: &[u8]) -> Vec<u8> {
    bytes[offset..offset + patch.len()].copy_from_slice(patch);
    bytes
}

/// A capsule without data.
fn capsule(sqe: Sqe) -> Vec<u8> {
    let (pdu, _layout) = CapsuleCmd::new(sqe, 0, &Framing::default()).expect("a capsule");
    pdu.as_wire().to_vec()
}

/// Name, bytes after the connection opened, reason given, information given.
type Row = (&'static str, Vec<u8>, FatalStatus, Option<u32>);

fn before_the_handshake() -> Vec<Row> {
    const FIELD: FatalStatus = FatalStatus::INVALID_HEADER_FIELD;
    vec![
        (
            "a capsule first",
            capsule(Sqe::keep_alive(1)),
            FatalStatus::SEQUENCE,
            None,
        ),
        (
            "an unknown type",
            patched(ic_req(), 0, &[0x42]),
            FIELD,
            Some(0),
        ),
        (
            "the controller's own PDU",
            patched(ic_req(), 0, &[0x01]),
            FIELD,
            Some(0),
        ),
        (
            "a short header length",
            patched(ic_req(), 2, &[64]),
            FIELD,
            Some(2),
        ),
        (
            "a wrong PDU length",
            patched(ic_req(), 4, &[200, 0, 0, 0]),
            FIELD,
            Some(4),
        ),
        (
            "no PDU length",
            patched(ic_req(), 4, &[0; 4]),
            FIELD,
            Some(4),
        ),
        ("4 GiB", patched(ic_req(), 4, &[0xff; 4]), FIELD, Some(4)),
        (
            "another version",
            patched(ic_req(), 8, &[1, 0]),
            FatalStatus::UNSUPPORTED_PARAMETER,
            Some(8),
        ),
        (
            "too much alignment",
            patched(ic_req(), 10, &[32]),
            FIELD,
            Some(10),
        ),
    ]
}

fn after_the_handshake() -> Vec<Row> {
    const FIELD: FatalStatus = FatalStatus::INVALID_HEADER_FIELD;
    let keep_alive = capsule(Sqe::keep_alive(1));
    let (data, _) = H2cData::new(0, 7, (0, 4096), true, &Framing::default()).expect("a PDU");
    let mut stray = data.as_wire().to_vec();
    stray.resize(24 + 4096, 0xaa);
    vec![
        ("a second ICReq", ic_req(), FatalStatus::SEQUENCE, None),
        (
            "an unknown type",
            patched(keep_alive.clone(), 0, &[0x0b]),
            FIELD,
            Some(0),
        ),
        (
            "a response",
            patched(keep_alive.clone(), 0, &[0x05]),
            FIELD,
            Some(0),
        ),
        (
            "a header of 255",
            patched(keep_alive.clone(), 2, &[255]),
            FIELD,
            Some(2),
        ),
        (
            "less than the header",
            patched(keep_alive.clone(), 4, &[71, 0, 0, 0]),
            FIELD,
            Some(4),
        ),
        (
            "4 GiB",
            patched(patched(keep_alive.clone(), 4, &[0xff; 4]), 3, &[72]),
            FIELD,
            Some(4),
        ),
        (
            "data before the header's end",
            in_header(&keep_alive),
            FIELD,
            Some(3),
        ),
        (
            "a header digest nobody asked for",
            patched(keep_alive, 1, &[1]),
            FIELD,
            Some(1),
        ),
        (
            "data that nobody asked for",
            stray,
            FatalStatus::SEQUENCE,
            None,
        ),
    ]
}

fn in_header(capsule: &[u8]) -> Vec<u8> {
    let mut bytes = patched(capsule.to_vec(), 4, &[136, 0, 0, 0]);
    bytes[3] = 8;
    bytes.resize(136, 0);
    bytes
}

#[test]
fn malformed_pdus_end_their_connection_with_the_reason() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = io_queue(&server, options());
    // The server leaves each one open for a moment so that its reason can be read.
    let mut ended: Vec<(&str, Raw)> = Vec::new();
    for (name, bytes, status, information) in before_the_handshake() {
        let mut raw = open(&server);
        raw.send_bytes(&bytes).expect("sending");
        // No ICResp came: the termination request is not judged by a handshake's state.
        terminated(name, &mut raw, status, information);
        queue
            .read(0, 8)
            .unwrap_or_else(|error| panic!("after {name}: {error}"));
        ended.push((name, raw));
    }
    for (name, bytes, status, information) in after_the_handshake() {
        let mut raw = ready(&server, &options());
        raw.send_bytes(&bytes).expect("sending");
        terminated(name, &mut raw, status, information);
        queue
            .read(0, 8)
            .unwrap_or_else(|error| panic!("after {name}: {error}"));
        ended.push((name, raw));
    }
    for (name, mut raw) in ended {
        raw.wait_closed()
            .unwrap_or_else(|error| panic!("{name}: still open: {error}"));
    }
}

#[test]
fn a_wrong_header_digest_ends_the_connection() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = io_queue(&server, options().with_digests());
    let framing = queue.queue().raw().outgoing();
    let (pdu, _layout) = CapsuleCmd::new(Sqe::flush(9, 1), 0, &framing).expect("a capsule");
    let mut bytes = pdu.as_wire().to_vec();
    bytes.extend_from_slice(&[1, 2, 3, 4]);
    let raw = queue.queue().raw();
    raw.send_bytes(&bytes).expect("sending");
    terminated(
        "header digest",
        raw,
        FatalStatus::HEADER_DIGEST,
        Some(0x0403_0201),
    );
}

fn write_sqe(cid: u16, blocks: u32, sgl: Sgl) -> Sqe {
    let write = ReadWrite::new(0, blocks).expect("a range");
    write.encode(NvmOpcode::WRITE, cid, 1, Some(sgl))
}

#[test]
fn a_wrong_data_digest_fails_the_command_alone() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = io_queue(&server, options().with_digests());
    let before = queue.read(0, 1).expect("Read");
    let framing = queue.queue().raw().outgoing();
    let sqe = write_sqe(
        40,
        1,
        Sgl::InCapsule {
            offset: 0,
            len_bytes: 4096,
        },
    );
    let (pdu, layout) = CapsuleCmd::new(sqe, 4096, &framing).expect("a capsule");
    let raw = queue.queue().raw();
    // Digests of the header are right, the data's belongs to other data.
    let wrong_layout = wire::tcp::Layout {
        data_digest: 0,
        ..layout
    };
    raw.queue_pdu(pdu.as_wire(), &wrong_layout, &[0x5a; 4096]);
    raw.send_bytes(&[1, 2, 3, 4]).expect("sending");
    let answer = raw.read_pdu().expect("an answer");
    let Ok(Pdu::CapsuleResp(response)) = answer.parse() else {
        panic!("no response: {answer:?}");
    };
    let status = response.cqe.status().code();
    let allowed = [
        Status::TRANSIENT_TRANSPORT_ERROR,
        Status::DATA_TRANSFER_ERROR,
    ];
    assert!(allowed.contains(&status), "{status:?}");
    assert!(
        queue.read(0, 1).expect("the connection goes on") == before,
        "the data was written"
    );
}

/// Starts a write of 64 KiB and gives the R2T that answers it.
fn wait_r2t(raw: &mut Raw, cid: u16) -> wire::tcp::R2t {
    let sqe = write_sqe(cid, 16, Sgl::Transport { len_bytes: 65536 });
    raw.send_bytes(&capsule(sqe)).expect("sending");
    let answer = raw.read_pdu().expect("an answer");
    match answer.parse() {
        Ok(Pdu::R2t(r2t)) => *r2t,
        other => panic!("no R2T: {other:?}"),
    }
}

fn h2c(cid: u16, ttag: u16, span: (u32, u32), last: bool) -> Vec<u8> {
    let (pdu, _) = H2cData::new(cid, ttag, span, last, &Framing::default()).expect("a PDU");
    let mut bytes = pdu.as_wire().to_vec();
    bytes.resize(24 + span.1 as usize, 0x77);
    bytes
}

#[test]
fn data_outside_of_what_was_asked_for_ends_the_connection() {
    use FatalStatus as Fatal;
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    type Make = fn(&wire::tcp::R2t) -> Vec<u8>;
    let rows: [(&str, Make, &[Fatal]); 6] = [
        (
            "another tag",
            |r| h2c(50, r.ttag.get() ^ 0x5555, (0, 4096), false),
            &[Fatal::INVALID_HEADER_FIELD],
        ),
        (
            "another command",
            |r| h2c(51, r.ttag.get(), (0, 4096), false),
            &[Fatal::INVALID_HEADER_FIELD],
        ),
        (
            "a gap",
            |r| h2c(50, r.ttag.get(), (4096, 4096), false),
            &[Fatal::OUT_OF_RANGE],
        ),
        (
            "past the end",
            |r| h2c(50, r.ttag.get(), (0, 65540), true),
            &[Fatal::OUT_OF_RANGE, Fatal::LIMIT_EXCEEDED],
        ),
        (
            "a wrapping offset",
            |r| h2c(50, r.ttag.get(), (u32::MAX - 3, 4096), true),
            &[Fatal::OUT_OF_RANGE],
        ),
        (
            "last too early",
            |r| h2c(50, r.ttag.get(), (0, 4096), true),
            &[Fatal::INVALID_HEADER_FIELD],
        ),
    ];
    for (name, make, allowed) in rows {
        let (_controller, mut queue) = io_queue(&server, options());
        let raw = queue.queue().raw();
        let r2t = wait_r2t(raw, 50);
        raw.send_bytes(&make(&r2t)).expect("sending");
        match raw.read_pdu() {
            Err(HostError::Terminated { status, .. }) => {
                assert!(allowed.contains(&status), "{name}: {status:?}");
            }
            other => panic!("{name}: no termination request but {other:?}"),
        }
    }
    let (_controller, mut queue) = io_queue(&server, options());
    assert_eq!(
        queue.read(0, 16).expect("Read"),
        vec![0; 65536],
        "nothing was written"
    );
}

/// Sends one entry as it is and gives the status of its completion.
fn status_of(queue: &mut IoQueue, sqe: Sqe) -> Status {
    let mut sqe = sqe;
    sqe.cid = U16::new(900);
    let raw = queue.queue().raw();
    raw.send_bytes(&capsule(sqe)).expect("sending");
    let answer = raw.read_pdu().expect("an answer");
    match answer.parse() {
        Ok(Pdu::CapsuleResp(response)) => response.cqe.status().code(),
        other => panic!("no response: {other:?}"),
    }
}

#[test]
fn impossible_commands_fail_and_the_queue_goes_on() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = io_queue(&server, options());
    let read = |lba, blocks, nsid, len_bytes| {
        let range = ReadWrite::new(lba, blocks).expect("a range");
        range.encode(NvmOpcode::READ, 0, nsid, Some(Sgl::Transport { len_bytes }))
    };
    let keyed = Sgl::Keyed {
        address: 0,
        len_bytes: 4096,
        key: 1,
        invalidate: false,
    };
    let rows = [
        (
            "an unknown opcode",
            Sqe::new(0x3d, 0, 1),
            Status::INVALID_OPCODE,
        ),
        (
            "another namespace",
            read(0, 1, 2, 4096),
            Status::INVALID_NAMESPACE,
        ),
        (
            "no namespace",
            read(0, 1, 0, 4096),
            Status::INVALID_NAMESPACE,
        ),
        (
            "past the end",
            read(16384, 1, 1, 4096),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "across the end",
            read(16383, 2, 1, 8192),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "a wrapping range",
            read(u64::MAX, 1, 1, 4096),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "more than MDTS",
            read(0, 8192, 1, 8192 * 4096),
            Status::INVALID_FIELD,
        ),
        (
            "too short an SGL",
            read(0, 2, 1, 4096),
            Status::SGL_DATA_LENGTH_INVALID,
        ),
        (
            "a keyed SGL",
            Sqe {
                dptr: keyed.encode(),
                ..read(0, 1, 1, 4096)
            },
            Status::SGL_TYPE_INVALID,
        ),
        (
            "a PRP",
            Sqe {
                flags: 0,
                ..read(0, 1, 1, 4096)
            },
            Status::INVALID_FIELD,
        ),
    ];
    for (name, sqe, wanted) in rows {
        assert_eq!(status_of(&mut queue, sqe), wanted, "{name}");
        queue
            .read(0, 1)
            .unwrap_or_else(|error| panic!("after {name}: {error}"));
    }
    let mut lonely = write_sqe(0, 1, Sgl::Transport { len_bytes: 4096 });
    lonely.flags |= 2;
    let status = status_of(&mut queue, lonely);
    assert_eq!(
        status,
        Status::ABORTED_MISSING_FUSED,
        "the second half of a pair alone"
    );
}

#[test]
fn connects_that_cannot_be() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let unknown = Host::connect(server.address(), &nqn("nobody"), options());
    let status = unknown.expect_err("no such subsystem").status();
    assert_eq!(status, Some(Status::CONNECT_INVALID_PARAMETERS));
    let mut early = Host::connect_admin(server.address(), &nqn("demo"), options()).expect("admin");
    assert!(
        early.identify_namespace(1).is_err() || early.io_queue(1).is_err(),
        "not enabled yet"
    );
    drop(early);
    let deep = options().with_queue_depth(60_000);
    let mut controller = Host::connect(server.address(), &nqn("demo"), deep).expect("connects");
    controller.set_queue_count(4).expect("Number of Queues");
    let status = controller
        .io_queue(1)
        .expect_err("deeper than MQES")
        .status();
    assert_eq!(status, Some(Status::CONNECT_INVALID_PARAMETERS));
    let (mut controller, _queue) = io_queue(&server, options());
    let status = controller
        .io_queue(1)
        .expect_err("the queue exists")
        .status();
    let allowed = [
        Status::CONNECT_INVALID_PARAMETERS,
        Status::COMMAND_SEQUENCE_ERROR,
    ];
    assert!(
        status.is_some_and(|status| allowed.contains(&status)),
        "{status:?}"
    );
    assert!(
        controller.io_queue(999).is_err(),
        "queue 999 was never granted"
    );
    controller.keep_alive().expect("the controller goes on");
}

/// Runs a checking client on the volume while `attack` goes on; both must end well.
fn beside_a_victim(server: &Server, attack: impl FnOnce()) {
    let (_controller, mut queue) = io_queue(server, options());
    let mut region = Region::new(0, 0, 4096, 4096, 8);
    region.verify(&mut queue).expect("a fresh volume");
    let (stop, killed) = (AtomicBool::new(false), AtomicBool::new(false));
    let tally = std::thread::scope(|scope| {
        let load = scope.spawn(|| region.load(&mut queue, 8, &stop, &killed));
        let started = Instant::now();
        attack();
        std::thread::sleep(VICTIM_TIME.saturating_sub(started.elapsed()));
        stop.store(true, Ordering::SeqCst);
        load.join().expect("the victim does not panic")
    });
    let tally = tally.unwrap_or_else(|what| panic!("the victim: {what}"));
    assert!(
        tally.changes > 50,
        "the victim hardly got anything done: {tally:?}"
    );
    region
        .verify(&mut queue)
        .expect("the victim's data is whole");
}

/// Random bytes with, at times, a start that looks right.
fn garbage(random: &mut Random) -> Vec<u8> {
    let len = random.within(1..20_000) as usize;
    let mut bytes = random.bytes(len);
    match random.within(0..4) {
        0 => {}
        1 => bytes.splice(0..0, ic_req()).for_each(drop),
        2 => {
            let mut start = ic_req();
            start.extend(capsule(Sqe::keep_alive(3)));
            bytes.splice(0..0, start).for_each(drop);
        }
        _ => bytes
            .splice(0..0, *b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .for_each(drop),
    }
    bytes
}

#[test]
fn garbage_beside_a_victim() {
    let seed = Random::seed_from("HOSTILE_SEED");
    println!("HOSTILE_SEED={seed}");
    let mut random = Random::new(seed);
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let before = server.process().resident_bytes();
    beside_a_victim(&server, || {
        for _ in 0..300 {
            let mut stream = TcpStream::connect(server.address()).expect("the port accepts");
            // The server may close in the middle of it.
            let _ = stream.write_all(&garbage(&mut random));
        }
    });
    assert!(server.is_running());
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(
        grown < 96 * MIB,
        "300 garbage connections took {grown} bytes"
    );
    server.terminate();
}

/// Lets this process, and the server it starts, hold some thousand descriptors.
fn raise_descriptor_limit() {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).expect("a higher limit");
}

#[test]
fn a_thousand_silent_connections_beside_a_victim() {
    raise_descriptor_limit();
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let process = server.process();
    let (memory, files) = (process.resident_bytes(), process.open_files());
    let mut silent = Vec::new();
    beside_a_victim(&server, || {
        for _ in 0..1000 {
            // Beyond its limits the server may refuse; it must not fall over.
            silent.extend(TcpStream::connect(server.address()));
        }
        std::thread::sleep(Duration::from_secs(2));
    });
    let grown = process.resident_bytes().saturating_sub(memory);
    println!("{} silent connections: +{} KiB", silent.len(), grown / 1024);
    assert!(grown < 96 * MIB, "silent connections took {grown} bytes");
    // They are ended after a while, and until then others may have to try again.
    let started = Instant::now();
    let deadline = started + Duration::from_secs(20);
    while Host::connect(server.address(), &nqn("demo"), options()).is_err() {
        assert!(
            Instant::now() < deadline,
            "silent connections lock hosts out for ever"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("a new host got in after {:.1?}", started.elapsed());
    drop(silent);
    std::thread::sleep(Duration::from_secs(1));
    let left = process.open_files().saturating_sub(files);
    assert!(left < 16, "{left} descriptors are left open");
    server.terminate();
}

#[test]
fn slow_and_half_open_peers_are_ended() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let limit = Duration::from_secs(30);
    let mut shaken = ready(&server, &options());
    shaken.set_timeout(limit);
    let mut halfway = open(&server);
    halfway.set_timeout(limit);
    halfway.send_bytes(&ic_req()[..60]).expect("sending");
    beside_a_victim(&server, || {
        // One byte at a time, for ever.
        let mut slow = open(&server);
        let started = Instant::now();
        let mut bytes = ic_req().into_iter().cycle();
        while slow.send_bytes(&[bytes.next().expect("for ever")]).is_ok() {
            assert!(started.elapsed() < limit, "a slow peer is never ended");
            std::thread::sleep(Duration::from_millis(250));
        }
        shaken
            .wait_closed()
            .expect("no Connect after the handshake: ended");
        halfway.wait_closed().expect("half an ICReq: ended");
    });
}

#[test]
fn a_host_that_never_reads_does_not_fill_the_memory() {
    let mut server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_owner, mut deaf) = io_queue(&server, options());
    let process = server.process();
    let before = process.resident_bytes();
    beside_a_victim(&server, || {
        let range = ReadWrite::new(0, 256).expect("a range");
        for cid in 0..127u16 {
            let sgl = Sgl::Transport {
                len_bytes: MIB as u32,
            };
            let sqe = range.encode(NvmOpcode::READ, cid, 1, Some(sgl));
            deaf.queue()
                .raw()
                .send_bytes(&capsule(sqe))
                .expect("sending");
        }
        std::thread::sleep(Duration::from_secs(2));
    });
    let grown = process.resident_bytes().saturating_sub(before);
    println!("127 MiB asked for and never read: +{} KiB", grown / 1024);
    assert!(grown < 128 * MIB, "a deaf host takes {grown} bytes");
    drop(deaf);
    server.terminate();
}

#[test]
fn a_host_termination_request_ends_the_connection() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let mut raw = ready(&server, &options());
    let error = wire::tcp::PduError::Sequence {
        kind: wire::tcp::PduType::R2T,
    };
    let term = TermFrame::new(wire::tcp::Receiver::Host, &error, &[0; 24]);
    raw.send_bytes(term.as_wire()).expect("sending");
    raw.wait_closed().expect("the controller closes");
}

#[test]
fn a_command_identifier_in_use_is_refused() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (_controller, mut queue) = io_queue(&server, options());
    let raw = queue.queue().raw();
    // The first one waits for its data, so its identifier stays in use.
    let r2t = wait_r2t(raw, 50);
    raw.send_bytes(&capsule(Sqe::flush(50, 1)))
        .expect("sending");
    let answer = raw.read_pdu();
    match answer.as_ref().map(host::RawPdu::parse) {
        Ok(Ok(Pdu::CapsuleResp(response))) => {
            assert_eq!(response.cqe.status().code(), Status::COMMAND_ID_CONFLICT);
        }
        Ok(other) => panic!("{other:?} for {r2t:?}"),
        Err(HostError::Terminated { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn abort_ends_a_write_that_waits_for_its_data() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let (mut controller, mut queue) = io_queue(&server, options());
    let _r2t = wait_r2t(queue.queue().raw(), 50);
    assert!(
        controller.abort(1, 50).expect("Abort"),
        "the command is there and waits"
    );
    let answer = queue.queue().raw().read_pdu().expect("an answer");
    match answer.parse() {
        Ok(Pdu::CapsuleResp(response)) => {
            assert_eq!(response.cqe.cid.get(), 50);
            assert_eq!(response.cqe.status().code(), Status::ABORTED_BY_REQUEST);
        }
        other => panic!("no response: {other:?}"),
    }
    assert!(!controller.abort(1, 50).expect("Abort"), "it is gone");
    assert_eq!(
        queue.read(0, 16).expect("the queue goes on"),
        vec![0; 65536]
    );
}

#[test]
fn keep_alive_is_enforced() {
    let server = Server::start(Setup::simple("256MiB", "demo", "64MiB"));
    let impatient = HostOptions {
        kato_ms: 1000,
        ..options()
    };
    let (mut controller, mut queue) = io_queue(&server, impatient);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(400));
        controller.keep_alive().expect("kept alive");
    }
    queue.read(0, 1).expect("Read");
    // Silence: the controller ends, and with it the I/O queue.
    std::thread::sleep(Duration::from_secs(6));
    let ended = controller
        .admin()
        .call("Keep Alive", Command::bare(Sqe::keep_alive(0)));
    assert!(
        ended.is_err(),
        "the controller outlived its keep alive timeout"
    );
    assert!(
        queue.read(0, 1).is_err(),
        "the I/O queue outlived its controller"
    );
}
