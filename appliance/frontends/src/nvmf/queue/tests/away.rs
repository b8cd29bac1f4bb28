//! Queues of a controller on another core, its admin queue too.

use wire::nvme::AdminOpcode;
use wire::nvme::command::{Abort, AsyncEvent, Identify, SetFeatures};
use wire::nvme::feature::{FeatureId, async_event};
use wire::nvme::identify::{Cns, IdentifyController};

use super::*;
use crate::nvmf::events::MAX_WAITING;

fn identify(cid: u16, sgl: Sgl) -> Sqe {
    let fields = Identify {
        cns: Cns::CONTROLLER,
        ..Identify::default()
    };
    fields.encode(cid, 0, sgl)
}

fn event_request(cid: u16) -> Sqe {
    Sqe::new(AdminOpcode::ASYNC_EVENT_REQUEST.0, cid, 0)
}

fn events_on(cid: u16) -> Sqe {
    let fields = SetFeatures {
        fid: FeatureId::ASYNC_EVENT_CONFIG,
        cdw11: async_event::NAMESPACE_ATTRIBUTE,
        ..SetFeatures::default()
    };
    fields.encode(cid, 0, None)
}

/// Sends an event request, and lets it come to where it waits.
async fn wait_for_event(admin: &HostEnd, cid: u16) {
    admin.send(event_request(cid), None).expect("there is room");
    reactor::time::sleep(Duration::from_millis(1)).await;
}

async fn admin_of(target: &Target, kato_ms: u32) -> HostEnd {
    let connect = ConnectRequest {
        kato_ms,
        ..request(0, ANY)
    };
    let admin = HostEnd::connect(target, connect).await;
    let admin = admin.expect("the host may connect");
    assert!(admin.queue.owner.away().is_some(), "served away");
    admin
}

async fn enabled(target: &Target) -> HostEnd {
    let admin = admin_of(target, 0).await;
    assert_eq!(admin.configure(1).await, Status::SUCCESS);
    admin
}

async fn io_of(target: &Target, admin: &HostEnd) -> HostEnd {
    let io = HostEnd::connect(target, request(1, admin.result as u16)).await;
    io.expect("the controller is ready")
}

#[test]
fn admin_and_fabrics_commands_are_carried_out_at_home() {
    run(1, |target, _| async move {
        let admin = admin_of(&target, 0).await;
        assert_eq!(admin.controller_status().await & 1, 0, "not ready");
        let early = admin.status(identify(1, keyed(BLOCK))).await;
        assert_eq!(early, Status::COMMAND_SEQUENCE_ERROR);
        assert_eq!(admin.configure(1).await, Status::SUCCESS);
        assert_eq!(admin.controller_status().await & 1, 1, "ready");
        let answer = admin.run(identify(1, keyed(BLOCK))).await;
        let data = answer.data.expect("identify has data");
        let controller = IdentifyController::decode(&data).expect("4096 bytes");
        assert_eq!(u64::from(controller.cntlid.get()), admin.result);
        let wrong = Sgl::Transport { len_bytes: 4096 };
        let refused = admin.status(identify(2, wrong)).await;
        assert_eq!(refused, Status::SGL_TYPE_INVALID);
        let info = admin.queue.info();
        assert_eq!((info.core.0, info.home.0, info.qid), (1, 0, 0));
        assert_eq!(info.transport, Transport::Rdma);
    });
}

#[test]
fn io_of_a_queue_away_and_its_abort() {
    run(1, |target, _| async move {
        let admin = enabled(&target).await;
        let io_queue = io_of(&target, &admin).await;
        let write = |cid, lba| io(NvmOpcode::WRITE, cid, lba, keyed(BLOCK));
        io_queue.send(write(1, 5), None).expect("there is room");
        let fetch = io_queue.fetch().await;
        io_queue.fill(fetch, 0xc3);
        assert!(io_queue.answer(1).await.cqe.status().is_success());
        // A write whose data is not here yet is aborted through home.
        io_queue.send(write(2, 5), None).expect("there is room");
        let late = io_queue.fetch().await;
        let buf = io_queue.take_buffer(late);
        let abort = Abort { sqid: 1, cid: 2 }.encode(7);
        assert_eq!(admin.run(abort).await.cqe.dw0() & Abort::NOT_ABORTED, 0);
        io_queue.queue.fetched(late.index, late.serial, buf, true);
        let aborted = io_queue.answer(2).await.cqe.status().code();
        assert_eq!(aborted, Status::ABORTED_BY_REQUEST);
        let read = io_queue.run(io(NvmOpcode::READ, 3, 5, keyed(BLOCK))).await;
        let data = read.data.expect("a read has data");
        assert!(data.iter().all(|byte| *byte == 0xc3), "the first write's");
    });
}

