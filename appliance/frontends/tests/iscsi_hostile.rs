//! In the simulator: initiators that break the rules of iSCSI, one rule each. They get a Reject, a
//! sense code or a closed connection; nobody else notices, and nothing is left over.

mod common;

use std::net::SocketAddr;

use common::initiator::{Initiator, Wish, read10, write10};
use common::iscsi_world::{BLOCK, with_host};
use common::sim::SECOND;
use common::sim_host::block_data;
use reactor::time::timeout;
use wire::iscsi::pdu::data_len;
use wire::iscsi::{
    BHS_BYTES, Bhs, DataOut, Extent, NO_TAG, NopOut, Opcode, Reject, RejectReason, ScsiCommand,
    TaskFunction, TaskRequest, TextRequest, flags,
};
use zerocopy::big_endian::U32;

/// What an attack leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A Reject; the connection goes on.
    Reject(RejectReason),
    /// A Reject, then the end of the connection.
    Fatal(RejectReason),
    /// The end of the connection.
    Closed,
    /// CHECK CONDITION for the command, with this key and code.
    Sense(u8, u16),
    /// Not a word; the connection goes on.
    Nothing,
}

/// The tag of the attack's command.
const ITT: u32 = 0x7000;

/// One rule that is broken: the bytes sent after the login.
struct Attack {
    what: &'static str,
    wish: fn() -> Wish,
    bytes: fn(&mut Initiator) -> Vec<u8>,
    expect: Expect,
}

fn plain() -> Wish {
    Wish {
        isid: [0x80, 0, 0, 0, 6, 6],
        ..Wish::new()
    }
}

fn digests() -> Wish {
    Wish {
        digests: true,
        ..plain()
    }
}

/// Everything has to be asked for.
fn asked() -> Wish {
    Wish {
        initial_r2t: true,
        immediate_data: false,
        ..plain()
    }
}

fn write_of(one: &mut Initiator, expected: usize, immediate: usize, is_final: bool) -> ScsiCommand {
    let numbers = one.next_numbers();
    let cdb = write10(0, (expected / BLOCK) as u16);
    let mut command = ScsiCommand::new(ITT, [0; 8], cdb, flags::WRITE, expected as u32, numbers);
    command.data_len = data_len(immediate);
    if !is_final {
        command.flags &= !wire::iscsi::pdu::FINAL;
    }
    command
}

fn data_out(ttt: u32, sn: u32, offset: usize, len: usize, last: bool) -> DataOut {
    let extent = Extent {
        sn,
        offset: offset as u32,
        len_bytes: len as u32,
    };
    DataOut::new(ITT, ttt, [0; 8], extent, last, 0)
}

/// A write of two blocks whose unsolicited data comes in the PDUs given: DataSN, offset, length.
fn unsolicited(one: &mut Initiator, pieces: &[(u32, usize, usize)]) -> Vec<u8> {
    let command = write_of(one, 2 * BLOCK, 0, false);
    let mut bytes = one.framed(command.as_wire(), &[]);
    for (at, (sn, offset, len)) in pieces.iter().enumerate() {
        let pdu = data_out(NO_TAG, *sn, *offset, *len, at + 1 == pieces.len());
        bytes.extend(one.framed(pdu.as_wire(), &vec![0x66; *len]));
    }
    bytes
}

