//! What the management API says and takes, as serde types shared by server and command line.
//!
//! Units are in the names. Every list is sorted by name, so that two answers can be compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole appliance at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running binary.
    pub version: String,
    /// Process id of the server.
    pub pid: u32,
    /// Seconds since the server became ready.
    pub uptime_seconds: u64,
    /// One entry per data core.
    pub cores: Vec<CoreStatus>,
    /// One entry per pool.
    pub pools: Vec<PoolStatus>,
    /// One entry per volume of every pool, damaged ones included.
    pub volumes: Vec<VolumeStatus>,
    /// Addresses that accept connections.
    pub listeners: Vec<ListenerStatus>,
    /// Hosts connected now.
    pub connections: u64,
}

/// One data core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreStatus {
    /// Index among the data cores.
    pub index: usize,
    /// CPU it is pinned to; none when pinning was refused.
    pub cpu: Option<usize>,
    /// Share of the last second in which the loop found work, 0.0 to 1.0.
    pub busy_fraction: f64,
    /// Time in turns of the loop that found work, since start, microseconds.
    pub busy_us: u64,
    /// Time in turns that found none, and asleep, since start, microseconds. A sleep counts when
    /// it ends.
    pub idle_us: u64,
    /// Host connections that the core serves now.
    pub connections: u64,
    /// Those of them whose volume lives on another core.
    pub guests: u64,
    /// Connections that moved from this core to another since start.
    pub moves: u64,
    /// Moves from this core that were given up since start: the connection did not fall quiet in
    /// time, or the other core took no more.
    pub moves_given_up: u64,
    /// Times since start that a message of a guest to its home core found the mailbox full and waited.
    pub mailbox_waits: u64,
    /// Times the core went to sleep since start.
    pub parks: u64,
    /// I/O operations submitted since start.
    pub ops: u64,
    /// Its iSCSI target; none where there is no iSCSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<IscsiCounters>,
    /// What it has of RDMA; none where there is no RDMA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaCounters>,
}

/// What one data core has of RDMA now, and since start where that is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaCounters {
    /// Queue pairs there are, those that end included.
    pub queue_pairs: u64,
    /// Memory regions that the process has registered, all cores together.
    pub memory_regions: u64,
    /// Bytes in them.
    pub registered_bytes: u64,
    /// Receives that wait for a message.
    pub receives_posted: u64,
    /// Times since start that there was no memory for a receive.
    pub receives_short: u64,
    /// Completions taken since start.
    pub completions: u64,
    /// Work that failed since start, not counting what was flushed.
    pub failed: u64,
    /// Times since start that the core armed its completion queue to sleep.
    pub armed: u64,
    /// Times since start that the core heard that the link of a port was down.
    #[serde(default)]
    pub links_down: u64,
}

/// The iSCSI target of one data core, since start where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiCounters {
    /// Sessions there are now.
    pub sessions: u64,
    /// Connections of these sessions.
    pub connections: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Commands answered.
    pub commands: u64,
    /// Of them, answered with an error.
    pub failed: u64,
    /// Payload of the commands answered, both ways.
    pub payload_bytes: u64,
    /// PDUs that were rejected.
    pub protocol_errors: u64,
    /// Header and data digests that did not match.
    pub digest_errors: u64,
    /// Connections that ended, by reason.
    pub closed: BTreeMap<String, u64>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Name from the configuration.
    pub name: String,
    /// File or block device; none for a pool in memory.
    pub path: Option<String>,
    /// It is in memory and keeps nothing: its volumes are gone when the server ends.
    pub volatile: bool,
    /// UUID written when the pool was created.
    pub uuid: String,
    /// Usable bytes.
    pub size_bytes: u64,
    /// Bytes in use by data, map and journals.
    pub used_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
    /// Index of the data core that runs it.
    pub core: usize,
    /// `ok`, or why the pool takes no writes.
    pub state: String,
    /// What its file, block device or memory did.
    pub device: DeviceCounters,
}

