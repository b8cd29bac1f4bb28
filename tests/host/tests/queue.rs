//! The host against a controller that follows the rules, and against ones that break them.

mod fake;

use std::time::Duration;

use fake::Fault;
use host::{Host, HostError, HostOptions, IoQueue, Op};
use wire::nvme::Status;

fn queue(fault: Fault, options: HostOptions) -> (host::Controller, IoQueue) {
    let address = fake::start(fault);
    let controller = Host::connect(address, "nqn.2026-11.io.bedplate:demo", options);
    let mut controller = controller.expect("the host connects");
    let queue = controller.io_queues(1).expect("an I/O queue").remove(0);
    (controller, queue)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) >> 3) as u8).collect()
}

#[test]
fn data_comes_back_in_every_form_of_the_connection() {
    for case in 0..32u8 {
        let on = |bit: u8| case >> bit & 1 != 0;
        let options = HostOptions {
            header_digest: on(0),
            data_digest: on(1),
            in_capsule: on(2),
            hpda: if on(3) { 31 } else { 0 },
            max_r2t: if on(4) { 2 } else { 1 },
            ..HostOptions::default()
        };
        let (_controller, mut queue) = queue(Fault::None, options);
        for (lba, blocks) in [(0, 1), (8, 2), (16, 64)] {
            let data = pattern(blocks as usize * 4096);
            queue.write(lba, &data, false).expect("Write");
            assert!(
                queue.read(lba, blocks).expect("Read") == data,
                "case {case}, LBA {lba}"
            );
            queue.compare(lba, &data).expect("Compare");
        }
        queue.flush().expect("Flush");
    }
}

#[test]
fn many_commands_are_in_flight_and_the_queue_has_an_end() {
    let options = HostOptions::default().with_queue_depth(9);
    let (_controller, mut queue) = queue(Fault::None, options);
    let mut waiting: Vec<u16> = (0..8)
        .map(|lba| {
            queue.submit(Op::Write {
                lba,
                data: pattern(4096),
                fua: false,
            })
        })
        .collect::<Result<_, _>>()
        .expect("free entries");
    assert!(matches!(
        queue.submit(Op::Flush),
        Err(HostError::QueueFull { entries: 8 })
    ));
    while !waiting.is_empty() {
        let done = queue
            .next_completion()
            .expect("a completion")
            .ok("Write")
            .expect("success");
        waiting.retain(|cid| *cid != done.cid);
    }
    assert_eq!(queue.in_flight(), 0);
    queue.submit(Op::Flush).expect("entries are free again");
}

#[test]
fn a_fused_pair_gives_one_completion() {
    let (_controller, mut queue) = queue(Fault::None, HostOptions::default());
    let (old, new) = (vec![0; 4096], pattern(4096));
    queue
        .compare_and_write(3, &old, &new)
        .expect("the block is zero");
    assert_eq!(queue.in_flight(), 0);
    let refused = queue
        .compare_and_write(3, &old, &new)
        .expect_err("it is not any more");
    assert_eq!(refused.status(), Some(Status::COMPARE_FAILURE));
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn a_failed_command_leaves_the_queue_usable() {
    let (_controller, mut queue) = queue(Fault::None, HostOptions::default());
    let refused = queue.verify(0, 1).expect_err("there is no Verify here");
    assert_eq!(refused.status(), Some(Status::INVALID_OPCODE));
    queue.flush().expect("the queue goes on");
}

#[test]
fn what_breaks_the_rules_is_noticed() {
    let digests = HostOptions::default().with_digests();
    let flow = HostOptions {
        sq_flow_control: true,
        ..HostOptions::default()
    };
    let plain = HostOptions::default();
    let rows = [
        (Fault::SuccessWithFlowControl, flow, "flow control"),
        (Fault::DataTwice, plain.clone(), "out of order"),
        (Fault::DataShort, plain.clone(), "before the last byte"),
        (Fault::DataDigest, digests.clone(), "data digest"),
        (Fault::OtherCid, plain, "no such command"),
    ];
    for (fault, options, problem) in rows {
        let (_controller, mut queue) = queue(fault, options);
        let error = queue.read(0, 4).expect_err("a broken rule").to_string();
        assert!(error.contains(problem), "{fault:?}: {error}");
    }
    let waits = HostOptions {
        in_capsule: false,
        ..HostOptions::default()
    };
    let (_controller, mut queue) = queue(Fault::GreedyR2t, waits);
    let error = queue
        .write(0, &pattern(4096), false)
        .expect_err("one R2T too long")
        .to_string();
    assert!(
        error.contains("more than the command's data") || error.contains("order"),
        "{error}"
    );
}

#[test]
fn a_wrong_header_digest_is_noticed() {
    let address = fake::start(Fault::HeaderDigest);
    let options = HostOptions::default().with_digests();
    let controller = Host::connect(address, "nqn.2026-11.io.bedplate:demo", options);
    let mut controller = controller.expect("the admin queue is not affected");
    controller.set_queue_count(1).expect("Number of Queues");
    let error = controller
        .io_queue(1)
        .expect_err("the Connect response is damaged")
        .to_string();
    assert!(error.contains("header digest"), "{error}");
}

#[test]
fn an_end_and_a_silence_are_told_apart() {
    let (_controller, mut closing) = queue(Fault::Close, HostOptions::default());
    assert!(closing.flush().expect_err("closed").is_disconnect());
    let hasty = HostOptions {
        timeout: Duration::from_millis(200),
        ..HostOptions::default()
    };
    let (_controller, mut silent) = queue(Fault::Silence, hasty);
    let error = silent.flush().expect_err("no answer");
    assert!(matches!(&error, HostError::Timeout { in_flight, .. } if in_flight.len() == 1));
    assert!(!error.is_disconnect());
}
