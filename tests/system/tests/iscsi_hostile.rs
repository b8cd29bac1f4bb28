//! iSCSI initiators that break every rule: their own session ends or is refused, nothing else.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process runs on the real clock"
)]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use system_tests::iscsi::initiator::{Failure, Initiator, LUN, Login, read_write_16};
use system_tests::{Random, Server, Setup};
use wire::iscsi::{
    DataOut, Extent, LoginFlags, LoginRequest, LoginStatus, LogoutReason, LogoutRequest, NopOut,
    Opcode, R2t, Reject, ScsiCommand, Stage, TextRequest, flags,
};

const MIB: u64 = 1 << 20;
const BLOCK: u32 = 4096;
/// How long a victim works at least.
const VICTIM_TIME: Duration = Duration::from_secs(2);
/// Longest time until a half-open login is ended and its place is free.
const LOGIN_TIME: Duration = Duration::from_secs(30);
/// How long to wait for an answer that need not come.
const PATIENCE: Duration = Duration::from_millis(500);

fn serve() -> Server {
    let setup = Setup::new().iscsi(1).pool("main", "256MiB");
    Server::start(setup.volume("demo", "64MiB", BLOCK))
}

fn address(server: &Server) -> SocketAddr {
    server.setup.iscsi[0]
}

/// A session of the initiator port `number`, past its unit attention.
fn session(server: &Server, number: u16) -> Initiator {
    session_of(server, &Login::volume("demo").port(number))
}

fn session_of(server: &Server, login: &Login) -> Initiator {
    let mut initiator = Initiator::login(address(server), login).expect("the login");
    initiator.settle().expect("a ready unit");
    initiator
}

/// The initiator port of the victim; attackers have others.
const VICTIM: u16 = 1000;

/// What the victim got done.
#[derive(Debug, Default)]
struct Tally {
    writes: u64,
    slowest: Duration,
}

/// Writes a block and reads it back, over and over; everything has to come back.
fn live(initiator: &mut Initiator, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut random = Random::new(3);
    while !stop.load(Ordering::SeqCst) {
        let (lba, data) = (random.within(0..4096), random.bytes(8192));
        let started = Instant::now();
        let written = initiator.write(lba, &data, BLOCK).expect("WRITE");
        assert_eq!((written.status, written.sense), (0, None));
        let read = initiator.read(lba, 2, BLOCK).expect("READ");
        assert!(read.data == data, "LBA {lba}: other data");
        tally.slowest = tally.slowest.max(started.elapsed());
        tally.writes += 1;
    }
    tally
}

/// Runs an honest session while `attack` goes on; it has to live on and get its work done.
fn beside_a_victim(server: &Server, attack: impl FnOnce()) {
    let mut victim = session(server, VICTIM);
    let stop = AtomicBool::new(false);
    let tally = std::thread::scope(|scope| {
        let live = scope.spawn(|| live(&mut victim, &stop));
        let started = Instant::now();
        attack();
        std::thread::sleep(VICTIM_TIME.saturating_sub(started.elapsed()));
        stop.store(true, Ordering::SeqCst);
        live.join().expect("the victim does not panic")
    });
    println!("the victim: {tally:?}");
    assert!(tally.writes > 50, "the victim hardly got anything done");
    victim.logout().expect("the victim's logout");
}

/// Lets this process, and the server it starts, hold many descriptors.
fn raise_descriptor_limit(wanted: u64) {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard).expect("a higher limit");
}

