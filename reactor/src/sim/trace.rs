//! What happened, in order: a running hash over everything (to prove that a seed repeats) and the
//! last events in words (to read when a test fails).
//!
//! Nothing here may depend on memory addresses, thread ids or real time.

use std::collections::VecDeque;
use std::fmt;

/// How many events `World::trace_tail` keeps. Older ones live on in the hash only.
pub const TAIL_LEN: usize = 400;

/// How many fault records are kept; later ones are counted, not stored.
const FAULT_LOG_MAX: usize = 100_000;

/// The kind of one traced event; its numbers are described by `labels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// One loop turn of a core. Hashed, never kept in the tail: there are too many.
    Turn,
    /// A disk accepted a read.
    ReadStart,
    /// A disk finished a read.
    ReadEnd,
    /// A disk accepted a write.
    WriteStart,
    /// A disk finished a write.
    WriteEnd,
    /// A disk accepted a flush.
    SyncStart,
    /// A disk finished a flush.
    SyncEnd,
    /// A disk accepted a discard.
    DiscardStart,
    /// A disk finished a discard.
    DiscardEnd,
    /// A file was opened or refused.
    Open,
    /// A file was closed and its lock released.
    Close,
    /// Somebody took a port, or was refused it.
    Bind,
    /// Somebody listens on a port.
    Listen,
    /// A connection attempt began.
    Connect,
    /// A connection attempt ended.
    ConnectEnd,
    /// A listener handed out a connection.
    Accept,
    /// Bytes entered a socket.
    Send,
    /// Bytes reached the other side.
    Deliver,
    /// Bytes were taken out of a socket.
    Receive,
    /// A socket was closed or half closed.
    Shutdown,
    /// A connection was reset.
    Reset,
    /// A node was started.
    Start,
    /// A node was killed or lost power.
    Crash,
    /// The code passed a crash point.
    CrashPoint,
    /// The test changed something by hand.
    Test,
    /// A fault was injected.
    Fault,
    /// A node's main future on one core returned.
    MainEnd,
}

impl EventKind {
    fn labels(self) -> (&'static str, [&'static str; 3]) {
        match self {
            Self::Turn => ("turn", ["", "", ""]),
            Self::ReadStart => ("read start", ["op", "offset", "len"]),
            Self::ReadEnd => ("read end", ["op", "errno", "data_hash"]),
            Self::WriteStart => ("write start", ["op", "offset", "len"]),
            Self::WriteEnd => ("write end", ["op", "errno", "data_hash"]),
            Self::SyncStart => ("sync start", ["op", "", ""]),
            Self::SyncEnd => ("sync end", ["op", "errno", "made_durable"]),
            Self::DiscardStart => ("discard start", ["op", "offset", "len"]),
            Self::DiscardEnd => ("discard end", ["op", "errno", ""]),
            Self::Open => ("open", ["file", "errno", ""]),
            Self::Close => ("close", ["file", "", ""]),
            Self::Bind => ("bind", ["socket", "port", "errno"]),
            Self::Listen => ("listen", ["socket", "port", ""]),
            Self::Connect => ("connect", ["connection", "port", ""]),
            Self::ConnectEnd => ("connect end", ["connection", "errno", ""]),
            Self::Accept => ("accept", ["connection", "", ""]),
            Self::Send => ("send", ["socket", "bytes", ""]),
            Self::Deliver => ("deliver", ["socket", "bytes", ""]),
            Self::Receive => ("receive", ["socket", "bytes", "errno"]),
            Self::Shutdown => ("shutdown", ["socket", "how", ""]),
            Self::Reset => ("reset", ["connection", "errno", ""]),
            Self::Start => ("start", ["incarnation", "cores", ""]),
            Self::Crash => ("crash", ["incarnation", "power_loss", ""]),
            Self::CrashPoint => ("crash point", ["visit", "taken", ""]),
            Self::Test => ("test action", ["", "", ""]),
            Self::Fault => ("FAULT", ["offset", "len", ""]),
            Self::MainEnd => ("main returned", ["core", "", ""]),
        }
    }
}

