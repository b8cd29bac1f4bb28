//! The error log of one controller: a ring of the newest entries. Source: base 2.0 5.16.1.2.

use std::collections::VecDeque;

use wire::nvme::log::ErrorEntry;
use wire::nvme::{Sqe, Status};
use zerocopy::little_endian::{U16, U32, U64};

use crate::nvmf::transport::Transport;

/// Entries kept (ELPE + 1).
pub const ENTRIES: usize = 64;

/// The newest errors and how many there were.
#[derive(Debug)]
pub struct ErrorLog {
    entries: VecDeque<ErrorEntry>,
    count: u64,
    transport: Transport,
}

impl ErrorLog {
    /// An empty log of a controller whose queues are carried by `transport`.
    pub fn new(transport: Transport) -> Self {
        Self {
            entries: VecDeque::with_capacity(ENTRIES),
            count: 0,
            transport,
        }
    }

    /// Notes a command that failed. Cost: no allocation.
    pub fn record(&mut self, qid: u16, sqe: &Sqe, status: Status) {
        self.count += 1;
        if self.entries.len() == ENTRIES {
            self.entries.pop_back();
        }
        self.entries.push_front(ErrorEntry {
            error_count: U64::new(self.count),
            sqid: U16::new(qid),
            cid: sqe.cid,
            status: U16::new(status.field(false)),
            parameter_location: U16::new(0xffff),
            lba: U64::new(lba_of(qid, sqe)),
            nsid: U32::new(if sqe.is_fabrics() { 0 } else { sqe.nsid.get() }),
            trtype: self.transport.trtype().0,
            ..ErrorEntry::zeroed()
        });
    }

    /// Counts errors that nothing more is known of.
    pub fn skip(&mut self, count: u64) {
        self.count += count;
    }

    /// Errors since the controller was created.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Entry `index`, the newest first.
    pub fn get(&self, index: usize) -> Option<&ErrorEntry> {
        self.entries.get(index)
    }
}

/// First block of a command on an I/O queue; 0 for what has none.
fn lba_of(qid: u16, sqe: &Sqe) -> u64 {
    if qid == 0 || sqe.is_fabrics() {
        return 0;
    }
    u64::from(sqe.cdw10.get()) | u64::from(sqe.cdw11.get()) << 32
}
