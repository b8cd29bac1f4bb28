//! The running data cores, as the management API sees them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::{ByteSize, Config, Name};
use control::api::no_volume;
use control::model::{
    Cleared, ConnectInfo, CoreConnections, CoreStatus, CreateVolume, Deleted, ListenerStatus,
    Status, VolumeStatus,
};
use control::{Appliance, ControlError};
use reactor::{CoreStats, mailbox};
use tokio::sync::oneshot;

use super::busy::BusySample;
use super::connect;
use super::messages::{CoreSnapshot, Message, NewVolume, Reply};

/// How long a data core may take to answer a snapshot; it never waits for anything to do so.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long creating or deleting may take; deleting frees space step by step.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(110);

/// One data core, seen from outside.
pub struct CoreHandle {
    /// Where its messages go.
    pub mailbox: mailbox::Sender<Message>,
    /// Its counters.
    pub stats: Arc<CoreStats>,
    /// The CPU it is pinned to.
    pub cpu: usize,
}

/// All data cores and what the configuration says about them.
pub struct Cores {
    cores: Vec<CoreHandle>,
    /// Pool name → index of its home core.
    homes: BTreeMap<String, usize>,
    /// Volumes that the configuration makes again when they are missing.
    configured: Vec<String>,
    listeners: Vec<ListenerStatus>,
    started: Instant,
    busy: Mutex<Vec<BusySample>>,
    /// Creating and deleting go one at a time, so that a name cannot be taken twice.
    changes: tokio::sync::Mutex<()>,
}

impl Cores {
    /// `homes` says which core runs which pool.
    #[expect(
        clippy::disallowed_methods,
        reason = "the slow plane's clock is the real one"
    )]
    pub fn new(
        cores: Vec<CoreHandle>,
        homes: BTreeMap<String, usize>,
        config: &Config,
        listeners: Vec<ListenerStatus>,
    ) -> Cores {
        let started = Instant::now();
        let first = |core: &CoreHandle| BusySample::first(started, &core.stats);
        let busy = Mutex::new(cores.iter().map(first).collect());
        let configured = config.volumes.iter().map(|v| v.name.to_string()).collect();
        let changes = tokio::sync::Mutex::new(());
        Cores {
            cores,
            homes,
            configured,
            listeners,
            started,
            busy,
            changes,
        }
    }

    /// Measures each core's busy share since the last call; called once a second.
    #[expect(
        clippy::disallowed_methods,
        reason = "the slow plane's clock is the real one"
    )]
    pub fn sample(&self) {
        let now = Instant::now();
        let mut samples = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for (sample, core) in samples.iter_mut().zip(&self.cores) {
            sample.again(now, &core.stats);
        }
    }

    async fn ask<T>(
        &self,
        core: usize,
        timeout: Duration,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        let busy = || ControlError::Unavailable(format!("data core {core} is busy: try again"));
        self.cores[core]
            .mailbox
            .try_send(message(reply))
            .map_err(|_| busy())?;
        let answer = tokio::time::timeout(timeout, answer).await;
        let gone = "did not answer: it is shutting down or stuck, look at the log";
        answer
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| ControlError::Unavailable(format!("data core {core} {gone}")))
    }

    async fn snapshots(&self) -> Result<Vec<CoreSnapshot>, ControlError> {
        let mut all = Vec::with_capacity(self.cores.len());
        for core in 0..self.cores.len() {
            all.push(self.ask(core, SNAPSHOT_TIMEOUT, Message::Snapshot).await?);
        }
        place_connections(&mut all);
        Ok(all)
    }

    /// `snapshots` are in the order of the cores.
    fn core_status(&self, snapshots: &[CoreSnapshot]) -> Vec<CoreStatus> {
        let samples = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let cores = self.cores.iter().zip(samples.iter()).zip(snapshots);
        cores
            .enumerate()
            .map(|(index, ((core, sample), snapshot))| CoreStatus {
                index,
                cpu: Some(core.cpu),
                busy_fraction: sample.fraction(),
                busy_us: core.stats.busy_ns.get() / 1000,
                idle_us: core.stats.idle_ns.get() / 1000,
                connections: snapshot.connections,
                guests: snapshot.guests,
                moves: snapshot.moves,
                moves_given_up: snapshot.moves_given_up,
                mailbox_waits: snapshot.mailbox_waits,
                parks: core.stats.parks.get(),
                ops: core.stats.ops_submitted.get(),
                iscsi: snapshot.iscsi.clone(),
                rdma: snapshot.rdma,
            })
            .collect()
    }

    async fn volumes(&self) -> Result<Vec<VolumeStatus>, ControlError> {
        let mut all: Vec<_> = self
            .snapshots()
            .await?
            .into_iter()
            .flat_map(|s| s.volumes)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn find(&self, name: &str) -> Result<VolumeStatus, ControlError> {
        let all = self.volumes().await?;
        let names: Vec<String> = all.iter().map(|v| v.name.clone()).collect();
        all.into_iter()
            .find(|v| v.name == name)
            .ok_or_else(|| no_volume(name, &names))
    }

    /// The pool a new volume goes to: the one asked for, or the only one.
    fn pool_for(&self, wanted: Option<String>) -> Result<(String, usize), ControlError> {
        let known: Vec<&str> = self.homes.keys().map(String::as_str).collect();
        let known_text = known.join(", ");
        let name = match (wanted, known.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only.to_string(),
            (None, _) => {
                let text = format!("say which pool the volume goes to (pools: {known_text})");
                return Err(ControlError::Invalid(text));
            }
        };
        let home = self.homes.get(&name).copied().ok_or_else(|| {
            ControlError::NotFound(format!("there is no pool '{name}' (pools: {known_text})"))
        })?;
        Ok((name, home))
    }
}

