//! One run: a pool is made, lives under faults and crashes, is healed, and has to be in order.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::sim::{Crash, DiskFaults, DiskHandle, FaultKind, Prng, World};

use crate::checkers::format::{check_image, demand_clean};
use crate::client::Weather;
use crate::ledger::{Ledger, Shared, Totals};
use crate::life::{Context, DISK, Progress, Task, prepare, serve, settle};
use crate::plan::{Class, Habits, Plan, Trouble};

/// The simulated machine.
pub const NODE: &str = "target";
/// Making a pool takes far less.
const PREPARE_LIMIT: Duration = Duration::from_secs(60);
/// Once all faults have ended, everything outstanding has to be done within this.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);
/// Points at which a process is crashed, besides arbitrary moments.
const POINTS: [&str; 17] = [
    "publish::after_nodes",
    "publish::after_pages",
    "publish::after_root",
    "publish::after_flush",
    "publish::after_superblock",
    "publish::after_superblock_flush",
    "publish::after_mirror",
    "create_volume::after_blank",
    "delete::after_begin",
    "delete::after_step",
    "direct::write",
    "journal::write",
    "journal::written",
    "flush::after_cut",
    "flush::after_data",
    "flush::after_publish",
    "flush::write",
];

/// The first of POINTS: those inside a publish.
const PUBLISH_POINTS: usize = 7;

/// What a good run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Equal for equal seeds.
    pub trace_hash: u64,
    /// Counters.
    pub totals: Totals,
    /// Crashes of the process.
    pub crashes: u32,
}

/// What was wrong with a run, and everything needed to look into it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Its class.
    pub class: Class,
    /// What a checker said.
    pub what: String,
    /// Plan, world, faults, last events.
    pub details: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let test = match self.class {
            Class::Crash => "swarm_crash_0",
            Class::Corruption => "swarm_corruption_0",
        };
        writeln!(f, "{}", self.details)?;
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        write!(
            f,
            "repeat: SIM_SEED={} cargo nextest run -p bedplate-sim-tests --cargo-profile sim \
             --no-capture -E 'test({test})'",
            self.seed
        )
    }
}

/// A run under way.
pub struct Runner {
    /// What it does.
    pub plan: Rc<Plan>,
    /// Where it happens.
    pub world: World,
    /// What was promised.
    pub ledger: Shared,
    /// The pool's disk.
    pub disk: DiskHandle,
    /// The runner's own chance.
    pub prng: Prng,
    lives: u32,
    dropped_syncs: usize,
    /// Crashes before this life began.
    crashes_before: u32,
    /// What is wrong with the device now.
    trouble: Option<Trouble>,
}

/// A time in which the device is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spell {
    trouble: Trouble,
    /// From the start of the life.
    after: Duration,
    /// None: until some life begins without it.
    lasts: Option<Duration>,
}

/// How a life is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// At a moment, by the runner.
    Moment(Crash),
    /// At a crash point, or at the latest at the moment.
    Point(Crash),
    /// By itself.
    ShutDown,
}

/// Runs one seed.
pub fn run_seed(seed: u64, class: Class) -> Result<Outcome, Failure> {
    guarded(seed, class, || match class {
        Class::Crash => run_crash(seed),
        Class::Corruption => crate::corruption::run_corruption(seed),
    })
}

/// A panic of the program under test is a failure of its seed, too.
fn guarded(
    seed: u64,
    class: Class,
    run: impl FnOnce() -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()));
        let what = format!("panic: {}", text.unwrap_or_default());
        let details = Plan::new(seed, class).to_string();
        Err(Failure {
            seed,
            class,
            what,
            details,
        })
    })
}

fn run_crash(seed: u64) -> Result<Outcome, Failure> {
    let mut runner = Runner::new(Plan::new(seed, Class::Crash));
    runner.prepare()?;
    let faults = runner.plan.world.disk.faults.clone();
    runner.disk.set_faults(faults);
    for _ in 0..runner.plan.lives {
        runner.life()?;
    }
    runner.settle()
}

impl Runner {
    /// An empty world for a plan.
    pub fn new(plan: Plan) -> Self {
        let mut world = World::new(plan.seed, plan.world.clone());
        let mut disk = plan.world.disk.clone();
        disk.faults = DiskFaults {
            latency: disk.faults.latency,
            ..DiskFaults::default()
        };
        let disk = world.add_disk(DISK, disk);
        let prng = Prng::new(plan.seed).fork(0x0C4A);
        let plan = Rc::new(plan);
        let ledger = Ledger::shared();
        Self {
            plan,
            world,
            ledger,
            disk,
            prng,
            lives: 0,
            dropped_syncs: 0,
            crashes_before: 0,
            trouble: None,
        }
    }

    /// The failure, if something is wrong.
    pub fn check(&self) -> Result<(), Failure> {
        match self.ledger.borrow().violation.clone() {
            None => Ok(()),
            Some(what) => Err(self.failure(what)),
        }
    }

