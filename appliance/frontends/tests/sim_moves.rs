//! In the simulator: connections move between cores under load, at random times, while they break,
//! the target crashes, its namespace goes and comes, and commands are aborted. Hosts keep book: every
//! command is answered once, acknowledged data stays, nothing old comes back.

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::VOLUME;
use common::busy_host::{Book, SLOTS, host};
use common::sim::{Draw, SECOND, world};
use frontends::reservation::Reservations;
use frontends::{Directory, Placement, SubsystemOptions, Target, TargetOptions};
use reactor::CoreId;
use reactor::buf::BufPool;
use reactor::sim::{Crash, DiskHandle, DiskOptions, World};
use reactor::time::sleep;
use volume::{Engine, EngineOptions, PoolSpec, Volume, VolumeSpec};

const PORT: u16 = 4420;
const DISK: &str = "pool";
const CORES: usize = 3;
const HOSTS: usize = 2;

/// What a run is made of.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// On a simulated disk; otherwise in memory, where nothing is kept but all buffers can be counted.
    on_disk: bool,
    /// Longest time between two moves, microseconds.
    move_us: u64,
    /// How often something breaks.
    breaks: u32,
    /// The namespace is taken away and offered again now and then.
    removes: bool,
}

/// What the targets of all cores share with the test.
#[derive(Clone, Default)]
struct Shared {
    targets: Rc<RefCell<Vec<(Target, BufPool)>>>,
    moves: Rc<Cell<u64>>,
    returns: Rc<Cell<u64>>,
    is_moving: Rc<Cell<bool>>,
}

fn options(directory: Directory) -> TargetOptions {
    TargetOptions {
        connect_timeout: 2 * SECOND,
        stall_timeout: 2 * SECOND,
        keep_alive_grace: SECOND,
        // The test moves them itself.
        placement: Placement::Home,
        directory,
        ..TargetOptions::default()
    }
}

/// Opens the volume; makes it before if it is not there.
async fn open(on_disk: bool) -> (Volume, Option<Engine>) {
    let blocks = (HOSTS * SLOTS * common::busy_host::SLOT_BLOCKS) as u64;
    if !on_disk {
        return (volume::testing::memory_volume(blocks, 4096), None);
    }
    let engine = match Engine::open(EngineOptions::new(DISK)).await {
        Ok((engine, _)) => engine,
        Err(_) => {
            let spec = PoolSpec {
                name: "main".into(),
                file_bytes: None,
                overwrite: true,
            };
            Engine::create_pool(DISK.as_ref(), &spec)
                .await
                .expect("a pool");
            let options = EngineOptions::new(DISK);
            Engine::open(options).await.expect("it opens").0
        }
    };
    if let Some(volume) = engine.volume(VOLUME) {
        return (volume, Some(engine));
    }
    let spec = VolumeSpec {
        name: VOLUME.into(),
        size_bytes: blocks * 4096,
        block_bytes: 4096,
        journal_bytes: Some(4 << 20),
    };
    let volume = engine.create_volume(spec).await.expect("room for it");
    (volume, Some(engine))
}

fn below(limit: u64) -> u64 {
    reactor::random_u64() % limit.max(1)
}

/// Moves a random connection to a random place, again and again.
async fn mover(target: Target, shared: Shared, plan: Plan) {
    loop {
        sleep(Duration::from_micros(1 + below(plan.move_us))).await;
        if !shared.is_moving.get() {
            continue;
        }
        let away = target.away();
        let here = target.connections();
        if below(2) == 0 && !away.is_empty() {
            let (id, _) = away[below(away.len() as u64) as usize];
            shared
                .returns
                .set(shared.returns.get() + u64::from(target.call_home(id)));
        } else if !here.is_empty() {
            let id = here[below(here.len() as u64) as usize].id;
            let core = CoreId(1 + below(CORES as u64 - 1) as u16);
            shared
                .moves
                .set(shared.moves.get() + u64::from(target.send_away(id, core)));
        }
    }
}

