//! One life of the simulated process: open the pool, compare with the ledger, serve the clients.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use reactor::JoinHandle;
use reactor::buf::BufPool;
use reactor::sim::Prng;
use reactor::time::sleep;
use store::StoreError;
use volume::{
    Damage, Engine, EngineOptions, ErrorKind, OpenReport, Outcome, PoolSpec, Volume, VolumeSpec,
};

use crate::client::{Client, Weather};
use crate::ledger::{Life, Shared};
use crate::operator;
use crate::plan::{Habits, Plan};

/// Name of the disk the pool is on.
pub const DISK: &str = "pool";
/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// What a life is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Number of the life in its run.
    pub number: u32,
    /// Read everything before the clients start.
    pub read_back: bool,
    /// Serve clients like this.
    pub habits: Habits,
    /// Shut down when the clients are done; otherwise idle until the end.
    pub shut_down: bool,
    /// Errors that are not held against the engine.
    pub weather: Weather,
}

/// How far a life came, for the runner.
#[derive(Default)]
pub struct Progress {
    /// The pool is open and its volumes are compared with the ledger.
    pub opened: Cell<bool>,
    /// The device did not let the pool or a volume be opened.
    pub open_failed: RefCell<Option<String>>,
    /// All clients are done.
    pub clients_done: Cell<bool>,
    /// The engine shut down in good order.
    pub shut_down: Cell<bool>,
    /// The memory of its core: for hosts, and for the engine.
    pub memory: RefCell<Option<[BufPool; 2]>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory.borrow();
        let pools = memory.iter().flatten();
        let used =
            pools.map(|pool| format!("{} of {}", pool.in_use_bytes(), pool.capacity_bytes()));
        f.debug_struct("Progress")
            .field("opened", &self.opened.get())
            .field("open_failed", &*self.open_failed.borrow())
            .field("clients_done", &self.clients_done.get())
            .field("shut_down", &self.shut_down.get())
            .field("memory", &used.collect::<Vec<_>>())
            .finish()
    }
}

/// Who looks after the clients of one life.
#[derive(Clone)]
pub struct Ward {
    /// What is known and promised.
    pub ledger: Shared,
    /// Number of the life.
    pub life: u32,
    habits: Habits,
    weather: Weather,
}

/// Clients at work.
pub struct Clients(Vec<JoinHandle<()>>);

impl Clients {
    /// Lets them go on by themselves.
    pub fn detach_all(self) {
        self.0.into_iter().for_each(JoinHandle::detach);
    }

    async fn join_all(self) {
        for client in self.0 {
            client.await;
        }
    }
}

impl Ward {
    /// Whether an operation may end like this in this weather.
    pub fn may_fail(&self, kind: ErrorKind) -> bool {
        let bad = self.weather.device_errors || self.weather.damage;
        bad && (operator::is_of_the_device(kind) || kind == ErrorKind::Corrupt)
    }

    /// Starts the clients of one volume.
    pub fn spawn_clients(&self, volume: &Volume, prng: &mut Prng) -> Clients {
        let clients = (0..self.habits.clients).map(|_| {
            let own = Prng::new(prng.next_u64());
            reactor::spawn(self.client(volume, own).run())
        });
        Clients(clients.collect())
    }

    fn client(&self, volume: &Volume, prng: Prng) -> Client {
        Client::new(
            volume.clone(),
            self.ledger.clone(),
            self.habits,
            self.weather,
            prng,
        )
    }
}

/// Everything a life needs.
#[derive(Clone)]
pub struct Context {
    /// What the whole run does.
    pub plan: Rc<Plan>,
    /// What is known and promised.
    pub ledger: Shared,
    /// What this life does.
    pub task: Task,
    /// How far it came.
    pub progress: Rc<Progress>,
}

