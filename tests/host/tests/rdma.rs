//! The host over RDMA, in a simulated world, against a controller that follows the rules, and
//! against ones that break them.

mod fake;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use fake::over_rdma::{Fault, RECEIVES, Shared, serve, shared};
use host::rdma::{Controller, IoQueue, Options};
use host::{HostError, HostOptions, Op};
use rdma::soft::Faults;
use rdma::{Card, CardOptions};
use reactor::buf::pool;
use reactor::sim::{World, WorldOptions};
use wire::nvme::Status;
use wire::rdma::CmStatus;

const NQN: &str = "nqn.2026-11.io.bedplate:demo";
const LIMIT: Duration = Duration::from_secs(60);

fn card(exposes_memory: bool) -> Card {
    // Only the controller has use of data behind a header.
    let options = CardOptions {
        receive_entries: 128,
        receive_data_bytes: if exposes_memory { 0 } else { 8192 },
        exposes_memory,
        ..CardOptions::default()
    };
    Card::soft(options, Faults::default())
}

/// Where the controller is, and what it saw.
#[derive(Clone)]
struct Place {
    card: Card,
    address: SocketAddr,
    shared: Shared,
}

impl Place {
    async fn attach(&self, options: Options) -> Result<(Controller, IoQueue), HostError> {
        let mut controller = Controller::connect(&self.card, self.address, NQN, options).await?;
        let queue = controller.io_queues(1).await?.remove(0);
        Ok((controller, queue))
    }

    async fn queue(&self, options: Options) -> (Controller, IoQueue) {
        self.attach(options).await.expect("an I/O queue")
    }
}

/// Runs `host` against a controller with `fault`; gives what it gives.
fn run<T: 'static>(fault: Fault, host: impl AsyncFn(Place) -> T + 'static) -> T {
    let mut world = World::new(7, WorldOptions::default());
    let address = SocketAddr::new(world.node("controller"), 4420);
    let shared = shared();
    let seen = shared.clone();
    world.start("controller", 1, move |_| {
        serve(card(false), address, fault, seen.clone())
    });
    world.run_for(Duration::from_millis(1));
    let host = Rc::new(host);
    let result = world.run_once("host", LIMIT, move || {
        let (host, shared) = (host.clone(), shared.clone());
        async move {
            let place = Place {
                card: card(true),
                address,
                shared,
            };
            let before = pool().in_use_bytes();
            let result = host(place.clone()).await;
            // The card gives back what pairs that end hold.
            reactor::time::sleep(Duration::from_secs(1)).await;
            let stats = place.card.stats();
            assert_eq!(stats.queue_pairs, 0, "{stats:?}");
            assert_eq!(pool().in_use_bytes(), before, "every buffer is given back");
            result
        }
    });
    result.expect("the host ends")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) >> 3) as u8).collect()
}

fn plain() -> Options {
    Options::default()
}

#[test]
fn data_comes_back_in_every_form_of_a_transfer() {
    for (in_capsule, invalidate) in [(true, false), (false, false), (true, true), (false, true)] {
        run(Fault::None, async move |place: Place| {
            let host = HostOptions {
                in_capsule,
                ..HostOptions::default()
            };
            let options = Options {
                invalidate,
                ..host.into()
            };
            let (_controller, mut queue) = place.queue(options).await;
            for (lba, blocks) in [(0, 1), (8, 2), (16, 64), (128, 256)] {
                let data = pattern(blocks as usize * 4096);
                queue.write(lba, &data, false).await.expect("Write");
                assert!(queue.read(lba, blocks).await.expect("Read") == data);
            }
            queue.flush().await.expect("Flush");
            let asked = if invalidate { 4 } else { 0 };
            assert!(queue.queue().invalidations() >= asked);
            let seen = place.shared.borrow();
            let inside = if in_capsule { 2 } else { 0 };
            assert_eq!((seen.in_capsule, seen.fetched), (inside, 4 - inside));
        });
    }
}

#[test]
fn the_private_data_names_queue_sizes_and_controller() {
    for (names_controller, cntlid) in [(true, Some(5)), (false, None)] {
        run(Fault::None, async move |place: Place| {
            let options = Options {
                names_controller,
                ..HostOptions::default().with_queue_depth(64).into()
            };
            let (_controller, _queue) = place.queue(options).await;
            let seen = place.shared.borrow();
            let [admin, io] = seen.requests.as_slice() else {
                panic!("two queues, not {:?}", seen.requests);
            };
            assert_eq!((admin.qid.get(), admin.send_entries()), (0, 32));
            assert_eq!((io.qid.get(), io.send_entries()), (1, 64));
            assert_eq!((admin.controller(), io.controller()), (None, cntlid));
        });
    }
}

