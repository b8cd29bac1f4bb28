//! Hosts over RDMA that break the rules: they are refused or lose their own connection. A host that
//! keeps to the rules is served before, meanwhile and afterwards, and nothing is left over.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use common::host::io_sqe;
use common::rdma_world::{self, BLOCK_BYTES, Core, host_card, start_target};
use common::sim::{SECOND, run_host, world};
use host::HostError;
use host::rdma::{Controller, IoQueue, Options, Queue};
use rdma::{Card, PairOptions, RdmaError};
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe, Status};
use wire::rdma::{CmReject, CmRequest, CmStatus};
use zerocopy::little_endian::U16;

/// Where no memory of the host is exposed, under a key that it never gave.
const NOWHERE: u64 = 0x1000;
const NO_KEY: u32 = 0xdead_beef;

/// Runs `host` against a target of one core beside a host that keeps to the rules.
fn run<F>(main: impl Fn(SocketAddr, Card) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let mut world = world(11);
    let (server, cores) = start_target(&mut world, 1);
    // What the target holds before any host came is counted first.
    world.run_for(SECOND / 100);
    let (rounds, main) = (Rc::new(Cell::new(0_u64)), Rc::new(main));
    let counted = rounds.clone();
    world.start("good", 1, move |_| good_host(server, counted.clone()));
    world.run_until(10 * SECOND, |_| rounds.get() > 3);
    run_host(&mut world, server, move |server| {
        let main = main.clone();
        async move { main(server, host_card()).await }
    });
    let before = rounds.get();
    world.run_until(10 * SECOND, |_| rounds.get() > before + 3);
    world.crash("good", reactor::sim::Crash::Kill);
    world.run_until(60 * SECOND, |_| cores.borrow().iter().all(Core::is_idle));
}

/// Would lose its connection, and end its test, if the other host's sins fell on it.
async fn good_host(server: SocketAddr, rounds: Rc<Cell<u64>>) {
    let (mut controller, mut io) = connect(&host_card(), server).await;
    loop {
        let round = rounds.get();
        let data = vec![round as u8; 2 * BLOCK_BYTES];
        io.write(900, &data, false).await.expect("it writes");
        let found = io.read(900, 2).await.expect("it reads");
        assert!(found == data, "what was written is read");
        controller.keep_alive().await.expect("it is alive");
        rounds.set(round + 1);
        reactor::time::sleep(SECOND / 100).await;
    }
}

async fn connect(card: &Card, server: SocketAddr) -> (Controller, IoQueue) {
    let connected = rdma_world::connect(card, server, 2, Options::default()).await;
    connected.expect("it connects")
}

/// A queue pair for an admin queue, over which nothing was said yet.
async fn open(card: &Card, server: SocketAddr) -> Queue {
    let (request, options) = (request(|_| {}), Options::default());
    let opened = Queue::open(card, server, &request, &options).await;
    opened.expect("it stands")
}

fn request(change: impl FnOnce(&mut CmRequest)) -> CmRequest {
    let mut request = CmRequest::new(0, 32, 0);
    change(&mut request);
    request
}

