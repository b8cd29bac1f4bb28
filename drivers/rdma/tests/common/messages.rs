//! Checks of messages and their receives.

use std::time::Duration;

use rdma::{Access, HEADER_BYTES, PairOptions, Payload, PostError, Work};
use reactor::time::sleep;

use super::*;

/// Messages arrive whole and in order: 64 bytes apart, the rest page-aligned.
pub async fn messages_arrive_in_order(bench: &Bench) {
    let ends = bench.ends().await;
    let lens = [1, 16, 64, 65, 576, 64 + 4096, 64, 4000];
    for (tag, len) in lens.into_iter().enumerate() {
        post(&ends.host, tag as u64, send(filled(len, tag).await));
    }
    for (tag, len) in lens.into_iter().enumerate() {
        let received = expect_received(&ends.target).await;
        let sent = pattern(len, tag);
        let in_header = len.min(HEADER_BYTES);
        assert_eq!(received.len_bytes as usize, len);
        assert_eq!(
            received.header[..in_header],
            sent[..in_header],
            "{len} bytes"
        );
        if len < HEADER_BYTES && received.header[in_header..].iter().any(|byte| *byte != 0) {
            panic!("bytes beyond the message's end");
        }
        let data = received.data.as_deref().unwrap_or_default();
        assert!(data == &sent[in_header..], "data of {len} bytes");
        assert_eq!(received.data.is_some(), len > HEADER_BYTES);
        if let Some(data) = &received.data {
            assert!(data.as_ptr().addr().is_multiple_of(4096));
        }
        assert_eq!(received.invalidated, None);
        expect_sent(&ends.host, tag as u64).await;
    }
}

/// Both ends talk at once, for longer than the queues are.
pub async fn both_ends_talk(bench: &Bench) {
    let ends = bench.ends().await;
    let other = {
        let pair = ends.target.clone();
        reactor::spawn(async move { talk(&pair, 100).await })
    };
    talk(&ends.host, 100).await;
    other.await;
}

async fn talk(pair: &QueuePair, count: u64) {
    let (mut sent, mut done, mut heard) = (0, 0, 0);
    while done < count || heard < count {
        while sent < count && pair.room() > 0 {
            post(pair, sent, inline(&sent.to_le_bytes()));
            sent += 1;
        }
        match next(pair).await.expect("the pair lives") {
            Completion::Received(received) => {
                assert_eq!(received.header[..8], u64::to_le_bytes(heard));
                heard += 1;
            }
            Completion::Done { tag, .. } => {
                assert_eq!(tag, done);
                done += 1;
            }
            Completion::Failed { tag, error } => panic!("{tag}: {error}"),
        }
    }
}

/// Nothing leaves before the bell rings; more than the send queue holds comes back.
pub async fn the_send_queue_has_an_end(bench: &Bench) {
    let ends = bench.ends().await;
    let entries = u64::from(PAIR.send_entries);
    for tag in 0..entries {
        assert_eq!(u64::from(ends.host.room()), entries - tag);
        ends.host.post(tag, inline(b"x")).expect("there is room");
    }
    match ends.host.post(99, inline(b"y")) {
        Err(PostError::Full(Work::Send { .. })) => {}
        other => panic!("instead of full: {other:?}"),
    }
    sleep(Duration::from_millis(20)).await;
    assert!(ends.target.try_next().is_none(), "the bell did not ring");
    ends.host.kick();
    for tag in 0..entries {
        expect_received(&ends.target).await;
        expect_sent(&ends.host, tag).await;
    }
    until("room again", || ends.host.room() == PAIR.send_entries).await;
}

/// A message takes a key away, and says which.
pub async fn a_message_invalidates_a_key(bench: &Bench) {
    let ends = bench.ends().await;
    let exposed = bench
        .host
        .expose(filled(4096, 1).await, Access::Read)
        .expect("the card exposes memory");
    let remote = exposed.remote();
    post(&ends.target, 1, read(zeroed(4096).await, remote));
    assert!(expect_read(&ends.target, 1).await[..] == pattern(4096, 1));
    let goodbye = Work::Send {
        payload: Payload::Buf(filled(16, 2).await),
        invalidate: Some(remote.key),
    };
    post(&ends.target, 2, goodbye);
    assert_eq!(
        expect_received(&ends.host).await.invalidated,
        Some(remote.key)
    );
    expect_sent(&ends.target, 2).await;
    post(&ends.target, 3, read(zeroed(4096).await, remote));
    assert_eq!(
        expect_failed(&ends.target, 3).await,
        WorkError::RemoteAccess
    );
    assert!(exposed.take()[..] == pattern(4096, 1), "the memory is back");
}

/// With all receives in use senders wait, and nothing is lost or out of order.
pub async fn senders_wait_for_receives(bench: &Bench) {
    let count = 3 * options().receive_entries as usize;
    let wide = PairOptions {
        send_entries: count as u32,
        ..PAIR
    };
    let ends = bench.ends_with(wide).await;
    for tag in 0..count {
        let payload = filled(100, tag).await;
        ends.host.post(tag as u64, send(payload)).expect("room");
    }
    ends.host.kick();
    sleep(Duration::from_millis(50)).await;
    // The first messages wait in the target's inbox and hold all receives.
    let mut sent = 0;
    while let Some(completion) = ends.host.try_next() {
        assert!(matches!(completion, Ok(Completion::Done { .. })));
        sent += 1;
    }
    assert!(sent < count, "{sent} messages had a receive");
    for tag in 0..count {
        let received = expect_received(&ends.target).await;
        assert_eq!(received.header[..], pattern(100, tag)[..HEADER_BYTES]);
    }
    for tag in sent..count {
        expect_sent(&ends.host, tag as u64).await;
    }
}
