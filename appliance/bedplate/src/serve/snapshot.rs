//! One data core's state and counters as the plain data of the management API.

use control::model::{
    DeviceCounters, OperationCounters, PoolStatus, StageLatency, Transport, VolumeCounters,
    VolumeStatus,
};
use frontends::iscsi::volume_iqn;
use frontends::volume_nqn;
use hdrhistogram::Histogram;
use store::CLUSTER_BYTES;
use uuid::Uuid;
use volume::{EngineSnapshot, MetricsSnapshot, OpSnapshot, VolumeListing, VolumeState};

use super::core::Core;
use super::messages::CoreSnapshot;
use super::pools::OpenPool;
use super::{iscsi, rdma};

/// State of a volume whose reservations cannot be read.
const LOCKED: &str = "locked: its reservations cannot be read, and every access of hosts conflicts: \
                      see `bedplate volume clear-reservations`";

/// Upper bounds of the exported latency buckets, microseconds.
const BUCKETS_US: [u64; 18] = [
    5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 10_000_000,
];

/// Everything the core knows. Cost: copies the histograms; at most a few per second.
pub fn take(core: &Core) -> CoreSnapshot {
    let mut snapshot = connections(&core.target.snapshot_metrics());
    let iscsi = core.iscsi.as_ref().map(frontends::iscsi::Target::metrics);
    snapshot.iscsi = iscsi.as_ref().map(iscsi::counters);
    snapshot.rdma = core.rdma.as_ref().map(|card| rdma::counters(&card.stats()));
    snapshot.connections += snapshot
        .iscsi
        .as_ref()
        .map_or(0, |counted| counted.connections);
    for open in &core.pools {
        let counters = open.engine.snapshot_metrics();
        snapshot.pools.push(pool(core, open, &counters));
        snapshot.volumes.extend(statuses(core, open, &counters));
    }
    for volume in &mut snapshot.volumes {
        let sessions = iscsi.iter().flat_map(|metrics| &metrics.sessions);
        let own =
            sessions.filter(|session| session.target.is_some() && session.target == volume.iqn);
        volume.iscsi_sessions = own.count() as u64;
    }
    snapshot
}

fn connections(target: &frontends::MetricsSnapshot) -> CoreSnapshot {
    let mut snapshot = CoreSnapshot {
        connections: target.connections.len() as u64,
        moves: target.moves,
        moves_given_up: target.moves_given_up,
        mailbox_waits: target.mailbox_waits,
        ..CoreSnapshot::default()
    };
    for connection in &target.connections {
        snapshot.guests += u64::from(connection.core != connection.home);
        if let Some(nqn) = &connection.subsystem_nqn {
            let by_transport = snapshot.by_nqn.entry(nqn.clone()).or_default();
            *by_transport
                .entry(transport(connection.transport))
                .or_default() += 1;
        }
    }
    snapshot
}

fn transport(of: frontends::Transport) -> Transport {
    match of {
        frontends::Transport::Tcp => Transport::Tcp,
        frontends::Transport::Rdma => Transport::Rdma,
    }
}

fn pool(core: &Core, pool: &OpenPool, counters: &EngineSnapshot) -> PoolStatus {
    let space = pool.engine.space();
    let clusters = |count: u32| u64::from(count) * CLUSTER_BYTES;
    PoolStatus {
        name: pool.config.name.to_string(),
        path: pool.config.place.path().map(|p| p.display().to_string()),
        volatile: pool.config.is_volatile(),
        uuid: Uuid::from_bytes(pool.engine.uuid()).to_string(),
        size_bytes: clusters(space.clusters_total),
        used_bytes: clusters(space.clusters_total - space.free),
        free_bytes: clusters(space.free),
        core: core.index,
        state: pool.engine.failure().unwrap_or_else(|| "ok".into()),
        device: device(counters.device),
    }
}

fn device(counters: block::CountersSnapshot) -> DeviceCounters {
    DeviceCounters {
        reads: counters.reads,
        read_bytes: counters.read_bytes,
        writes: counters.writes,
        written_bytes: counters.written_bytes,
        flushes: counters.flushes,
        discarded_bytes: counters.discarded_bytes,
        errors: counters.errors,
    }
}

/// The volumes of one pool, damaged ones included.
pub fn volumes(core: &Core, pool: &OpenPool) -> Vec<VolumeStatus> {
    statuses(core, pool, &pool.engine.snapshot_metrics())
}

