//! `bedplate serve`: boot, run, stop.
//!
//! Boot goes in steps that each can refuse: configuration, core plan, memory, management socket,
//! then on the data cores the addresses of the listeners, pools and volumes. The listeners open only
//! when all volumes are there. Nothing is announced before it works.

pub mod appliance;
mod busy;
pub mod connect;
mod core;
mod iscsi;
mod logging;
pub mod memory;
mod messages;
pub mod plan;
mod pools;
mod ports;
mod rdma;
mod snapshot;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use config::{Config, Spin};
use control::model::ListenerStatus;
use control::server::SocketError;
use control::{api, server};
use frontends::Directory;
use reactor::cores::CoreConfig;
use reactor::{CoreStats, mailbox};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::appliance::{CoreHandle, Cores};
use self::core::CoreTask;
use self::messages::{Message, QUEUE_LEN, Startup};
use self::plan::CorePlan;

/// Share of `[reactor] memory` that is kept for the engine, so that hosts cannot starve the flusher.
const ENGINE_SHARE: u64 = 4;

/// Runs the appliance until a signal ends it.
///
/// Errors: whatever keeps it from starting, as one message; everything opened before is closed
/// again. After a start, an error means that a data core broke.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    logging::start(&config.log);
    let plans = plan::plan(&config)?;
    memory::check(&config, plans.len())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, plans))
}

/// The slow plane's half of the running data cores.
struct Running {
    threads: reactor::cores::Cores,
    mailboxes: Vec<mailbox::Sender<Message>>,
    events: mpsc::UnboundedReceiver<Startup>,
}

