//! What runs on a data core: its pools, its target, and the messages of the management plane.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ::rdma::Card;
use anyhow::Context;
use config::{AllowHosts, Config};
use control::ControlError;
use control::model::{Cleared, Deleted, ListenerStatus, VolumeStatus};
use frontends::reservation::Reservations;
use frontends::{
    Directory, FrontendError, HostAccess, Placement, SubsystemOptions, Target, TargetOptions,
};
use reactor::mailbox;
use reactor::net::BoundSocket;
use tokio::sync::mpsc::UnboundedSender;
use volume::{ErrorKind, Volume, VolumeError, VolumeSpec};

use super::messages::{Message, NewVolume, Startup};
use super::plan::CorePlan;
use super::pools::{self, OpenPool};
use super::ports;
use super::snapshot;
use super::{connect, iscsi, rdma};

/// Everything a data core is given at its start.
pub struct CoreTask {
    /// What it runs.
    pub plan: CorePlan,
    /// The whole configuration.
    pub config: Config,
    /// Which subsystem lives on which core; shared by all.
    pub directory: Directory,
    /// The same for iSCSI, where there is any.
    pub iscsi: Option<iscsi::Shared>,
    /// The same for RDMA.
    pub rdma: Option<rdma::Shared>,
    /// Where the management plane's messages arrive.
    pub mailbox: mailbox::Receiver<Message>,
    /// Where it tells about its start and its end.
    pub events: UnboundedSender<Startup>,
}

/// Tasks that each data core takes once, by its index.
pub struct HandOut(Mutex<Vec<Option<CoreTask>>>);

/// Packs the tasks for [`reactor::cores::start`], whose closure every core shares.
pub fn hand_out(tasks: Vec<CoreTask>) -> Arc<HandOut> {
    Arc::new(HandOut(Mutex::new(tasks.into_iter().map(Some).collect())))
}

impl HandOut {
    /// The task of core `index`. Panics when it is taken twice.
    pub fn take(&self, index: usize) -> CoreTask {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks[index]
            .take()
            .expect("each data core takes its task once")
    }
}

impl CoreTask {
    /// Opens, serves until told to stop, closes. Failures are told as [`Startup::Failed`].
    pub async fn run(self) {
        let events = self.events.clone();
        if let Err(e) = self.serve().await {
            _ = events.send(Startup::Failed(e));
        }
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        let mut bound = self.bind().await?;
        _ = self.events.send(Startup::Bound);
        let Some(Message::Open) = self.mailbox.recv().await else {
            return Ok(());
        };
        let core = Core::open(&self).await?;
        let opened = Startup::Opened {
            core: self.plan.index,
            stats: reactor::stats(),
        };
        _ = self.events.send(opened);
        while let Some(message) = self.mailbox.recv().await {
            match message {
                Message::Shutdown => break,
                Message::Open => {}
                Message::Listen => match core.listen(std::mem::take(&mut bound)).await {
                    Ok(listeners) => _ = self.events.send(Startup::Listening(listeners)),
                    Err(e) => _ = self.events.send(Startup::Failed(e)),
                },
                Message::Snapshot(reply) => _ = reply.send(snapshot::take(&core)),
                Message::Create(new, reply) => _ = reply.send(core.create(new).await),
                Message::ClearReservations(name, reply) => {
                    _ = reply.send(core.clear_reservations(name).await);
                }
                Message::Delete(name, reply) => _ = reply.send(core.delete(name).await),
            }
        }
        core.close().await
    }

    /// Takes the addresses where this core listens: the first one does for all, and hands
    /// connections on.
    async fn bind(&self) -> anyhow::Result<Bound> {
        if self.plan.index != 0 {
            return Ok(Bound::default());
        }
        let iscsi = match &self.config.iscsi {
            Some(iscsi) => ports::bind("iscsi", &iscsi.listen).await?,
            None => Vec::new(),
        };
        Ok(Bound {
            nvme_tcp: ports::bind("nvme_tcp", &self.config.nvme_tcp.listen).await?,
            iscsi,
        })
    }
}