/// One event. `subject` is a node, disk or place; `numbers` are named by the kind.
#[derive(Clone, Debug)]
pub struct Event {
    /// Virtual time.
    pub at_ns: u64,
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub subject: String,
    /// The details.
    pub numbers: [u64; 3],
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, labels) = self.kind.labels();
        let (us, ns) = (self.at_ns / 1_000, self.at_ns % 1_000);
        write!(f, "{us:>12}.{ns:03} us  {name:<14} {}", self.subject)?;
        for (label, number) in labels.iter().zip(self.numbers) {
            if !label.is_empty() {
                write!(f, " {label}={number}")?;
            }
        }
        Ok(())
    }
}

/// A fault that was really injected (not merely possible).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Virtual time.
    pub at_ns: u64,
    /// Which fault.
    pub kind: FaultKind,
    /// The disk or node it hit.
    pub subject: String,
    /// Byte offset on the disk, or 0.
    pub offset: u64,
    /// Bytes hit, or 0.
    pub len: u64,
}

/// Every fault the world can inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// An un-synced write vanished at power loss.
    UnsyncedLost,
    /// An un-synced write was cut in pieces at power loss.
    UnsyncedTorn,
    /// A write in flight at the crash was applied although nobody was told.
    InFlightApplied,
    /// A write in flight at the crash left nothing.
    InFlightLost,
    /// A write in flight at the crash was cut in pieces.
    InFlightTorn,
    /// A read saw part of a write that had not completed yet.
    EarlyVisible,
    /// One bit of durable data flipped.
    BitRot,
    /// A write landed somewhere else: at the record's offset.
    MisdirectedWrite,
    /// A read returned data of somewhere else.
    MisdirectedRead,
    /// A sector became unreadable until it is written again.
    LatentError,
    /// EIO once.
    TransientError,
    /// A failed sync threw un-synced data away.
    SyncDropped,
    /// A write was acknowledged and never applied.
    LostWrite,
    /// Fewer bytes moved than asked.
    ShortIo,
    /// An operation took far longer than usual.
    Stall,
    /// ENOSPC.
    Full,
    /// ENODEV.
    Gone,
    /// A segment took far longer than usual.
    NetDelay,
    /// A connection was reset.
    NetReset,
    /// A connection attempt was refused.
    NetRefused,
    /// A connection attempt got no answer.
    NetTimeout,
    /// The peer vanished without FIN or RST.
    HalfOpen,
    /// A segment was held back by a partition.
    PartitionHold,
    /// A core stood still for a while.
    Pause,
    /// The process was killed.
    Kill,
    /// The node lost power.
    PowerLoss,
}

/// The trace and the fault log of one world.
#[derive(Debug)]
pub(crate) struct Log {
    hash: u64,
    tail: VecDeque<Event>,
    faults: Vec<FaultRecord>,
    faults_total: u64,
    /// Echo events to stderr as they happen (WorldOptions::verbose).
    pub(crate) verbose: bool,
}