async fn serve(config: Config, plans: Vec<CorePlan>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    // The socket first: a second server with the same configuration stops here.
    let socket = bind_control(&config).await?;
    let metrics = bind_metrics(&config).await?;
    let mut running = start(&config, &plans)?;
    match ready(&plans, &mut running).await {
        Ok((handles, listeners)) => {
            let homes = homes(&plans);
            let cores = Arc::new(Cores::new(handles, homes, &config, listeners));
            match announce(&config, &metrics, &cores).await {
                Ok(()) => operate(cores, socket, metrics, &mut signals, &mut running.events).await,
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
    .and(stop(running, &mut signals, &config).await)
}

/// Opens the management socket; a server that was just killed may still be closing its own.
async fn bind_control(config: &Config) -> Result<UnixListener, SocketError> {
    let (path, mode) = (&config.control.socket, config.control.mode.bits());
    for _ in 1..ports::TRIES {
        match server::bind(path, mode) {
            Err(SocketError::InUse { .. }) => tokio::time::sleep(ports::PAUSE).await,
            other => return other,
        }
    }
    server::bind(path, mode)
}

async fn bind_metrics(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.metrics.listen else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on [metrics] {address}: choose a free address and port")
    })?;
    Ok(Some(listener))
}

fn start(config: &Config, plans: &[CorePlan]) -> anyhow::Result<Running> {
    let (events_in, events) = mpsc::unbounded_channel();
    let directory = Directory::new();
    let iscsi = config.iscsi.as_ref().map(iscsi::Shared::new).transpose()?;
    let rdma = config
        .nvme_rdma
        .as_ref()
        .map(rdma::Shared::new)
        .transpose()?;
    let mut mailboxes = Vec::new();
    let mut tasks = Vec::new();
    for plan in plans {
        let (sender, receiver) = mailbox::channel(QUEUE_LEN);
        mailboxes.push(sender);
        tasks.push(CoreTask {
            plan: plan.clone(),
            config: config.clone(),
            directory: directory.clone(),
            iscsi: iscsi.clone(),
            rdma: rdma.clone(),
            mailbox: receiver,
            events: events_in.clone(),
        });
    }
    let tasks = core::hand_out(tasks);
    let configs = plans.iter().map(|plan| core_config(config, plan)).collect();
    let threads = reactor::cores::start(configs, move |index| tasks.take(index).run())?;
    Ok(Running {
        threads,
        mailboxes,
        events,
    })
}

fn core_config(config: &Config, plan: &CorePlan) -> CoreConfig {
    let memory = config.reactor.memory.bytes();
    let engine = memory / ENGINE_SHARE;
    CoreConfig {
        cpu: Some(plan.cpu),
        spin: match config.reactor.spin {
            Spin::Always => reactor::Spin::Always,
            Spin::For(span) => reactor::Spin::For(span.as_duration()),
        },
        io_pool_bytes: (memory - engine) as usize,
        engine_pool_bytes: engine as usize,
        name: format!("core-{}", plan.index),
    }
}

/// Waits until the addresses are bound, then for every pool to be open, then for the listeners.
async fn ready(
    plans: &[CorePlan],
    running: &mut Running,
) -> anyhow::Result<(Vec<CoreHandle>, Vec<ListenerStatus>)> {
    wait_bound(plans.len(), &mut running.events).await?;
    for mailbox in &running.mailboxes {
        tell(mailbox, Message::Open)?;
    }
    let stats = wait_opened(plans.len(), &mut running.events).await?;
    tell(&running.mailboxes[0], Message::Listen)?;
    let listeners = match running.events.recv().await {
        Some(Startup::Listening(listeners)) => listeners,
        Some(Startup::Failed(e)) => return Err(e),
        _ => bail!("the data cores ended while listeners were opened: see the messages above"),
    };
    let handles = stats
        .into_iter()
        .zip(plans)
        .zip(&running.mailboxes)
        .map(|((stats, plan), mailbox)| {
            let mailbox = mailbox.clone();
            CoreHandle {
                mailbox,
                stats,
                cpu: plan.cpu,
            }
        })
        .collect();
    Ok((handles, listeners))
}

fn tell(mailbox: &mailbox::Sender<Message>, message: Message) -> anyhow::Result<()> {
    mailbox
        .try_send(message)
        .map_err(|_| anyhow::anyhow!("a data core has ended: see the messages above"))
}

async fn wait_bound(
    count: usize,
    events: &mut mpsc::UnboundedReceiver<Startup>,
) -> anyhow::Result<()> {
    for _ in 0..count {
        match events.recv().await {
            Some(Startup::Failed(e)) => return Err(e),
            Some(_) => {}
            None => bail!("a data core could not start: see the messages above"),
        }
    }
    Ok(())
}

async fn wait_opened(
    count: usize,
    events: &mut mpsc::UnboundedReceiver<Startup>,
) -> anyhow::Result<Vec<Arc<CoreStats>>> {
    let mut opened = BTreeMap::new();
    while opened.len() < count {
        match events.recv().await {
            Some(Startup::Opened { core, stats }) => _ = opened.insert(core, stats),
            Some(Startup::Failed(e)) => return Err(e),
            Some(_) => {}
            None => bail!("a data core could not start: see the messages above"),
        }
    }
    Ok(opened.into_values().collect())
}

fn homes(plans: &[CorePlan]) -> BTreeMap<String, usize> {
    let pools = plans
        .iter()
        .flat_map(|plan| plan.pools.iter().map(move |(pool, _)| (plan, pool)));
    pools
        .map(|(plan, pool)| (pool.name.to_string(), plan.index))
        .collect()
}

/// The lines people and scripts wait for, then how to attach what is there.
async fn announce(
    config: &Config,
    metrics: &Option<TcpListener>,
    cores: &Cores,
) -> anyhow::Result<()> {
    use control::Appliance;
    let status = cores.status().await?;
    for pool in status.pools.iter().filter(|pool| pool.volatile) {
        println!(
            "warning: pool {} is in memory and keeps nothing: its volumes are gone when this \
             server ends",
            pool.name
        );
    }
    for listener in &status.listeners {
        println!("ready: {} {}", listener.kind, listener.address);
    }
    println!("ready: control {}", config.control.socket.display());
    if let Some(listener) = metrics {
        println!("ready: metrics http://{}/metrics", listener.local_addr()?);
    }
    for volume in status.volumes.iter().filter(|v| v.state == "live") {
        let note = if volume.volatile {
            " (keeps nothing)"
        } else {
            ""
        };
        println!("\nvolume {}{note}:", volume.name);
        for command in connect::info(volume, &status.listeners).commands {
            println!("  {command}");
        }
    }
    Ok(())
}

/// Serves the management plane until a signal comes or a data core ends.
async fn operate(
    cores: Arc<Cores>,
    socket: UnixListener,
    metrics: Option<TcpListener>,
    signals: &mut Signals,
    events: &mut mpsc::UnboundedReceiver<Startup>,
) -> anyhow::Result<()> {
    tokio::spawn(axum::serve(socket, api::router(cores.clone())).into_future());
    if let Some(listener) = metrics {
        let app = api::metrics_router(cores.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
    }
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = every_second.tick() => cores.sample(),
            () = signals.recv() => break,
            event = events.recv() => match event {
                Some(Startup::Failed(e)) => return Err(e),
                Some(_) => {}
                None => bail!("the data cores ended: see the messages above"),
            },
        }
    }
    tracing::info!("stopping: requests in flight finish, then a checkpoint is written");
    Ok(())
}

/// SIGTERM and SIGINT. Caught from the start on: one that comes while pools are opened ends the
/// server, cleanly, as soon as they are open.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Signals {
            terminate: signal(terminate)?,
            interrupt: signal(interrupt)?,
        })
    }

    /// Waits for the next signal of either kind.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends every data core: in-flight requests finish, a checkpoint is written.
async fn stop(running: Running, signals: &mut Signals, config: &Config) -> anyhow::Result<()> {
    for mailbox in &running.mailboxes {
        // A core that ended by itself takes no message, and needs none.
        _ = mailbox.try_send(Message::Shutdown);
    }
    let joined = tokio::task::spawn_blocking(move || running.threads.join());
    let joined = tokio::select! {
        joined = joined => joined?,
        () = signals.recv() => {
            // The journal has everything that was acknowledged: ending now loses nothing.
            eprintln!("bedplate: ended at once by a second signal; the next start replays the journal");
            std::process::exit(130);
        }
    };
    let mut failed = None;
    let mut events = running.events;
    while let Ok(event) = events.try_recv() {
        if let Startup::Failed(e) = event {
            failed.get_or_insert(e);
        }
    }
    // Left behind it would only make the next start look for its owner.
    _ = std::fs::remove_file(&config.control.socket);
    joined?;
    failed.map_or(Ok(()), Err)
}
