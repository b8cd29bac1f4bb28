//! Time, limits and order: abort, keep alive, many queues, depth, fused pairs, full buffers.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use common::host::{
    Attached, Host, Link0, Received, attach, attach_io, io_sqe, pattern, read_sqe, response,
};
use common::{core_config, pause, quick_options, serve, serve_on, serve_with, volume_nqn};
use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target, TargetOptions};
use wire::fabrics::connect::{CNTLID_DYNAMIC, ConnectData};
use wire::nvme::command::{Abort, AsyncEvent, Fuse, GetLogPage, SetFeatures, WriteZeroes};
use wire::nvme::feature::{FeatureId, async_event};
use wire::nvme::identify::{Cns, NsidList};
use wire::nvme::log::LogId;
use wire::nvme::register::{Config, PropertySize, offset};
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::{C2hData, PduType, R2t};
use wire::text::DISCOVERY_NQN;

const BLOCK: u32 = 4096;

fn write_sqe(cid: u16, lba: u64, blocks: u32) -> Sqe {
    let len_bytes = blocks * BLOCK;
    let mut sqe = io_sqe(NvmOpcode::WRITE, lba, blocks, Sgl::Transport { len_bytes });
    sqe.cid.set(cid);
    sqe
}

fn capsule_write(cid: u16, lba: u64, len_bytes: u32) -> Sqe {
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes,
    };
    let mut sqe = io_sqe(NvmOpcode::WRITE, lba, len_bytes / BLOCK, sgl);
    sqe.cid.set(cid);
    sqe
}

fn expect_r2t(host: &mut Host) -> R2t {
    let pdu = host.receive();
    assert_eq!(pdu.kind, PduType::R2T, "{pdu:?}");
    *R2t::decode(&pdu.header).expect("a whole R2T")
}

fn abort(admin: &mut Host, sqid: u16, cid: u16) -> bool {
    let done = admin.run(Abort { sqid, cid }.encode(0));
    assert!(done.status.is_success());
    done.result & u64::from(Abort::NOT_ABORTED) == 0
}

#[test]
fn abort_stops_a_write_that_waits_for_its_data() {
    let served = serve(BLOCK);
    let mut host = attach(served.address, Link0::default(), 16);
    let before = pattern(1, 4 * 4096);
    assert!(host.io.write_blocks(0, &before, BLOCK).status.is_success());
    host.io.send(write_sqe(500, 0, 4), &[]);
    let r2t = expect_r2t(&mut host.io);
    assert!(abort(&mut host.admin, 1, 500));
    let cqe = response(&host.io.receive());
    assert_eq!(
        (cqe.cid.get(), cqe.status()),
        (500, Status::ABORTED_BY_REQUEST)
    );
    assert!(!abort(&mut host.admin, 1, 500), "it is gone");
    // The identifier is free at once; the data that was on the way is swallowed.
    host.io.send(write_sqe(500, 100, 4), &[]);
    let second = expect_r2t(&mut host.io);
    assert_ne!(second.ttag.get(), r2t.ttag.get());
    host.io.send_data(&r2t, &[9; 16384]);
    host.io.send_data(&second, &[5; 16384]);
    assert!(host.io.finish(500, &[]).status.is_success());
    assert!(
        host.io.read_blocks(0, 4, BLOCK).data == before,
        "the aborted write wrote nothing"
    );
    assert!(host.io.read_blocks(100, 4, BLOCK).data == [5; 16384]);
}