/// Takes the namespace away and offers it again.
async fn remover(target: Target, volume: Volume) {
    loop {
        sleep(Duration::from_millis(20 + below(200))).await;
        target.remove_volume(VOLUME).await.expect("it was offered");
        sleep(Duration::from_millis(below(20))).await;
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume.clone(), reservations, SubsystemOptions::default())
            .expect("it is not offered");
    }
}

async fn core_main(core: usize, directory: Directory, shared: Shared, plan: Plan) {
    let target = Target::new(options(directory)).expect("good options");
    let pool = reactor::buf::pool();
    shared.targets.borrow_mut().push((target.clone(), pool));
    let mut _engine = None;
    if core == 0 {
        let (volume, engine) = open(plan.on_disk).await;
        _engine = engine;
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume.clone(), reservations, SubsystemOptions::default())
            .expect("the first");
        let any = SocketAddr::from(([0, 0, 0, 0], PORT));
        target.listen(any).await.expect("the port is free");
        drop(reactor::spawn(mover(target.clone(), shared.clone(), plan)));
        if plan.removes {
            drop(reactor::spawn(remover(target.clone(), volume)));
        }
    }
    sleep(100_000 * SECOND).await;
}

struct Run {
    world: World,
    shared: Shared,
    books: Vec<Rc<Book>>,
    disk: Option<DiskHandle>,
    draw: Draw,
}

impl Run {
    fn begin(plan: Plan) -> Self {
        let mut world = world(plan.seed);
        let disk = plan
            .on_disk
            .then(|| world.add_disk(DISK, DiskOptions::default()));
        let server = SocketAddr::new(world.node("target"), PORT);
        let shared = Shared::default();
        shared.is_moving.set(true);
        let given = shared.clone();
        world.start_with("target", CORES, move || {
            let (directory, shared) = (Directory::new(), given.clone());
            shared.targets.borrow_mut().clear();
            move |core| core_main(core, directory.clone(), shared.clone(), plan)
        });
        let books: Vec<_> = (0..HOSTS).map(Book::new).collect();
        for (index, book) in books.iter().enumerate() {
            let book = Rc::clone(book);
            world.start(&format!("host{index}"), 1, move |_| {
                host(server, Rc::clone(&book))
            });
        }
        Self {
            world,
            shared,
            books,
            disk,
            draw: Draw::new(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    fn break_something(&mut self, crashes: bool) {
        let host = format!("host{}", self.draw.below(HOSTS as u64));
        match self.draw.below(10) {
            0 => {
                self.world.crash(&host, Crash::Kill);
                self.world.restart(&host);
            }
            1 => {
                self.world.partition(&host, "target");
                let silent = self.draw.below(5000);
                // The others would fill the time with work that shows nothing new.
                self.books.iter().for_each(|book| book.is_resting.set(true));
                self.world.run_for(Duration::from_millis(silent));
                self.books
                    .iter()
                    .for_each(|book| book.is_resting.set(false));
                self.world.heal(&host, "target");
            }
            2 if crashes => {
                self.world.crash("target", Crash::Kill);
                self.shared.targets.borrow_mut().clear();
                self.world.restart("target");
            }
            _ => {
                self.world.drop_connection(&host, "target");
            }
        }
    }

    fn lost_sessions(&self) -> u64 {
        self.books.iter().map(|book| book.lost_sessions.get()).sum()
    }

    /// All hosts go on until each has `more` commands answered.
    fn go_on(&mut self, more: u64) {
        let goals: Vec<_> = self
            .books
            .iter()
            .map(|book| book.answered.get() + more)
            .collect();
        let books = self.books.clone();
        self.world.run_until(120 * SECOND, |_| {
            let mut each = books.iter().zip(&goals);
            each.all(|(book, goal)| book.answered.get() >= *goal)
        });
    }

    /// The hosts leave: nothing is left of them on any core.
    fn end(mut self, counts_buffers: bool) {
        for index in 0..HOSTS {
            self.world.crash(&format!("host{index}"), Crash::Kill);
        }
        let shared = self.shared.clone();
        self.world.run_until(60 * SECOND, |_| {
            shared.targets.borrow().iter().all(|(target, pool)| {
                target.connections().is_empty()
                    && target.away().is_empty()
                    && (!counts_buffers || pool.in_use_bytes() == 0)
            })
        });
    }
}

fn run(plan: Plan) {
    let mut run = Run::begin(plan);
    run.go_on(500);
    // Until the target listened, nobody could connect.
    let lost_before = run.lost_sessions();
    for _ in 0..plan.breaks {
        let wait = run.draw.below(30_000);
        run.world.run_for(Duration::from_micros(wait));
        run.break_something(plan.on_disk);
    }
    run.go_on(1000);
    if plan.breaks == 0 {
        let silences: u64 = run.books.iter().map(|book| book.silences.get()).sum();
        assert_eq!(silences, 0, "an answer was lost");
    }
    if plan.breaks == 0 && !plan.removes {
        assert_eq!(run.lost_sessions(), lost_before, "a connection broke");
    }
    let aborted: u64 = run.books.iter().map(|book| book.aborted.get()).sum();
    assert!(aborted > 0, "no command was aborted");
    let (moves, returns) = (run.shared.moves.get(), run.shared.returns.get());
    assert!(
        moves > 10 && returns > 5,
        "{moves} left, {returns} came back"
    );

    run.end(!plan.on_disk);
}

/// `MOVE_SEED=7` repeats one seed, `MOVE_SEEDS=500` runs many.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("MOVE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("MOVE_SEEDS").unwrap_or(3),
    }
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        on_disk: false,
        move_us: 1_000,
        breaks: 0,
        removes: false,
    }
}

