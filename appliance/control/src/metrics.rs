//! The Prometheus text of one [`Status`]. Built anew at each scrape; the data cores only count.
//!
//! Names: `bedplate_<object>_<what>_<unit>`; times in seconds, sizes in bytes, as Prometheus asks.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::model::{
    CoreStatus, DeviceCounters, IscsiCounters, OperationCounters, RdmaCounters, StageLatency,
    Status, VolumeCounters, VolumeStatus,
};

/// Renders `status` as Prometheus (OpenMetrics) text.
pub fn render(status: &Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(status.clone())));
    let mut text = String::new();
    // Writing into a String fails only when a label set cannot be encoded, and ours are strings.
    encode(&mut text, &registry).expect("metrics are encoded into memory");
    text
}

#[derive(Debug)]
struct Snapshot(Status);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.appliance(&mut encoder)?;
        self.cores(&mut encoder)?;
        self.moves(&mut encoder)?;
        self.iscsi(&mut encoder)?;
        self.rdma(&mut encoder)?;
        self.pools(&mut encoder)?;
        self.devices(&mut encoder)?;
        self.operations(&mut encoder)?;
        self.engine(&mut encoder)?;
        self.stages(&mut encoder)
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A metric family whose members are produced one by one.
struct Family<'a> {
    encoder: MetricEncoder<'a>,
}

impl<'a> Family<'a> {
    fn gauge(
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        Ok(Family { encoder })
    }

    fn counter(
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        Ok(Family { encoder })
    }

    fn set(&mut self, labels: Labels, value: f64) -> Result<(), fmt::Error> {
        self.encoder.encode_family(&labels)?.encode_gauge(&value)
    }

    fn count(&mut self, labels: Labels, value: impl EncodeCounterValue) -> Result<(), fmt::Error> {
        self.encoder
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn count_seconds(&mut self, labels: Labels, value_us: u64) -> Result<(), fmt::Error> {
        self.count(labels, value_us as f64 / 1e6)
    }
}

impl Snapshot {
    fn appliance(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let status = &self.0;
        let mut up = Family::gauge(encoder, "bedplate_uptime_seconds", "Time since ready")?;
        up.set(
            vec![("version", &status.version)],
            status.uptime_seconds as f64,
        )?;
        let mut hosts = Family::gauge(encoder, "bedplate_connections", "Open host connections")?;
        hosts.encoder.encode_gauge(&(status.connections as f64))
    }

    fn cores(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let names: Vec<String> = self.0.cores.iter().map(|c| c.index.to_string()).collect();
        let cores = || names.iter().zip(&self.0.cores);
        let help = "Share of the last second in which the loop found work";
        let mut busy = Family::gauge(encoder, "bedplate_core_busy_ratio", help)?;
        for (name, core) in cores() {
            busy.set(vec![("core", name)], core.busy_fraction)?;
        }
        let help = "Time in turns of the loop that found work";
        let mut busy = Family::counter(encoder, "bedplate_core_busy_seconds", help)?;
        for (name, core) in cores() {
            busy.count_seconds(vec![("core", name)], core.busy_us)?;
        }
        let help = "Time in turns that found no work, and asleep; a sleep counts when it ends";
        let mut idle = Family::counter(encoder, "bedplate_core_idle_seconds", help)?;
        for (name, core) in cores() {
            idle.count_seconds(vec![("core", name)], core.idle_us)?;
        }
        let help = "Host connections that the core serves";
        let mut hosts = Family::gauge(encoder, "bedplate_core_connections", help)?;
        for (name, core) in cores() {
            hosts.set(vec![("core", name)], core.connections as f64)?;
        }
        let help = "Connections that the core serves for volumes of other cores";
        let mut guests = Family::gauge(encoder, "bedplate_core_guest_connections", help)?;
        for (name, core) in cores() {
            guests.set(vec![("core", name)], core.guests as f64)?;
        }
        let mut parks = Family::counter(encoder, "bedplate_core_parks", "Times a core slept")?;
        for (name, core) in cores() {
            parks.count(vec![("core", name)], core.parks)?;
        }
        let mut ops = Family::counter(encoder, "bedplate_core_ops", "I/O operations submitted")?;
        for (name, core) in cores() {
            ops.count(vec![("core", name)], core.ops)?;
        }
        Ok(())
    }