/// Addresses that are taken and do not accept connections yet, in the order of the configuration.
#[derive(Default)]
struct Bound {
    nvme_tcp: Vec<BoundSocket>,
    iscsi: Vec<BoundSocket>,
}

/// The open pools of a data core and the targets that offer their volumes.
pub struct Core {
    /// Index among the data cores.
    pub index: usize,
    /// Its pools.
    pub pools: Vec<OpenPool>,
    /// What hosts see over NVMe/TCP.
    pub target: Target,
    /// What they see over iSCSI, where there is any.
    pub iscsi: Option<frontends::iscsi::Target>,
    /// What the core has of RDMA, where there is any.
    pub rdma: Option<Card>,
    config: Config,
}

impl Core {
    async fn open(task: &CoreTask) -> anyhow::Result<Core> {
        let target = Target::new(target_options(task))?;
        let iscsi = task.iscsi.as_ref().map(iscsi::Shared::target);
        let rdma = task.rdma.as_ref().map(rdma::Shared::card).transpose()?;
        if let Some(card) = &rdma {
            target.use_card(card.clone());
        }
        let config = task.config.clone();
        let mut core = Core {
            index: task.plan.index,
            pools: Vec::new(),
            target,
            iscsi: iscsi.transpose()?,
            rdma,
            config,
        };
        let files = task.config.pools.iter().filter(|pool| !pool.is_volatile());
        let payload_bytes = pools::payload_bytes(files.count());
        for (pool, volumes) in &task.plan.pools {
            match pools::open(pool, volumes, payload_bytes).await {
                Ok(pool) => core.pools.push(pool),
                Err(e) => {
                    core.close()
                        .await
                        .unwrap_or_else(|e| tracing::error!("closing: {e:#}"));
                    return Err(e);
                }
            }
        }
        core.export_all().await?;
        Ok(core)
    }