fn statuses(core: &Core, pool: &OpenPool, counters: &EngineSnapshot) -> Vec<VolumeStatus> {
    let counters = &counters.volumes;
    let exported = core.target.subsystem_nqns();
    let status = |listing: VolumeListing| {
        let name = listing.name.to_string();
        let metrics = counters.iter().find(|(other, _)| **other == *name);
        let nqn = volume_nqn(&name);
        VolumeStatus {
            pool: pool.config.name.to_string(),
            size_bytes: listing.size_bytes,
            block_bytes: listing.block_bytes,
            mapped_bytes: listing.mapped_bytes,
            uuid: Uuid::from_bytes(listing.uuid).to_string(),
            volatile: pool.config.is_volatile(),
            core: core.index,
            // Other cores know theirs: filled in where all snapshots are.
            connections: Vec::new(),
            state: state(core, pool, &listing, exported.contains(&nqn)),
            counters: metrics.map(|(_, snapshot)| volume_counters(snapshot)),
            nqn,
            iqn: core.iscsi.as_ref().map(|_| volume_iqn(&name)),
            // Filled in where the sessions are known.
            iscsi_sessions: 0,
            name,
        }
    };
    pool.engine.listing().into_iter().map(status).collect()
}

fn state(core: &Core, pool: &OpenPool, listing: &VolumeListing, exported: bool) -> String {
    if let Some((_, why)) = pool.damaged.iter().find(|(name, _)| *name == *listing.name) {
        return format!("damaged: {why}");
    }
    if listing.deleting {
        return "being deleted".into();
    }
    match pool.engine.volume(&listing.name).map(|v| v.state()) {
        Some(VolumeState::Failed { why }) => format!("failed: {why}"),
        Some(VolumeState::Live) if exported => {
            let reservations = core.target.reservations(&listing.name);
            match reservations.is_some_and(|reservations| reservations.is_locked()) {
                true => LOCKED.into(),
                false => "live".into(),
            }
        }
        Some(VolumeState::Live) => "not exported: restart the server".into(),
        Some(VolumeState::Deleting) | None => "being deleted".into(),
    }
}

fn volume_counters(snapshot: &MetricsSnapshot) -> VolumeCounters {
    let gauges = snapshot.gauges;
    let ring = gauges.journal_ring_bytes.max(1);
    VolumeCounters {
        operations: snapshot.ops.iter().map(operation).collect(),
        stages: stages(snapshot),
        journal_fill: gauges.journal_used_bytes as f64 / ring as f64,
        dirty_pages: gauges.dirty_pages,
        payload_bytes: gauges.payload_bytes,
        payloads_refused: gauges.payloads_refused,
        flush_cycles: snapshot.flush_cycles,
        corrupt_reads: snapshot.corrupt_reads,
    }
}

fn operation(op: &OpSnapshot) -> OperationCounters {
    let quantile = |q: f64| {
        op.total_ns
            .as_ref()
            .map_or(0, |h| h.value_at_quantile(q) / 1000)
    };
    OperationCounters {
        operation: op.kind.label().into(),
        completed: op.count - op.errors,
        failed: op.errors,
        bytes: op.bytes,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        max_us: op.total_ns.as_ref().map_or(0, |h| h.max() / 1000),
    }
}

/// Every stage that was passed at least once.
fn stages(snapshot: &MetricsSnapshot) -> Vec<StageLatency> {
    let engine = [
        ("admission", &snapshot.admission_wait_ns),
        ("journal", &snapshot.journal_write_ns),
        ("device_flush", &snapshot.device_flush_ns),
        ("flush_cycle", &snapshot.flush_cycle_ns),
        ("checkpoint", &snapshot.checkpoint_ns),
    ];
    let totals = snapshot
        .ops
        .iter()
        .map(|op| (op.kind.label(), &op.total_ns));
    let seen = engine.into_iter().chain(totals);
    seen.filter_map(|(name, h)| h.as_ref().map(|h| stage(name, h)))
        .collect()
}

fn stage(name: &str, histogram: &Histogram<u64>) -> StageLatency {
    let mut below_us = 0;
    let bucket = |le_us: u64| {
        let count = histogram.count_between(below_us * 1000 + 1, le_us * 1000);
        below_us = le_us;
        (le_us, count)
    };
    StageLatency {
        stage: name.into(),
        count: histogram.len(),
        sum_us: (histogram.mean() * histogram.len() as f64 / 1000.0) as u64,
        buckets: BUCKETS_US.into_iter().map(bucket).collect(),
    }
}