/// What the controller says of private data.
async fn refusal(card: &Card, server: SocketAddr, private_data: &[u8]) -> CmStatus {
    let options = PairOptions {
        send_entries: 32,
        read_depth: 1,
    };
    match card.connect(server, private_data, options).await {
        Err(RdmaError::Refused { private_data, .. }) => {
            let reject = CmReject::check(&private_data).expect("a reason");
            reject.status()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn wrong_private_data_is_refused_with_its_status() {
    run(|server, card| async move {
        let table = [
            (
                request(|r| r.recfmt = U16::new(1)),
                CmStatus::INVALID_RECFMT,
            ),
            (
                request(|r| r.hsqsize = U16::new(0)),
                CmStatus::INVALID_HSQSIZE,
            ),
            (
                request(|r| r.hsqsize = U16::new(u16::MAX)),
                CmStatus::INVALID_HSQSIZE,
            ),
            (
                request(|r| r.hrqsize = U16::new(0)),
                CmStatus::INVALID_HRQSIZE,
            ),
        ];
        for (request, status) in table {
            assert_eq!(refusal(&card, server, request.as_wire()).await, status);
        }
        // The connection manager fills up what is not there with zeroes.
        let status = refusal(&card, server, &[]).await;
        assert_eq!(status, CmStatus::INVALID_HSQSIZE);
    });
}

#[test]
fn who_never_sends_connect_is_sent_away() {
    run(|server, card| async move {
        let mut queue = open(&card, server).await;
        queue.wait_lost().await.expect("it ends");
    });
}

#[test]
fn a_message_that_is_no_capsule_ends_its_connection() {
    run(|server, card| async move {
        let mut queue = open(&card, server).await;
        queue.send_message(&[1; 10]).await.expect("it leaves");
        queue.wait_lost().await.expect("it ends before Connect");
        let (_controller, mut io) = connect(&card, server).await;
        io.queue().send_message(&[1; 63]).await.expect("it leaves");
        io.queue().wait_lost().await.expect("it ends after Connect");
    });
}

#[test]
fn only_a_connect_may_come_first() {
    run(|server, card| async move {
        let mut queue = open(&card, server).await;
        let status = answer(&mut queue, Sqe::flush(3, 1), &[]).await;
        assert_eq!(status, Status::COMMAND_SEQUENCE_ERROR);
    });
}

/// Sends a command as it is, and gives how it ends.
async fn answer(queue: &mut Queue, sqe: Sqe, data: &[u8]) -> Status {
    queue.send_capsule(&sqe, data).await.expect("it leaves");
    let message = queue.next_message().await.expect("an answer");
    let cqe = Cqe::decode(&message.header).expect("a completion");
    assert_eq!(cqe.cid, sqe.cid);
    cqe.status().code()
}

fn keyed(len_bytes: u32) -> Sgl {
    Sgl::Keyed {
        address: NOWHERE,
        len_bytes,
        key: NO_KEY,
        invalidate: false,
    }
}

#[test]
fn descriptors_that_cannot_be_are_refused() {
    run(|server, card| async move {
        let (_controller, mut io) = connect(&card, server).await;
        let queue = io.queue();
        let in_capsule = |offset, len_bytes| Sgl::InCapsule { offset, len_bytes };
        let table = [
            (
                NvmOpcode::READ,
                Sgl::Transport { len_bytes: 4096 },
                Status::SGL_TYPE_INVALID,
            ),
            (
                NvmOpcode::READ,
                keyed(4095),
                Status::SGL_DATA_LENGTH_INVALID,
            ),
            (
                NvmOpcode::WRITE,
                keyed(8192),
                Status::SGL_DATA_LENGTH_INVALID,
            ),
            (
                NvmOpcode::WRITE,
                in_capsule(1, 4096),
                Status::SGL_OFFSET_INVALID,
            ),
            (
                NvmOpcode::WRITE,
                in_capsule(u64::MAX, 4096),
                Status::SGL_OFFSET_INVALID,
            ),
        ];
        for (opcode, sgl, status) in table {
            let sqe = io_sqe(opcode, 0, 1, sgl);
            let found = answer(queue, sqe, &[0; BLOCK_BYTES]).await;
            assert_eq!(found, status, "{opcode:?} {sgl:?}");
        }
    });
}

#[test]
fn memory_that_is_not_the_hosts_ends_its_queue_alone() {
    run(|server, card| async move {
        for opcode in [NvmOpcode::READ, NvmOpcode::WRITE] {
            let (mut controller, mut io) = connect(&card, server).await;
            let mut other = controller.io_queue(2).await.expect("it connects");
            let sqe = io_sqe(opcode, 0, 2, keyed(8192));
            io.queue().send_capsule(&sqe, &[]).await.expect("it leaves");
            io.queue().wait_lost().await.expect("it ends");
            other.read(0, 1).await.expect("the other queue goes on");
        }
    });
}

#[test]
fn more_commands_than_the_queue_has_end_it() {
    run(|server, card| async move {
        let (_controller, mut io) = connect(&card, server).await;
        let entries = io.queue().capacity() as u16 + 1;
        let mut sent = Ok(());
        for cid in 0..4 * entries {
            let mut sqe = io_sqe(NvmOpcode::WRITE, 0, 1, keyed(4096));
            sqe.cid = U16::new(cid);
            sent = io.queue().send_capsule(&sqe, &[]).await;
            if sent.is_err() {
                break;
            }
        }
        assert!(matches!(
            sent,
            Ok(()) | Err(HostError::Lost(_) | HostError::Work(_))
        ));
        io.queue().wait_lost().await.expect("it ends");
    });
}

#[test]
fn an_identifier_in_use_is_refused() {
    run(|server, card| async move {
        let nqn = common::volume_nqn();
        let connected = Controller::connect(&card, server, &nqn, Options::default()).await;
        let mut controller = connected.expect("it connects");
        let admin = controller.admin();
        // The first waits for an event.
        let mut sqe = Sqe::keep_alive(77);
        sqe.opcode = wire::nvme::AdminOpcode::ASYNC_EVENT_REQUEST.0;
        admin.send_capsule(&sqe, &[]).await.expect("it leaves");
        let status = answer(admin, Sqe::keep_alive(77), &[]).await;
        assert_eq!(status, Status::COMMAND_ID_CONFLICT);
    });
}