/// Flips the last bit of some bytes, which is in a digest.
fn damaged(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

fn ping(one: &Initiator, len: usize) -> NopOut {
    NopOut::new(ITT, NO_TAG, [0; 8], len, one.numbers())
}

const PROTOCOL: RejectReason = RejectReason::PROTOCOL_ERROR;
const CRC: Expect = Expect::Sense(0xb, 0x4705);
const WRONG_AMOUNT: Expect = Expect::Sense(0xb, 0x0c0d);
const UNEXPECTED: Expect = Expect::Sense(0xb, 0x0c0c);

fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            what: "a header digest that is wrong",
            wish: digests,
            bytes: |one| damaged(one.framed(ping(one, 0).as_wire(), &[])),
            expect: Expect::Closed,
        },
        Attack {
            what: "a ping whose data digest is wrong",
            wish: digests,
            bytes: |one| damaged(one.framed(ping(one, 8).as_wire(), &[1; 8])),
            expect: Expect::Reject(RejectReason::DATA_DIGEST_ERROR),
        },
        Attack {
            what: "immediate data whose digest is wrong",
            wish: digests,
            bytes: |one| {
                let command = write_of(one, BLOCK, BLOCK, true);
                damaged(one.framed(command.as_wire(), &[1; BLOCK]))
            },
            expect: CRC,
        },
        Attack {
            what: "unsolicited data whose digest is wrong",
            wish: digests,
            bytes: |one| damaged(unsolicited(one, &[(0, 0, BLOCK), (1, BLOCK, BLOCK)])),
            expect: CRC,
        },
        Attack {
            what: "a DataSN twice",
            wish: plain,
            bytes: |one| unsolicited(one, &[(0, 0, BLOCK), (0, BLOCK, BLOCK)]),
            expect: CRC,
        },
        Attack {
            what: "DataSNs in the wrong order",
            wish: plain,
            bytes: |one| unsolicited(one, &[(1, 0, BLOCK), (0, BLOCK, BLOCK)]),
            expect: CRC,
        },
        Attack {
            what: "a DataSN from nowhere",
            wish: plain,
            bytes: |one| unsolicited(one, &[(27, 0, 2 * BLOCK)]),
            expect: CRC,
        },
        Attack {
            what: "data with a gap",
            wish: plain,
            bytes: |one| unsolicited(one, &[(0, 0, 100), (1, 200, BLOCK)]),
            expect: WRONG_AMOUNT,
        },
        Attack {
            what: "data at an offset that wraps",
            wish: plain,
            bytes: |one| unsolicited(one, &[(0, u32::MAX as usize, 8)]),
            expect: WRONG_AMOUNT,
        },
        Attack {
            what: "more data than was announced",
            wish: plain,
            bytes: |one| unsolicited(one, &[(0, 0, BLOCK), (1, BLOCK, 3 * BLOCK)]),
            expect: WRONG_AMOUNT,
        },
        Attack {
            what: "more immediate data than was announced",
            wish: plain,
            bytes: |one| {
                let mut command = write_of(one, BLOCK, 2 * BLOCK, true);
                command.expected_len = U32::new(BLOCK as u32);
                one.framed(command.as_wire(), &[1; 2 * BLOCK])
            },
            expect: WRONG_AMOUNT,
        },
        Attack {
            what: "more immediate data than a first burst",
            wish: plain,
            bytes: |one| {
                let command = write_of(one, 128 << 10, 128 << 10, true);
                one.framed(command.as_wire(), &vec![1; 128 << 10])
            },
            expect: WRONG_AMOUNT,
        },
        Attack {
            what: "immediate data that was not agreed to",
            wish: asked,
            bytes: |one| {
                let command = write_of(one, BLOCK, BLOCK, true);
                one.framed(command.as_wire(), &[1; BLOCK])
            },
            expect: UNEXPECTED,
        },
        Attack {
            what: "unsolicited data that was not agreed to",
            wish: asked,
            bytes: |one| unsolicited(one, &[(0, 0, 2 * BLOCK)]),
            expect: UNEXPECTED,
        },
        Attack {
            what: "data both ways",
            wish: plain,
            bytes: |one| {
                let mut command = write_of(one, BLOCK, BLOCK, true);
                command.flags |= flags::READ;
                one.framed(command.as_wire(), &[1; BLOCK])
            },
            expect: Expect::Sense(5, 0x0e03),
        },
        Attack {
            what: "data for a command that is not there",
            wish: plain,
            bytes: |one| one.framed(data_out(NO_TAG, 0, 0, 512, true).as_wire(), &[1; 512]),
            expect: Expect::Nothing,
        },
        Attack {
            what: "data for a request that was not made",
            wish: plain,
            bytes: |one| one.framed(data_out(0x1234, 0, 0, 512, true).as_wire(), &[1; 512]),
            expect: Expect::Nothing,
        },
        Attack {
            what: "a data segment longer than declared",
            wish: plain,
            bytes: |one| {
                let mut pdu = ping(one, 0);
                pdu.data_len = [0xff; 3];
                one.framed(pdu.as_wire(), &[])
            },
            expect: Expect::Fatal(PROTOCOL),
        },
        Attack {
            what: "a data segment where there is none",
            wish: plain,
            bytes: |one| {
                let mut pdu = task(one, TaskFunction::ABORT_TASK, 0);
                pdu.data_len = data_len(4);
                one.framed(pdu.as_wire(), &[0; 4])
            },
            expect: Expect::Fatal(PROTOCOL),
        },
        Attack {
            what: "additional headers where there are none",
            wish: plain,
            bytes: |one| {
                let mut pdu = ping(one, 0);
                pdu.ahs_words = 255;
                let mut bytes = pdu.as_wire().to_vec();
                bytes.resize(BHS_BYTES + 255 * 4, 0);
                bytes
            },
            expect: Expect::Fatal(PROTOCOL),
        },
        Attack {
            what: "a login after the login",
            wish: plain,
            bytes: |one| {
                let (header, text) = Initiator::login_request(&plain());
                one.framed(header.as_wire(), &text)
            },
            expect: Expect::Fatal(PROTOCOL),
        },
        Attack {
            what: "an opcode that does not exist",
            wish: plain,
            bytes: |one| header(one, 0x1c),
            expect: Expect::Reject(RejectReason::COMMAND_NOT_SUPPORTED),
        },
        Attack {
            what: "an opcode of targets",
            wish: plain,
            bytes: |one| header(one, Opcode::DATA_IN.0),
            expect: Expect::Reject(RejectReason::COMMAND_NOT_SUPPORTED),
        },
        Attack {
            what: "a request without a tag",
            wish: plain,
            bytes: |one| {
                let mut pdu = task(one, TaskFunction::ABORT_TASK, 0);
                pdu.itt = U32::new(NO_TAG);
                one.framed(pdu.as_wire(), &[])
            },
            expect: Expect::Reject(RejectReason::INVALID_PDU_FIELD),
        },
        Attack {
            what: "a tag that is in use",
            wish: asked,
            bytes: |one| {
                let first = write_of(one, BLOCK, 0, true);
                let second = write_of(one, BLOCK, 0, true);
                let mut bytes = one.framed(first.as_wire(), &[]);
                bytes.extend(one.framed(second.as_wire(), &[]));
                bytes
            },
            expect: Expect::Reject(RejectReason::TASK_IN_PROGRESS),
        },
        Attack {
            what: "too many immediate commands",
            wish: asked,
            bytes: |one| {
                let mut bytes = Vec::new();
                for n in 0..40 {
                    let mut command = write_of(one, BLOCK, 0, true);
                    command.opcode |= wire::iscsi::pdu::IMMEDIATE;
                    command.itt = U32::new(ITT + n);
                    bytes.extend(one.framed(command.as_wire(), &[]));
                }
                one.cmd_sn -= 40;
                bytes
            },
            expect: Expect::Reject(RejectReason::IMMEDIATE_COMMAND_REJECT),
        },
        Attack {
            what: "a reset with a number from far away",
            wish: plain,
            bytes: |one| {
                let far = one.cmd_sn.wrapping_add(0x7fff_fff0);
                let pdu = task(one, TaskFunction::LOGICAL_UNIT_RESET, far);
                one.framed(pdu.as_wire(), &[])
            },
            expect: Expect::Nothing,
        },
        Attack {
            what: "text that is no text",
            wish: plain,
            bytes: |one| {
                let numbers = one.next_numbers();
                let pdu = TextRequest::new(ITT, NO_TAG, 5, numbers);
                one.framed(pdu.as_wire(), &[0xff, 0xfe, b'=', 0x80, 1])
            },
            expect: Expect::Reject(PROTOCOL),
        },
        Attack {
            what: "an extended command descriptor block",
            wish: plain,
            bytes: |one| {
                let numbers = one.next_numbers();
                let mut cdb = [0; 16];
                cdb[0] = 0x7f;
                let mut command = ScsiCommand::new(ITT, [0; 8], cdb, 0, 0, numbers);
                command.ahs_words = 5;
                let mut header = command.as_wire().to_vec();
                header.extend_from_slice(&[0, 17, 1]);
                header.resize(BHS_BYTES + 20, 0);
                header
            },
            expect: Expect::Sense(5, 0x2000),
        },
    ]
}

