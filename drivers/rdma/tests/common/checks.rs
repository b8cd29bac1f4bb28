//! Checks of one-sided work and of order.

use rdma::Access;

use super::*;

/// Reads bring what the peer exposed, several at once, in order.
pub async fn reads_bring_the_peers_memory(bench: &Bench) {
    let ends = bench.ends().await;
    let len = 128 << 10;
    let exposed = bench
        .host
        .expose(filled(len, 3).await, Access::Read)
        .expect("exposed");
    let Remote { address, key } = exposed.remote();
    let whole = pattern(len, 3);
    for tag in 0..10 {
        let offset = tag as usize * 10_000;
        let from = Remote {
            address: address + offset as u64,
            key,
        };
        ends.target
            .post(tag, read(zeroed(8192).await, from))
            .expect("room");
    }
    ends.target.kick();
    for tag in 0..10 {
        let offset = tag as usize * 10_000;
        let buf = expect_read(&ends.target, tag).await;
        assert!(buf[..] == whole[offset..offset + 8192], "read {tag}");
    }
    assert!(exposed.take()[..] == whole[..]);
}

/// What was written before a message is there when the message is.
pub async fn writes_are_there_before_the_message(bench: &Bench) {
    let ends = bench.ends().await;
    for (round, len) in [1, 4096, 65536, 1 << 20].into_iter().enumerate() {
        let exposed = bench
            .host
            .expose(zeroed(len).await, Access::Write)
            .expect("exposed");
        let data = filled(len, round).await;
        ends.target
            .post(1, write(data, exposed.remote()))
            .expect("room");
        ends.target.post(2, inline(b"done")).expect("room");
        ends.target.kick();
        expect_received(&ends.host).await;
        assert!(exposed.take()[..] == pattern(len, round), "{len} bytes");
        expect_sent(&ends.target, 2).await;
    }
    until("room", || ends.target.room() == PAIR.send_entries).await;
}

/// Completions come in the order of posting, whatever the kinds.
pub async fn completions_keep_their_order(bench: &Bench) {
    let ends = bench.ends().await;
    let source = bench
        .host
        .expose(filled(4096, 1).await, Access::Read)
        .expect("exposed");
    let place = bench
        .host
        .expose(zeroed(4096).await, Access::Write)
        .expect("exposed");
    for tag in 0..5 {
        let first = 3 * tag;
        let into = zeroed(4096).await;
        let data = filled(4096, tag as usize).await;
        ends.target
            .post(first, write(data, place.remote()))
            .expect("room");
        ends.target
            .post(first + 1, read(into, source.remote()))
            .expect("room");
        ends.target.post(first + 2, inline(b"x")).expect("room");
    }
    ends.target.kick();
    for tag in 0..5 {
        let buf = expect_read(&ends.target, 3 * tag + 1).await;
        assert!(buf[..] == pattern(4096, 1));
        expect_sent(&ends.target, 3 * tag + 2).await;
        expect_received(&ends.host).await;
    }
    assert!(place.take()[..] == pattern(4096, 4));
}

/// What a peer may not do is refused, and ends the pair on both sides.
pub async fn forbidden_access_ends_the_pair(bench: &Bench) {
    let exposed = |access| async move { bench.host.expose(filled(4096, 1).await, access) };
    let readable = exposed(Access::Read).await.expect("exposed");
    let writable = exposed(Access::Write).await.expect("exposed");
    let stale = {
        let gone = exposed(Access::Read).await.expect("exposed");
        let remote = gone.remote();
        drop(gone.take());
        remote
    };
    let shifted = |remote: Remote, by: u64| Remote {
        address: remote.address.wrapping_add(by),
        key: remote.key,
    };
    let invented = Remote {
        key: readable.remote().key ^ 0x5a5a_5a00,
        ..readable.remote()
    };
    for (index, from) in [
        invented,
        stale,
        shifted(readable.remote(), 1),
        shifted(readable.remote(), u64::MAX),
        shifted(readable.remote(), 1 << 40),
    ]
    .into_iter()
    .enumerate()
    {
        let work = read(zeroed(4096).await, from);
        refused(bench, work, &format!("read {index}")).await;
    }
    for (index, to) in [
        readable.remote(),
        invented,
        stale,
        shifted(writable.remote(), 4095),
    ]
    .into_iter()
    .enumerate()
    {
        let work = write(filled(4096, 9).await, to);
        refused(bench, work, &format!("write {index}")).await;
    }
    assert!(readable.take()[..] == pattern(4096, 1), "nobody wrote");
}

async fn refused(bench: &Bench, work: Work, what: &str) {
    let ends = bench.ends().await;
    ends.target.post(1, inline(b"before")).expect("room");
    ends.target.post(2, work).expect("room");
    ends.target.post(3, inline(b"after")).expect("room");
    ends.target.post(4, inline(b"after")).expect("room");
    ends.target.kick();
    expect_sent(&ends.target, 1).await;
    assert_eq!(
        expect_failed(&ends.target, 2).await,
        WorkError::RemoteAccess,
        "{what}"
    );
    assert_eq!(expect_failed(&ends.target, 3).await, WorkError::Flushed);
    assert_eq!(expect_failed(&ends.target, 4).await, WorkError::Flushed);
    expect_lost(&ends.target).await;
    assert_eq!(expect_received(&ends.host).await.header[..6], *b"before");
    expect_lost(&ends.host).await;
}

/// A message longer than a receive ends the pair on both sides.
pub async fn too_long_messages_end_the_pair(bench: &Bench) {
    let ends = bench.ends().await;
    let longest = 64 + options().receive_data_bytes as usize;
    post(&ends.host, 1, send(filled(longest, 1).await));
    expect_sent(&ends.host, 1).await;
    expect_received(&ends.target).await;
    post(&ends.host, 2, send(filled(longest + 1, 1).await));
    assert_eq!(expect_failed(&ends.host, 2).await, WorkError::RemoteInvalid);
    expect_lost(&ends.host).await;
    assert_eq!(
        expect_lost(&ends.target).await,
        Lost::Failed(WorkError::Length)
    );
}