    /// A failure of this run.
    pub fn failure(&self, what: String) -> Failure {
        let running = self.ledger.borrow().running();
        let report = self.world.report();
        let details = format!("{}\n{report}\nrequests under way:\n{running}", self.plan);
        Failure {
            seed: self.plan.seed,
            class: self.plan.class,
            what,
            details,
        }
    }

    /// What a life needs.
    pub fn context(&mut self, task: Task) -> Context {
        self.lives += 1;
        self.ledger.borrow_mut().totals.lives += 1;
        Context {
            plan: self.plan.clone(),
            ledger: self.ledger.clone(),
            task: Task {
                number: self.lives,
                ..task
            },
            progress: Rc::new(Progress::default()),
        }
    }

    /// A task without faults: read, work a little, shut down.
    pub fn calm_task(&self) -> Task {
        let habits = Habits {
            abandon_ppm: 0,
            operator_pause_us: 0,
            ..self.plan.habits
        };
        Task {
            number: 0,
            read_back: true,
            habits: Habits {
                requests: habits.requests.min(20),
                ..habits
            },
            shut_down: true,
            weather: Weather::default(),
        }
    }

    /// Makes the pool.
    pub fn prepare(&mut self) -> Result<(), Failure> {
        let context = self.context(self.calm_task());
        self.world.start(NODE, 1, move |_| prepare(context.clone()));
        if !self
            .world
            .try_run_until(PREPARE_LIMIT, |world| !world.is_up(NODE))
        {
            return Err(self.failure("the pool was not made in time".into()));
        }
        self.ended(None);
        self.check()
    }

    /// Tells the ledger that the process is gone.
    pub fn ended(&mut self, crash: Option<Crash>) {
        let dropped = self.world.fault_count(FaultKind::SyncDropped);
        // A sync that failed and threw data away is a power loss as far as promises go.
        let is_loss = std::mem::replace(&mut self.dropped_syncs, dropped) != dropped;
        let crash = if is_loss {
            Some(Crash::PowerLoss)
        } else {
            crash
        };
        self.ledger.borrow_mut().process_ended(crash);
    }

    /// How the next crash is.
    pub fn draw_crash(&mut self) -> Crash {
        let takes_power = self.prng.chance_percent(self.plan.power_loss_percent);
        if takes_power {
            Crash::PowerLoss
        } else {
            Crash::Kill
        }
    }

    fn draw_ending(&mut self) -> Ending {
        if self.plan.sprint || self.plan.churn {
            return Ending::Point(self.draw_crash());
        }
        match self.prng.below(10) {
            0 => Ending::ShutDown,
            1..5 => Ending::Point(self.draw_crash()),
            _ => Ending::Moment(self.draw_crash()),
        }
    }

    /// A crash point, and which visit of it.
    fn draw_point(&mut self) -> (&'static str, u64) {
        if self.plan.sprint {
            let point = ["journal::write", "journal::written"][self.prng.index(2)];
            return (point, self.prng.between(1, 6));
        }
        if self.plan.churn {
            let point = POINTS[self.prng.index(PUBLISH_POINTS)];
            return (point, self.prng.between(1, 12));
        }
        let point = POINTS[self.prng.index(POINTS.len())];
        let longest = 1 << self.prng.below(6);
        (point, self.prng.between(1, longest))
    }

    /// One life under faults, and what the crash left.
    fn life(&mut self) -> Result<(), Failure> {
        let ending = self.draw_ending();
        let limit = self.draw_limit();
        let spell = self.draw_spell(limit);
        let troubles = [self.trouble, spell.map(|spell| spell.trouble)];
        let in_trouble = troubles.into_iter().flatten().any(Trouble::brings_errors);
        let errors = self.plan.has_device_errors() || in_trouble;
        let drops = self.plan.world.disk.faults.sync_failure.drop_percent > 0;
        let task = Task {
            number: 0,
            read_back: self.plan.sprint || self.prng.chance_percent(40),
            habits: self.plan.habits,
            shut_down: ending == Ending::ShutDown,
            weather: Weather {
                device_errors: errors,
                damage: errors && drops,
            },
        };
        if let Ending::Point(crash) = ending {
            let (point, nth) = self.draw_point();
            self.world.crash_at(NODE, point, nth, crash);
        }
        self.begin_life(task);
        let limit = if ending == Ending::ShutDown {
            SETTLE_LIMIT
        } else {
            limit
        };
        match spell {
            None => self.pass(limit),
            Some(spell) => self.pass_with_spell(limit, spell),
        };
        self.end_life(match ending {
            Ending::Moment(crash) | Ending::Point(crash) => crash,
            Ending::ShutDown => Crash::Kill,
        });
        self.check()?;
        self.after_life()
    }