    /// Connections that move from core to core.
    fn moves(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        type Field = fn(&CoreStatus) -> u64;
        let families: [(&str, &str, Field); 3] = [
            (
                "bedplate_connection_moves",
                "Connections that moved from this core to another",
                |c| c.moves,
            ),
            (
                "bedplate_connection_moves_given_up",
                "Moves from this core that were given up",
                |c| c.moves_given_up,
            ),
            (
                "bedplate_core_mailbox_waits",
                "Messages of guest connections that found their home core's mailbox full",
                |c| c.mailbox_waits,
            ),
        ];
        for (name, help, field) in families {
            let mut family = Family::counter(encoder, name, help)?;
            for core in &self.0.cores {
                let index = core.index.to_string();
                family.count(vec![("core", &index)], field(core))?;
            }
        }
        let help =
            "Connections to the volume, by the core that serves them, its home core and transport";
        let mut family = Family::gauge(encoder, "bedplate_volume_connections", help)?;
        for volume in &self.0.volumes {
            let home = volume.core.to_string();
            for here in &volume.connections {
                let core = here.core.to_string();
                let labels = vec![
                    ("volume", volume.name.as_str()),
                    ("core", &core),
                    ("home", &home),
                    ("transport", here.transport.label()),
                ];
                family.set(labels, here.count as f64)?;
            }
        }
        Ok(())
    }

    /// What the cores have of RDMA, where there is any.
    fn rdma(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        type Field = fn(&RdmaCounters) -> u64;
        let names: Vec<String> = self.0.cores.iter().map(|c| c.index.to_string()).collect();
        let cores: Vec<(&String, &RdmaCounters)> = names
            .iter()
            .zip(&self.0.cores)
            .filter_map(|(name, core)| Some((name, core.rdma.as_ref()?)))
            .collect();
        let gauges: [(&str, &str, Field); 2] = [
            ("queue_pairs", "RDMA queue pairs", |r| r.queue_pairs),
            ("receives_posted", "Receives that wait for a message", |r| {
                r.receives_posted
            }),
        ];
        for (what, help, field) in gauges {
            let name = format!("bedplate_rdma_{what}");
            let mut family = Family::gauge(encoder, &name, help)?;
            for (core, rdma) in &cores {
                family.set(vec![("core", core)], field(rdma) as f64)?;
            }
        }
        let counters: [(&str, &str, Field); 5] = [
            (
                "receives_short",
                "Times no memory was left for a receive",
                |r| r.receives_short,
            ),
            ("completions", "RDMA completions", |r| r.completions),
            ("failed", "RDMA work that failed", |r| r.failed),
            ("armed", "Times a core slept on its completion queue", |r| {
                r.armed
            }),
            ("links_down", "Times the link of a port went down", |r| {
                r.links_down
            }),
        ];
        for (what, help, field) in counters {
            let name = format!("bedplate_rdma_{what}");
            let mut family = Family::counter(encoder, &name, help)?;
            for (core, rdma) in &cores {
                family.count(vec![("core", core)], field(rdma))?;
            }
        }
        // The process has them, so one core says it for all.
        let regions: [(&str, &str, Field); 2] = [
            (
                "memory_regions",
                "Memory regions registered for RDMA",
                |r| r.memory_regions,
            ),
            (
                "registered_bytes",
                "Bytes of memory registered for RDMA",
                |r| r.registered_bytes,
            ),
        ];
        for (what, help, field) in regions {
            let name = format!("bedplate_rdma_{what}");
            let mut family = Family::gauge(encoder, &name, help)?;
            if let Some((_, rdma)) = cores.first() {
                family.encoder.encode_gauge(&(field(rdma) as f64))?;
            }
        }
        Ok(())
    }

