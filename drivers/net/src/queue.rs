//! What a connection has to say: a queue of bytes and buffers, sent in one call per turn.
//!
//! Small pieces are packed into shared segments; payload is sent from where it lies.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;

use reactor::Instant;
use reactor::buf::Buf;
use reactor::sync::Notify;

use crate::{Closed, Socket};

/// Bytes of small pieces that share a segment: several responses, or one header with padding.
const PACKED_BYTES: usize = 192;
/// Segments of one call.
const MAX_SLICES: usize = 128;

struct Packed {
    bytes: [u8; PACKED_BYTES],
    len: usize,
}

enum Segment {
    Packed(Packed),
    Payload(Buf),
}

/// The output of one connection. Any task of its core puts in; one task sends.
///
/// A message is pushed in pieces and then announced with [`SendQueue::wake`]; the sending task
/// loops over [`SendQueue::send_once`] and waits in [`SendQueue::filled`], so that what others put
/// in within one turn leaves in one call. Sending is left to the caller's loop because only it
/// knows when the connection is over and what may go on once payload was sent.
///
/// Nothing is refused: the queue is bounded by its users, who hold back what they produce while it
/// is congested ([`SendQueue::is_congested`]) or holds too much ([`SendQueue::payload_bytes`]).
/// Cost: no allocation up to twice the congestion limit.
pub struct SendQueue {
    segments: RefCell<VecDeque<Segment>>,
    /// Bytes of the first segment that are sent already.
    sent: Cell<usize>,
    payload_bytes: Cell<usize>,
    limit: usize,
    filled: Notify,
    drained: Notify,
    progress: Cell<Instant>,
    sent_bytes: Cell<u64>,
}

impl SendQueue {
    /// An empty queue that is congested above `limit` segments. A segment is one payload buffer or
    /// up to 192 bytes of small pieces. Memory: about 400 bytes per segment of the limit, at once.
    pub fn new(limit: usize) -> Self {
        Self {
            segments: RefCell::new(VecDeque::with_capacity(2 * limit)),
            sent: Cell::new(0),
            payload_bytes: Cell::new(0),
            limit,
            filled: Notify::new(),
            drained: Notify::new(),
            progress: Cell::new(reactor::now()),
            sent_bytes: Cell::new(0),
        }
    }

    /// Payload bytes that wait. A buffer counts in full until its last byte was sent.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes.get()
    }

    /// Bytes sent since the connection began.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.segments.borrow().is_empty()
    }

    /// True when the peer takes so little that reading from it must stop.
    pub fn is_congested(&self) -> bool {
        self.segments.borrow().len() > self.limit
    }

    /// Returns when something was sent, or everything was dropped.
    pub async fn drained(&self) {
        self.drained.notified().await;
    }

    /// Returns when nothing waits: everything was handed to the kernel, or dropped.
    pub async fn flushed(&self) {
        while !self.is_empty() {
            self.drained().await;
        }
    }

    /// When output waits: since when nothing of it was taken.
    pub fn stalled_since(&self) -> Option<Instant> {
        (!self.is_empty()).then(|| self.progress.get())
    }

    /// Wakes the sender, also when there is nothing to send.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Waits until there is something to send, or [`SendQueue::wake`]. May return for nothing.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Queues a copy of a few bytes: a header, padding, a digest. The sender is not woken.
    pub fn push_bytes(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut segments = self.segments.borrow_mut();
        self.start_clock(&segments);
        if let Some(Segment::Packed(packed)) = segments.back_mut()
            && let Some(place) = packed.bytes.get_mut(packed.len..packed.len + bytes.len())
        {
            place.copy_from_slice(bytes);
            packed.len += bytes.len();
            return;
        }
        for part in bytes.chunks(PACKED_BYTES) {
            let mut packed = Packed {
                bytes: [0; PACKED_BYTES],
                len: part.len(),
            };
            packed.bytes[..part.len()].copy_from_slice(part);
            segments.push_back(Segment::Packed(packed));
        }
    }

    /// Queues a buffer, which goes back to its pool once the kernel has copied it. The sender is
    /// not woken.
    pub fn push_buf(&self, buf: Buf) {
        // A segment without bytes would look like a kernel that takes nothing.
        if buf.is_empty() {
            return;
        }
        let mut segments = self.segments.borrow_mut();
        self.start_clock(&segments);
        self.payload_bytes.set(self.payload_bytes.get() + buf.len());
        segments.push_back(Segment::Payload(buf));
    }

    /// A stall cannot have begun before there was anything to send.
    fn start_clock(&self, segments: &VecDeque<Segment>) {
        if segments.is_empty() {
            self.progress.set(reactor::now());
        }
    }

    /// Sends once. `Ok(false)` when the kernel takes nothing now: wait with [`Socket::writable`].
    /// On errors what waits stays, until [`SendQueue::clear`]. Cost: 1 call.
    pub fn send_once<E: Copy>(&self, socket: &Socket<E>) -> Result<bool, Closed<E>> {
        let sent = {
            let segments = self.segments.borrow();
            let mut slices: [IoSlice<'_>; MAX_SLICES] = std::array::from_fn(|_| IoSlice::new(&[]));
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(segments.iter()) {
                let skip = if count == 0 { self.sent.get() } else { 0 };
                *slice = IoSlice::new(&segment.bytes()[skip..]);
                count += 1;
            }
            socket.try_send(&slices[..count])?
        };
        if sent == 0 {
            return Ok(false);
        }
        self.progress.set(reactor::now());
        self.sent_bytes.set(self.sent_bytes.get() + sent as u64);
        self.advance(sent);
        self.drained.notify_all();
        Ok(true)
    }

    fn advance(&self, sent: usize) {
        let mut segments = self.segments.borrow_mut();
        let mut left = self.sent.get() + sent;
        while let Some(first) = segments.front() {
            let len = first.bytes().len();
            if left < len {
                break;
            }
            left -= len;
            if let Some(Segment::Payload(buf)) = segments.pop_front() {
                self.payload_bytes.set(self.payload_bytes.get() - buf.len());
            }
        }
        self.sent.set(left);
    }

    /// Drops everything: the connection is closed.
    pub fn clear(&self) {
        self.segments.borrow_mut().clear();
        self.payload_bytes.set(0);
        self.sent.set(0);
        self.drained.notify_all();
    }
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Packed(packed) => &packed.bytes[..packed.len],
            Self::Payload(buf) => buf,
        }
    }
}

impl std::fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendQueue")
            .field("segments", &self.segments.borrow().len())
            .field("payload_bytes", &self.payload_bytes.get())
            .finish_non_exhaustive()
    }
}
