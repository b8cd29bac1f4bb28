//! What the simulated card does wrong on purpose, one thing at a time, and connections that are
//! lost in each of their states.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use rdma::soft::{Faults, Rates, SetupStep, Strikes, WorkKind};
use rdma::{Access, Card, Completion, Lost, RdmaError, Remote, Work, WorkError};
use reactor::sim::{Crash, World, WorldOptions};
use reactor::time::{sleep, timeout};

const PORT: u16 = 4420;
const SEEDS: u64 = 10;

/// Two cards of one core, and a hand on the faults of each.
struct Faulty {
    bench: Bench,
    target: Faults,
    host: Faults,
}

async fn faulty() -> Faulty {
    let (target, host) = (Faults::default(), Faults::default());
    let card = |faults: &Faults| Card::soft(options(), faults.clone());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let bench = Bench::new(card(&target), card(&host), address).await;
    Faulty {
        bench,
        target,
        host,
    }
}

fn in_worlds<F: Future<Output = ()> + 'static>(check: impl Fn() -> F + Copy + 'static) {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, WorldOptions::default());
        world.run_once("node", Duration::from_secs(600), check);
    }
}

/// Work of a kind that would succeed.
async fn good(kind: WorkKind, source: Remote, place: Remote) -> Work {
    match kind {
        WorkKind::Send => inline(b"good"),
        WorkKind::Read => read(zeroed(4096).await, source),
        WorkKind::Write => write(filled(4096, 2).await, place),
    }
}

/// Each kind of work fails as asked, in order, and the pair with it.
async fn work_fails(error: WorkError, strikes: Strikes) {
    let Faulty { bench, target, .. } = faulty().await;
    for kind in [WorkKind::Send, WorkKind::Read, WorkKind::Write] {
        let source = bench.host.expose(filled(4096, 1).await, Access::Read);
        let source = source.expect("exposed");
        let place = bench.host.expose(zeroed(4096).await, Access::Write);
        let place = place.expect("exposed");
        let (from, to) = (source.remote(), place.remote());
        let ends = bench.ends().await;
        target.fail_next(ends.target.number(), kind, error, strikes);
        let pair = &ends.target;
        pair.post(0, write(filled(4096, 2).await, to))
            .expect("room");
        let before = match kind {
            WorkKind::Send => read(zeroed(4096).await, from),
            _ => inline(b"before"),
        };
        if kind != WorkKind::Write {
            pair.post(1, before).expect("room");
            pair.post(2, good(kind, from, to).await).expect("room");
        } else {
            // The write that was posted first is the one that fails.
            pair.post(1, before).expect("room");
        }
        pair.post(3, inline(b"after")).expect("room");
        pair.kick();
        if kind == WorkKind::Write {
            assert_eq!(expect_failed(pair, 0).await, error);
            assert_eq!(expect_failed(pair, 1).await, WorkError::Flushed);
        } else {
            let first = next(pair).await;
            assert!(matches!(first, Ok(Completion::Done { tag: 1, .. })));
            assert_eq!(expect_failed(pair, 2).await, error, "{kind:?}");
        }
        assert_eq!(expect_failed(pair, 3).await, WorkError::Flushed);
        assert_eq!(expect_lost(pair).await, Lost::Failed(error));
        // The peer is told. What was carried out before it cannot be taken back.
        while next(&ends.host).await.is_ok() {}
        let reached = kind != WorkKind::Write || strikes == Strikes::After;
        assert_eq!(place.take()[..] == pattern(4096, 2), reached, "{kind:?}");
    }
    assert_eq!(target.struck(), 3);
    assert_eq!(bench.target.stats().failed, 3);
}

#[test]
fn work_fails_before_the_peer_saw_it() {
    in_worlds(|| work_fails(WorkError::RemoteAccess, Strikes::Before));
}

#[test]
fn work_fails_after_the_peer_carried_it_out() {
    in_worlds(|| work_fails(WorkError::Unreachable, Strikes::After));
}