impl Appliance for Cores {
    async fn status(&self) -> Result<Status, ControlError> {
        let snapshots = self.snapshots().await?;
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            cores: self.core_status(&snapshots),
            pools: Vec::new(),
            volumes: Vec::new(),
            listeners: self.listeners.clone(),
            connections: 0,
        };
        for snapshot in snapshots {
            status.pools.extend(snapshot.pools);
            status.volumes.extend(snapshot.volumes);
            status.connections += snapshot.connections;
        }
        status.pools.sort_by(|a, b| a.name.cmp(&b.name));
        status.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(status)
    }

    async fn create_volume(&self, request: CreateVolume) -> Result<VolumeStatus, ControlError> {
        let invalid = |e: String| ControlError::Invalid(e);
        let name: Name = request
            .name
            .parse()
            .map_err(|e: config::InvalidName| invalid(format!("volume name: {e}")))?;
        let block_bytes = request.block_bytes.unwrap_or(4096);
        check_shape(request.size_bytes, block_bytes)?;
        let (pool, home) = self.pool_for(request.pool)?;
        let _one_at_a_time = self.changes.lock().await;
        if let Ok(other) = self.find(name.as_str()).await {
            let text = format!("volume '{name}' exists already, in pool '{}'", other.pool);
            return Err(ControlError::Conflict(text));
        }
        let size_bytes = request.size_bytes;
        let new = NewVolume {
            name: name.to_string(),
            pool,
            size_bytes,
            block_bytes,
        };
        self.ask(home, CHANGE_TIMEOUT, |reply| Message::Create(new, reply))
            .await?
    }

    async fn delete_volume(&self, name: String) -> Result<Deleted, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let volume = self.find(&name).await?;
        let home = self.homes[&volume.pool];
        let message = |reply| Message::Delete(name.clone(), reply);
        let mut deleted = self.ask(home, CHANGE_TIMEOUT, message).await??;
        if self.configured.contains(&name) {
            deleted.warning = Some(format!(
                "the configuration still names '{name}': remove it there, or the next start makes \
                 a new, empty volume of that name"
            ));
        }
        Ok(deleted)
    }

    async fn clear_reservations(&self, name: String) -> Result<Cleared, ControlError> {
        let volume = self.find(&name).await?;
        let home = self.homes[&volume.pool];
        let message = |reply| Message::ClearReservations(name.clone(), reply);
        self.ask(home, CHANGE_TIMEOUT, message).await?
    }

    async fn connect_info(&self, name: String) -> Result<ConnectInfo, ControlError> {
        let volume = self.find(&name).await?;
        Ok(connect::info(&volume, &self.listeners))
    }
}

/// Tells each volume which cores serve its connections, and over what.
fn place_connections(snapshots: &mut [CoreSnapshot]) {
    let counted: Vec<_> = snapshots
        .iter_mut()
        .map(|snapshot| std::mem::take(&mut snapshot.by_nqn))
        .collect();
    for volume in snapshots.iter_mut().flat_map(|s| &mut s.volumes) {
        let cores = counted.iter().enumerate();
        volume.connections = cores
            .flat_map(|(core, by_nqn)| {
                let here = by_nqn.get(&volume.nqn).into_iter().flatten();
                here.map(move |(&transport, &count)| CoreConnections {
                    core,
                    count,
                    transport,
                })
            })
            .collect();
    }
}

fn check_shape(size_bytes: u64, block_bytes: u32) -> Result<(), ControlError> {
    let limits = config::limits::VOLUME_SIZE_MIN.bytes()..=config::limits::VOLUME_SIZE_MAX.bytes();
    let problem = if config::BlockSize::from_bytes(block_bytes.into()).is_none() {
        format!("block size {block_bytes} is not possible: use 4096 or 512")
    } else if !limits.contains(&size_bytes) || !size_bytes.is_multiple_of(4096) {
        format!(
            "size {} is not possible: use a multiple of 4KiB from {} to {}",
            ByteSize::from_bytes(size_bytes),
            config::limits::VOLUME_SIZE_MIN,
            config::limits::VOLUME_SIZE_MAX
        )
    } else {
        return Ok(());
    };
    Err(ControlError::Invalid(problem))
}
