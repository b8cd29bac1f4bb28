//! A user of one pair who posts all kinds of work and keeps books on what comes back. Both ends of
//! a connection have one.

use std::cell::Cell;
use std::collections::BTreeMap;

use rdma::Access;
use reactor::random_u64;

use super::*;

/// Memory that each user lets the other read and write.
const EXPOSED_BYTES: usize = 64 << 10;
/// Work that a user posts before it has enough.
const WORKS: u64 = 60;

/// What happened to work, all users together.
#[derive(Debug, Default)]
pub struct Counts {
    pub done: Cell<u64>,
    pub failed: Cell<u64>,
    pub flushed: Cell<u64>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Posted {
    Send,
    Read { offset: usize },
    Write,
}

/// Work that is out, by its tag; tags go up.
#[derive(Default)]
struct Books {
    out: BTreeMap<u64, Posted>,
    next_tag: u64,
    has_failed: bool,
    said: u64,
    heard: u64,
    /// What the other user lets this one read.
    source: Vec<u8>,
}

impl Books {
    fn enter(&mut self, posted: Posted) -> u64 {
        self.next_tag += 1;
        self.out.insert(self.next_tag, posted);
        self.next_tag
    }

    /// Work ended well: nothing before it is still out, but writes, which are over now.
    fn done(&mut self, tag: u64) -> Posted {
        assert!(!self.has_failed, "work {tag} ended well after a failure");
        let posted = self.out.remove(&tag).expect("work comes back once");
        self.out.retain(|other, posted| {
            assert!(
                *other > tag || *posted == Posted::Write,
                "{other} before {tag}"
            );
            *other > tag
        });
        posted
    }

    fn failed(&mut self, tag: u64, error: WorkError, counts: &Counts) {
        add(&counts.failed);
        self.out.remove(&tag).expect("work comes back once");
        if error == WorkError::Flushed {
            add(&counts.flushed);
        } else {
            assert!(
                !self.has_failed,
                "{tag} {error}: only the first is not flushed"
            );
        }
        self.has_failed = true;
        let before = self
            .out
            .range(..tag)
            .any(|(_, posted)| *posted != Posted::Write);
        assert!(!before, "work before {tag} is still out: {:?}", self.out);
    }

    fn lost(&self) {
        let waits = self.out.values().any(|posted| *posted != Posted::Write);
        assert!(!waits, "lost, and still out: {:?}", self.out);
    }
}

/// Uses a pair until it is lost or the user had enough.
pub async fn use_pair(card: &Card, pair: QueuePair, counts: &Counts) {
    let source_bytes = pattern(EXPOSED_BYTES, 5);
    let mut source = zeroed(EXPOSED_BYTES).await;
    source.as_mut().copy_from_slice(&source_bytes);
    let source = card.expose(source, Access::Read).expect("exposed");
    let place = zeroed(EXPOSED_BYTES).await;
    let place = card.expose(place, Access::Write).expect("exposed");
    let mut books = Books {
        source: source_bytes,
        ..Books::default()
    };
    // The first message tells where the memory is.
    let mut words = [0; 24];
    words[..8].copy_from_slice(&source.remote().address.to_le_bytes());
    words[8..12].copy_from_slice(&source.remote().key.to_le_bytes());
    words[12..16].copy_from_slice(&place.remote().key.to_le_bytes());
    words[16..].copy_from_slice(&place.remote().address.to_le_bytes());
    let tag = books.enter(Posted::Send);
    if pair.post(tag, inline(&words)).is_err() {
        return;
    }
    pair.kick();
    let mut peer = None;
    let ends_at = WORKS + random_u64() % 40;
    loop {
        let had_enough = books.next_tag >= ends_at;
        if had_enough && random_u64().is_multiple_of(8) {
            // Also with work under way: dropped, or ended and heard out.
            if random_u64().is_multiple_of(2) {
                return;
            }
            pair.disconnect();
        }
        if let Some((read_from, write_to)) = peer
            && !had_enough
        {
            post_some(&pair, &mut books, read_from, write_to).await;
        }
        // A peer that had enough may say nothing for ever.
        let next = match timeout(Duration::from_secs(10), pair.next()).await {
            Ok(next) => next,
            Err(_) => {
                pair.disconnect();
                pair.next().await
            }
        };
        match next {
            Ok(Completion::Received(received)) if books.heard == 0 => {
                books.heard = 1;
                peer = Some(places(&received.header));
            }
            Ok(Completion::Received(received)) => hear(&mut books, &received),
            Ok(Completion::Done { tag, done }) => {
                add(&counts.done);
                check_done(&mut books, tag, done);
            }
            Ok(Completion::Failed { tag, error }) => books.failed(tag, error, counts),
            Err(_) => return books.lost(),
        }
    }
}

fn places(header: &[u8]) -> (Remote, Remote) {
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let keys = word(8);
    let source = Remote {
        address: word(0),
        key: keys as u32,
    };
    let place = Remote {
        address: word(16),
        key: (keys >> 32) as u32,
    };
    (source, place)
}

/// Messages are numbered: none is missing, none comes twice.
fn hear(books: &mut Books, received: &Received) {
    let number = u64::from_le_bytes(received.header[..8].try_into().expect("8 bytes"));
    assert_eq!(number, books.heard, "messages in order");
    let len = received.len_bytes as usize;
    let sent = message(number, len);
    let in_header = len.min(64);
    assert!(received.header[..in_header] == sent[..in_header]);
    assert!(received.data.as_deref().unwrap_or_default() == &sent[in_header..]);
    books.heard += 1;
}

fn message(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = pattern(len, number as usize);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn check_done(books: &mut Books, tag: u64, done: Done) {
    match (books.done(tag), done) {
        (Posted::Send, Done::Sent) => {}
        (Posted::Read { offset }, Done::Read(buf)) => {
            let source = &books.source[offset..offset + buf.len()];
            assert!(buf[..] == *source, "read {tag}");
        }
        (posted, done) => panic!("{posted:?} ended as {done:?}"),
    }
}

/// A few works of all kinds, as far as there is room.
async fn post_some(pair: &QueuePair, books: &mut Books, read_from: Remote, write_to: Remote) {
    for _ in 0..1 + random_u64() % 4 {
        if pair.room() == 0 {
            break;
        }
        let len = 1 + (random_u64() % 8192) as usize;
        let offset = (random_u64() % (EXPOSED_BYTES - len) as u64) as usize;
        let at = |remote: Remote| Remote {
            address: remote.address + offset as u64,
            key: remote.key,
        };
        let buf = zeroed(len).await;
        let (posted, work) = match random_u64() % 3 {
            0 => (Posted::Read { offset }, read(buf, at(read_from))),
            1 => (Posted::Write, write(buf, at(write_to))),
            _ => {
                books.said += 1;
                let bytes = message(books.said, len.clamp(8, 64 + 4096));
                let mut buf = pool().alloc(bytes.len()).await;
                buf.as_mut().copy_from_slice(&bytes);
                (Posted::Send, send(buf))
            }
        };
        let tag = books.enter(posted);
        if pair.post(tag, work).is_err() {
            // Lost meanwhile: it was not posted.
            books.out.remove(&tag);
            break;
        }
    }
    pair.kick();
}
