//! Peers that do not keep to the simulated card's protocol: whatever they send, their pair ends,
//! everything is given back, and others are served.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use rdma::soft::Faults;
use rdma::{Access, Card, Completion, Lost, QueuePair, Remote, WorkError};
use reactor::buf::pool;
use reactor::net::TcpStream;
use reactor::random_u64;
use reactor::sim::{World, WorldOptions};
use reactor::time::{sleep, timeout};

const FRAME_BYTES: usize = 24;
const MAGIC: u64 = 0x736f_6674_7264_6d00;

type Stream = net::Socket<()>;

fn frame(kind: u8, code: u8, sequence: u32, len: u32, key: u32, address: u64) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    for word in [sequence, len, key] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(address.to_le_bytes());
    assert_eq!(bytes.len(), FRAME_BYTES);
    bytes
}

fn hello() -> Vec<u8> {
    frame(1, 0, 9, 0, 1, MAGIC | 4)
}

async fn bench() -> Bench {
    let card = || Card::soft(options(), Faults::default());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Bench::new(card(), card(), address).await
}

async fn raw(bench: &Bench) -> Stream {
    let address = bench.listener.address();
    Stream::new(TcpStream::connect(address).await.expect("connected"))
}

/// A pair of the target with a peer made of bytes.
async fn connected(bench: &Bench) -> (QueuePair, Stream) {
    let stream = raw(bench).await;
    stream.send_all(&hello()).await.expect("sent");
    let incoming = within(bench.listener.accept()).await.expect("a request");
    let accepting = reactor::spawn(async move { incoming.accept(b"", PAIR).await });
    let mut answer = [0; FRAME_BYTES];
    let mut filled = 0;
    while filled < answer.len() {
        filled += stream.recv(&mut answer[filled..]).await.expect("an answer");
    }
    assert_eq!(answer[0], 2, "accepted");
    let ready = frame(4, 0, 0, 0, 0, 0);
    stream.send_all(&ready).await.expect("sent");
    (within(accepting).await.expect("accepted"), stream)
}

fn in_worlds<F: Future<Output = ()> + 'static>(seeds: u64, check: impl Fn() -> F + Copy + 'static) {
    for seed in 0..seeds {
        let mut world = World::new(seed, WorldOptions::default());
        world.run_once("node", Duration::from_secs(600), check);
    }
}

async fn all_is_back(bench: &Bench, at_rest: usize) {
    until("all pairs are gone", || {
        bench.target.stats().queue_pairs == 0
    })
    .await;
    until("all memory is back", || pool().in_use_bytes() == at_rest).await;
    let receives = u64::from(options().receive_entries);
    assert_eq!(bench.target.stats().receives_posted, receives);
    let ends = bench.ends().await;
    post(&ends.host, 1, inline(b"served"));
    expect_received(&ends.target).await;
}

#[test]
fn strangers_who_do_not_greet_disturb_nobody() {
    in_worlds(10, || async {
        let bench = bench().await;
        let at_rest = pool().in_use_bytes();
        let too_long = frame(1, 0, 9, 57, 1, MAGIC | 4);
        let other_version = frame(1, 0, 9, 0, 2, MAGIC | 4);
        let foreign = frame(1, 0, 9, 0, 1, 4);
        let too_early = frame(5, 0, 0, 4, 0, 0);
        let nothing = vec![0; 100];
        let mut kept = vec![raw(&bench).await];
        for words in [too_long, other_version, foreign, too_early, nothing] {
            let stream = raw(&bench).await;
            stream.send_all(&words).await.expect("sent");
            let end = within(stream.recv(&mut [0])).await;
            assert!(end.is_err(), "{end:?} after {words:?}");
            kept.push(stream);
        }
        let slow = raw(&bench).await;
        slow.send_all(&hello()[..10]).await.expect("sent");
        kept.push(slow);
        all_is_back(&bench, at_rest).await;
        assert_eq!(bench.target.stats().queue_pairs, 1, "nobody else came in");
    });
}

#[test]
fn nonsense_ends_the_pair() {
    in_worlds(3, || async {
        let bench = bench().await;
        let at_rest = pool().in_use_bytes();
        let cases = [
            ("no kind", frame(0, 0, 0, 0, 0, 0)),
            ("a greeting", hello()),
            ("ready again", frame(4, 0, 0, 0, 0, 0)),
            ("a request out of order", frame(5, 0, 7, 0, 0, 0)),
            ("an answer to nothing", frame(9, 0, 0, 0, 0, 0)),
            ("an answer to what was not sent", frame(9, 0, 2, 0, 0, 0)),
            ("data of no read", frame(8, 0, 1, 64, 0, 0)),
            ("data that is too long", frame(8, 0, 0, 4097, 0, 0)),
            ("an answer to a read without data", frame(9, 0, 0, 0, 0, 0)),
            ("a refusal of nothing", frame(10, 1, 9, 0, 0, 0)),
            ("an unknown refusal", frame(10, 77, 0, 0, 0, 0)),
        ];
        for (what, words) in cases {
            let (pair, stream) = connected(&bench).await;
            if what.contains("read") || what.contains("data") {
                let nowhere = Remote { address: 1, key: 1 };
                post(&pair, 1, read(zeroed(4096).await, nowhere));
                sleep(Duration::from_millis(1)).await;
            }
            stream.send_all(&words).await.expect("sent");
            let lost = loop {
                match next(&pair).await {
                    Ok(Completion::Failed { tag: 1, .. }) => {}
                    Ok(other) => panic!("{what}: {other:?}"),
                    Err(lost) => break lost,
                }
            };
            assert_eq!(lost, Lost::Failed(WorkError::Other(1)), "{what}");
        }
        all_is_back(&bench, at_rest).await;
    });
}