#[test]
fn abort_stops_commands_that_wait_in_line() {
    let options = || TargetOptions {
        connection_data_bytes: 1 << 20,
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let mut host = attach(served.address, Link0::default(), 16);
    host.io.send(write_sqe(1, 0, 256), &[]);
    let r2t = expect_r2t(&mut host.io);
    let mut read = read_sqe(0, 2, BLOCK);
    read.cid.set(2);
    host.io.send(read, &[]);
    host.io.send(write_sqe(3, 0, 2), &[]);
    // The read may still be on its way to the target.
    pause(Duration::from_millis(50));
    assert!(abort(&mut host.admin, 1, 2));
    let cqe = response(&host.io.receive());
    assert_eq!(
        (cqe.cid.get(), cqe.status()),
        (2, Status::ABORTED_BY_REQUEST)
    );
    host.io.send_data(&r2t, &vec![1; 1 << 20]);
    let mut finished = Vec::new();
    while finished.len() < 2 {
        let pdu = host.io.receive();
        if pdu.kind == PduType::R2T {
            let r2t = *R2t::decode(&pdu.header).expect("a whole R2T");
            host.io.send_data(&r2t, &[2; 8192]);
        } else {
            finished.push(response(&pdu).cid.get());
        }
    }
    finished.sort_unstable();
    assert_eq!(finished, [1, 3]);
    assert!(!abort(&mut host.admin, 9, 1), "no such queue");
}

#[test]
fn abort_takes_back_an_event_request() {
    let served = serve(BLOCK);
    let mut host = attach(served.address, Link0::default(), 16);
    for cid in 60..64 {
        host.admin.send(Sqe::async_event_request(cid), &[]);
    }
    let done = host.admin.run(Sqe::async_event_request(0));
    assert_eq!(done.status.code(), Status::AER_LIMIT_EXCEEDED);
    host.admin.send(Abort { sqid: 0, cid: 61 }.encode(90), &[]);
    let first = response(&host.admin.receive());
    let second = response(&host.admin.receive());
    assert_eq!(
        (first.cid.get(), first.status()),
        (61, Status::ABORTED_BY_REQUEST)
    );
    assert_eq!((second.cid.get(), second.dw0()), (90, 0));
}

fn connect_with_kato(served: &common::Served, kato_ms: u32) -> Host {
    let mut host = Host::open(served.address, Link0::default());
    let nqn = volume_nqn();
    let data = ConnectData::new(
        common::host::HOST_ID,
        CNTLID_DYNAMIC,
        &nqn,
        common::host::HOST_NQN,
    )
    .expect("names");
    assert!(host.connect_with(0, 32, &data, kato_ms).status.is_success());
    host.enable();
    host
}

#[test]
fn a_silent_host_loses_its_controller() {
    let served = serve(BLOCK);
    let mut host = connect_with_kato(&served, 200);
    // Keep alive and any other command restart the timer.
    for _ in 0..8 {
        pause(Duration::from_millis(100));
        assert!(host.run(Sqe::keep_alive(0)).status.is_success());
    }
    assert!(
        host.is_closed(),
        "200 ms and the grace of 100 ms have passed"
    );
    served.wait_for("the expiry", |metrics| {
        metrics.closed.get("keep_alive_expired") == Some(&1)
    });
}

#[test]
fn io_keeps_a_controller_alive() {
    let served = serve(BLOCK);
    let mut admin = connect_with_kato(&served, 300);
    let cntlid = 1;
    let mut io = attach_io(served.address, Link0::default(), 16, cntlid, 1);
    for _ in 0..10 {
        pause(Duration::from_millis(100));
        assert!(io.read_blocks(0, 1, BLOCK).status.is_success());
    }
    assert!(admin.run(Sqe::keep_alive(0)).status.is_success());
}

#[test]
fn a_controller_has_64_io_queues() {
    let served = serve(BLOCK);
    let host = attach(served.address, Link0::default(), 128);
    let mut queues = vec![host.io];
    for qid in 2..=64 {
        queues.push(attach_io(
            served.address,
            Link0::default(),
            128,
            host.cntlid,
            qid,
        ));
    }
    for (index, queue) in queues.iter_mut().enumerate() {
        queue.send(
            capsule_write(7, index as u64, BLOCK),
            &pattern(index as u8, 4096),
        );
    }
    for queue in &mut queues {
        assert!(queue.finish(7, &[]).status.is_success());
    }
    let done = queues[63].read_blocks(0, 64, BLOCK);
    let expected: Vec<u8> = (0..64).flat_map(|index| pattern(index, 4096)).collect();
    assert!(done.data == expected);
}

/// Collects completions of many commands, answering R2Ts with `data(cid)`.
fn collect(host: &mut Host, count: usize, data: impl Fn(u16) -> Vec<u8>) -> BTreeMap<u16, Vec<u8>> {
    let mut read: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    let mut done = BTreeMap::new();
    while done.len() < count {
        let Received {
            kind,
            header,
            data: bytes,
        } = host.receive();
        match kind {
            PduType::R2T => {
                let r2t = *R2t::decode(&header).expect("a whole R2T");
                host.send_data(&r2t, &data(r2t.cccid.get()));
            }
            PduType::C2H_DATA => {
                let header = C2hData::decode(&header).expect("a whole C2HData");
                read.entry(header.cccid.get())
                    .or_default()
                    .extend_from_slice(&bytes);
            }
            _ => {
                let cqe = wire::tcp::CapsuleResp::decode(&header)
                    .expect("a response")
                    .cqe;
                assert!(cqe.status().is_success(), "{cqe:?}");
                let cid = cqe.cid.get();
                done.insert(cid, read.remove(&cid).unwrap_or_default());
            }
        }
    }
    done
}

#[test]
fn depth_128_with_data_both_ways() {
    let served = serve(BLOCK);
    let mut io = attach(served.address, Link0::default(), 128);
    let host = &mut io.io;
    for round in 0..20u16 {
        let seed = |cid: u16| (cid as u8).wrapping_mul(3) ^ round as u8;
        for cid in 0..128 {
            let lba = u64::from(cid) * 8;
            if cid % 2 == 0 {
                host.send(write_sqe(cid, lba, 8), &[]);
            } else {
                host.send(capsule_write(cid, lba, BLOCK), &pattern(seed(cid), 4096));
            }
        }
        let done = collect(host, 128, |cid| pattern(seed(cid), 8 * 4096));
        assert_eq!(done.len(), 128);
        for cid in 0..128 {
            let blocks = if cid % 2 == 0 { 8 } else { 1 };
            let mut sqe = read_sqe(u64::from(cid) * 8, blocks, BLOCK);
            sqe.cid.set(cid);
            host.send(sqe, &[]);
        }
        for (cid, data) in collect(host, 128, |_| Vec::new()) {
            let len = if cid % 2 == 0 { 8 * 4096 } else { 4096 };
            assert!(
                data == pattern(seed(cid), len),
                "round {round}, command {cid}"
            );
        }
    }
}

#[test]
fn queues_of_1024_entries_work() {
    let options = || TargetOptions {
        max_queue_entries: 1024,
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let mut host = attach(served.address, Link0::default(), 1024);
    for cid in 0..1024 {
        host.io.send(write_sqe(cid, u64::from(cid), 1), &[]);
    }
    collect(&mut host.io, 1024, |cid| pattern(cid as u8, 4096));
    let done = host.io.read_blocks(1023, 1, BLOCK);
    assert!(done.data == pattern(255, 4096));
}

fn fused(cid: u16, fuse: Fuse, opcode: NvmOpcode, lba: u64) -> Sqe {
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes: BLOCK,
    };
    let mut sqe = io_sqe(opcode, lba, 1, sgl);
    sqe.cid.set(cid);
    sqe.set_fuse(fuse);
    sqe
}

/// Sends a pair and gives the two statuses.
fn run_pair(host: &mut Host, lba: u64, compare: &[u8], write: &[u8]) -> (Status, Status) {
    host.send(fused(10, Fuse::FIRST, NvmOpcode::COMPARE, lba), compare);
    host.send(fused(11, Fuse::SECOND, NvmOpcode::WRITE, lba), write);
    two(host)
}

/// Statuses of commands 10 and 11.
fn two(host: &mut Host) -> (Status, Status) {
    let mut found = BTreeMap::new();
    for _ in 0..2 {
        let cqe = response(&host.receive());
        found.insert(cqe.cid.get(), cqe.status().code());
    }
    (found[&10], found[&11])
}

#[test]
fn fused_compare_and_write() {
    let served = serve(BLOCK);
    let mut host = attach(served.address, Link0::default(), 16);
    let io = &mut host.io;
    let (zero, one, two_) = (vec![0; 4096], pattern(1, 4096), pattern(2, 4096));
    let ok = Status::SUCCESS;
    assert_eq!(run_pair(io, 5, &zero, &one), (ok, ok));
    assert!(io.read_blocks(5, 1, BLOCK).data == one);
    let failed = (Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED);
    assert_eq!(run_pair(io, 5, &zero, &two_), failed);
    assert!(
        io.read_blocks(5, 1, BLOCK).data == one,
        "a failed compare writes nothing"
    );
    assert_eq!(run_pair(io, 5, &one, &two_), (ok, ok));
    // Both halves with their data on request, answered in the wrong order.
    for (cid, fuse, opcode) in [
        (10, Fuse::FIRST, NvmOpcode::COMPARE),
        (11, Fuse::SECOND, NvmOpcode::WRITE),
    ] {
        let sqe = fused(cid, fuse, opcode, 5).with_data(Sgl::Transport { len_bytes: BLOCK });
        io.send(sqe, &[]);
    }
    let (first, second) = (expect_r2t(io), expect_r2t(io));
    io.send_data(&second, &one);
    io.send_data(&first, &two_);
    assert_eq!(two(io), (ok, ok));
    assert!(io.read_blocks(5, 1, BLOCK).data == one);
}

#[test]
fn broken_pairs_are_refused() {
    let served = serve(BLOCK);
    let mut host = attach(served.address, Link0::default(), 16);
    let data = [0; 4096];
    let io = &mut host.io;
    // The second half alone.
    io.send(fused(11, Fuse::SECOND, NvmOpcode::WRITE, 0), &data);
    let cqe = response(&io.receive());
    assert_eq!(cqe.status().code(), Status::ABORTED_MISSING_FUSED);
    // The first half, then another command.
    io.send(fused(10, Fuse::FIRST, NvmOpcode::COMPARE, 0), &data);
    let mut flush = Sqe::flush(11, 1);
    flush.cid.set(11);
    io.send(flush, &[]);
    assert_eq!(two(io), (Status::ABORTED_MISSING_FUSED, Status::SUCCESS));
    // Halves for different blocks.
    io.send(fused(10, Fuse::FIRST, NvmOpcode::COMPARE, 0), &data);
    io.send(fused(11, Fuse::SECOND, NvmOpcode::WRITE, 1), &data);
    assert_eq!(
        two(io),
        (Status::ABORTED_FAILED_FUSED, Status::INVALID_FIELD)
    );
    // A first half that is wrong by itself takes the second along.
    io.send(fused(10, Fuse::FIRST, NvmOpcode::COMPARE, u64::MAX), &data);
    io.send(fused(11, Fuse::SECOND, NvmOpcode::WRITE, 1), &data);
    assert_eq!(
        two(io),
        (Status::LBA_OUT_OF_RANGE, Status::ABORTED_FAILED_FUSED)
    );
    // And a second half the first.
    io.send(fused(10, Fuse::FIRST, NvmOpcode::COMPARE, 1), &data);
    io.send(fused(11, Fuse::SECOND, NvmOpcode::WRITE, u64::MAX), &data);
    assert_eq!(
        two(io),
        (Status::ABORTED_FAILED_FUSED, Status::LBA_OUT_OF_RANGE)
    );
    // Abort of one half ends both.
    io.send(fused(10, Fuse::FIRST, NvmOpcode::COMPARE, 1), &data);
    pause(Duration::from_millis(50));
    assert!(abort(&mut host.admin, 1, 10));
    host.io
        .send(fused(11, Fuse::SECOND, NvmOpcode::WRITE, 1), &data);
    assert_eq!(
        two(&mut host.io),
        (Status::ABORTED_BY_REQUEST, Status::ABORTED_FAILED_FUSED)
    );
    assert!(host.io.run(Sqe::flush(0, 1)).status.is_success());
}

#[test]
fn writes_that_wait_for_data_do_not_block_those_that_bring_it() {
    let mut config = core_config();
    config.io_pool_bytes = 4 << 20;
    let options = || TargetOptions {
        connection_data_bytes: 64 << 20,
        ..quick_options()
    };
    let served = serve_on(config, BLOCK, options, SubsystemOptions::default());
    let mut host = attach(served.address, Link0::default(), 128);
    for cid in 0..64 {
        host.io.send(write_sqe(cid, u64::from(cid) * 64, 64), &[]);
    }
    // Not one R2T has been answered, and the pool holds a fraction of what was asked for.
    let mut waiting = Vec::new();
    host.io
        .send(capsule_write(99, 9000, 8192), &pattern(9, 8192));
    loop {
        let pdu = host.io.receive();
        if pdu.kind == PduType::R2T {
            waiting.push(*R2t::decode(&pdu.header).expect("a whole R2T"));
        } else {
            assert_eq!(response(&pdu).cid.get(), 99);
            break;
        }
    }
    assert!(waiting.len() < 64, "the pool cannot hold all of them");
    for r2t in waiting {
        host.io.send_data(&r2t, &vec![1; 256 << 10]);
    }
    collect(&mut host.io, 64, |_| vec![1; 256 << 10]);
    let metrics = served.on_core(|target| async move { target.snapshot_metrics() });
    assert!(metrics.total.r2t_waits > 0, "writes waited for memory");
}

thread_local! {
    /// Buffers that a test takes out of the target's pool.
    static TAKEN: RefCell<Vec<reactor::buf::Buf>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn an_old_write_cannot_follow_a_newer_one_of_the_same_host() {
    let mut config = core_config();
    config.io_pool_bytes = 4 << 20;
    let served = serve_on(config, BLOCK, quick_options, SubsystemOptions::default());
    let mut host = attach(served.address, Link0::default(), 16);
    served.on_core(|_| async {
        while let Some(buf) = reactor::buf::try_alloc(4096) {
            TAKEN.with_borrow_mut(|taken| taken.push(buf));
        }
    });
    // The old write lies in the socket, because there is no memory for it, and its host leaves.
    host.io.send(capsule_write(1, 5, BLOCK), &pattern(1, 4096));
    pause(Duration::from_millis(50));
    // Its admin queue still stands: the target has no other sign that the queue is dead.
    let _old_admin = host.admin;
    drop(host.io);
    let mut admin = Host::open(served.address, Link0::default());
    let cntlid = admin.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC).result as u16;
    admin.enable();
    let address = served.address;
    #[expect(
        clippy::disallowed_methods,
        reason = "the new queue waits while memory comes back"
    )]
    let newer = std::thread::spawn(move || {
        let mut io = attach_io(address, Link0::default(), 16, cntlid, 1);
        // Needs no memory, so nothing but the order holds it back.
        let zeroes = WriteZeroes::new(5, 1, false).expect("a count").encode(0, 1);
        assert!(io.run(zeroes).status.is_success());
        io
    });
    pause(Duration::from_millis(300));
    assert!(
        !newer.is_finished(),
        "the new queue waits for the old write"
    );
    served.on_core(|_| async { TAKEN.with_borrow_mut(Vec::clear) });
    let mut io = newer.join().expect("the newer write ends");
    for _ in 0..20 {
        assert!(
            io.read_blocks(5, 1, BLOCK).data == [0; 4096],
            "the newer write stays"
        );
        pause(Duration::from_millis(5));
    }
}