    /// The iSCSI targets of the cores, where there are any.
    fn iscsi(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        type Field = fn(&IscsiCounters) -> u64;
        let names: Vec<String> = self.0.cores.iter().map(|c| c.index.to_string()).collect();
        let cores = names.iter().zip(&self.0.cores);
        let targets: Vec<(&String, &IscsiCounters)> = cores
            .filter_map(|(name, core)| Some((name, core.iscsi.as_ref()?)))
            .collect();
        let gauges: [(&str, &str, Field); 2] = [
            ("bedplate_iscsi_sessions", "iSCSI sessions", |i| i.sessions),
            (
                "bedplate_iscsi_connections",
                "Connections of iSCSI sessions",
                |i| i.connections,
            ),
        ];
        for (name, help, field) in gauges {
            let mut family = Family::gauge(encoder, name, help)?;
            for (core, iscsi) in &targets {
                family.set(vec![("core", core)], field(iscsi) as f64)?;
            }
        }
        let counters: [(&str, &str, Field); 6] = [
            ("logins", "iSCSI logins that succeeded", |i| i.logins),
            ("commands", "iSCSI commands answered", |i| i.commands),
            ("command_errors", "Of them, answered with an error", |i| {
                i.failed
            }),
            ("payload_bytes", "Payload of the commands answered", |i| {
                i.payload_bytes
            }),
            ("protocol_errors", "iSCSI PDUs that were rejected", |i| {
                i.protocol_errors
            }),
            ("digest_errors", "Digests that did not match", |i| {
                i.digest_errors
            }),
        ];
        for (what, help, field) in counters {
            let name = format!("bedplate_iscsi_{what}");
            let mut family = Family::counter(encoder, &name, help)?;
            for (core, iscsi) in &targets {
                family.count(vec![("core", core)], field(iscsi))?;
            }
        }
        let help = "iSCSI connections that ended, by reason";
        let mut family = Family::counter(encoder, "bedplate_iscsi_closed", help)?;
        for (core, iscsi) in &targets {
            for (reason, count) in &iscsi.closed {
                family.count(vec![("core", core), ("reason", reason)], *count)?;
            }
        }
        let help = "iSCSI sessions that use the volume";
        let mut family = Family::gauge(encoder, "bedplate_volume_iscsi_sessions", help)?;
        for volume in self.0.volumes.iter().filter(|v| v.iqn.is_some()) {
            family.set(vec![("volume", &volume.name)], volume.iscsi_sessions as f64)?;
        }
        Ok(())
    }

    fn pools(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let pools = &self.0.pools;
        let mut size = Family::gauge(encoder, "bedplate_pool_size_bytes", "Usable bytes")?;
        for pool in pools {
            size.set(vec![("pool", &pool.name)], pool.size_bytes as f64)?;
        }
        let mut used = Family::gauge(encoder, "bedplate_pool_used_bytes", "Bytes in use")?;
        for pool in pools {
            used.set(vec![("pool", &pool.name)], pool.used_bytes as f64)?;
        }
        let mut ok = Family::gauge(encoder, "bedplate_pool_ok", "1 while the pool takes writes")?;
        for pool in pools {
            ok.set(
                vec![("pool", &pool.name)],
                if pool.state == "ok" { 1.0 } else { 0.0 },
            )?;
        }
        let help = "1 for a pool in memory, which keeps nothing";
        let mut volatile = Family::gauge(encoder, "bedplate_pool_volatile", help)?;
        for pool in pools {
            let value = if pool.volatile { 1.0 } else { 0.0 };
            volatile.set(vec![("pool", &pool.name)], value)?;
        }
        Ok(())
    }

    fn devices(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        type Field = fn(&DeviceCounters) -> u64;
        let families: [(&str, &str, Field); 7] = [
            ("reads", "Reads completed", |d| d.reads),
            ("read_bytes", "Bytes read", |d| d.read_bytes),
            ("writes", "Writes completed", |d| d.writes),
            ("written_bytes", "Bytes written", |d| d.written_bytes),
            ("flushes", "Flushes done", |d| d.flushes),
            ("discarded_bytes", "Bytes given back", |d| d.discarded_bytes),
            ("errors", "Operations failed", |d| d.errors),
        ];
        for (what, help, field) in families {
            let name = format!("bedplate_device_{what}");
            let mut family = Family::counter(encoder, &name, help)?;
            for pool in &self.0.pools {
                family.count(vec![("pool", &pool.name)], field(&pool.device))?;
            }
        }
        Ok(())
    }

