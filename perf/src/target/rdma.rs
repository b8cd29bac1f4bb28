//! The admin side of NVMe/RDMA: as over TCP, on a core of its own.
//!
//! A queue pair belongs to a core, and the rest of this program has none. So a thread keeps the
//! controller, keeps it alive, and does what it is asked, one thing after another.

use std::net::SocketAddr;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use host::rdma::{Controller, Options, capsule_data_bytes};
use host::{HostError, HostOptions, Op};
use rdma::{Card, CardOptions};
use reactor::Spin;
use reactor::mailbox::{self, Receiver};
use reactor::time::timeout;

use super::nvme::{self, Facts};
use super::{FILL_DEPTH, Fill, Geometry, Name, Target};
use crate::card::{self, Cards};
use crate::cli::ConnectArgs;
use crate::error::PerfError;
use crate::queue::rdma::Opening;
use crate::verbs::IO_BYTES_MAX;

/// Keep alive timeout that the controller gets.
const KATO_MS: u32 = 30_000;
/// How often it is told that this host is alive.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Receives of the card: the admin queue and one queue that fills.
const RECEIVE_ENTRIES: u32 = 512;

/// What the thread is asked, one at a time.
enum Ask {
    Queues(u16),
    Fill(Fill),
}

/// A question with the place for its answer.
struct Question {
    ask: Ask,
    reply: SyncSender<Result<u16, HostError>>,
}

/// A connected controller. Dropping it shuts the controller down and ends its admin queue.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    nqn: String,
    cntlid: u16,
    host: HostOptions,
    cards: Cards,
    questions: Option<mailbox::Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs to know.
struct Task {
    address: SocketAddr,
    nqn: Option<String>,
    host: HostOptions,
    cards: Cards,
    nsid: u32,
    found: SyncSender<Result<Found, PerfError>>,
    questions: Receiver<Question>,
}

/// What connecting found out.
struct Found {
    nqn: String,
    cntlid: u16,
    facts: Facts,
}

/// Connects to `nqn`, or to the only subsystem that discovery lists.
///
/// Errors: `Admin`, `Rdma`; `Option` when there is not exactly one subsystem to choose, or for
/// digests, which RDMA does not have.
pub fn connect(
    address: SocketAddr,
    nqn: Option<&str>,
    link: &ConnectArgs,
) -> Result<Target, PerfError> {
    check(link)?;
    let cards = link.card.open()?;
    let host = HostOptions {
        kato_ms: KATO_MS,
        ..nvme::options(link)
    };
    let (questions, inbox) = mailbox::channel(1);
    let (found, result) = mpsc::sync_channel(1);
    let task = Task {
        address,
        nqn: nqn.map(str::to_owned),
        host: host.clone(),
        cards: cards.clone(),
        nsid: link.nsid,
        found,
        questions: inbox,
    };
    let thread = std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || run(task));
    let thread = thread.map_err(|source| PerfError::System {
        doing: "starting the admin thread",
        source,
    })?;
    let found = result.recv().unwrap_or(Err(PerfError::AdminLost))?;
    let Facts { identity, geometry } = found.facts;
    Ok(Target {
        address,
        name: Name::Nvme {
            nqn: found.nqn.clone(),
        },
        model: identity.mn.as_str().to_owned(),
        serial: identity.sn.as_str().to_owned(),
        firmware: identity.fr.as_str().to_owned(),
        geometry,
        admin: super::Admin::Rdma(Box::new(Admin {
            address,
            nqn: found.nqn,
            cntlid: found.cntlid,
            host,
            cards,
            questions: Some(questions),
            thread: Some(thread),
        })),
    })
}

fn check(link: &ConnectArgs) -> Result<(), PerfError> {
    let given = [
        ("--header-digest", link.header_digest),
        ("--data-digest", link.data_digest),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            let problem = "RDMA protects its packets by itself: leave it out";
            Err(PerfError::option(option, "(given)", problem))
        }
    }
}

impl Admin {
    /// Asks for `count` I/O queues with `depth` commands in flight each.
    ///
    /// Errors: `Admin`; `Option` when the controller grants fewer.
    pub fn queues(&mut self, count: u16, depth: u16) -> Result<Opening, PerfError> {
        let granted = self.ask("asking for I/O queues", Ask::Queues(count))?;
        nvme::enough_queues(granted, count)?;
        Ok(Opening {
            address: self.address,
            subnqn: self.nqn.clone(),
            cntlid: self.cntlid,
            entries: u32::from(depth) + 1,
            host: self.host.clone(),
            cards: self.cards.clone(),
        })
    }

    /// See [`Target::fill`].
    ///
    /// Errors: `Admin`.
    pub fn fill(&mut self, geometry: &Geometry, span: u64) -> Result<(), PerfError> {
        let fill = Fill::new(geometry, span);
        self.ask("filling the namespace", Ask::Fill(fill)).map(drop)
    }

