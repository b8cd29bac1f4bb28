//! Checks of how connections begin and end.

use rdma::{PostError, RdmaError};

use super::*;

/// Both sides hear what the other says.
pub async fn private_data_is_carried(bench: &Bench) {
    let (card, address) = (bench.host.clone(), bench.listener.address());
    let host = reactor::spawn(async move { card.connect(address, &[7; 56], PAIR).await });
    let incoming = within(bench.listener.accept()).await.expect("a request");
    assert_eq!(incoming.private_data()[..56], [7; 56]);
    assert_eq!(incoming.local().port(), address.port());
    assert_ne!(incoming.peer().port(), 0);
    let target = within(incoming.accept(b"welcome", PAIR)).await;
    let (host, said) = within(host).await.expect("connected");
    assert_eq!(said[..7], *b"welcome");
    let target = target.expect("connected");
    assert_ne!(target.number(), 0);
    assert_ne!(host.number(), 0);
}

/// A refusal says why; a dropped request is refused as well; so is an address where nobody is.
pub async fn requests_are_refused(bench: &Bench) {
    for says in [Some(&b"no room"[..]), None] {
        let (card, address) = (bench.host.clone(), bench.listener.address());
        let host = reactor::spawn(async move { card.connect(address, b"", PAIR).await });
        let incoming = within(bench.listener.accept()).await.expect("a request");
        match says {
            Some(words) => incoming.reject(words),
            None => drop(incoming),
        }
        match within(host).await {
            Err(RdmaError::Refused { private_data, .. }) => {
                let says = says.unwrap_or_default();
                assert_eq!(private_data[..says.len()], *says);
            }
            other => panic!("instead of a refusal: {other:?}"),
        }
    }
    let mut nobody = bench.listener.address();
    nobody.set_port(nobody.port() ^ 1);
    let refused = within(bench.host.connect(nobody, b"", PAIR)).await;
    assert!(matches!(refused, Err(RdmaError::Refused { .. })));
}

/// A request may be answered by another card than the one that listens.
pub async fn requests_move_between_cards(bench: &Bench, elsewhere: &Card) {
    let (card, address) = (bench.host.clone(), bench.listener.address());
    let host = reactor::spawn(async move { card.connect(address, b"move me", PAIR).await });
    let incoming = within(bench.listener.accept()).await.expect("a request");
    let moved = elsewhere.attach(incoming.detach()).expect("attached");
    assert_eq!(moved.private_data()[..7], *b"move me");
    let before = bench.target.stats().queue_pairs;
    let target = within(moved.accept(b"", PAIR)).await.expect("accepted");
    let (host, _) = within(host).await.expect("connected");
    assert_eq!(bench.target.stats().queue_pairs, before);
    post(&host, 1, inline(b"hello"));
    assert_eq!(expect_received(&target).await.header[..5], *b"hello");
    expect_sent(&host, 1).await;
}

/// Each side can end it; the other is told; nothing can be posted then.
pub async fn either_side_disconnects(bench: &Bench) {
    for by_host in [true, false] {
        let ends = bench.ends().await;
        let (ender, other) = match by_host {
            true => (&ends.host, &ends.target),
            false => (&ends.target, &ends.host),
        };
        post(ender, 1, inline(b"last"));
        expect_sent(ender, 1).await;
        ender.post(2, inline(b"never rung")).expect("room");
        ender.disconnect();
        assert_eq!(expect_failed(ender, 2).await, WorkError::Flushed);
        assert_eq!(expect_lost(ender).await, Lost::Here);
        assert_eq!(expect_lost(ender).await, Lost::Here, "it stays lost");
        expect_received(other).await;
        assert_eq!(expect_lost(other).await, Lost::ByPeer);
        for pair in [ender, other] {
            match pair.post(3, inline(b"x")) {
                Err(PostError::Lost(Work::Send { .. })) => {}
                posted => panic!("instead of lost: {posted:?}"),
            }
        }
    }
}

/// A message that its receiver has was sent, also when the receiver ends the pair right after.
pub async fn received_messages_were_sent(bench: &Bench) {
    for dropped in [true, false] {
        let ends = bench.ends().await;
        post(&ends.host, 1, inline(b"last words"));
        expect_received(&ends.target).await;
        match dropped {
            true => drop(ends.target),
            false => ends.target.disconnect(),
        }
        expect_sent(&ends.host, 1).await;
        assert_eq!(expect_lost(&ends.host).await, Lost::ByPeer);
    }
}

/// A pair whose user is gone ends by itself, and gives everything back.
pub async fn dropped_pairs_give_everything_back(bench: &Bench) {
    let before = bench.target.stats();
    let exposed = bench
        .host
        .expose(filled(1 << 20, 1).await, rdma::Access::Read)
        .expect("exposed");
    let at_rest = pool().in_use_bytes();
    for kept in [true, false] {
        let ends = bench.ends().await;
        for tag in 0..4 {
            let into = zeroed(1 << 18).await;
            post(&ends.target, tag, read(into, exposed.remote()));
            post(&ends.target, 10 + tag, send(filled(4000, 1).await));
        }
        let Ends { target, host } = ends;
        drop(target);
        if kept {
            // What had arrived may be taken first.
            while next(&host).await.is_ok() {}
        }
        drop(host);
        until("all pairs are gone", || {
            bench.target.stats().queue_pairs == before.queue_pairs
                && bench.host.stats().queue_pairs == before.queue_pairs
        })
        .await;
        until("all memory is back", || pool().in_use_bytes() == at_rest).await;
    }
    assert_eq!(bench.target.stats().receives_posted, before.receives_posted);
    drop(exposed.take());
}

/// A hundred connections, one after the other, with work under way when they end.
pub async fn connections_come_and_go(bench: &Bench, rounds: usize) {
    let at_rest = pool().in_use_bytes();
    for round in 0..rounds {
        let ends = bench.ends().await;
        for tag in 0..8 {
            post(
                &ends.host,
                tag,
                send(filled(64 + 512 * tag as usize, round).await),
            );
        }
        match round % 4 {
            0 => ends.host.disconnect(),
            1 => ends.target.disconnect(),
            2 => {
                ends.host.disconnect();
                ends.target.disconnect();
            }
            _ => {}
        }
    }
    until("all pairs are gone", || {
        bench.host.stats().queue_pairs + bench.target.stats().queue_pairs == 0
    })
    .await;
    until("all memory is back", || pool().in_use_bytes() == at_rest).await;
    for card in [&bench.host, &bench.target] {
        let stats = card.stats();
        assert_eq!(stats.receives_posted, u64::from(options().receive_entries));
    }
}