#[test]
fn a_host_that_takes_nothing_is_bounded_and_dropped() {
    let options = || TargetOptions {
        stall_timeout: Duration::from_secs(1),
        connection_data_bytes: 4 << 20,
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let mut host = attach(served.address, Link0::default(), 128);
    for cid in 0..128 {
        let mut sqe = read_sqe(0, 256, BLOCK);
        sqe.cid.set(cid);
        host.io.send(sqe, &[]);
    }
    pause(Duration::from_millis(300));
    let held = served.on_core(|_| async { reactor::buf::pool().in_use_bytes() });
    assert!(
        held <= 6 << 20,
        "{held} bytes are held for a host that reads nothing"
    );
    served.wait_for("the end of the stalled queue", |metrics| {
        metrics.closed.get("stalled") == Some(&1)
    });
    let held = served.on_core(|_| async { reactor::buf::pool().in_use_bytes() });
    assert_eq!(held, 0, "everything was given back");
    assert!(host.admin.run(Sqe::keep_alive(0)).status.is_success());
}

#[test]
fn a_host_that_owes_data_is_dropped() {
    let options = || TargetOptions {
        stall_timeout: Duration::from_secs(1),
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let mut host = attach(served.address, Link0::default(), 16);
    host.io.send(write_sqe(1, 0, 4), &[]);
    expect_r2t(&mut host.io);
    served.wait_for("the end of the stalled queue", |metrics| {
        metrics.closed.get("stalled") == Some(&1)
    });
}

#[test]
fn half_open_sockets_are_dropped() {
    let options = || TargetOptions {
        connect_timeout: Duration::from_millis(300),
        max_unconnected: 2,
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let mut silent = Host::raw(served.address);
    let mut idle = Host::open(served.address, Link0::default());
    pause(Duration::from_millis(50));
    assert!(silent.is_closed());
    assert!(idle.is_closed());
    attach(served.address, Link0::default(), 16);
}

#[test]
fn silent_sockets_make_room_for_a_host() {
    let options = || TargetOptions {
        connect_timeout: Duration::from_secs(60),
        max_unconnected: 2,
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let mut silent: Vec<_> = (0..10).map(|_| Host::raw(served.address)).collect();
    attach(served.address, Link0::default(), 16);
    let first: Vec<bool> = silent[..8]
        .iter_mut()
        .map(|host| host.is_closed())
        .collect();
    assert_eq!(first, [true; 8], "the oldest had to go");
}

/// A second target on the same core stands for another core: all they share is the directory.
fn listen_besides(served: &common::Served) -> std::net::SocketAddr {
    served.on_core(|target| async move {
        let options = TargetOptions {
            max_connections: 4,
            directory: target.options().directory.clone(),
            ..quick_options()
        };
        let other = Target::new(options).expect("the options are good");
        let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = other.listen(local).await.expect("loopback can be bound");
        listener.address()
    })
}

#[test]
fn connections_are_limited_over_all_cores_together() {
    let options = || TargetOptions {
        max_connections: 4,
        ..quick_options()
    };
    let served = serve_with(BLOCK, options, SubsystemOptions::default());
    let other = listen_besides(&served);
    let mut discovery = Host::open(other, Link0::default());
    let entries = 16;
    let done = discovery.connect(0, entries, DISCOVERY_NQN, CNTLID_DYNAMIC);
    assert!(done.status.is_success());
    // Greeted there and moved here: it keeps the one place it took.
    let mut moved = Host::open(other, Link0::default());
    let done = moved.connect(0, entries, &volume_nqn(), CNTLID_DYNAMIC);
    assert!(done.status.is_success());
    let first = attach(served.address, Link0::default(), 16);
    for address in [served.address, other] {
        assert!(Host::raw(address).is_closed(), "a fifth at {address}");
    }
    drop(moved);
    served.wait_for("the end of one", |metrics| metrics.connections.len() == 2);
    let fourth = Host::open(other, Link0::default());
    assert!(Host::raw(served.address).is_closed(), "four again");
    drop((first, fourth, discovery));
}

fn enable_events(host: &mut Host, bits: u32) {
    let fields = SetFeatures {
        fid: FeatureId::ASYNC_EVENT_CONFIG,
        cdw11: bits,
        ..SetFeatures::default()
    };
    assert!(host.run(fields.encode(0, 0, None)).status.is_success());
}

#[test]
fn hosts_hear_of_a_removed_volume_and_meet_its_successor() {
    let served = serve(BLOCK);
    let Attached {
        mut admin, mut io, ..
    } = attach(served.address, Link0::default(), 16);
    enable_events(&mut admin, async_event::NAMESPACE_ATTRIBUTE);
    admin.send(Sqe::async_event_request(77), &[]);
    let mut discovery = Host::open(served.address, Link0::default());
    assert!(
        discovery
            .connect(0, 32, DISCOVERY_NQN, CNTLID_DYNAMIC)
            .status
            .is_success()
    );
    discovery.enable();
    enable_events(&mut discovery, async_event::DISCOVERY_LOG);
    discovery.send(Sqe::async_event_request(78), &[]);
    served
        .on_core(|target| async move { target.remove_volume(common::VOLUME).await })
        .expect("the volume is there");
    let cqe = response(&admin.receive());
    assert_eq!(AsyncEvent::decode(cqe.dw0()), AsyncEvent::NAMESPACE_CHANGED);
    let cqe = response(&discovery.receive());
    assert_eq!(
        AsyncEvent::decode(cqe.dw0()),
        AsyncEvent::DISCOVERY_LOG_CHANGED
    );
    assert_eq!(
        io.read_blocks(0, 1, BLOCK).status.code(),
        Status::INVALID_NAMESPACE
    );
    let list = admin.identify(Cns::ACTIVE_NAMESPACES, 0).data;
    assert_eq!(NsidList::decode(&list).expect("a list").iter().count(), 0);
    let fields = GetLogPage {
        lid: LogId::CHANGED_NAMESPACES,
        numd_zero_based: 1023,
        ..GetLogPage::default()
    };
    let log = admin
        .run(fields.encode(0, 0, Sgl::Transport { len_bytes: 4096 }))
        .data;
    assert!(NsidList::decode(&log).expect("a list").iter().eq([1]));
    let mut newcomer = Host::open(served.address, Link0::default());
    let done = newcomer.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC);
    assert_eq!(done.status.code(), Status::CONNECT_INVALID_PARAMETERS);
    served.on_core(|target| async move {
        let volume = volume::testing::memory_volume(100, 4096);
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations, SubsystemOptions::default())
            .expect("the name is free");
    });
    assert!(
        admin.is_closed(),
        "the old identity must not be mistaken for the new one"
    );
    assert!(
        newcomer
            .connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC)
            .status
            .is_success()
    );
}

#[test]
fn reset_and_shutdown_of_a_controller() {
    let served = serve(BLOCK);
    let mut host = attach(served.address, Link0::default(), 16);
    let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
    let shutdown = config.with_shn(1);
    assert!(
        host.admin
            .property_set(offset::CC, u64::from(shutdown.0))
            .status
            .is_success()
    );
    let mut status = 0;
    for _ in 0..100 {
        status = host
            .admin
            .property_get(offset::CSTS, PropertySize::FOUR)
            .result;
        if status >> 2 & 3 == 2 {
            break;
        }
    }
    assert_eq!(status >> 2 & 3, 2, "shutdown processing is complete");
    assert!(host.admin.property_set(offset::CC, 0).status.is_success());
    assert!(host.io.is_closed(), "a reset takes the I/O queues away");
    assert_eq!(
        host.admin
            .property_get(offset::CSTS, PropertySize::FOUR)
            .result,
        0
    );
    host.admin.enable();
    let wrong = Config::default().with_en(1).with_iosqes(7).with_iocqes(4);
    assert!(host.admin.property_set(offset::CC, 0).status.is_success());
    assert!(
        host.admin
            .property_set(offset::CC, u64::from(wrong.0))
            .status
            .is_success()
    );
    let status = host
        .admin
        .property_get(offset::CSTS, PropertySize::FOUR)
        .result;
    assert_eq!(status, 2, "fatal status, not ready");
}

#[test]
fn shutdown_of_the_target_ends_everything() {
    let served = serve(BLOCK);
    let mut host = attach(served.address, Link0::default(), 16);
    host.io.send(write_sqe(1, 0, 4), &[]);
    expect_r2t(&mut host.io);
    let mut half_open = Host::open(served.address, Link0::default());
    let address = served.address;
    served.stop();
    assert!(host.io.is_closed());
    assert!(host.admin.is_closed());
    assert!(half_open.is_closed());
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens"
    );
}