impl Context {
    fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            map_cache_bytes: self.plan.map_cache_bytes,
            payload_bytes: self.plan.payload_bytes,
            ..EngineOptions::new(DISK)
        }
    }

    /// The ward of this life's clients.
    pub fn ward(&self) -> Ward {
        Ward {
            ledger: self.ledger.clone(),
            life: self.task.number,
            habits: self.task.habits,
            weather: self.task.weather,
        }
    }

    fn prng(&self) -> Prng {
        Prng::new(self.plan.seed).fork(0xC11E_0000 + u64::from(self.task.number))
    }

    /// Opens the pool and compares what is there with what must be there.
    pub async fn open(&self) -> Option<Engine> {
        self.ledger.borrow_mut().stopping = false;
        let memory = [reactor::buf::pool(), reactor::buf::engine_pool()];
        self.progress.memory.replace(Some(memory));
        match Engine::open(self.engine_options()).await {
            Ok((engine, report)) => {
                self.reconcile(&engine, &report);
                let may_serve = self.progress.open_failed.borrow().is_none();
                self.progress.opened.set(may_serve);
                may_serve.then_some(engine)
            }
            Err(error) if self.ward().may_fail(error.kind()) => {
                self.progress.open_failed.replace(Some(error.to_string()));
                None
            }
            Err(error) => {
                self.ledger
                    .borrow_mut()
                    .violated(format!("open the pool: {error}"));
                None
            }
        }
    }

    fn reconcile(&self, engine: &Engine, report: &OpenReport) {
        let mut ledger = self.ledger.borrow_mut();
        let mut seen = Vec::new();
        for volume in &report.volumes {
            seen.push(volume.name.to_string());
            let life = ledger.volumes.get(&*volume.name).map(|volume| volume.life);
            match (&volume.outcome, life) {
                (_, None | Some(Life::Deleted)) => {
                    ledger.violated(format!("volume {} is there and must not be", volume.name));
                }
                (Outcome::Opened(_), _) => match engine.volume(&volume.name) {
                    Some(volume) => ledger.found(volume.info()),
                    None => ledger.violated(format!("{} was opened, where is it?", volume.name)),
                },
                (Outcome::Deleting, Some(Life::Deleting)) => {}
                (Outcome::Deleting, _) => {
                    ledger.violated(format!("volume {} is being deleted, why?", volume.name));
                }
                (Outcome::Damaged(damage), _) if self.may_be_damaged(damage) => {
                    let what = format!("volume {}: {damage}", volume.name);
                    self.progress.open_failed.replace(Some(what));
                }
                (Outcome::Damaged(damage), _) => {
                    ledger.violated(format!("volume {} is refused: {damage}", volume.name));
                }
            }
        }
        for volume in ledger.volumes.values_mut() {
            if !seen.contains(&volume.name) && volume.life != Life::Live {
                volume.life = Life::Deleted;
            }
        }
        let missing: Vec<String> = ledger
            .live()
            .into_iter()
            .filter(|name| !seen.contains(name))
            .collect();
        if !missing.is_empty() {
            ledger.violated(format!("volumes {missing:?} are gone"));
        }
    }

    fn may_be_damaged(&self, damage: &Damage) -> bool {
        let by_device = match damage {
            Damage::JournalRead { .. } => true,
            Damage::Store(error) => {
                matches!(error, StoreError::Device(_) | StoreError::Failed { .. })
            }
            _ => false,
        };
        self.task.weather.damage || (by_device && self.task.weather.device_errors)
    }
}

/// Makes the pool and the first volumes.
pub async fn prepare(context: Context) {
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes: None,
        overwrite: false,
    };
    if let Err(error) = Engine::create_pool(DISK.as_ref(), &spec).await {
        context
            .ledger
            .borrow_mut()
            .violated(format!("create the pool: {error}"));
        return;
    }
    let Some(engine) = context.open().await else {
        return;
    };
    for (index, volume) in context.plan.volumes.iter().enumerate() {
        let spec = VolumeSpec {
            name: format!("v{index}"),
            size_bytes: volume.len_bytes,
            block_bytes: volume.block_bytes,
            journal_bytes: Some(volume.journal_bytes),
        };
        operator::create(&engine, &context.ledger, spec, &context.ward()).await;
    }
    shut_down(&context, &engine).await;
}

async fn shut_down(context: &Context, engine: &Engine) {
    context.ledger.borrow_mut().stopping = true;
    match engine.shutdown().await {
        Ok(()) => context.progress.shut_down.set(true),
        Err(error) if context.ward().may_fail(error.kind()) => {}
        Err(error) => context
            .ledger
            .borrow_mut()
            .violated(format!("shut down: {error}")),
    }
}

/// A life under faults: whatever its clients do until it is cut off.
pub async fn serve(context: Context) {
    let Some(engine) = context.open().await else {
        return;
    };
    let mut prng = context.prng();
    let ward = context.ward();
    if context.task.read_back {
        read_back(&engine, &ward).await;
    }
    let clients: Vec<Clients> = engine
        .volumes()
        .iter()
        .map(|volume| ward.spawn_clients(volume, &mut prng))
        .collect();
    let pause_us = context.task.habits.operator_pause_us;
    if pause_us > 0 {
        let operator = operator::run(ward.clone(), engine.clone(), pause_us, prng.fork(1));
        reactor::spawn(operator).detach();
    }
    for clients in clients {
        clients.join_all().await;
    }
    context.progress.clients_done.set(true);
    if context.task.shut_down {
        shut_down(&context, &engine).await;
        return;
    }
    sleep(FOR_EVER).await;
}

/// Reads everything that was ever touched, volume by volume.
pub async fn read_back(engine: &Engine, ward: &Ward) {
    for volume in engine.volumes() {
        ward.client(&volume, Prng::new(0)).read_back().await;
    }
}

/// The last life, without faults: everything has to work, and all space to come back.
pub async fn settle(context: Context) {
    let Some(engine) = context.open().await else {
        return;
    };
    let ward = context.ward();
    let mut prng = context.prng();
    read_back(&engine, &ward).await;
    let clients: Vec<Clients> = engine
        .volumes()
        .iter()
        .map(|volume| ward.spawn_clients(volume, &mut prng))
        .collect();
    for clients in clients {
        clients.join_all().await;
    }
    read_back(&engine, &ward).await;
    context.progress.clients_done.set(true);
    if context.ledger.borrow().violation.is_none() && prng.chance_percent(50) {
        crate::checkers::format::space_comes_back(&engine, &ward).await;
    }
    shut_down(&context, &engine).await;
}

impl Ward {
    /// A client that does what the caller says.
    pub fn hand(&self, volume: &Volume) -> Client {
        self.client(volume, Prng::new(0))
    }
}