    async fn export_all(&self) -> anyhow::Result<()> {
        for pool in &self.pools {
            for volume in pool.engine.volumes() {
                let name = volume.info().name.clone();
                self.export(volume).await.with_context(|| {
                    format!(
                        "volume '{name}' of pool '{}' cannot be exported",
                        pool.config.name
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Offers a volume over every protocol there is, with one set of reservations.
    async fn export(&self, volume: Volume) -> Result<(), FrontendError> {
        let options = self.subsystem_options(&volume.info().name);
        let reservations = Reservations::load(volume.clone()).await;
        if let Some(iscsi) = &self.iscsi {
            iscsi.add_volume(volume.clone(), reservations.clone(), options.hosts.clone())?;
        }
        self.target.add_volume(volume, reservations, options)
    }

    fn subsystem_options(&self, name: &str) -> SubsystemOptions {
        let configured = self.config.volumes.iter().find(|v| v.name.as_str() == name);
        let hosts = match configured.map(|v| &v.allow_hosts) {
            None | Some(AllowHosts::Any) => HostAccess::Any,
            Some(AllowHosts::Only(hosts)) => {
                HostAccess::Listed(hosts.iter().map(|h| h.as_str().to_string()).collect())
            }
        };
        SubsystemOptions { hosts }
    }

    async fn listen(&self, bound: Bound) -> anyhow::Result<Vec<ListenerStatus>> {
        let mut listeners = Vec::new();
        let mut opened = |kind: &str, address: SocketAddr| {
            listeners.push(ListenerStatus {
                kind: kind.into(),
                address: address.to_string(),
            });
        };
        for socket in bound.nvme_tcp {
            opened(connect::NVME_TCP, self.target.listen_on(socket)?.address());
        }
        for address in self.rdma_addresses() {
            let listener = self.target.listen_rdma(address).await?;
            opened(connect::NVME_RDMA, listener.address());
        }
        if let Some(iscsi) = &self.iscsi {
            for (portal, socket) in (1..).zip(bound.iscsi) {
                opened(connect::ISCSI, iscsi.listen_on(socket, portal)?.address());
            }
        }
        Ok(listeners)
    }

    /// Where this core listens over RDMA: as with sockets, the first one does for all.
    fn rdma_addresses(&self) -> Vec<SocketAddr> {
        match (&self.config.nvme_rdma, self.index) {
            (Some(rdma), 0) => rdma.listen.clone(),
            _ => Vec::new(),
        }
    }

    async fn create(&self, new: NewVolume) -> Result<VolumeStatus, ControlError> {
        let name = new.name;
        let pool = self
            .pools
            .iter()
            .find(|p| p.config.name.as_str() == new.pool);
        let pool = pool.ok_or_else(|| gone("pool", &new.pool))?;
        let spec = VolumeSpec {
            name: name.clone(),
            size_bytes: new.size_bytes,
            block_bytes: new.block_bytes,
            journal_bytes: None,
        };
        let volume = pool.engine.create_volume(spec).await.map_err(refused)?;
        self.export(volume).await.map_err(|e| {
            let text = format!("volume '{name}' was made and is not exported: {e}");
            ControlError::Unavailable(text)
        })?;
        let found = snapshot::volumes(self, pool)
            .into_iter()
            .find(|v| v.name == name);
        found.ok_or_else(|| gone("volume", &name))
    }

    async fn delete(&self, name: String) -> Result<Deleted, ControlError> {
        let holds = |p: &&OpenPool| p.engine.listing().iter().any(|v| *v.name == *name);
        let pool = self
            .pools
            .iter()
            .find(holds)
            .ok_or_else(|| gone("volume", &name))?;
        if pool.engine.volume(&name).is_some() {
            self.withdraw(&name)
                .await
                .map_err(|e| ControlError::Unavailable(format!("volume '{name}' stays: {e}")))?;
        }
        pool.engine.delete_volume(&name).await.map_err(refused)?;
        Ok(Deleted {
            name,
            warning: None,
        })
    }

    async fn clear_reservations(&self, name: String) -> Result<Cleared, ControlError> {
        let found = self.target.reservations(&name);
        let reservations = found.ok_or_else(|| gone("volume", &name))?;
        let was_locked = reservations.is_locked();
        let registrants = reservations.state().registrants().len();
        reservations.forget().await.map_err(|_| {
            let text = format!("the reservations of '{name}' stay: their pool takes no writes");
            ControlError::Unavailable(text)
        })?;
        tracing::warn!(volume = %name, registrants, was_locked, "reservations cleared by hand");
        Ok(Cleared {
            name,
            registrants,
            was_locked,
        })
    }

    /// Stops offering a volume.
    async fn withdraw(&self, name: &str) -> Result<(), FrontendError> {
        if let Some(iscsi) = &self.iscsi {
            iscsi.remove_volume(name).await?;
        }
        self.target.remove_volume(name).await
    }

    /// Hosts first, so that their requests finish; then a checkpoint of every pool.
    async fn close(self) -> anyhow::Result<()> {
        if let Some(iscsi) = &self.iscsi {
            iscsi.shutdown().await;
        }
        self.target.shutdown().await;
        let mut outcome = Ok(());
        for pool in &self.pools {
            let closed = pool.engine.shutdown().await;
            let closed = closed.with_context(|| format!("pool '{}'", pool.config.name));
            outcome = outcome.and(closed);
        }
        outcome
    }
}

fn target_options(task: &CoreTask) -> TargetOptions {
    let config = &task.config.nvme_tcp;
    TargetOptions {
        max_io_queues: config.max_queues,
        max_queue_entries: config.queue_depth,
        max_io_bytes: config.max_io.bytes() as u32,
        in_capsule_bytes: config.in_capsule.bytes() as u32,
        max_connections: config.max_connections as usize,
        placement: match config.placement {
            config::Placement::Spread => Placement::Spread,
            config::Placement::Home => Placement::Home,
        },
        directory: task.directory.clone(),
        rdma: task
            .config
            .nvme_rdma
            .as_ref()
            .map(rdma::options)
            .unwrap_or_default(),
        ..TargetOptions::default()
    }
}

fn gone(kind: &str, name: &str) -> ControlError {
    ControlError::NotFound(format!("{kind} '{name}' is gone"))
}

/// An engine's refusal in the words of the management API.
fn refused(error: VolumeError) -> ControlError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::PoolFull => ControlError::NoSpace(text),
        _ => ControlError::Unavailable(text),
    }
}