    fn ask(&self, doing: &'static str, ask: Ask) -> Result<u16, PerfError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let questions = self.questions.as_ref().ok_or(PerfError::AdminLost)?;
        let sent = questions.try_send(Question { ask, reply });
        sent.map_err(|_| PerfError::AdminLost)?;
        let answer = answer.recv().map_err(|_| PerfError::AdminLost)?;
        answer.map_err(|source| nvme::failed(doing, self.address, source))
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn run(task: Task) {
    let core = card::core("admin".to_owned(), None, Spin::For(Duration::ZERO), 0);
    let found = task.found.clone();
    if let Err(error) = reactor::cores::run(core, || serve(task)) {
        // When the target was connected already, its user notices by its questions.
        let _ = found.try_send(Err(error.into()));
    }
}

async fn serve(mut task: Task) {
    let connected = attach(&task).await;
    let (mut controller, found) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            // The caller waits for it, or is gone.
            let _ = task.found.try_send(Err(error));
            return;
        }
    };
    if task.found.try_send(Ok(found)).is_err() {
        return;
    }
    loop {
        match timeout(KEEP_ALIVE_INTERVAL, task.questions.recv()).await {
            Ok(Some(Question { ask, reply })) => {
                // Who asked waits, or is gone.
                let _ = reply.send(answer(&mut controller, ask).await);
            }
            Ok(None) => break,
            // A controller that is lost is noticed by its queues.
            Err(_) => drop(controller.keep_alive().await),
        }
    }
    // A target that is gone needs no farewell.
    drop(controller.shutdown().await);
    controller.admin().disconnect();
    drop(controller.admin().wait_lost().await);
}

async fn answer(controller: &mut Controller, ask: Ask) -> Result<u16, HostError> {
    match ask {
        Ask::Queues(count) => controller.set_queue_count(count).await,
        Ask::Fill(fill) => write_all(controller, fill).await.map(|()| 0),
    }
}

async fn write_all(controller: &mut Controller, mut fill: Fill) -> Result<(), HostError> {
    let mut queues = controller.io_queues(1).await?;
    let Some(queue) = queues.first_mut() else {
        return Ok(());
    };
    loop {
        if queue.in_flight() < FILL_DEPTH
            && let Some((lba, data)) = fill.next()
        {
            let fua = false;
            queue.submit(Op::Write { lba, data, fua }).await?;
        } else if queue.in_flight() > 0 {
            queue.next_completion().await?.ok("Write")?;
        } else {
            return queue.flush().await;
        }
    }
}

async fn attach(task: &Task) -> Result<(Controller, Found), PerfError> {
    let card = task.cards.card(CardOptions {
        receive_entries: RECEIVE_ENTRIES,
        receive_data_bytes: 0,
        completion_entries: 4 * RECEIVE_ENTRIES,
        exposes_memory: true,
        ..CardOptions::default()
    })?;
    let address = task.address;
    let failed = |doing| move |source| nvme::failed(doing, address, source);
    let options = Options::from(task.host.clone());
    let nqn = match &task.nqn {
        Some(nqn) => nqn.clone(),
        None => discover(&card, task, options.clone()).await?,
    };
    let mut controller = Controller::connect(&card, address, &nqn, options)
        .await
        .map_err(failed("connecting the admin queue"))?;
    let facts = facts(&mut controller, task.nsid).await;
    let facts = facts.map_err(failed("identifying the namespace"))?;
    let cntlid = controller.cntlid();
    Ok((controller, Found { nqn, cntlid, facts }))
}

async fn discover(card: &Card, task: &Task, options: Options) -> Result<String, PerfError> {
    let address = task.address;
    let failed = |doing| move |source| nvme::failed(doing, address, source);
    let mut controller = Controller::discover(card, address, options)
        .await
        .map_err(failed("connecting to discovery"))?;
    let log = controller.discovery_log().await;
    let log = log.map_err(failed("reading the discovery log"))?;
    nvme::only_subsystem(&log)
}

async fn facts(controller: &mut Controller, nsid: u32) -> Result<Facts, HostError> {
    let capabilities = controller.capabilities().await?;
    let namespace = controller.identify_namespace(nsid).await?;
    let identity = controller.identity()?;
    let mut facts = Facts::new(identity, capabilities, &namespace)?;
    facts.geometry.capsule_bytes = capsule_data_bytes(identity) as u32;
    let most = facts.geometry.max_transfer_bytes;
    let here = u64::from(IO_BYTES_MAX);
    facts.geometry.max_transfer_bytes = Some(most.map_or(here, |most| most.min(here)));
    Ok(facts)
}