/// A login request whose text is `text`.
fn login_request(isid: [u8; 6], text: &[u8]) -> Vec<u8> {
    let form = LoginFlags {
        transit: true,
        continues: false,
        current: Stage::OPERATIONAL,
        next: Stage::FULL_FEATURE,
    };
    let numbers = wire::iscsi::InitiatorNumbers::default();
    let request = LoginRequest::new(isid, (0, 1), 1, form, text.len(), numbers);
    let mut bytes = request.as_wire().to_vec();
    bytes.extend(text);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `bytes` with the ones at `offset` replaced.
fn patched(mut bytes: Vec<u8>, offset: usize, patch: &[u8]) -> Vec<u8> {
    bytes[offset..offset + patch.len()].copy_from_slice(patch);
    bytes
}

fn login_text() -> Vec<u8> {
    Login::volume("demo").text()
}

const ISID: [u8; 6] = [0x80, 0, 0, 0, 0, 9];

/// Half of a login, each of another kind.
fn half_login(index: usize) -> Vec<u8> {
    let whole = login_request(ISID, &login_text());
    match index % 4 {
        // Nothing, half a header, a header that announces text, half of the text.
        0 => Vec::new(),
        1 => whole[..24].to_vec(),
        2 => whole[..48].to_vec(),
        _ => whole[..60].to_vec(),
    }
}

/// Waits until an initiator gets in.
fn wait_for_login(server: &Server, number: u16) {
    let started = Instant::now();
    loop {
        match Initiator::login(address(server), &Login::volume("demo").port(number)) {
            Ok(initiator) => {
                initiator.logout().expect("the logout");
                println!("an honest login took {:.1?}", started.elapsed());
                return;
            }
            Err(error) => assert!(started.elapsed() < LOGIN_TIME, "locked out: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until at most `most` descriptors are open.
fn wait_for_descriptors(server: &Server, most: usize) {
    let deadline = Instant::now() + LOGIN_TIME;
    while server.process().open_files() > most {
        let open = server.process().open_files();
        assert!(
            Instant::now() < deadline,
            "{open} descriptors are open, {most} were"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn ten_thousand_half_open_logins_beside_a_victim() {
    raise_descriptor_limit(24_000);
    let mut server = serve();
    let process = server.process();
    let (memory, files) = (process.resident_bytes(), process.open_files());
    let mut halves = Vec::new();
    beside_a_victim(&server, || {
        for index in 0..10_000 {
            // Beyond its limits the server may refuse or close; it must not fall over.
            let Ok(mut stream) = TcpStream::connect(address(&server)) else {
                continue;
            };
            let _ = stream.write_all(&half_login(index));
            halves.push(stream);
        }
    });
    let grown = process.resident_bytes().saturating_sub(memory);
    let (kib, open) = (grown / 1024, process.open_files());
    println!(
        "{} half-open logins: +{kib} KiB, {open} descriptors",
        halves.len()
    );
    assert!(grown < 128 * MIB, "half-open logins took {grown} bytes");
    // They are ended after a while; until then others may have to try again.
    wait_for_login(&server, 2);
    drop(halves);
    wait_for_descriptors(&server, files + 16);
    server.terminate();
}

#[test]
fn a_flood_of_logins_beside_a_victim() {
    let mut server = serve();
    let process = server.process();
    wait_for_login(&server, 2);
    let (memory, files) = (process.resident_bytes(), process.open_files());
    let stop = AtomicBool::new(false);
    // Some log out, some reinstate a session that is there, some vanish.
    let flood = |number: u16| {
        let mut count = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            let login = Login::volume("demo").port(number);
            match Initiator::login(address(&server), &login) {
                Ok(initiator) if count.is_multiple_of(3) => drop(initiator.logout()),
                Ok(initiator) if count % 3 == 1 => {
                    drop(Initiator::login(address(&server), &login));
                    drop(initiator);
                }
                other => drop(other),
            }
            count += 1;
        }
        count
    };
    beside_a_victim(&server, || {
        std::thread::scope(|scope| {
            let floods = [11, 12, 13].map(|number| scope.spawn(move || flood(number)));
            std::thread::sleep(Duration::from_secs(4));
            stop.store(true, Ordering::SeqCst);
            let counts = floods.map(|flood| flood.join().expect("the flood"));
            println!("{counts:?} turns");
        });
    });
    let grown = process.resident_bytes().saturating_sub(memory);
    println!("+{} KiB", grown / 1024);
    assert!(grown < 64 * MIB, "logins took {grown} bytes");
    wait_for_descriptors(&server, files + 8);
    server.terminate();
}

/// Requests that no login may begin with, by name.
fn bad_beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let good = login_request(ISID, &login_text());
    let command = ScsiCommand::new(1, LUN, [0; 16], 0, 0, Default::default());
    let long = vec![b'x'; 9000];
    vec![
        ("a command first", command.as_wire().to_vec()),
        ("data of 16 MiB", patched(good.clone(), 5, &[0xff; 3])),
        ("additional headers", patched(good.clone(), 4, &[255])),
        ("an unknown opcode", patched(good.clone(), 0, &[0x5d])),
        ("an answer", patched(good.clone(), 0, &[0x23])),
        ("more text than is allowed", login_request(ISID, &long)),
        ("a version to come", patched(good.clone(), 2, &[7, 7])),
        ("a reserved stage", patched(good.clone(), 1, &[0x8a])),
        (
            "a session that is not there",
            patched(good, 14, &[0x12, 0x34]),
        ),
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nHost: x\r\nAccept: everything\r\n\r\n".to_vec(),
        ),
    ]
}

/// Texts that cannot lead to a session, with what the refusal must be where RFC 7143 says so.
fn bad_texts() -> Vec<(&'static str, Vec<u8>, Option<LoginStatus>)> {
    let name = "InitiatorName=iqn.2026-11.io.bedplate.test:bad\0";
    let with = |more: &str| format!("{name}{more}").into_bytes();
    let many: String = (0..500).map(|i| format!("X-{i}=y\0")).collect();
    vec![
        (
            "no name",
            b"SessionType=Discovery\0".to_vec(),
            Some(LoginStatus::MISSING_PARAMETER),
        ),
        ("no target", with(""), Some(LoginStatus::MISSING_PARAMETER)),
        (
            "an unknown target",
            with("TargetName=iqn.2026-11.io.bedplate:nobody\0"),
            Some(LoginStatus::NOT_FOUND),
        ),
        ("no equals sign", with("TargetName\0"), None),
        ("no text", vec![0; 64], None),
        (
            "a long key",
            with(&format!("{}=1\0", "K".repeat(500))),
            None,
        ),
        (
            "a long value",
            with(&format!("TargetName={}\0", "v".repeat(6000))),
            None,
        ),
        (
            "bytes that are no text",
            [name.as_bytes(), &[0xff; 200]].concat(),
            None,
        ),
        ("many keys", with(&many), None),
    ]
}

/// What became of bytes sent first on a connection: a refusal, or its end.
fn outcome(server: &Server, bytes: &[u8]) -> Option<LoginStatus> {
    let mut initiator = Initiator::open(address(server)).expect("the port accepts");
    // It may be closed before all is sent.
    let _ = initiator.send_bytes(bytes);
    initiator.set_patience(PATIENCE).expect("a timeout");
    let answer = initiator.receive();
    println!("{:?}", answer.as_ref().map(|pdu| pdu.opcode()));
    match answer {
        Ok(pdu) if pdu.opcode() == Opcode::LOGIN_RESPONSE => {
            let response: wire::iscsi::LoginResponse = pdu.view();
            let status = LoginStatus::from_bytes(response.status_class, response.status_detail);
            Some(status)
        }
        Ok(pdu) => panic!("{pdu:?}"),
        Err(Failure::Io(_)) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn logins_that_cannot_be() {
    let mut server = serve();
    beside_a_victim(&server, || {
        for (name, bytes) in bad_beginnings() {
            let status = outcome(&server, &bytes);
            assert_ne!(status, Some(LoginStatus::SUCCESS), "{name} was accepted");
        }
        for (name, text, wanted) in bad_texts() {
            let status = outcome(&server, &login_request(ISID, &text));
            assert_ne!(status, Some(LoginStatus::SUCCESS), "{name} was accepted");
            if wanted.is_some() {
                assert_eq!(status, wanted, "{name}");
            }
        }
    });
    wait_for_login(&server, 2);
    server.terminate();
}

#[test]
fn a_login_that_never_ends_is_ended() {
    let server = serve();
    let process = server.process();
    let memory = process.resident_bytes();
    // Text that goes on and on, a piece at a time.
    let form = LoginFlags {
        transit: false,
        continues: true,
        current: Stage::OPERATIONAL,
        next: Stage::OPERATIONAL,
    };
    let text = [b'K'; 4096];
    let mut initiator = Initiator::open(address(&server)).expect("the port accepts");
    let started = Instant::now();
    let mut sent = 0_u64;
    loop {
        let numbers = initiator.numbers();
        let request = LoginRequest::new(ISID, (0, 1), 1, form, text.len(), numbers);
        if initiator.send(request.as_wire(), &text).is_err() {
            break;
        }
        match initiator.receive() {
            Ok(pdu) => {
                let response: wire::iscsi::LoginResponse = pdu.view();
                if response.status_class != 0 {
                    break;
                }
            }
            Err(_) => break,
        }
        sent += text.len() as u64;
        assert!(
            sent < 64 * MIB && started.elapsed() < LOGIN_TIME,
            "{sent} bytes of text"
        );
    }
    println!("ended after {sent} bytes of text");
    let grown = process.resident_bytes().saturating_sub(memory);
    assert!(grown < 4 * MIB, "{sent} bytes of text took {grown} bytes");
}

/// PDUs after a login for which nothing but the session itself may pay.
fn bad_requests(initiator: &Initiator) -> Vec<(&'static str, Vec<u8>)> {
    let numbers = initiator.numbers();
    let cdb = read_write_16(0x8a, 0, 1);
    let command = ScsiCommand::new(50, LUN, cdb, flags::WRITE, BLOCK, numbers);
    let command = initiator.frame(command.as_wire(), &[]);
    let text = TextRequest::new(51, u32::MAX, 0, numbers)
        .as_wire()
        .to_vec();
    let nop = NopOut::new(52, u32::MAX, LUN, 0, numbers)
        .as_wire()
        .to_vec();
    let stray = Extent {
        sn: 0,
        offset: 0,
        len_bytes: 4096,
    };
    let stray = DataOut::new(99, 0x1234, LUN, stray, true, numbers.exp_stat_sn);
    let logout = LogoutRequest::new(53, LogoutReason(0x55), 1, numbers);
    vec![
        ("data of 16 MiB", patched(command.clone(), 5, &[0xff; 3])),
        (
            "255 words of additional headers",
            patched(command.clone(), 4, &[255]),
        ),
        ("an unknown opcode", patched(command.clone(), 0, &[0x1d])),
        ("the target's own opcode", patched(command, 0, &[0x31])),
        ("text of 16 MiB", patched(text, 5, &[0xff; 3])),
        ("a ping of 16 MiB", patched(nop, 5, &[0xff; 3])),
        (
            "data for no task",
            initiator.frame(stray.as_wire(), &[7; 4096]),
        ),
        (
            "a login within a session",
            login_request(ISID, &login_text()),
        ),
        ("a strange logout", logout.as_wire().to_vec()),
    ]
}

#[test]
fn requests_that_cannot_be() {
    let mut server = serve();
    let memory = server.process().resident_bytes();
    beside_a_victim(&server, || {
        let names = bad_requests(&session(&server, 20)).len();
        for index in 0..names {
            let mut initiator = session(&server, 20);
            let (name, bytes) = bad_requests(&initiator).remove(index);
            initiator.send_bytes(&bytes).expect("sending");
            initiator.set_patience(PATIENCE).expect("a timeout");
            // Whatever comes of it, the port is free for the next login, which reinstates it.
            let answer = initiator.receive();
            println!("{name}: {:?}", answer.map(|pdu| pdu.opcode()));
        }
    });
    let grown = server.process().resident_bytes().saturating_sub(memory);
    assert!(grown < 64 * MIB, "they took {grown} bytes");
    server.terminate();
}

#[test]
fn a_wrong_header_digest_ends_the_connection() {
    let server = serve();
    let login = Login::volume("demo").port(30).digests();
    beside_a_victim(&server, || {
        for bit in [0_usize, 7, 200, 383, 390] {
            let mut initiator = session_of(&server, &login);
            let command = ScsiCommand::new(9, LUN, [0; 16], 0, 0, initiator.numbers());
            let mut bytes = initiator.frame(command.as_wire(), &[]);
            bytes[bit / 8] ^= 1 << (bit % 8);
            initiator.send_bytes(&bytes).expect("sending");
            initiator.wait_closed().expect("closed");
        }
    });
}

/// Sends a write and waits for its first R2T.
fn wait_r2t(initiator: &mut Initiator, blocks: u32) -> R2t {
    let cdb = read_write_16(0x8a, 0, blocks);
    let sent = initiator.submit(cdb, flags::WRITE, blocks * BLOCK);
    sent.expect("sending");
    let pdu = initiator.receive().expect("an R2T");
    assert_eq!(pdu.opcode(), Opcode::R2T, "{pdu:?}");
    pdu.view()
}

#[test]
fn a_wrong_data_digest_fails_the_write_and_nothing_is_written() {
    let server = serve();
    let login = Login::volume("demo").port(31).digests();
    let mut initiator = session_of(&server, &login);
    let r2t = wait_r2t(&mut initiator, 1);
    let extent = Extent {
        sn: 0,
        offset: 0,
        len_bytes: BLOCK,
    };
    let itt = r2t.itt.get();
    let data = DataOut::new(itt, r2t.ttt.get(), LUN, extent, true, initiator.exp_stat_sn);
    let mut bytes = initiator.frame(data.as_wire(), &[0xee; BLOCK as usize]);
    *bytes.last_mut().expect("a digest") ^= 1;
    initiator.send_bytes(&bytes).expect("sending");
    // RFC 7143 section 7.8: a Reject says so, and at level 0 the task or the session fails.
    match initiator.receive() {
        Ok(pdu) if pdu.opcode() == Opcode::REJECT => {
            let reject: Reject = pdu.view();
            assert_eq!(reject.reason, 2, "data digest error");
        }
        Ok(pdu) => panic!("no reject but {pdu:?}"),
        Err(error) => panic!("no reject: {error:?}"),
    }
    let mut other = session(&server, 32);
    assert_eq!(
        other.read(0, 1, BLOCK).expect("READ").data,
        vec![0; BLOCK as usize]
    );
}

/// A Data-Out that answers an R2T for two blocks in the wrong way.
type Answer = fn(&R2t) -> (Extent, u32, u32, bool);

const WRONG_ANSWERS: [(&str, Answer); 7] = [
    ("a wrong DataSN", |r| {
        (extent(1, 0, 4096), r.itt.get(), r.ttt.get(), false)
    }),
    ("the last DataSN", |r| {
        (extent(u32::MAX, 0, 4096), r.itt.get(), r.ttt.get(), false)
    }),
    ("a gap", |r| {
        (extent(0, 4096, 4096), r.itt.get(), r.ttt.get(), true)
    }),
    ("past the end", |r| {
        (extent(0, 0, 12288), r.itt.get(), r.ttt.get(), true)
    }),
    ("a wrapping offset", |r| {
        (
            extent(0, u32::MAX - 3, 4096),
            r.itt.get(),
            r.ttt.get(),
            true,
        )
    }),
    ("another transfer tag", |r| {
        (extent(0, 0, 4096), r.itt.get(), r.ttt.get() ^ 0x55, false)
    }),
    ("another task", |r| {
        (extent(0, 0, 4096), r.itt.get() + 9, r.ttt.get(), false)
    }),
];

const fn extent(sn: u32, offset: u32, len_bytes: u32) -> Extent {
    Extent {
        sn,
        offset,
        len_bytes,
    }
}

#[test]
fn wrong_answers_to_an_r2t_write_nothing() {
    let server = serve();
    beside_a_victim(&server, || {
        for (name, answer) in WRONG_ANSWERS {
            let mut initiator = session(&server, 40);
            let cdb = read_write_16(0x8a, 8192, 2);
            let sent = initiator.submit(cdb, flags::WRITE, 2 * BLOCK);
            sent.expect("sending");
            let r2t: R2t = initiator.receive().expect("an R2T").view();
            let (extent, itt, ttt, last) = answer(&r2t);
            let data = DataOut::new(itt, ttt, LUN, extent, last, initiator.exp_stat_sn);
            let bytes = initiator.frame(data.as_wire(), &vec![0xee; extent.len_bytes as usize]);
            initiator.send_bytes(&bytes).expect("sending");
            initiator.set_patience(PATIENCE).expect("a timeout");
            // A reject, a failed command or the end of the connection: but no success.
            let answer = initiator.receive();
            println!("{name}: {:?}", answer.as_ref().map(|pdu| pdu.opcode()));
            if let Ok(pdu) = answer
                && pdu.opcode() == Opcode::SCSI_RESPONSE
            {
                let response: wire::iscsi::ScsiResponse = pdu.view();
                assert_ne!(response.status, 0, "{name} was accepted");
            }
        }
    });
    let mut initiator = session(&server, 40);
    let read = initiator.read(8192, 2, BLOCK).expect("READ");
    assert!(
        read.data.iter().all(|byte| *byte == 0),
        "something was written"
    );
}

#[test]
fn commands_outside_the_window_are_not_there() {
    let server = serve();
    let mut initiator = session(&server, 50);
    let numbers = |sn| wire::iscsi::InitiatorNumbers {
        cmd_sn: sn,
        exp_stat_sn: initiator.exp_stat_sn,
    };
    let due = initiator.cmd_sn;
    let outside = [
        due.wrapping_sub(1),
        due.wrapping_sub(100),
        initiator.max_cmd_sn.wrapping_add(1),
        initiator.max_cmd_sn.wrapping_add(1 << 20),
        due.wrapping_add(1 << 31),
    ];
    let bytes: Vec<u8> = outside
        .iter()
        .flat_map(|sn| {
            let cdb = read_write_16(0x88, 0, 1);
            let command = ScsiCommand::new(0x7000, LUN, cdb, flags::READ, BLOCK, numbers(*sn));
            initiator.frame(command.as_wire(), &[])
        })
        .collect();
    initiator.send_bytes(&bytes).expect("sending");
    // The next answer is to the next command, with the next StatSN: nothing came of the others.
    assert_eq!(initiator.read(0, 1, BLOCK).expect("READ").status, 0);
    initiator.logout().expect("the logout");
}

#[test]
fn writes_that_never_send_their_data_do_not_fill_the_memory() {
    let mut server = serve();
    let process = server.process();
    let memory = process.resident_bytes();
    let mut stuck: Vec<_> = (60..68).map(|number| session(&server, number)).collect();
    beside_a_victim(&server, || {
        for initiator in &mut stuck {
            let window = initiator.max_cmd_sn.wrapping_sub(initiator.cmd_sn).min(127);
            for _ in 0..=window {
                let cdb = read_write_16(0x8a, 0, 256);
                initiator
                    .submit(cdb, flags::WRITE, 256 * BLOCK)
                    .expect("sending");
            }
        }
        std::thread::sleep(Duration::from_secs(2));
    });
    let grown = process.resident_bytes().saturating_sub(memory);
    println!("8 sessions of writes without data: +{} KiB", grown / 1024);
    assert!(grown < 192 * MIB, "writes without data take {grown} bytes");
    drop(stuck);
    server.terminate();
}

#[test]
fn an_initiator_that_never_reads_does_not_fill_the_memory() {
    let mut server = serve();
    let process = server.process();
    let mut deaf = session(&server, 70);
    let memory = process.resident_bytes();
    beside_a_victim(&server, || {
        let window = deaf.max_cmd_sn.wrapping_sub(deaf.cmd_sn).min(127);
        for _ in 0..=window {
            let cdb = read_write_16(0x88, 0, 256);
            deaf.submit(cdb, flags::READ, 256 * BLOCK).expect("sending");
        }
        std::thread::sleep(Duration::from_secs(2));
    });
    let grown = process.resident_bytes().saturating_sub(memory);
    println!("reads that nobody takes: +{} KiB", grown / 1024);
    assert!(grown < 128 * MIB, "a deaf initiator takes {grown} bytes");
    drop(deaf);
    server.terminate();
}

/// Random bytes with, at times, a start that looks right.
fn garbage(random: &mut Random) -> Vec<u8> {
    let len = random.within(1..20_000) as usize;
    let bytes = random.bytes(len);
    let start = match random.within(0..3) {
        0 => Vec::new(),
        1 => login_request(ISID, &login_text()),
        _ => login_request(ISID, &random.bytes(300)),
    };
    [start, bytes].concat()
}

#[test]
fn garbage_beside_a_victim() {
    let seed = Random::seed_from("HOSTILE_SEED");
    println!("HOSTILE_SEED={seed}");
    let mut random = Random::new(seed);
    let mut server = serve();
    let before = server.process().resident_bytes();
    beside_a_victim(&server, || {
        for _ in 0..300 {
            let mut stream = TcpStream::connect(address(&server)).expect("the port accepts");
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