/// What the device below a pool did since the server started; opening the pool is part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounters {
    /// Completed reads.
    pub reads: u64,
    /// Bytes of completed reads.
    pub read_bytes: u64,
    /// Completed writes.
    pub writes: u64,
    /// Bytes of completed writes: journals, data and metadata.
    pub written_bytes: u64,
    /// Flushes; one may serve many requests.
    pub flushes: u64,
    /// Bytes given back.
    pub discarded_bytes: u64,
    /// Operations that failed.
    pub errors: u64,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Name, unique over all pools.
    pub name: String,
    /// Pool that holds it.
    pub pool: String,
    /// Size that hosts see.
    pub size_bytes: u64,
    /// Logical block size, 512 or 4096.
    pub block_bytes: u32,
    /// Bytes of the pool that it occupies.
    pub mapped_bytes: u64,
    /// UUID; never changes, except that a volatile volume is a new one at every start.
    pub uuid: String,
    /// NVMe Qualified Name hosts connect to.
    pub nqn: String,
    /// Name of its iSCSI target; none where there is no iSCSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqn: Option<String>,
    /// iSCSI sessions that use it now.
    #[serde(default)]
    pub iscsi_sessions: u64,
    /// Its pool is in memory: it keeps nothing and is gone when the server ends.
    pub volatile: bool,
    /// Index of its home core, the data core that executes its commands.
    pub core: usize,
    /// The connections to it, by the core that serves them; cores without any are left out.
    pub connections: Vec<CoreConnections>,
    /// `live`, or what is wrong and what to do.
    pub state: String,
    /// Counters since start; absent for a volume that is not served.
    pub counters: Option<VolumeCounters>,
}

/// What carries a connection of an NVMe host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA.
    Rdma,
}

impl Transport {
    /// As in JSON, and as `nvme connect -t` names it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Rdma => "rdma",
        }
    }
}

/// Connections to one volume that one core serves over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreConnections {
    /// Index of the data core.
    pub core: usize,
    /// How many.
    pub count: u64,
    /// What carries them.
    pub transport: Transport,
}

/// Counters of one volume since the server started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeCounters {
    /// Per operation, in a fixed order.
    pub operations: Vec<OperationCounters>,
    /// Where the time of a request goes, in the order of the path.
    pub stages: Vec<StageLatency>,
    /// Share of the journal ring that is in use, 0.0 to 1.0.
    pub journal_fill: f64,
    /// 4 KiB pages that are in the journal but not yet in their clusters.
    pub dirty_pages: u64,
    /// Memory in which the data of dirty pages is kept, in bytes.
    pub payload_bytes: u64,
    /// Writes whose data found no such memory.
    pub payloads_refused: u64,
    /// Finished flusher cycles.
    pub flush_cycles: u64,
    /// Reads refused because a checksum did not match.
    pub corrupt_reads: u64,
}

/// Counters and latency of one kind of operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationCounters {
    /// `read`, `write`, `flush`, ...
    pub operation: String,
    /// Completed without error.
    pub completed: u64,
    /// Completed with an error.
    pub failed: u64,
    /// Payload bytes of completed operations.
    pub bytes: u64,
    /// 50th percentile of the service time, microseconds.
    pub p50_us: u64,
    /// 99th percentile, microseconds.
    pub p99_us: u64,
    /// Largest, microseconds.
    pub max_us: u64,
}

/// Latency of one stage of a request's path, as a histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageLatency {
    /// `admission`, `journal`, `read`, `write`, ...
    pub stage: String,
    /// Requests that passed the stage.
    pub count: u64,
    /// Sum of all their times, microseconds.
    pub sum_us: u64,
    /// Upper bound in microseconds and the number of requests at or below it and above the
    /// bound before; what is above the last bound is only in `count`.
    pub buckets: Vec<(u64, u64)>,
}

/// One address that accepts connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// `nvme-tcp`, `nvme-rdma` or `iscsi`.
    pub kind: String,
    /// Bound address, port included.
    pub address: String,
}

/// What `POST /v1/volumes` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Name of the new volume.
    pub name: String,
    /// Pool; may be left out when there is just one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block size; 4096 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
}

/// What `DELETE /v1/volumes/NAME` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deleted {
    /// Name of the volume that is gone.
    pub name: String,
    /// Something the operator should know, such as that the configuration still names it.
    pub warning: Option<String>,
}

/// What `DELETE /v1/volumes/NAME/reservations` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleared {
    /// Name of the volume.
    pub name: String,
    /// Registrations of hosts that are gone.
    pub registrants: usize,
    /// They could not be read, and every access had to be refused until now.
    pub was_locked: bool,
}

/// How a host attaches one volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectInfo {
    /// Name of the volume.
    pub name: String,
    /// NVMe Qualified Name.
    pub nqn: String,
    /// Name of the iSCSI target; none where there is no iSCSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqn: Option<String>,
    /// Lines to type on the host, in order.
    pub commands: Vec<String>,
}

/// Body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened, to what, and what to do next.
    pub error: String,
}
