//! The send side of a connection: a queue of bytes and buffers, one call per turn.
//!
//! Small PDUs are packed into shared segments; payload is sent from where it lies. The queue is
//! bounded by its users: responses by the table of commands, payload by the connection's budget,
//! and reading stops while it is congested.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;

use reactor::Instant;
use reactor::buf::Buf;
use reactor::sync::Notify;
use wire::nvme::Cqe;
use wire::tcp::digest::{crc32c, header_digest};
use wire::tcp::{C2hData, CapsuleResp, Framing, Layout, PduError, R2t, flags};

use super::socket::Socket;
use crate::nvmf::port::CloseReason;

/// Bytes of small PDUs that share a segment: several responses, or one header with padding.
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

/// What waits to be sent.
pub(crate) struct Outbox {
    segments: RefCell<VecDeque<Segment>>,
    /// Bytes of the first segment that are sent already.
    sent: Cell<usize>,
    payload_bytes: Cell<usize>,
    limit: usize,
    filled: Notify,
    drained: Notify,
    progress: Cell<Instant>,
    framing: Framing,
    /// Bytes sent since the connection began.
    pub sent_bytes: Cell<u64>,
}

impl Outbox {
    /// An empty queue for a connection with `entries` command slots.
    pub fn new(entries: u16, framing: Framing) -> Self {
        let limit = 4 * usize::from(entries) + 64;
        Self {
            segments: RefCell::new(VecDeque::with_capacity(2 * limit)),
            sent: Cell::new(0),
            payload_bytes: Cell::new(0),
            limit,
            filled: Notify::new(),
            drained: Notify::new(),
            progress: Cell::new(reactor::now()),
            framing,
            sent_bytes: Cell::new(0),
        }
    }

    /// Payload bytes that wait.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes.get()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.segments.borrow().is_empty()
    }

    /// True when the peer takes so little that reading from it must stop.
    pub fn is_congested(&self) -> bool {
        self.segments.borrow().len() > self.limit
    }

    /// Returns when something was sent.
    pub async fn drained(&self) {
        self.drained.notified().await;
    }

    /// When output waits: since when nothing of it was taken.
    pub fn stalled_since(&self) -> Option<Instant> {
        (!self.is_empty()).then(|| self.progress.get())
    }

    /// Wakes the sender, also when there is nothing to send.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Queues a response capsule.
    pub fn response(&self, cqe: Cqe) {
        let (pdu, layout) = CapsuleResp::new(cqe, &self.framing);
        self.header(pdu.as_wire(), &layout);
        self.wake();
    }

    /// Queues an R2T.
    pub fn r2t(&self, cid: u16, ttag: u16, len_bytes: u32) {
        let (pdu, layout) = R2t::new(cid, ttag, 0, len_bytes, &self.framing);
        self.header(pdu.as_wire(), &layout);
        self.wake();
    }

    /// Queues the data of a command in one PDU; `is_response` lets it stand for the response.
    pub fn data(&self, cid: u16, data: Buf, is_response: bool) -> Result<(), PduError> {
        let len_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let extra = flags::LAST_PDU | if is_response { flags::SUCCESS } else { 0 };
        let (pdu, layout) = C2hData::new(cid, (0, len_bytes), extra, &self.framing)?;
        self.header(pdu.as_wire(), &layout);
        self.bytes(&[0; 128][..layout.pad.min(128)]);
        let digest = (layout.data_digest != 0).then(|| crc32c(&data).to_le_bytes());
        self.payload_bytes
            .set(self.payload_bytes.get() + data.len());
        self.push(Segment::Payload(data));
        if let Some(digest) = digest {
            self.bytes(&digest);
        }
        self.wake();
        Ok(())
    }

    /// Queues bytes that are a whole PDU.
    pub fn raw(&self, bytes: &[u8]) {
        self.bytes(bytes);
        self.wake();
    }

    fn header(&self, header: &[u8], layout: &Layout) {
        self.bytes(header);
        if layout.header_digest != 0 {
            self.bytes(&header_digest(header));
        }
    }

    fn bytes(&self, bytes: &[u8]) {
        let mut segments = self.segments.borrow_mut();
        if segments.is_empty() {
            self.progress.set(reactor::now());
        }
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

    fn push(&self, segment: Segment) {
        self.segments.borrow_mut().push_back(segment);
    }

    /// Sends once. `Ok(false)` when the kernel takes nothing now.
    pub fn send_once(&self, socket: &Socket) -> Result<bool, CloseReason> {
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

    /// Waits until there is something to send, or [`Outbox::wake`].
    pub async fn filled(&self) {
        self.filled.notified().await;
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