fn task(one: &Initiator, function: TaskFunction, cmd_sn: u32) -> TaskRequest {
    let mut numbers = one.numbers();
    numbers.cmd_sn = if cmd_sn == 0 { numbers.cmd_sn } else { cmd_sn };
    TaskRequest::new(ITT, [0; 8], function, NO_TAG, 0, numbers)
}

fn header(one: &Initiator, opcode: u8) -> Vec<u8> {
    let mut bhs = Bhs::zeroed();
    bhs.opcode = opcode;
    bhs.itt = U32::new(ITT);
    one.framed(bhs.as_wire(), &[])
}

async fn reject_of(one: &mut Initiator) -> RejectReason {
    let pdu = one.receive_kind(Opcode::REJECT).await.expect("a reject");
    let reject: Reject = zerocopy::transmute!(pdu.bhs);
    assert_eq!(pdu.data.len(), BHS_BYTES, "the header comes back");
    RejectReason(reject.reason)
}

async fn attack(server: SocketAddr, attack: &Attack) {
    let what = attack.what;
    let login = Initiator::login(server, (attack.wish)()).await;
    let mut one = login.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    one.settle().await.expect("ready");
    let bytes = (attack.bytes)(&mut one);
    one.send_raw(&bytes).await.expect("sent");
    let goes_on = match attack.expect {
        Expect::Reject(reason) => {
            assert_eq!(reject_of(&mut one).await, reason, "{what}");
            true
        }
        Expect::Fatal(reason) => {
            assert_eq!(reject_of(&mut one).await, reason, "{what}");
            assert!(one.is_closed().await, "{what}");
            false
        }
        Expect::Closed => {
            let closed = timeout(20 * SECOND, one.is_closed()).await;
            assert_eq!(closed, Ok(true), "{what}");
            false
        }
        Expect::Sense(key, code) => {
            let done = one.finish(ITT, &[]).await.expect("answered");
            assert_eq!(done.sense, Some((key, code)), "{what}");
            true
        }
        Expect::Nothing => {
            assert!(
                timeout(SECOND / 4, one.receive_kind(Opcode::REJECT))
                    .await
                    .is_err(),
                "{what}"
            );
            true
        }
    };
    if goes_on {
        one.settle()
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn rules_are_enforced_and_nobody_else_notices() {
    with_host(
        1,
        |_| {},
        |server| async move {
            let mut victim = Initiator::login(server, Wish::new())
                .await
                .expect("a login");
            victim.settle().await.expect("ready");
            for (round, row) in attacks().iter().enumerate() {
                let data = block_data(round as u64 + 1, 3);
                let itt = victim.start(write10(100, 3), 0, &data).await.expect("sent");
                attack(server, row).await;
                let done = victim.finish(itt, &data).await.expect("answered");
                assert!(done.is_good(), "after {}: {done:?}", row.what);
                // A reset of the unit is no secret.
                let ready = victim.settle().await;
                ready.unwrap_or_else(|error| panic!("after {}: {error}", row.what));
                let done = victim.run(read10(100, 3), 3 * BLOCK as u32, &[]).await;
                assert!(done.expect("answered").data == data, "after {}", row.what);
            }
            let found = victim.read(0, 2, BLOCK).await.expect("read");
            assert!(
                found.iter().all(|byte| *byte == 0),
                "no attack wrote anything"
            );
        },
    );
}

#[test]
fn half_a_header_and_then_nothing_is_waited_for_as_long_as_silence() {
    with_host(
        4,
        |_| {},
        |server| async move {
            let row = Attack {
                what: "half a header, then nothing",
                wish: plain,
                bytes: |one| one.framed(ping(one, 0).as_wire(), &[])[..20].to_vec(),
                expect: Expect::Closed,
            };
            attack(server, &row).await;
        },
    );
}

/// Asks for as much memory as a session can.
async fn hoards(server: SocketAddr, number: u8) -> Initiator {
    let wish = Wish {
        isid: [0x80, 0, 0, 0, 7, number],
        ..asked()
    };
    let mut one = Initiator::login(server, wish).await.expect("a login");
    one.settle().await.expect("ready");
    for n in 0..100 {
        let numbers = one.next_numbers();
        let cdb = write10(n * 8, 256);
        let command = ScsiCommand::new(ITT + n, [0; 8], cdb, flags::WRITE, 1 << 20, numbers);
        one.send(command.as_wire(), &[]).await.expect("sent");
    }
    one
}

#[test]
fn hosts_that_hoard_memory_wait_and_others_go_on() {
    with_host(
        2,
        |options| options.session_data_bytes = 8 << 20,
        |server| async move {
            let mut hoarders = Vec::new();
            for number in 0..8 {
                hoarders.push(hoards(server, number).await);
            }
            // What is asked for is bounded; nobody sends it.
            for one in &mut hoarders {
                let mut asked = 0;
                while let Ok(pdu) = timeout(SECOND / 50, one.receive_any()).await {
                    asked += usize::from(pdu.expect("a PDU").opcode() == Opcode::R2T);
                }
                assert!(asked <= 8, "{asked} MiB are asked for at once");
            }
            let mut victim = Initiator::login(server, Wish::new())
                .await
                .expect("a login");
            victim.settle().await.expect("ready");
            for value in 1..50 {
                let data = block_data(value, 8);
                victim.write(3000, &data, BLOCK).await.expect("written");
                assert!(victim.read(3000, 8, BLOCK).await.expect("read") == data);
            }
            // Who owes data for too long is closed.
            for one in &mut hoarders {
                assert_eq!(timeout(20 * SECOND, one.is_closed()).await, Ok(true));
            }
        },
    );
}

#[test]
fn a_host_that_takes_no_answers_is_closed() {
    with_host(
        3,
        |_| {},
        |server| async move {
            let mut one = Initiator::login(server, plain()).await.expect("a login");
            one.settle().await.expect("ready");
            let began = reactor::now();
            for n in 0..128 {
                let numbers = one.next_numbers();
                let cdb = read10(0, 256);
                let command = ScsiCommand::new(ITT + n, [0; 8], cdb, flags::READ, 1 << 20, numbers);
                if one.send(command.as_wire(), &[]).await.is_err() {
                    break;
                }
            }
            // Nothing is read here; the target gives up.
            reactor::time::sleep(6 * SECOND).await;
            let mut left = 0;
            while one.receive_pdu().await.is_ok() {
                left += 1;
            }
            assert!(
                left < 128,
                "{left} answers were kept for a host that took none"
            );
            assert!(began.elapsed() < 10 * SECOND);
        },
    );
}