#[test]
fn event_requests_wait_at_home_and_are_posted_or_aborted() {
    run(1, |target, home| async move {
        let admin = enabled(&target).await;
        assert_eq!(admin.status(events_on(1)).await, Status::SUCCESS);
        for cid in 20..20 + MAX_WAITING as u16 {
            wait_for_event(&admin, cid).await;
        }
        let one_more = admin.status(event_request(30)).await;
        assert_eq!(one_more, Status::AER_LIMIT_EXCEEDED);
        let abort = Abort { sqid: 0, cid: 21 }.encode(7);
        assert_eq!(admin.run(abort).await.cqe.dw0() & Abort::NOT_ABORTED, 0);
        let aborted = admin.answer(21).await.cqe.status().code();
        assert_eq!(aborted, Status::ABORTED_BY_REQUEST);
        home.remove_volume(VOLUME).await.expect("it is offered");
        let told = admin.answer(20).await.cqe;
        assert_eq!(
            AsyncEvent::decode(told.dw0()),
            AsyncEvent::NAMESPACE_CHANGED
        );
        // Nothing of what waits holds up the end.
        admin.leave().await;
    });
}

#[test]
fn a_reset_aborts_event_requests_and_ends_io_queues() {
    run(1, |target, _| async move {
        let admin = enabled(&target).await;
        let io_queue = io_of(&target, &admin).await;
        wait_for_event(&admin, 20).await;
        assert_eq!(admin.configure(0).await, Status::SUCCESS);
        assert_eq!(io_queue.ending().await, CloseReason::ControllerReset);
        let aborted = admin.answer(20).await.cqe.status().code();
        assert_eq!(aborted, Status::ABORTED_BY_REQUEST);
        assert_eq!(admin.queue.link.ending.get(), None, "it goes on");
        assert_eq!(admin.configure(1).await, Status::SUCCESS);
        io_queue.leave().await;
        let again = io_of(&target, &admin).await;
        assert_eq!(again.queue.qid, 1, "its place is free");
    });
}

#[test]
fn the_keep_alive_timer_sees_commands_of_an_admin_queue_away() {
    run(1, |target, _| async move {
        let admin = admin_of(&target, 1000).await;
        assert_eq!(admin.configure(1).await, Status::SUCCESS);
        for cid in 0..5 {
            reactor::time::sleep(SECOND).await;
            let alive = Sqe::new(AdminOpcode::KEEP_ALIVE.0, cid, 0);
            assert_eq!(admin.status(alive).await, Status::SUCCESS);
        }
        let quiet = reactor::now();
        assert_eq!(admin.ending().await, CloseReason::KeepAliveExpired);
        let silence = quiet.elapsed();
        assert!(silence > SECOND && silence < 3 * SECOND, "{silence:?}");
    });
}

#[test]
fn the_end_of_the_admin_queue_takes_the_controller_along() {
    run(1, |target, home| async move {
        let admin = enabled(&target).await;
        let cntlid = admin.result as u16;
        let io_queue = io_of(&target, &admin).await;
        admin.leave().await;
        assert_eq!(io_queue.ending().await, CloseReason::AdminQueueGone);
        io_queue.leave().await;
        let refused = HostEnd::connect(&target, request(1, cntlid)).await;
        let refused = refused.err().expect("no such controller");
        assert_eq!(refused.status.code(), Status::CONNECT_INVALID_PARAMETERS);
        reactor::time::sleep(SECOND).await;
        assert!(home.away().is_empty() && target.connections().is_empty());
    });
}

#[test]
fn a_connect_that_nobody_waits_for_leaves_nothing() {
    run(1, |target, home| async move {
        let connect = join(&target, request(0, ANY), address());
        let given_up = net::first(connect, std::future::ready(())).await;
        assert!(given_up.is_none(), "home had no time to answer");
        reactor::time::sleep(SECOND).await;
        assert!(home.away().is_empty(), "its stand-in has ended");
        let nqn = volume_nqn(VOLUME);
        let subsystem = home.subsystem(&nqn).expect("it is offered");
        assert_eq!(subsystem.controller_count(), 0);
        let unknown = ConnectRequest {
            subsystem_nqn: volume_nqn("other"),
            ..request(0, ANY)
        };
        let refused = HostEnd::connect(&target, unknown).await;
        let refused = refused.err().expect("no such subsystem");
        assert_eq!(refused.status.code(), Status::CONNECT_INVALID_PARAMETERS);
    });
}

#[test]
fn a_home_that_shuts_down_ends_what_it_serves_elsewhere() {
    run(1, |target, home| async move {
        let admin = enabled(&target).await;
        let shutdown = reactor::spawn(async move { home.shutdown().await });
        assert_eq!(admin.ending().await, CloseReason::Shutdown);
        admin.leave().await;
        shutdown.await;
    });
}