#[test]
fn many_commands_are_in_flight_and_the_queue_has_an_end() {
    run(Fault::None, async |place: Place| {
        let options = HostOptions::default().with_queue_depth(512).into();
        let (_controller, mut queue) = place.queue(options).await;
        // The controller has fewer receives than the host asked for.
        let most = usize::from(RECEIVES) - 1;
        let mut waiting = Vec::new();
        for lba in 0..most as u64 {
            let write = Op::Write {
                lba,
                data: pattern(4096),
                fua: false,
            };
            waiting.push(queue.submit(write).await.expect("a free entry"));
        }
        let full = queue.submit(Op::Flush).await;
        assert!(matches!(full, Err(HostError::QueueFull { entries }) if entries == most));
        while !waiting.is_empty() {
            let done = queue.next_completion().await.expect("a completion");
            let done = done.ok("Write").expect("success");
            waiting.retain(|cid| *cid != done.cid);
        }
        assert_eq!(queue.in_flight(), 0);
        queue.flush().await.expect("entries are free again");
    });
}

#[test]
fn a_fused_pair_gives_one_completion() {
    run(Fault::None, async |place: Place| {
        let (_controller, mut queue) = place.queue(plain()).await;
        let pair = |compare, write| Op::CompareAndWrite {
            lba: 3,
            compare,
            write,
        };
        let (old, new) = (vec![0; 4096], pattern(4096));
        let first = queue.run("pair", pair(old.clone(), new.clone())).await;
        first.expect("the block is zero");
        let second = queue.run("pair", pair(old, new)).await;
        let refused = second.expect_err("it is not any more");
        assert_eq!(refused.status(), Some(Status::COMPARE_FAILURE));
        assert_eq!(queue.in_flight(), 0);
    });
}

#[test]
fn what_breaks_the_rules_is_noticed() {
    let rows = [
        (Fault::LongResponse, false, "17 bytes"),
        (Fault::OtherCid, false, "no such command"),
        (Fault::Unasked, false, "although nobody asked"),
        (Fault::Forgetful, true, "does not invalidate"),
    ];
    for (fault, invalidate, problem) in rows {
        let error = run(fault, async move |place: Place| {
            let options = Options {
                invalidate,
                ..plain()
            };
            let (_controller, mut queue) = place.queue(options).await;
            let error = queue.read(0, 4).await;
            error.expect_err("a broken rule").to_string()
        });
        assert!(error.contains(problem), "{fault:?}: {error}");
    }
}

#[test]
fn data_that_was_not_written_shows() {
    let data = run(Fault::NoData, async |place: Place| {
        let (_controller, mut queue) = place.queue(plain()).await;
        queue.read(0, 1).await.expect("it says so")
    });
    assert!(data != [0; 4096], "the namespace is all zeroes");
}

#[test]
fn memory_that_was_not_exposed_is_out_of_reach() {
    let error = run(Fault::Beyond, async |place: Place| {
        let (_controller, mut queue) = place.queue(plain()).await;
        queue.read(0, 1).await.expect_err("an access error")
    });
    assert!(error.is_disconnect(), "{error}");
}

#[test]
fn a_queue_that_is_refused_says_why() {
    let open = async |place: Place| place.attach(plain()).await.map(drop).expect_err("refused");
    let error = run(Fault::Reject, open);
    assert!(
        matches!(&error, HostError::Rejected { status } if *status == CmStatus::INVALID_CNTLID),
        "{error}"
    );
    let error = run(Fault::Refuse, open);
    assert!(matches!(&error, HostError::Rdma(_)), "{error}");
    let error = run(Fault::Format, open).to_string();
    assert!(error.contains("record format 1"), "{error}");
    let error = run(Fault::NoKeys, open).to_string();
    assert!(error.contains("no keyed descriptors"), "{error}");
    let error = run(Fault::NoReceives, open).to_string();
    assert!(error.contains("0 receives"), "{error}");
}

#[test]
fn an_end_and_a_silence_are_told_apart() {
    let error = run(Fault::Disconnect, async |place: Place| {
        let (_controller, mut queue) = place.queue(plain()).await;
        queue.flush().await.expect_err("the connection ended")
    });
    assert!(matches!(&error, HostError::Lost(_)), "{error}");
    assert!(error.is_disconnect());
    let error = run(Fault::Silence, async |place: Place| {
        let hasty = HostOptions {
            timeout: Duration::from_millis(200),
            ..HostOptions::default()
        };
        let (_controller, mut queue) = place.queue(hasty.into()).await;
        queue.flush().await.expect_err("no answer")
    });
    assert!(matches!(&error, HostError::Timeout { in_flight, .. } if in_flight.len() == 1));
    assert!(!error.is_disconnect());
}

#[test]
fn a_queue_can_be_broken_at_any_moment() {
    run(Fault::None, async |place: Place| {
        let (mut controller, mut queue) = place.queue(plain()).await;
        for lba in 0..16 {
            let read = Op::Read { lba, count: 8 };
            queue.submit(read).await.expect("a free entry");
        }
        drop(queue);
        let queue = controller.io_queue(2).await;
        let mut queue = queue.expect("the controller is still there");
        queue.submit(Op::Flush).await.expect("a free entry");
        queue.queue().disconnect();
        queue.queue().wait_lost().await.expect("it ended");
        controller.keep_alive().await.expect_err("not known here");
    });
}