#[test]
fn a_message_that_never_ends_gives_its_receive_back() {
    in_worlds(5, || async {
        let bench = bench().await;
        let at_rest = pool().in_use_bytes();
        let (pair, stream) = connected(&bench).await;
        let mut words = frame(5, 0, 0, 4000, 0, 0);
        words.extend([1; 1000]);
        stream.send_all(&words).await.expect("sent");
        sleep(Duration::from_millis(1)).await;
        assert!(pair.try_next().is_none());
        drop(stream);
        assert!(matches!(
            expect_lost(&pair).await,
            Lost::ByPeer | Lost::Failed(_)
        ));
        drop(pair);
        all_is_back(&bench, at_rest).await;
    });
}

/// The kinds of the next frames without payload that the card sends.
async fn kinds(stream: &Stream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * FRAME_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        let received = within(stream.recv(&mut bytes[filled..])).await;
        filled += received.expect("the card says more");
    }
    bytes.chunks(FRAME_BYTES).map(|frame| frame[0]).collect()
}

#[test]
fn no_more_reads_are_under_way_than_the_peer_allows() {
    in_worlds(5, || async {
        let bench = bench().await;
        // The peer said 4, the pair would do 4 as well.
        let (pair, stream) = connected(&bench).await;
        let nowhere = Remote { address: 1, key: 1 };
        let empty = pool().alloc(0).await;
        pair.post(0, send(empty)).expect("room");
        for tag in 1..7 {
            let work = read(zeroed(8).await, nowhere);
            pair.post(tag, work).expect("room");
        }
        pair.kick();
        assert_eq!(kinds(&stream, 5).await, [5, 7, 7, 7, 7]);
        // Not ready: the message comes again alone, then all the reads do.
        let not_ready = frame(10, 1, 0, 0, 0, 0);
        stream.send_all(&not_ready).await.expect("sent");
        assert_eq!(kinds(&stream, 1).await, [5]);
        let limit = Duration::from_millis(5);
        let early = timeout(limit, stream.recv(&mut [0])).await;
        assert!(early.is_err(), "the reads wait for the message's answer");
        let answered = frame(9, 0, 0, 0, 0, 0);
        stream.send_all(&answered).await.expect("sent");
        expect_sent(&pair, 0).await;
        assert_eq!(kinds(&stream, 4).await, [7; 4]);
        sleep(Duration::from_millis(5)).await;
        let mut data = frame(8, 0, 1, 8, 0, 0);
        data.extend([3; 8]);
        stream.send_all(&data).await.expect("sent");
        assert_eq!(expect_read(&pair, 1).await[..], [3; 8]);
        // One came back, one more leaves, and nothing else.
        assert_eq!(kinds(&stream, 1).await, [7]);
        pair.disconnect();
        assert_eq!(kinds(&stream, 1).await, [11]);
    });
}

/// Asks for the same memory again and again and takes no answer: it is not asked for more than
/// fits, and others go on.
#[test]
fn a_peer_that_takes_nothing_fills_nothing() {
    in_worlds(5, || async {
        let bench = bench().await;
        let source = bench.target.expose(filled(1 << 20, 1).await, Access::Read);
        let source = source.expect("exposed");
        let at_rest = pool().in_use_bytes();
        let (pair, stream) = connected(&bench).await;
        let Remote { address, key } = source.remote();
        let sending = reactor::spawn(async move {
            for sequence in 0..100_000 {
                let ask = frame(7, 0, sequence, 1 << 20, key, address);
                if stream.send_all(&ask).await.is_err() {
                    return true;
                }
            }
            false
        });
        sleep(Duration::from_millis(50)).await;
        assert!(!sending.is_finished(), "it is held back");
        drop(pair);
        assert!(within(sending).await, "and then ended");
        all_is_back(&bench, at_rest).await;
    });
}

#[test]
fn random_bytes_never_hurt() {
    in_worlds(40, || async {
        let bench = bench().await;
        let at_rest = pool().in_use_bytes();
        for _ in 0..20 {
            let (pair, stream) = connected(&bench).await;
            for tag in 0..3 {
                let nowhere = Remote { address: 1, key: 1 };
                post(&pair, 2 * tag, read(zeroed(100).await, nowhere));
                post(&pair, 2 * tag + 1, send(filled(100, 1).await));
            }
            let sending = reactor::spawn(async move {
                for _ in 0..30 {
                    if stream.send_all(&random_frame()).await.is_err() {
                        break;
                    }
                }
            });
            while !sending.is_finished() && next(&pair).await.is_ok() {}
            drop(pair);
            within(sending).await;
        }
        all_is_back(&bench, at_rest).await;
    });
}

/// Mostly a frame that could be meant, with small numbers.
fn random_frame() -> Vec<u8> {
    let random = random_u64();
    let small = |at: u32| (random >> at) as u32 & 7;
    let kind = (random % 13) as u8;
    let mut bytes = frame(
        kind,
        (small(8) & 3) as u8,
        small(12),
        [0, 4, 64, 100, 5000, u32::MAX][(random >> 16) as usize % 6],
        small(24),
        u64::from(small(28)),
    );
    let tail = [0, 0, 4, 64, 100][(random >> 32) as usize % 5];
    bytes.resize(FRAME_BYTES + tail, random as u8);
    bytes
}