    /// How long a life may be.
    pub fn draw_limit(&mut self) -> Duration {
        let longest_us = self.plan.life_max_us >> self.prng.below(8);
        Duration::from_micros(self.prng.between(longest_us / 2, longest_us))
    }

    /// Whether and when the device gets into trouble in a life of at most `limit`.
    fn draw_spell(&mut self, limit: Duration) -> Option<Spell> {
        if self.trouble.is_some() && self.prng.chance_percent(60) {
            self.set_trouble(None);
        }
        if !self.prng.chance_percent(self.plan.trouble_percent) {
            return None;
        }
        let trouble = match self.prng.below(3) {
            0 => Trouble::Gone,
            1 => Trouble::Full,
            _ => Trouble::Slow(Duration::from_micros(1 << self.prng.between(6, 16))),
        };
        let within = |prng: &mut Prng| limit.mul_f64(prng.below(1_000) as f64 / 1_000.0);
        let after = if self.prng.chance_percent(20) {
            Duration::ZERO
        } else {
            within(&mut self.prng)
        };
        let ends = self.prng.chance_percent(60);
        let lasts = ends.then(|| within(&mut self.prng));
        Some(Spell {
            trouble,
            after,
            lasts,
        })
    }

    fn set_trouble(&mut self, trouble: Option<Trouble>) {
        self.disk.set_gone(trouble == Some(Trouble::Gone));
        self.disk.set_full(trouble == Some(Trouble::Full));
        self.disk.set_slow(match trouble {
            Some(Trouble::Slow(extra)) => extra,
            _ => Duration::ZERO,
        });
        self.trouble = trouble;
    }

    /// Lets the process run for at most `limit`; true when it ended, or something is wrong.
    pub fn pass(&mut self, limit: Duration) -> bool {
        let ledger = self.ledger.clone();
        self.world.try_run_until(limit, |world| {
            !world.is_up(NODE) || ledger.borrow().violation.is_some()
        })
    }

    fn pass_with_spell(&mut self, limit: Duration, spell: Spell) -> bool {
        if self.pass(spell.after) {
            return true;
        }
        self.set_trouble(Some(spell.trouble));
        let rest = limit.saturating_sub(spell.after);
        let Some(lasts) = spell.lasts else {
            return self.pass(rest);
        };
        let over = self.pass(lasts);
        self.set_trouble(None);
        over || self.pass(rest.saturating_sub(lasts))
    }

    /// Starts the process; gives how far it comes.
    pub fn begin_life(&mut self, task: Task) -> Rc<Progress> {
        self.crashes_before = self.world.crashes(NODE);
        let context = self.context(task);
        let progress = context.progress.clone();
        self.world.start(NODE, 1, move |_| serve(context.clone()));
        progress
    }

    /// Crashes the process, unless it has ended, and tells the ledger.
    pub fn end_life(&mut self, crash: Crash) {
        if self.world.is_up(NODE) {
            self.world.crash(NODE, crash);
        }
        let crashed = self.world.crashes(NODE) > self.crashes_before;
        let crash = self.world.last_crash(NODE).filter(|_| crashed);
        self.ended(crash);
    }

    /// Looks at the disk; sometimes the power fails while the process is down.
    fn after_life(&mut self) -> Result<(), Failure> {
        if self.prng.chance_percent(10) && self.plan.power_loss_percent > 0 {
            self.world.crash(NODE, Crash::PowerLoss);
            self.ended(Some(Crash::PowerLoss));
        }
        if self.prng.chance_percent(40) {
            self.check_disk()
        } else {
            Ok(())
        }
    }

    /// The offline check of the disk as it is now.
    pub fn check_disk(&self) -> Result<(), Failure> {
        let block = self.plan.world.disk.logical_block;
        let report = check_image(self.disk.snapshot(), self.plan.pool_bytes, block);
        demand_clean(&report).map_err(|what| self.failure(what))
    }

    /// The end: no more faults, everything has to be right and to become quiet.
    pub fn settle(mut self) -> Result<Outcome, Failure> {
        self.world.heal_all();
        let context = self.context(self.calm_task());
        let progress = context.progress.clone();
        self.world.start(NODE, 1, move |_| settle(context.clone()));
        let done = self.pass(SETTLE_LIMIT);
        self.check()?;
        if !done || !progress.shut_down.get() {
            return Err(self.failure(format!("no progress after all faults ended: {progress:?}")));
        }
        self.ended(None);
        self.check_disk()?;
        self.count_faults();
        Ok(Outcome {
            trace_hash: self.world.trace_hash(),
            totals: self.ledger.borrow().totals,
            crashes: self.world.crashes(NODE),
        })
    }

    /// Notes which troubles the run really met.
    fn count_faults(&self) {
        let met = |kind| u64::from(self.world.fault_count(kind) > 0);
        let totals = &mut self.ledger.borrow_mut().totals;
        totals.device_gone = met(FaultKind::Gone);
        totals.device_full = met(FaultKind::Full);
    }
}
