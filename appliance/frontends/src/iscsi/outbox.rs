//! The send side of a connection: PDUs into the queue of its socket.
//!
//! The queue is bounded by its users: responses by the table of commands, payload by the
//! session's budget, and reading stops while it is congested.

use std::cell::Cell;

use net::SendQueue;
use reactor::buf::Buf;
use wire::iscsi::Digests;
use wire::iscsi::digest::{PADDING, data_digest, header_digest};

/// What waits to be sent, and the number of the next response.
pub(super) struct Outbox {
    /// The PDUs as bytes.
    pub queue: SendQueue,
    digests: Digests,
    stat_sn: Cell<u32>,
}

impl Outbox {
    /// An empty queue for a connection of a session with so many command slots.
    pub fn new(slots: usize, digests: Digests, stat_sn: u32) -> Self {
        Self {
            queue: SendQueue::new(4 * slots + 64),
            digests,
            stat_sn: Cell::new(stat_sn),
        }
    }

    /// StatSN of the next response.
    pub fn stat_sn(&self) -> u32 {
        self.stat_sn.get()
    }

    /// StatSN for a response that is queued now.
    pub fn take_stat_sn(&self) -> u32 {
        let number = self.stat_sn.get();
        self.stat_sn.set(number.wrapping_add(1));
        number
    }

    /// Queues a PDU with a little data, which may be none.
    pub fn small(&self, header: &[u8], data: &[u8]) {
        self.header(header);
        self.queue.push_bytes(data);
        self.end_of_data(data);
        self.queue.wake();
    }

    /// Queues a PDU with payload, which is sent from where it lies.
    pub fn payload(&self, header: &[u8], data: Buf) {
        self.header(header);
        let len = data.len();
        let digest = (self.digests.data && len != 0).then(|| data_digest(&data));
        self.queue.push_buf(data);
        self.queue.push_bytes(padding(len));
        if let Some(digest) = digest {
            self.queue.push_bytes(&digest);
        }
        self.queue.wake();
    }

    fn header(&self, header: &[u8]) {
        self.queue.push_bytes(header);
        if self.digests.header {
            self.queue.push_bytes(&header_digest(header));
        }
    }

    fn end_of_data(&self, data: &[u8]) {
        self.queue.push_bytes(padding(data.len()));
        if self.digests.data && !data.is_empty() {
            self.queue.push_bytes(&data_digest(data));
        }
    }
}

fn padding(len: usize) -> &'static [u8] {
    PADDING
        .get(..len.next_multiple_of(4) - len)
        .unwrap_or_default()
}