    fn served(&self) -> impl Iterator<Item = (&VolumeStatus, &VolumeCounters)> {
        self.0
            .volumes
            .iter()
            .filter_map(|v| v.counters.as_ref().map(|c| (v, c)))
    }

    fn operations(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        type Field = fn(&OperationCounters) -> u64;
        let families: [(&str, &str, Field); 3] = [
            ("bedplate_volume_operations", "Requests completed", |o| {
                o.completed
            }),
            ("bedplate_volume_operation_errors", "Requests failed", |o| {
                o.failed
            }),
            (
                "bedplate_volume_operation_bytes",
                "Payload of completed requests",
                |o| o.bytes,
            ),
        ];
        for (name, help, field) in families {
            let mut family = Family::counter(encoder, name, help)?;
            for (volume, counters) in self.served() {
                for operation in &counters.operations {
                    let labels = vec![
                        ("volume", volume.name.as_str()),
                        ("operation", operation.operation.as_str()),
                    ];
                    family.count(labels, field(operation))?;
                }
            }
        }
        Ok(())
    }

    fn engine(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Share of the journal ring in use";
        let mut fill = Family::gauge(encoder, "bedplate_volume_journal_fill_ratio", help)?;
        for (volume, counters) in self.served() {
            fill.set(vec![("volume", &volume.name)], counters.journal_fill)?;
        }
        let help = "Pages in the journal and not yet in their clusters";
        let mut dirty = Family::gauge(encoder, "bedplate_volume_dirty_pages", help)?;
        for (volume, counters) in self.served() {
            dirty.set(vec![("volume", &volume.name)], counters.dirty_pages as f64)?;
        }
        let help = "Memory that holds the data of dirty pages";
        let mut payload = Family::gauge(encoder, "bedplate_volume_payload_bytes", help)?;
        for (volume, counters) in self.served() {
            payload.set(
                vec![("volume", &volume.name)],
                counters.payload_bytes as f64,
            )?;
        }
        let help = "Writes whose data found no such memory";
        let mut refused = Family::counter(encoder, "bedplate_volume_payloads_refused", help)?;
        for (volume, counters) in self.served() {
            refused.count(vec![("volume", &volume.name)], counters.payloads_refused)?;
        }
        let mut mapped = Family::gauge(
            encoder,
            "bedplate_volume_mapped_bytes",
            "Pool space occupied",
        )?;
        for volume in &self.0.volumes {
            mapped.set(vec![("volume", &volume.name)], volume.mapped_bytes as f64)?;
        }
        let help = "Finished flusher cycles";
        let mut cycles = Family::counter(encoder, "bedplate_volume_flush_cycles", help)?;
        for (volume, counters) in self.served() {
            cycles.count(vec![("volume", &volume.name)], counters.flush_cycles)?;
        }
        let help = "Reads refused because a checksum did not match";
        let mut corrupt = Family::counter(encoder, "bedplate_volume_corrupt_reads", help)?;
        for (volume, counters) in self.served() {
            corrupt.count(vec![("volume", &volume.name)], counters.corrupt_reads)?;
        }
        Ok(())
    }

    fn stages(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "bedplate_volume_stage_seconds",
            "Latency of each stage of a request",
            None,
            MetricType::Histogram,
        )?;
        for (volume, counters) in self.served() {
            for stage in &counters.stages {
                let labels: Labels = vec![("volume", &volume.name), ("stage", &stage.stage)];
                family
                    .encode_family(&labels)?
                    .encode_histogram::<NoLabelSet>(
                        stage.sum_us as f64 / 1e6,
                        stage.count,
                        &buckets_seconds(stage),
                        None,
                    )?;
            }
        }
        Ok(())
    }
}