/// Breaks a connection at one step of its set-up; the next one works.
async fn breaks_at(step: SetupStep) {
    let Faulty {
        bench,
        target,
        host,
    } = faulty().await;
    target.break_next(step);
    host.break_next(step);
    let (card, address) = (bench.host.clone(), bench.listener.address());
    let connecting = reactor::spawn(async move { card.connect(address, b"", PAIR).await });
    let limit = Duration::from_millis(100);
    let accepted = match timeout(limit, bench.listener.accept()).await {
        Ok(incoming) => Some(within(incoming.expect("a request").accept(b"", PAIR)).await),
        // Nobody heard of it.
        Err(_) => None,
    };
    let connected = within(connecting).await;
    match step {
        // The host learns later.
        SetupStep::Accepted => {
            let (pair, _) = connected.expect("the target had accepted");
            assert_eq!(expect_lost(&pair).await, Lost::ByPeer);
        }
        _ => assert!(matches!(connected, Err(RdmaError::Gone { .. })), "{step:?}"),
    }
    match step {
        SetupStep::Requested | SetupStep::Connecting => assert!(accepted.is_none()),
        _ => assert!(matches!(accepted, Some(Err(RdmaError::Gone { .. })))),
    }
    assert_eq!(target.struck() + host.struck(), 1, "{step:?}");
    let ends = bench.ends().await;
    post(&ends.host, 1, inline(b"works"));
    expect_received(&ends.target).await;
}

#[test]
fn connections_break_at_every_step() {
    in_worlds(|| async {
        for step in [
            SetupStep::Connecting,
            SetupStep::Waiting,
            SetupStep::Connected,
            SetupStep::Requested,
            SetupStep::Accepting,
            SetupStep::Accepted,
        ] {
            breaks_at(step).await;
        }
    });
}

#[test]
fn a_request_can_vanish() {
    in_worlds(|| async {
        let Faulty { bench, target, .. } = faulty().await;
        target.vanish_next_connect();
        let connect = bench.host.connect(bench.listener.address(), b"", PAIR);
        let limit = Duration::from_secs(2);
        assert!(timeout(limit, connect).await.is_err(), "nobody answers");
        assert_eq!(bench.host.stats().queue_pairs, 0);
        bench.ends().await;
    });
}

#[test]
fn a_pair_breaks_with_reads_under_way() {
    in_worlds(|| async {
        let Faulty { bench, target, .. } = faulty().await;
        let source = bench.host.expose(filled(1 << 20, 1).await, Access::Read);
        let source = source.expect("exposed");
        let at_rest = reactor::buf::pool().in_use_bytes();
        let ends = bench.ends().await;
        for tag in 0..4 {
            let into = zeroed(1 << 18).await;
            post(&ends.target, tag, read(into, source.remote()));
        }
        sleep(Duration::from_micros(100 + reactor::random_u64() % 400)).await;
        target.break_pair(ends.target.number());
        let mut tag = 0;
        let mut why = WorkError::Unreachable;
        loop {
            match next(&ends.target).await {
                Ok(Completion::Done { tag: done, .. }) => assert_eq!(done, tag),
                Ok(Completion::Failed { tag: failed, error }) => {
                    assert_eq!((failed, error), (tag, why));
                    why = WorkError::Flushed;
                }
                Ok(other) => panic!("{other:?}"),
                Err(lost) => {
                    assert_eq!(lost, Lost::Failed(WorkError::Unreachable));
                    break;
                }
            }
            tag += 1;
        }
        assert_eq!(tag, 4, "each came back once");
        expect_lost(&ends.host).await;
        until("all memory is back", || {
            reactor::buf::pool().in_use_bytes() == at_rest
        })
        .await;
    });
}

#[test]
fn receives_run_out_for_a_while() {
    in_worlds(|| async {
        let Faulty { bench, target, .. } = faulty().await;
        let ends = bench.ends().await;
        let source = bench.target.expose(filled(4096, 1).await, Access::Read);
        let source = source.expect("exposed");
        let dry = Duration::from_millis(5);
        target.run_dry(ends.target.number(), dry);
        let start = reactor::now();
        ends.host.post(1, inline(b"first")).expect("room");
        let into = zeroed(4096).await;
        ends.host
            .post(2, read(into, source.remote()))
            .expect("room");
        ends.host.post(3, inline(b"second")).expect("room");
        ends.host.kick();
        // The other direction goes on meanwhile.
        post(&ends.target, 1, inline(b"hello"));
        expect_sent(&ends.target, 1).await;
        assert!(start.elapsed() < dry);
        expect_received(&ends.host).await;
        assert_eq!(expect_received(&ends.target).await.header[..5], *b"first");
        assert!(start.elapsed() >= dry);
        assert_eq!(expect_received(&ends.target).await.header[..6], *b"second");
        expect_sent(&ends.host, 1).await;
        assert!(expect_read(&ends.host, 2).await[..] == pattern(4096, 1));
        expect_sent(&ends.host, 3).await;
        assert!(target.not_ready() > 1);
    });
}

