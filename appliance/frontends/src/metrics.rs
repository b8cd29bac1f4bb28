//! Counters of the target: kept in plain cells on its core, copied out as data for any thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::nvme::Status;

use crate::nvmf::port::CloseReason;

/// Counters of one connection while it lives.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub commands: Cell<u64>,
    pub failed: Cell<u64>,
    pub r2t_sent: Cell<u64>,
    pub r2t_waits: Cell<u64>,
    pub protocol_errors: Cell<u64>,
    pub digest_errors: Cell<u64>,
}

/// Counters of one connection, or the sum over closed ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// Commands answered.
    pub commands: u64,
    /// Of them, answered with an error.
    pub failed: u64,
    /// R2Ts sent.
    pub r2t_sent: u64,
    /// Times a write had to wait for payload memory before its R2T.
    pub r2t_waits: u64,
    /// Termination requests sent.
    pub protocol_errors: u64,
    /// Header and data digests that did not match.
    pub digest_errors: u64,
}

impl Counters {
    #[inline]
    pub fn completed(&self, status: Status) {
        self.commands.set(self.commands.get() + 1);
        if !status.is_success() {
            self.failed.set(self.failed.get() + 1);
        }
    }

    pub fn snapshot(&self) -> CounterValues {
        CounterValues {
            commands: self.commands.get(),
            failed: self.failed.get(),
            r2t_sent: self.r2t_sent.get(),
            r2t_waits: self.r2t_waits.get(),
            protocol_errors: self.protocol_errors.get(),
            digest_errors: self.digest_errors.get(),
        }
    }
}

impl std::ops::AddAssign for CounterValues {
    fn add_assign(&mut self, other: Self) {
        self.commands += other.commands;
        self.failed += other.failed;
        self.r2t_sent += other.r2t_sent;
        self.r2t_waits += other.r2t_waits;
        self.protocol_errors += other.protocol_errors;
        self.digest_errors += other.digest_errors;
    }
}

/// One connection, for lists and metrics.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Identifier on its core.
    pub id: u64,
    /// The host's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// The host's qualified name.
    pub host_nqn: String,
    /// The subsystem; none for discovery.
    pub subsystem_nqn: Option<String>,
    /// The controller.
    pub cntlid: u16,
    /// 0 for the admin queue.
    pub qid: u16,
    /// Headers carry digests.
    pub header_digest: bool,
    /// Data carries digests.
    pub data_digest: bool,
    /// Commands the host waits for.
    pub in_flight: usize,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// What happened on it.
    pub counters: CounterValues,
}

/// All counters of one core's target; `Send`.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// Connections there are now.
    pub connections: Vec<ConnectionInfo>,
    /// Sums over all connections since start, the living ones included.
    pub total: CounterValues,
    /// Connections that ended, by reason.
    pub closed: BTreeMap<&'static str, u64>,
}

/// Counters of a target over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    past: Cell<CounterValues>,
    closed: RefCell<BTreeMap<&'static str, u64>>,
}

impl Totals {
    /// A connection closed.
    pub fn closed(&self, reason: CloseReason, counters: &Counters) {
        let mut past = self.past.get();
        past += counters.snapshot();
        self.past.set(past);
        self.refused(reason);
    }

    /// A socket ended, connected or not.
    pub fn refused(&self, reason: CloseReason) {
        *self.closed.borrow_mut().entry(reason.label()).or_default() += 1;
    }

    pub fn snapshot(&self, connections: impl Iterator<Item = ConnectionInfo>) -> MetricsSnapshot {
        let connections: Vec<_> = connections.collect();
        let mut total = self.past.get();
        for connection in &connections {
            total += connection.counters;
        }
        MetricsSnapshot {
            connections,
            total,
            closed: self.closed.borrow().clone(),
        }
    }
}
