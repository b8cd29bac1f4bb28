//! Where the simulated card's resources end, and requests that move between cores.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use rdma::soft::Faults;
use rdma::{Access, Card, CardOptions, DetachedIncoming, RdmaError, Remote, WorkError};
use reactor::buf::pool;
use reactor::mailbox::{self, Receiver, Sender};
use reactor::sim::{World, WorldOptions};
use reactor::time::{sleep, timeout};

const PORT: u16 = 4420;
const SEEDS: u64 = 10;

async fn bench_with(target: CardOptions) -> Bench {
    let card = |options| Card::soft(options, Faults::default());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Bench::new(card(target), card(options()), address).await
}

fn in_worlds<F: Future<Output = ()> + 'static>(check: impl Fn() -> F + Copy + 'static) {
    for seed in 0..SEEDS {
        let mut options = WorldOptions::default();
        options.core.io_pool_bytes = 8 << 20;
        let mut world = World::new(seed, options);
        world.run_once("node", Duration::from_secs(600), check);
    }
}

#[test]
fn pairs_beyond_the_completion_queue_are_refused() {
    in_worlds(|| async {
        let two_pairs = CardOptions {
            completion_entries: 32 + 2 * PAIR.send_entries,
            ..options()
        };
        let bench = bench_with(two_pairs).await;
        let first = bench.ends().await;
        let second = bench.ends().await;
        let (card, address) = (bench.host.clone(), bench.listener.address());
        let third = reactor::spawn(async move { card.connect(address, b"", PAIR).await });
        let incoming = within(bench.listener.accept()).await.expect("a request");
        let accepted = within(incoming.accept(b"", PAIR)).await;
        assert!(matches!(accepted, Err(RdmaError::Setup { .. })));
        assert!(matches!(
            within(third).await,
            Err(RdmaError::Refused { .. })
        ));
        drop(first);
        until("a place is free", || bench.target.stats().queue_pairs == 1).await;
        bench.ends().await;
        drop(second);
    });
}

#[test]
fn only_unshared_memory_is_exposed_or_read_into() {
    in_worlds(|| async {
        let target = CardOptions {
            exposes_memory: false,
            ..options()
        };
        let bench = bench_with(target).await;
        let buf = zeroed(100).await;
        let refused = bench.target.expose(buf, Access::Read);
        assert!(matches!(refused, Err(RdmaError::Memory { .. })));
        let buf = zeroed(100).await;
        let shared = buf.clone();
        let refused = bench.host.expose(buf, Access::Write);
        assert!(matches!(refused, Err(RdmaError::Memory { .. })));
        assert_eq!(bench.host.stats().memory_regions, 0);
        let ends = bench.ends().await;
        let from = Remote { address: 0, key: 0 };
        let also_shared = shared.clone();
        post(&ends.target, 1, read(shared, from));
        assert_eq!(expect_failed(&ends.target, 1).await, WorkError::Local);
        drop(also_shared);
        expect_lost(&ends.host).await;
    });
}

#[test]
fn a_pool_without_memory_makes_receives_short() {
    in_worlds(|| async {
        let bench = bench_with(options()).await;
        let ends = bench.ends().await;
        let mut hoard = Vec::new();
        while let Some(buf) = pool().try_alloc(4096) {
            hoard.push(buf);
        }
        let receives = options().receive_entries as usize;
        // Messages that stay with their user use up the posted receives for good.
        let mut kept = Vec::new();
        for number in 0..receives {
            let message = reactor::buf::engine_alloc(100).await;
            post(&ends.host, number as u64, send(message));
            kept.push(expect_received(&ends.target).await);
            expect_sent(&ends.host, number as u64).await;
        }
        assert!(bench.target.stats().receives_short > 0);
        post(&ends.host, 99, inline(b"waits"));
        sleep(Duration::from_millis(10)).await;
        assert!(ends.target.try_next().is_none() && ends.host.try_next().is_none());
        hoard.truncate(hoard.len() / 2);
        assert_eq!(expect_received(&ends.target).await.header[..5], *b"waits");
        expect_sent(&ends.host, 99).await;
        drop(kept);
    });
}