#[test]
fn completions_come_late_and_in_order() {
    in_worlds(|| async {
        let Faulty { bench, host, .. } = faulty().await;
        let ends = bench.ends().await;
        host.set(Rates {
            late_ppm: 500_000,
            late_flush_ppm: 500_000,
            late: Duration::from_millis(3),
            disconnect_twice_ppm: 1_000_000,
            ..Rates::default()
        });
        let start = reactor::now();
        for tag in 0..16 {
            post(&ends.host, tag, inline(b"x"));
        }
        for tag in 0..16 {
            expect_received(&ends.target).await;
            expect_sent(&ends.host, tag).await;
        }
        assert!(start.elapsed() > Duration::from_millis(1));
        for tag in 0..16 {
            ends.host.post(tag, inline(b"never rung")).expect("room");
        }
        ends.host.disconnect();
        let ended = reactor::now();
        for tag in 0..16 {
            assert_eq!(expect_failed(&ends.host, tag).await, WorkError::Flushed);
        }
        assert_eq!(expect_lost(&ends.host).await, Lost::Here);
        assert!(ended.elapsed() > Duration::from_millis(1));
        assert_eq!(expect_lost(&ends.target).await, Lost::ByPeer);
    });
}

/// A host whose node or network fails while it is connected.
fn host_fails(seed: u64, fail: impl FnOnce(&mut World), lost: Lost) {
    let mut world = World::new(seed, WorldOptions::default());
    let address = SocketAddr::new(world.node("target"), PORT);
    let (connected, ended) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
    let (flag, end) = (connected.clone(), ended.clone());
    world.start("target", 1, move |_| {
        let (flag, end) = (flag.clone(), end.clone());
        async move {
            let card = Card::soft(options(), Faults::default());
            let address = SocketAddr::from(([0, 0, 0, 0], PORT));
            let listener = card.listen(address).await.expect("the port is free");
            let incoming = within(listener.accept()).await.expect("a request");
            let pair = within(incoming.accept(b"", PAIR)).await.expect("ready");
            flag.set(true);
            // The host's receives run out, so that something is always under way.
            for tag in 0..16 {
                post(&pair, tag, send(filled(4000, 1).await));
            }
            let mut tag = 0;
            let why = loop {
                match pair.next().await {
                    Ok(Completion::Done { tag: done, .. }) => assert_eq!(done, tag),
                    Ok(Completion::Failed { tag: failed, .. }) => assert_eq!(failed, tag),
                    Ok(other) => panic!("{other:?}"),
                    Err(why) => break why,
                }
                tag += 1;
            };
            assert_eq!(tag, 16);
            end.set(Some(why));
            sleep(Duration::from_secs(1)).await;
        }
    });
    world.run_for(Duration::from_millis(1));
    world.start("host", 1, move |_| async move {
        let scarce = rdma::CardOptions {
            receive_entries: 4,
            ..options()
        };
        let card = Card::soft(scarce, Faults::default());
        let (_pair, _) = card.connect(address, b"", PAIR).await.expect("connected");
        sleep(Duration::from_secs(3600)).await;
    });
    world.run_until(Duration::from_secs(1), |_| connected.get());
    world.run_for(Duration::from_millis(20));
    fail(&mut world);
    // Sooner than TCP would notice: a card sends again a few times and gives up.
    world.run_until(Duration::from_secs(12), |_| ended.get().is_some());
    assert_eq!(ended.get(), Some(lost), "seed {seed}");
}

#[test]
fn a_host_that_dies_is_noticed() {
    let unreachable = Lost::Failed(WorkError::Unreachable);
    for seed in 0..SEEDS {
        host_fails(seed, |world| world.crash("host", Crash::Kill), Lost::ByPeer);
        host_fails(
            seed,
            |world| world.crash("host", Crash::PowerLoss),
            unreachable,
        );
        host_fails(seed, |world| world.partition("host", "target"), unreachable);
        host_fails(
            seed,
            |world| {
                world.drop_connection("host", "target");
            },
            unreachable,
        );
    }
}