#[test]
fn hosts_see_nothing_of_moves() {
    for seed in seeds() {
        run(plan(seed));
    }
}

#[test]
fn hosts_see_nothing_of_moves_of_a_volume_on_disk() {
    for seed in seeds() {
        run(Plan {
            on_disk: true,
            ..plan(seed)
        });
    }
}

#[test]
fn connections_that_move_break_like_others() {
    for seed in seeds() {
        run(Plan {
            breaks: 20,
            ..plan(seed)
        });
    }
}

#[test]
fn what_was_acknowledged_survives_crashes_in_the_middle_of_moves() {
    for seed in seeds() {
        run(Plan {
            on_disk: true,
            breaks: 20,
            ..plan(seed)
        });
    }
}

#[test]
fn a_namespace_may_go_in_the_middle_of_moves() {
    for seed in seeds() {
        run(Plan {
            on_disk: seed % 2 == 0,
            removes: true,
            ..plan(seed)
        });
    }
}

#[test]
fn a_move_is_given_up_when_commands_take_too_long() {
    let mut all = 0;
    for seed in seeds() {
        let mut run = Run::begin(Plan {
            on_disk: true,
            ..plan(seed)
        });
        run.go_on(300);
        let lost_before = run.lost_sessions();
        run.shared.is_moving.set(false);
        run.world.run_for(SECOND / 10);
        // Longer than a move waits, shorter than a host does.
        let disk = run.disk.clone().expect("it is on a disk");
        disk.set_slow(SECOND * 3 / 2);
        run.world.run_for(SECOND / 100);
        run.shared.is_moving.set(true);
        run.world.run_for(SECOND * 5 / 4);
        disk.set_slow(Duration::ZERO);
        let targets = run.shared.targets.borrow().clone();
        let given_up = |(target, _): &(Target, BufPool)| target.snapshot_metrics().moves_given_up;
        all += targets.iter().map(given_up).sum::<u64>();
        drop(targets);
        run.go_on(300);
        assert_eq!(run.lost_sessions(), lost_before, "a connection broke");
        run.end(false);
    }
    // Of one seed all commands that stood still may have been aborted.
    assert!(all > 0, "no move was given up");
}
