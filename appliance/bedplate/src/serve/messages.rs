//! What the management plane asks of a data core. Each message carries the place for its answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::ControlError;
use control::model::{
    Cleared, Deleted, IscsiCounters, ListenerStatus, PoolStatus, RdmaCounters, Transport,
    VolumeStatus,
};
use reactor::CoreStats;
use tokio::sync::oneshot;

/// Where an answer goes. Sending never blocks the data core.
pub type Reply<T> = oneshot::Sender<T>;

/// Messages that wait for a data core at most; more than this and the caller is told to try again.
pub const QUEUE_LEN: usize = 64;

/// A message to a data core.
pub enum Message {
    /// State and counters of everything on the core.
    Snapshot(Reply<CoreSnapshot>),
    /// Make a volume and export it.
    Create(NewVolume, Reply<Result<VolumeStatus, ControlError>>),
    /// End the export of a volume and free its space.
    Delete(String, Reply<Result<Deleted, ControlError>>),
    /// Clear the reservations of a volume.
    ClearReservations(String, Reply<Result<Cleared, ControlError>>),
    /// Open the pools; sent to all cores when the addresses are bound.
    Open,
    /// Listen on the bound addresses; sent to all cores when the pools of all are open.
    Listen,
    /// Finish what is in flight, write a checkpoint, end.
    Shutdown,
}

/// A volume to be made, already checked against the limits of the configuration.
pub struct NewVolume {
    /// Unique over all pools.
    pub name: String,
    /// Name of a pool of this core.
    pub pool: String,
    /// Size that hosts see.
    pub size_bytes: u64,
    /// 512 or 4096.
    pub block_bytes: u32,
}

/// One data core at one moment.
#[derive(Default)]
pub struct CoreSnapshot {
    /// Its pools.
    pub pools: Vec<PoolStatus>,
    /// The volumes of its pools, damaged ones included.
    pub volumes: Vec<VolumeStatus>,
    /// Host connections it serves.
    pub connections: u64,
    /// Those of them whose volume lives on another core.
    pub guests: u64,
    /// Connections it serves by the qualified name of their volume, which may live elsewhere, and
    /// by what carries them.
    pub by_nqn: BTreeMap<String, BTreeMap<Transport, u64>>,
    /// Its iSCSI target, where there is any.
    pub iscsi: Option<IscsiCounters>,
    /// What it has of RDMA, where there is any.
    pub rdma: Option<RdmaCounters>,
    /// Connections that left it for another core.
    pub moves: u64,
    /// Moves that were given up.
    pub moves_given_up: u64,
    /// Messages of guests that found no room in the mailbox of their home core.
    pub mailbox_waits: u64,
}

/// What a data core tells about its start and its end.
pub enum Startup {
    /// The addresses of its listeners are bound, and nothing on disk is touched.
    Bound,
    /// Pools are open and volumes recovered: listeners may open.
    Opened {
        /// Index of the data core.
        core: usize,
        /// Its counters.
        stats: Arc<CoreStats>,
    },
    /// These listeners accept connections.
    Listening(Vec<ListenerStatus>),
    /// The core cannot go on; it has changed nothing that it could not finish.
    Failed(anyhow::Error),
}
