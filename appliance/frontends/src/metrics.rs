//! Counters of the target: kept in plain cells on its core, copied out as data for any thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use reactor::CoreId;
use wire::nvme::Status;

use crate::nvmf::port::CloseReason;
use crate::nvmf::transport::Transport;

/// Counters of one connection while it lives.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub commands: Cell<u64>,
    pub failed: Cell<u64>,
    pub payload_bytes: Cell<u64>,
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
    /// Payload of the commands answered, both ways.
    pub payload_bytes: u64,
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
        self.ended(status.is_success());
    }

    /// A command was answered.
    #[inline]
    pub fn ended(&self, is_success: bool) {
        self.commands.set(self.commands.get() + 1);
        if !is_success {
            self.failed.set(self.failed.get() + 1);
        }
    }

    /// Payload of a command that is being answered.
    #[inline]
    pub fn moved(&self, len_bytes: usize) {
        self.payload_bytes
            .set(self.payload_bytes.get() + len_bytes as u64);
    }

    pub fn snapshot(&self) -> CounterValues {
        CounterValues {
            commands: self.commands.get(),
            failed: self.failed.get(),
            payload_bytes: self.payload_bytes.get(),
            r2t_sent: self.r2t_sent.get(),
            r2t_waits: self.r2t_waits.get(),
            protocol_errors: self.protocol_errors.get(),
            digest_errors: self.digest_errors.get(),
        }
    }
}

impl From<CounterValues> for Counters {
    /// Counts on from there.
    fn from(values: CounterValues) -> Self {
        Self {
            commands: Cell::new(values.commands),
            failed: Cell::new(values.failed),
            payload_bytes: Cell::new(values.payload_bytes),
            r2t_sent: Cell::new(values.r2t_sent),
            r2t_waits: Cell::new(values.r2t_waits),
            protocol_errors: Cell::new(values.protocol_errors),
            digest_errors: Cell::new(values.digest_errors),
        }
    }
}

impl std::ops::Sub for CounterValues {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            commands: self.commands - other.commands,
            failed: self.failed - other.failed,
            payload_bytes: self.payload_bytes - other.payload_bytes,
            r2t_sent: self.r2t_sent - other.r2t_sent,
            r2t_waits: self.r2t_waits - other.r2t_waits,
            protocol_errors: self.protocol_errors - other.protocol_errors,
            digest_errors: self.digest_errors - other.digest_errors,
        }
    }
}

impl std::ops::AddAssign for CounterValues {
    fn add_assign(&mut self, other: Self) {
        self.commands += other.commands;
        self.failed += other.failed;
        self.payload_bytes += other.payload_bytes;
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
    /// What carries it.
    pub transport: Transport,
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
    /// What happened on it, on whichever core.
    pub counters: CounterValues,
    /// The core that serves it.
    pub core: CoreId,
    /// The core of its controller and volume.
    pub home: CoreId,
    /// Times that a message of it to the home core found no room and waited, on this core.
    pub mailbox_waits: u64,
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
    /// Connections that moved from this core to another.
    pub moves: u64,
    /// Moves that were asked for and given up, because the connection did not fall quiet in time or
    /// the other core took no more.
    pub moves_given_up: u64,
    /// Times that a message of a connection here to its home core found no room and waited.
    pub mailbox_waits: u64,
}

/// Counters of a target over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    past: Cell<CounterValues>,
    closed: RefCell<BTreeMap<&'static str, u64>>,
    pub moves: Cell<u64>,
    pub moves_given_up: Cell<u64>,
    pub mailbox_waits: Cell<u64>,
}

impl Totals {
    /// A connection closed. `counted` is what it counted on this core.
    pub fn closed(&self, reason: CloseReason, counted: CounterValues) {
        self.keep(counted);
        self.refused(reason);
    }

    /// A connection left this core.
    pub fn moved(&self) {
        self.moves.set(self.moves.get() + 1);
    }

    /// What a connection counted here stays here when it leaves.
    pub fn keep(&self, counted: CounterValues) {
        let mut past = self.past.get();
        past += counted;
        self.past.set(past);
    }

    /// A connection that ends or leaves had waited so often for room in a mailbox.
    pub fn waited(&self, count: u64) {
        self.mailbox_waits.set(self.mailbox_waits.get() + count);
    }

    /// A move was given up.
    pub fn stayed(&self) {
        self.moves_given_up.set(self.moves_given_up.get() + 1);
    }

    /// A socket ended, connected or not.
    pub fn refused(&self, reason: CloseReason) {
        *self.closed.borrow_mut().entry(reason.label()).or_default() += 1;
    }

    /// `connections` are those of this core, each with what it counted here.
    pub fn snapshot(
        &self,
        connections: impl Iterator<Item = (ConnectionInfo, CounterValues)>,
    ) -> MetricsSnapshot {
        let mut total = self.past.get();
        let mut mailbox_waits = self.mailbox_waits.get();
        let counted = |(connection, here): (ConnectionInfo, CounterValues)| {
            total += here;
            mailbox_waits += connection.mailbox_waits;
            connection
        };
        let connections = connections.map(counted).collect();
        MetricsSnapshot {
            connections,
            total,
            closed: self.closed.borrow().clone(),
            moves: self.moves.get(),
            moves_given_up: self.moves_given_up.get(),
            mailbox_waits,
        }
    }
}
