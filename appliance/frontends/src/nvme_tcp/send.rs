//! The send side of a connection: PDUs into the queue of its socket.
//!
//! Small PDUs are packed together; payload is sent from where it lies. The queue is bounded by its
//! users: responses by the table of commands, payload by the connection's budget, and reading stops
//! while it is congested.

use net::SendQueue;
use reactor::buf::Buf;
use wire::nvme::Cqe;
use wire::tcp::digest::{crc32c, header_digest};
use wire::tcp::{C2hData, CapsuleResp, Framing, Layout, PduError, R2t, flags};

/// What waits to be sent.
pub(crate) struct Outbox {
    /// The PDUs as bytes.
    pub queue: SendQueue,
    framing: Framing,
}

impl Outbox {
    /// An empty queue for a connection with `entries` command slots.
    pub fn new(entries: u16, framing: Framing) -> Self {
        Self {
            queue: SendQueue::new(4 * usize::from(entries) + 64),
            framing,
        }
    }

    /// Queues a response capsule.
    pub fn response(&self, cqe: Cqe) {
        let (pdu, layout) = CapsuleResp::new(cqe, &self.framing);
        self.header(pdu.as_wire(), &layout);
        self.queue.wake();
    }

    /// Queues an R2T.
    pub fn r2t(&self, cid: u16, ttag: u16, len_bytes: u32) {
        let (pdu, layout) = R2t::new(cid, ttag, 0, len_bytes, &self.framing);
        self.header(pdu.as_wire(), &layout);
        self.queue.wake();
    }

    /// Queues the data of a command in one PDU; `is_response` lets it stand for the response.
    pub fn data(&self, cid: u16, data: Buf, is_response: bool) -> Result<(), PduError> {
        let len_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let extra = flags::LAST_PDU | if is_response { flags::SUCCESS } else { 0 };
        let (pdu, layout) = C2hData::new(cid, (0, len_bytes), extra, &self.framing)?;
        self.header(pdu.as_wire(), &layout);
        self.queue.push_bytes(&[0; 128][..layout.pad.min(128)]);
        let digest = (layout.data_digest != 0).then(|| crc32c(&data).to_le_bytes());
        self.queue.push_buf(data);
        if let Some(digest) = digest {
            self.queue.push_bytes(&digest);
        }
        self.queue.wake();
        Ok(())
    }

    /// Queues bytes that are a whole PDU.
    pub fn raw(&self, bytes: &[u8]) {
        self.queue.push_bytes(bytes);
        self.queue.wake();
    }

    fn header(&self, header: &[u8], layout: &Layout) {
        self.queue.push_bytes(header);
        if layout.header_digest != 0 {
            self.queue.push_bytes(&header_digest(header));
        }
    }
}
