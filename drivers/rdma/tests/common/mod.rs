//! Two cards of one core and what the checks do with them. Nothing here knows the kind of card.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod checks;
pub mod endings;
pub mod messages;
pub mod user;

use std::net::SocketAddr;
use std::time::Duration;

use rdma::{
    Card, CardOptions, Completion, Done, Inline, Listener, Lost, PairOptions, Payload, QueuePair,
    Received, Remote, Work, WorkError,
};
use reactor::buf::{Buf, pool};
use reactor::time::{sleep, timeout};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

pub const PAIR: PairOptions = PairOptions {
    send_entries: 16,
    read_depth: 4,
};

pub fn options() -> CardOptions {
    CardOptions {
        receive_entries: 32,
        receive_data_bytes: 4096,
        completion_entries: 1024,
        exposes_memory: true,
        ..CardOptions::default()
    }
}

/// Two cards, the first of which listens.
pub struct Bench {
    pub target: Card,
    pub host: Card,
    pub listener: Listener,
}

/// The two ends of a connection.
pub struct Ends {
    pub target: QueuePair,
    pub host: QueuePair,
}

impl Bench {
    pub async fn new(target: Card, host: Card, address: SocketAddr) -> Self {
        let listener = target.listen(address).await.expect("the address is free");
        Self {
            target,
            host,
            listener,
        }
    }

    /// Connects.
    pub async fn ends(&self) -> Ends {
        self.ends_with(PAIR).await
    }

    pub async fn ends_with(&self, options: PairOptions) -> Ends {
        let (card, address) = (self.host.clone(), self.listener.address());
        let host = reactor::spawn(async move { card.connect(address, b"host", options).await });
        let incoming = within(self.listener.accept()).await.expect("a request");
        let target = within(incoming.accept(b"target", options)).await;
        let (host, _) = within(host).await.expect("the target accepts");
        let target = target.expect("the host is ready");
        Ends { target, host }
    }
}

/// No check waits for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    match timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("nothing happened for {LIMIT:?}"),
    }
}

/// Waits until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = reactor::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes to recognise.
pub fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 31 + at / 251 + salt * 7) as u8)
        .collect()
}

pub async fn filled(len: usize, salt: usize) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().copy_from_slice(&pattern(len, salt));
    buf
}

pub async fn zeroed(len: usize) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.zero_fill();
    buf
}

pub fn inline(bytes: &[u8]) -> Work {
    Work::Send {
        payload: Payload::Inline(Inline::new(bytes).expect("a short message")),
        invalidate: None,
    }
}

pub fn send(buf: Buf) -> Work {
    Work::Send {
        payload: Payload::Buf(buf),
        invalidate: None,
    }
}

pub fn read(into: Buf, from: Remote) -> Work {
    Work::Read { into, from }
}

pub fn write(data: Buf, to: Remote) -> Work {
    Work::Write { data, to }
}

/// Posts and rings.
pub fn post(pair: &QueuePair, tag: u64, work: Work) {
    pair.post(tag, work).expect("the pair takes work");
    pair.kick();
}

pub async fn next(pair: &QueuePair) -> Result<Completion, Lost> {
    within(pair.next()).await
}

pub async fn expect_sent(pair: &QueuePair, tag: u64) {
    match next(pair).await {
        Ok(Completion::Done {
            tag: done,
            done: Done::Sent,
        }) => assert_eq!(done, tag),
        other => panic!("instead of sent {tag}: {other:?}"),
    }
}

pub async fn expect_read(pair: &QueuePair, tag: u64) -> Buf {
    match next(pair).await {
        Ok(Completion::Done {
            tag: done,
            done: Done::Read(buf),
        }) => {
            assert_eq!(done, tag);
            buf
        }
        other => panic!("instead of read {tag}: {other:?}"),
    }
}

pub async fn expect_failed(pair: &QueuePair, tag: u64) -> WorkError {
    match next(pair).await {
        Ok(Completion::Failed { tag: failed, error }) => {
            assert_eq!(failed, tag);
            error
        }
        other => panic!("instead of failed {tag}: {other:?}"),
    }
}

pub async fn expect_received(pair: &QueuePair) -> Received {
    match next(pair).await {
        Ok(Completion::Received(received)) => received,
        other => panic!("instead of a message: {other:?}"),
    }
}

/// The end; nothing comes before it.
pub async fn expect_lost(pair: &QueuePair) -> Lost {
    match next(pair).await {
        Err(lost) => lost,
        Ok(other) => panic!("instead of the end: {other:?}"),
    }
}
