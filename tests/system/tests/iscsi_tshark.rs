//! An independent decoder looks at iSCSI sessions: no malformed PDU, no bad digest.

use system_tests::capture::{Capture, Dissection, ISCSI};
use system_tests::iscsi::initiator::{Initiator, Login};
use system_tests::iscsi::tool::{output, qemu_io};
use system_tests::{Random, Server, Setup};
use wire::iscsi::flags;

const KIB: usize = 1024;
/// Block size by volume.
const VOLUMES: [(&str, u32); 2] = [("small", 512), ("large", 4096)];
/// Allocation length of the commands that ask about the unit.
const ANSWER_BYTES: u8 = 0xfc;

/// Name and descriptor block of commands that ask about the unit and answer with data.
fn questions() -> Vec<(String, [u8; 16])> {
    let cdb = |bytes: &[u8]| {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    };
    const N: u8 = ANSWER_BYTES;
    let mut rows = vec![
        ("INQUIRY".to_owned(), cdb(&[0x12, 0, 0, 0, N])),
        ("READ CAPACITY(10)".to_owned(), cdb(&[0x25])),
        (
            "READ CAPACITY(16)".to_owned(),
            cdb(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, N]),
        ),
        (
            "REPORT LUNS".to_owned(),
            cdb(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, N]),
        ),
        ("MODE SENSE(6)".to_owned(), cdb(&[0x1a, 0, 0x3f, 0, N])),
        (
            "MODE SENSE(10)".to_owned(),
            cdb(&[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, N]),
        ),
        ("REQUEST SENSE".to_owned(), cdb(&[0x03, 0, 0, 0, N])),
        (
            "GET LBA STATUS".to_owned(),
            cdb(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, N]),
        ),
        (
            "REPORT TARGET PORT GROUPS".to_owned(),
            cdb(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, N]),
        ),
        (
            "PERSISTENT RESERVE IN".to_owned(),
            cdb(&[0x5e, 2, 0, 0, 0, 0, 0, 0, N]),
        ),
    ];
    for page in [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2] {
        rows.push((format!("VPD {page:02x}h"), cdb(&[0x12, 1, page, 0, N])));
    }
    rows
}

fn ask(initiator: &mut Initiator) {
    for (name, cdb) in questions() {
        let itt = initiator
            .submit(cdb, flags::READ, u32::from(ANSWER_BYTES))
            .expect("sending");
        let done = initiator.finish(itt, &[]);
        let done = done.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((done.status, done.sense), (0, None), "{name}");
    }
}

/// Writes over one and over several R2Ts, read back in one piece.
fn move_data(initiator: &mut Initiator, block_bytes: u32) {
    let mut random = Random::new(5);
    for (lba, len) in [(0, 4 * KIB), (16, 64 * KIB), (4096, 1024 * KIB)] {
        let data = random.bytes(len);
        let written = initiator.write(lba, &data, block_bytes).expect("WRITE");
        assert_eq!((written.status, written.residual), (0, (0, 0)));
        let blocks = data.len() as u32 / block_bytes;
        let read = initiator.read(lba, blocks, block_bytes).expect("READ");
        assert_eq!((read.status, read.residual), (0, (0, 0)));
        assert!(read.data == data, "LBA {lba}: other data");
    }
}

/// A session of everything on one volume.
fn talk(server: &Server, volume: &str, block_bytes: u32, login: &Login) {
    let address = server.setup.iscsi[0];
    let mut initiator =
        Initiator::login(address, login).unwrap_or_else(|error| panic!("{volume}: {error:?}"));
    initiator.settle().expect("a ready unit");
    ask(&mut initiator);
    move_data(&mut initiator, block_bytes);
    let refused = initiator
        .read(u64::MAX / 2, 1, block_bytes)
        .expect("an answer");
    assert_eq!(
        refused.sense,
        Some((5, 0x2100)),
        "beyond the end: {refused:?}"
    );
    initiator.logout().expect("the logout");
}

fn talk_captured(work: impl FnOnce(&Server)) -> Dissection {
    let mut setup = Setup::new().iscsi(1).pool("main", "256MiB");
    for (name, block_bytes) in VOLUMES {
        setup = setup.volume(name, "64MiB", block_bytes);
    }
    let mut server = Server::start(setup);
    let port = server.setup.iscsi[0].port();
    let capture = Capture::start(server.setup.directory(), port, ISCSI);
    work(&server);
    let dissection = capture.finish();
    server.terminate();
    dissection.keep(server)
}

/// tshark 4.0 reads past the end of an INQUIRY answer that was cut off at 64 bytes, which is what
/// libiscsi asks for first.
const CUT_OFF: &str = "(Inquiry Response Data)";

fn nothing_is_malformed(dissection: &Dissection) {
    for filter in [
        "_ws.malformed",
        "iscsi.keyvalue.invalid",
        "iscsi.opcode.invalid",
    ] {
        let mut found = dissection.matching(filter);
        found.retain(|line| !line.contains(CUT_OFF));
        assert!(
            found.is_empty(),
            "{filter}: {found:#?}\n{}",
            dissection.details(filter)
        );
    }
}

fn every_opcode_was_seen(dissection: &Dissection, opcodes: &[&str]) {
    let seen = dissection.values("iscsi.opcode");
    for opcode in opcodes {
        assert!(
            seen.iter().any(|s| s == opcode),
            "no PDU {opcode} among {}",
            seen.len()
        );
    }
}

/// Checked digests by kind; panics when one of them is wrong.
fn digests(dissection: &Dissection) -> (usize, usize) {
    let text = dissection.details("iscsi");
    let bad: Vec<_> = text
        .lines()
        .filter(|line| line.contains("Bad CRC32"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let good = |name: &str| {
        let lines = text.lines().map(str::trim_start);
        lines
            .filter(|line| line.starts_with(name) && line.contains("Good CRC32"))
            .count()
    };
    (good("HeaderDigest:"), good("DataDigest:"))
}

#[test]
fn digests_are_good_and_nothing_is_malformed() {
    let dissection = talk_captured(|server| {
        for (volume, block_bytes) in VOLUMES {
            talk(
                server,
                volume,
                block_bytes,
                &Login::volume(volume).digests(),
            );
        }
    });
    nothing_is_malformed(&dissection);
    let (header, data) = digests(&dissection);
    println!("{header} header and {data} data digests are good");
    assert!(
        header > 300 && data > 200,
        "only {header} and {data} were checked"
    );
    let opcodes = [
        "0x01", "0x03", "0x05", "0x06", "0x21", "0x23", "0x25", "0x26", "0x31",
    ];
    every_opcode_was_seen(&dissection, &opcodes);
}

#[test]
fn foreign_initiators_without_data_digests() {
    let dissection = talk_captured(|server| {
        let address = server.setup.iscsi[0];
        let list = output("iscsi-ls", &["-s", &format!("iscsi://{address}")]);
        assert!(list.contains("Lun:0"), "{list}");
        for (volume, block_bytes) in VOLUMES {
            let url = server.setup.iscsi_url(volume);
            qemu_io(
                &["-f", "raw", &url],
                &["write -P 9 0 2M", "read -P 9 0 2M", "discard 0 1M"],
            );
            talk(server, volume, block_bytes, &Login::volume(volume));
        }
    });
    nothing_is_malformed(&dissection);
    // SendTargets, and all that a session is made of.
    every_opcode_was_seen(
        &dissection,
        &["0x04", "0x24", "0x01", "0x05", "0x31", "0x25", "0x21"],
    );
}