/// The buckets in seconds, closed by the one without an upper bound that Prometheus wants.
fn buckets_seconds(stage: &StageLatency) -> Vec<(f64, u64)> {
    let below: u64 = stage.buckets.iter().map(|(_, count)| count).sum();
    let bounded = stage
        .buckets
        .iter()
        .map(|(le_us, count)| (*le_us as f64 / 1e6, *count));
    bounded
        .chain([(f64::INFINITY, stage.count.saturating_sub(below))])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CoreConnections, PoolStatus, Transport};

    fn pool(name: &str, path: Option<&str>) -> PoolStatus {
        PoolStatus {
            name: name.into(),
            path: path.map(str::to_owned),
            volatile: path.is_none(),
            uuid: "u".into(),
            size_bytes: 100,
            used_bytes: 40,
            free_bytes: 60,
            core: 0,
            state: "failed: flush".into(),
            device: DeviceCounters {
                reads: 1,
                read_bytes: 2,
                writes: 3,
                written_bytes: 4,
                flushes: 5,
                discarded_bytes: 6,
                errors: 7,
            },
        }
    }

    fn core(index: usize, busy_us: u64, connections: u64) -> CoreStatus {
        CoreStatus {
            index,
            cpu: Some(index + 1),
            busy_fraction: 0.375,
            busy_us,
            idle_us: 2_000_000,
            connections,
            guests: 1,
            moves: 12,
            moves_given_up: 13,
            mailbox_waits: 14,
            parks: 9,
            ops: 11,
            iscsi: (index == 1).then(|| IscsiCounters {
                sessions: 15,
                connections: 16,
                logins: 17,
                commands: 18,
                failed: 19,
                payload_bytes: 20,
                protocol_errors: 21,
                digest_errors: 22,
                closed: [("logout".to_owned(), 23)].into(),
            }),
            rdma: (index == 1).then_some(RdmaCounters {
                queue_pairs: 24,
                memory_regions: 25,
                registered_bytes: 26,
                receives_posted: 27,
                receives_short: 28,
                completions: 29,
                failed: 30,
                armed: 31,
                links_down: 32,
            }),
        }
    }

    fn sample() -> Status {
        let stage = StageLatency {
            stage: "journal".into(),
            count: 10,
            sum_us: 500,
            buckets: vec![(10, 4), (100, 5)],
        };
        let counters = VolumeCounters {
            operations: vec![OperationCounters {
                operation: "write".into(),
                completed: 7,
                bytes: 28_672,
                ..Default::default()
            }],
            stages: vec![stage],
            journal_fill: 0.25,
            ..Default::default()
        };
        Status {
            version: "1.2.3".into(),
            pid: 1,
            uptime_seconds: 5,
            cores: vec![core(0, 1_500_000, 1), core(1, 0, 2)],
            pools: vec![pool("main", Some("p")), pool("ram", None)],
            volumes: vec![VolumeStatus {
                name: "demo".into(),
                pool: "main".into(),
                size_bytes: 1,
                block_bytes: 4096,
                mapped_bytes: 0,
                uuid: "u".into(),
                nqn: "n".into(),
                iqn: Some("i".into()),
                iscsi_sessions: 3,
                volatile: false,
                core: 0,
                connections: vec![CoreConnections {
                    core: 1,
                    count: 4,
                    transport: Transport::Rdma,
                }],
                state: "live".into(),
                counters: Some(counters),
            }],
            listeners: vec![],
            connections: 3,
        }
    }

    #[test]
    fn every_family_carries_its_labels_and_value() {
        let text = render(&sample());
        for line in [
            "bedplate_connections 3.0",
            "bedplate_core_busy_ratio{core=\"0\"} 0.375",
            "bedplate_core_busy_seconds_total{core=\"0\"} 1.5",
            "bedplate_core_busy_seconds_total{core=\"1\"} 0.0",
            "bedplate_core_idle_seconds_total{core=\"1\"} 2.0",
            "bedplate_core_connections{core=\"0\"} 1.0",
            "bedplate_core_connections{core=\"1\"} 2.0",
            "bedplate_core_guest_connections{core=\"1\"} 1.0",
            "bedplate_connection_moves_total{core=\"0\"} 12",
            "bedplate_connection_moves_given_up_total{core=\"0\"} 13",
            "bedplate_core_mailbox_waits_total{core=\"1\"} 14",
            "bedplate_volume_connections{volume=\"demo\",core=\"1\",home=\"0\",transport=\"rdma\"} 4.0",
            "bedplate_iscsi_sessions{core=\"1\"} 15.0",
            "bedplate_iscsi_connections{core=\"1\"} 16.0",
            "bedplate_iscsi_logins_total{core=\"1\"} 17",
            "bedplate_iscsi_commands_total{core=\"1\"} 18",
            "bedplate_iscsi_command_errors_total{core=\"1\"} 19",
            "bedplate_iscsi_payload_bytes_total{core=\"1\"} 20",
            "bedplate_iscsi_protocol_errors_total{core=\"1\"} 21",
            "bedplate_iscsi_digest_errors_total{core=\"1\"} 22",
            "bedplate_iscsi_closed_total{core=\"1\",reason=\"logout\"} 23",
            "bedplate_volume_iscsi_sessions{volume=\"demo\"} 3.0",
            "bedplate_rdma_queue_pairs{core=\"1\"} 24.0",
            "bedplate_rdma_memory_regions 25.0",
            "bedplate_rdma_registered_bytes 26.0",
            "bedplate_rdma_receives_posted{core=\"1\"} 27.0",
            "bedplate_rdma_receives_short_total{core=\"1\"} 28",
            "bedplate_rdma_completions_total{core=\"1\"} 29",
            "bedplate_rdma_failed_total{core=\"1\"} 30",
            "bedplate_rdma_armed_total{core=\"1\"} 31",
            "bedplate_rdma_links_down_total{core=\"1\"} 32",
            "bedplate_pool_ok{pool=\"main\"} 0.0",
            "bedplate_pool_volatile{pool=\"main\"} 0.0",
            "bedplate_pool_volatile{pool=\"ram\"} 1.0",
            "bedplate_device_reads_total{pool=\"main\"} 1",
            "bedplate_device_read_bytes_total{pool=\"main\"} 2",
            "bedplate_device_writes_total{pool=\"main\"} 3",
            "bedplate_device_written_bytes_total{pool=\"ram\"} 4",
            "bedplate_device_flushes_total{pool=\"main\"} 5",
            "bedplate_device_discarded_bytes_total{pool=\"main\"} 6",
            "bedplate_device_errors_total{pool=\"main\"} 7",
            "bedplate_volume_operations_total{volume=\"demo\",operation=\"write\"} 7",
            "bedplate_volume_journal_fill_ratio{volume=\"demo\"} 0.25",
        ] {
            assert!(text.contains(line), "missing '{line}' in\n{text}");
        }
    }

    #[test]
    fn every_family_is_in_the_documentation() {
        let documentation = include_str!("../../../docs/operations.md");
        let text = render(&sample());
        let families = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
        let names = families.map(|family| match family.split_once(' ') {
            Some((name, "counter")) => format!("`{name}_total`"),
            Some((name, _)) => format!("`{name}`"),
            None => panic!("a family without a type: {family}"),
        });
        let missing: Vec<String> = names.filter(|name| !documentation.contains(name)).collect();
        assert!(missing.is_empty(), "docs/operations.md lacks {missing:?}");
    }

    #[test]
    fn histogram_buckets_accumulate_up_to_the_count() {
        let text = render(&sample());
        let bucket = |le: &str| {
            let start = "bedplate_volume_stage_seconds_bucket{";
            text.lines()
                .find(|l| l.starts_with(start) && l.contains(&format!("le=\"{le}\"")))
                .and_then(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
        };
        assert_eq!(bucket("0.00001"), Some(4), "{text}");
        assert_eq!(bucket("0.0001"), Some(9), "{text}");
        assert_eq!(bucket("+Inf"), Some(10), "{text}");
    }
}
