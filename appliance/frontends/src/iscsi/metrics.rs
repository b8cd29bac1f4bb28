//! What there is to know about sessions, and the counters of an iSCSI target.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use reactor::CoreId;

use super::reason::CloseReason;
use crate::metrics::CounterValues;

/// One connection of a session, for lists and metrics.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Connection identifier, chosen by the initiator.
    pub cid: u16,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// Headers carry digests.
    pub header_digest: bool,
    /// Data carries digests.
    pub data_digest: bool,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// What happened on it.
    pub counters: CounterValues,
}

/// One session, for lists and metrics.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The target's part of its identifier.
    pub tsih: u16,
    /// The initiator's part.
    pub isid: [u8; 6],
    /// Name of the initiator.
    pub initiator: String,
    /// Name of the target; none for discovery.
    pub target: Option<String>,
    /// Target portal group tag.
    pub portal: u16,
    /// Commands at work or waiting.
    pub in_flight: usize,
    /// Its connections, by age.
    pub connections: Vec<ConnectionInfo>,
    /// What happened on it since it began.
    pub counters: CounterValues,
    /// The core that serves it.
    pub core: CoreId,
}

/// All counters of one core's iSCSI target; `Send`.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// Sessions there are now.
    pub sessions: Vec<SessionInfo>,
    /// Sums over all connections since start, the living ones included.
    pub total: CounterValues,
    /// Connections that ended, by reason.
    pub closed: BTreeMap<&'static str, u64>,
    /// Logins that succeeded.
    pub logins: u64,
    /// Data-Out PDUs of commands that were gone.
    pub stray_data: u64,
}

/// Counters of a target over all its connections.
#[derive(Debug, Default)]
pub(super) struct Totals {
    past: Cell<CounterValues>,
    closed: RefCell<BTreeMap<&'static str, u64>>,
    pub logins: Cell<u64>,
    pub stray_data: Cell<u64>,
}

impl Totals {
    /// A connection that counted so much is over.
    pub fn closed(&self, reason: CloseReason, counted: CounterValues) {
        let mut past = self.past.get();
        past += counted;
        self.past.set(past);
        self.refused(reason);
    }

    /// A socket ended, logged in or not.
    pub fn refused(&self, reason: CloseReason) {
        *self.closed.borrow_mut().entry(reason.label()).or_default() += 1;
    }

    pub fn snapshot(
        &self,
        sessions: Vec<SessionInfo>,
        living: impl Iterator<Item = CounterValues>,
    ) -> MetricsSnapshot {
        let mut total = self.past.get();
        living.for_each(|counted| total += counted);
        MetricsSnapshot {
            sessions,
            total,
            closed: self.closed.borrow().clone(),
            logins: self.logins.get(),
            stray_data: self.stray_data.get(),
        }
    }
}
