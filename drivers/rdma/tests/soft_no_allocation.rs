//! After warm-up the simulated card takes nothing from the heap for a request: receive, read,
//! write, answer. Exposing a buffer takes its handle, at the side that exposes.

mod common;

use std::net::SocketAddr;

use common::*;
use rdma::soft::Faults;
use rdma::{Access, Card, CardOptions, Completion, Done, Remote, Work};
use reactor::buf::pool;
use reactor::cores::{self, CoreConfig};

const LEN: usize = 4096;

/// A card with few receives, so that all of them were used in a short warm-up.
async fn ends() -> (Bench, Ends) {
    let options = CardOptions {
        receive_entries: 8,
        ..options()
    };
    let card = || Card::soft(options.clone(), Faults::default());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let bench = Bench::new(card(), card(), address).await;
    let ends = bench.ends().await;
    (bench, ends)
}

/// The host's side of one request: exposes memory, asks, is answered.
async fn request(bench: &Bench, pair: &rdma::QueuePair, tag: u64, access: Access) {
    let buf = pool().alloc(LEN).await;
    let exposed = bench.host.expose(buf, access).expect("exposed");
    let mut command = pool().alloc(64 + 512).await;
    command.zero_fill();
    let remote = exposed.remote();
    let bytes = command.as_mut();
    bytes[0] = u8::from(access == Access::Write);
    bytes[4..8].copy_from_slice(&remote.key.to_le_bytes());
    bytes[8..16].copy_from_slice(&remote.address.to_le_bytes());
    pair.post(tag, send(command)).expect("room");
    pair.kick();
    let (mut is_sent, mut is_answered) = (false, false);
    while !(is_sent && is_answered) {
        match pair.next().await.expect("the pair lives") {
            Completion::Received(received) => {
                assert_eq!(received.invalidated, Some(remote.key));
                is_answered = true;
            }
            Completion::Done { .. } => is_sent = true,
            Completion::Failed { error, .. } => panic!("{error}"),
        }
    }
    assert_eq!(exposed.take().len(), LEN);
}

/// The target's side of all requests.
async fn serve(pair: rdma::QueuePair) {
    let mut remote = Remote { address: 0, key: 0 };
    while let Ok(completion) = pair.next().await {
        match completion {
            Completion::Received(received) => {
                let header = &received.header;
                let word = |at: usize| header[at..at + 8].try_into().expect("8 bytes");
                remote.address = u64::from_le_bytes(word(8));
                remote.key = (u64::from_le_bytes(word(0)) >> 32) as u32;
                let buf = pool().alloc(LEN).await;
                if header[0] == 1 {
                    pair.post(1, write(buf, remote)).expect("room");
                    answer(&pair, remote.key);
                } else {
                    pair.post(2, read(buf, remote)).expect("room");
                }
                pair.kick();
            }
            Completion::Done {
                done: Done::Read(_),
                ..
            } => {
                answer(&pair, remote.key);
                pair.kick();
            }
            Completion::Done { .. } => {}
            Completion::Failed { error, .. } => panic!("{error}"),
        }
    }
}

fn answer(pair: &rdma::QueuePair, key: u32) {
    let Work::Send { payload, .. } = inline(b"answer") else {
        panic!("a message");
    };
    let answer = Work::Send {
        payload,
        invalidate: Some(key),
    };
    pair.post(3, answer).expect("room");
}

#[test]
fn requests_allocate_nothing() {
    let config = CoreConfig {
        io_pool_bytes: 16 << 20,
        ..CoreConfig::default()
    };
    cores::run(config, || async {
        let (bench, Ends { target, host }) = ends().await;
        reactor::spawn(serve(target)).detach();
        let round = async |tag| {
            request(&bench, &host, tag, Access::Read).await;
            request(&bench, &host, tag, Access::Write).await;
        };
        for tag in 0..300 {
            round(tag).await;
        }
        // A queue that has grown to what the timing of this run needs grows no more.
        let mut least = u64::MAX;
        for _ in 0..3 {
            let before = allocations::on_this_thread();
            for tag in 0..1000 {
                round(tag).await;
            }
            least = least.min(allocations::on_this_thread() - before);
        }
        // The host's handle of each exposed buffer is one.
        assert_eq!(least, 2000, "heap allocations in 2000 requests");
    })
    .expect("the core runs");
}