impl Log {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        let hash = mix(0x6265_6470_6C61_7465, seed);
        Self {
            hash,
            tail: VecDeque::new(),
            faults: Vec::new(),
            faults_total: 0,
            verbose,
        }
    }

    pub(crate) fn event(&mut self, at_ns: u64, kind: EventKind, subject: &str, numbers: [u64; 3]) {
        self.hash = mix(self.hash, at_ns);
        self.hash = mix(self.hash, kind as u64);
        self.hash = mix(self.hash, hash_bytes(subject.as_bytes()));
        for number in numbers {
            self.hash = mix(self.hash, number);
        }
        if kind != EventKind::Turn {
            self.keep(Event {
                at_ns,
                kind,
                subject: subject.to_owned(),
                numbers,
            });
        }
    }

    pub(crate) fn turn(&mut self, at_ns: u64, core: u64) {
        self.hash = mix(mix(self.hash, at_ns), core);
    }

    pub(crate) fn fault(&mut self, at_ns: u64, kind: FaultKind, subject: &str, at: (u64, u64)) {
        self.event(
            at_ns,
            EventKind::Fault,
            &format!("{kind:?} {subject}"),
            [at.0, at.1, 0],
        );
        self.faults_total += 1;
        if self.faults.len() < FAULT_LOG_MAX {
            let (offset, len) = at;
            let subject = subject.to_owned();
            self.faults.push(FaultRecord {
                at_ns,
                kind,
                subject,
                offset,
                len,
            });
        }
    }

    fn keep(&mut self, event: Event) {
        if self.verbose {
            eprintln!("{event}");
        }
        if self.tail.len() == TAIL_LEN {
            self.tail.pop_front();
        }
        self.tail.push_back(event);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn faults(&self) -> &[FaultRecord] {
        &self.faults
    }

    pub(crate) fn faults_total(&self) -> u64 {
        self.faults_total
    }

    pub(crate) fn tail(&self, count: usize) -> String {
        let skip = self.tail.len().saturating_sub(count);
        let lines: Vec<String> = self.tail.iter().skip(skip).map(Event::to_string).collect();
        lines.join("\n")
    }
}

/// Folds one word into a running hash.
fn mix(hash: u64, word: u64) -> u64 {
    let x = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (x ^ (x >> 32)).rotate_left(13).wrapping_add(0x52dc_e729)
}

/// A content hash for the trace, not for adversaries. Four lanes of eight bytes, because it runs
/// over every byte that a program reads or writes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    // Written out: with debug assertions the iterators are calls, and half of a simulator run.
    let (chunks, rest) = bytes.as_chunks::<32>();
    let [mut a, mut b, mut c, mut d] = [1u64, 2, 3, 4];
    for chunk in chunks {
        (a, b) = (step(a, word::<0>(chunk)), step(b, word::<8>(chunk)));
        (c, d) = (step(c, word::<16>(chunk)), step(d, word::<24>(chunk)));
    }
    let mut last = [0u8; 32];
    last[..rest.len()].copy_from_slice(rest);
    let tail = [
        word::<0>(&last),
        word::<8>(&last),
        word::<16>(&last),
        word::<24>(&last),
    ];
    [a, b, c, d]
        .into_iter()
        .chain(tail)
        .fold(bytes.len() as u64, mix)
}

fn step(lane: u64, word: u64) -> u64 {
    (lane ^ word)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(29)
}

fn word<const AT: usize>(c: &[u8; 32]) -> u64 {
    u64::from_le_bytes([
        c[AT],
        c[AT + 1],
        c[AT + 2],
        c[AT + 3],
        c[AT + 4],
        c[AT + 5],
        c[AT + 6],
        c[AT + 7],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_order_content_and_time() {
        let run = |events: &[(u64, u64)]| {
            let mut log = Log::new(1, false);
            for (at, n) in events {
                log.event(*at, EventKind::Test, "x", [*n, 0, 0]);
            }
            log.hash()
        };
        assert_eq!(run(&[(1, 2), (3, 4)]), run(&[(1, 2), (3, 4)]));
        assert_ne!(run(&[(1, 2), (3, 4)]), run(&[(3, 4), (1, 2)]));
        assert_ne!(run(&[(1, 2)]), run(&[(1, 3)]));
        assert_ne!(run(&[(1, 2)]), run(&[(2, 2)]));
        assert_ne!(hash_bytes(b"abcdefgh1"), hash_bytes(b"abcdefgh2"));
        assert_ne!(hash_bytes(b"\0"), hash_bytes(b"\0\0"));
    }

    #[test]
    fn tail_is_bounded_and_readable() {
        let mut log = Log::new(1, false);
        for n in 0..2_000 {
            log.event(n, EventKind::WriteStart, "disk-a", [n, 4096, 512]);
        }
        assert_eq!(log.tail(usize::MAX).lines().count(), TAIL_LEN);
        assert!(
            log.tail(1)
                .contains("write start    disk-a op=1999 offset=4096 len=512")
        );
    }
}