#[test]
fn writes_hold_their_place_until_later_work_completes() {
    in_worlds(|| async {
        let bench = bench_with(options()).await;
        let place = bench.host.expose(zeroed(4096).await, Access::Write);
        let place = place.expect("exposed");
        let ends = bench.ends().await;
        let at_rest = pool().in_use_bytes();
        for tag in 0..3 {
            let data = filled(4096, 1).await;
            post(&ends.target, tag, write(data, place.remote()));
        }
        sleep(Duration::from_millis(10)).await;
        assert_eq!(ends.target.room(), PAIR.send_entries - 3);
        assert_eq!(pool().in_use_bytes(), at_rest + 3 * 4096);
        post(&ends.target, 3, inline(b"done"));
        expect_sent(&ends.target, 3).await;
        assert_eq!(ends.target.room(), PAIR.send_entries);
        expect_received(&ends.host).await;
        until("the memory is back", || pool().in_use_bytes() == at_rest).await;
        assert!(place.take()[..] == pattern(4096, 1));
    });
}

/// The first core listens and gives every request to the second.
async fn listen(out: Sender<DetachedIncoming>, is_over: Rc<Cell<bool>>) {
    let card = Card::soft(options(), Faults::default());
    let address = SocketAddr::from(([0, 0, 0, 0], PORT));
    let listener = card.listen(address).await.expect("the port is free");
    while !is_over.get() {
        let next = timeout(Duration::from_millis(10), listener.accept()).await;
        if let Ok(Ok(incoming)) = next {
            assert_eq!(incoming.private_data()[..4], *b"move");
            assert!(out.try_send(incoming.detach()).is_ok());
        }
    }
    assert_eq!(card.stats().completions, 0);
}

async fn serve(mut requests: Receiver<DetachedIncoming>, is_over: Rc<Cell<bool>>) {
    let card = Card::soft(options(), Faults::default());
    while !is_over.get() {
        let next = timeout(Duration::from_millis(10), requests.recv()).await;
        let Ok(Some(detached)) = next else { continue };
        let incoming = card.attach(detached).expect("attached");
        let pair = within(incoming.accept(b"", PAIR)).await.expect("accepted");
        let received = expect_received(&pair).await;
        post(&pair, 1, inline(&received.header));
        expect_sent(&pair, 1).await;
        assert_eq!(expect_lost(&pair).await, rdma::Lost::ByPeer);
    }
}

#[test]
fn requests_move_between_cores() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, WorldOptions::default());
        let address = SocketAddr::new(world.node("target"), PORT);
        let is_over = Rc::new(Cell::new(false));
        let over = is_over.clone();
        world.start_with("target", 2, move || {
            let (out, requests) = mailbox::channel(8);
            let requests = Rc::new(Cell::new(Some(requests)));
            let over = over.clone();
            move |core| {
                let (out, requests) = (out.clone(), requests.clone());
                let over = over.clone();
                async move {
                    if core == 0 {
                        listen(out, over).await;
                    } else if let Some(requests) = requests.take() {
                        serve(requests, over).await;
                    }
                }
            }
        });
        world.run_for(Duration::from_millis(1));
        let served = world.run_once("host", Duration::from_secs(60), move || async move {
            let card = Card::soft(options(), Faults::default());
            for round in 0..5 {
                let connect = card.connect(address, b"move", PAIR);
                let (pair, _) = within(connect).await.expect("connected");
                post(&pair, 1, inline(&[round; 9]));
                expect_sent(&pair, 1).await;
                assert_eq!(expect_received(&pair).await.header[..9], [round; 9]);
            }
        });
        is_over.set(true);
        world.run_for(Duration::from_millis(100));
        assert!(served.is_some() && !world.is_up("target"), "seed {seed}");
    }
}
