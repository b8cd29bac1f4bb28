//! The engine in a simulated world: killed and unplugged at any moment, again and again. What was
//! acknowledged is there after a kill, what was flushed also after power loss, and no read ever
//! gives anything that was not written, or was replaced.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use common::model::Model;
use common::work::{Mix, Random, Worker, check_all, recover, shared};
use common::*;
use reactor::sim::{Crash, World};

const NODE: &str = "target";
const VOLUME_BYTES: u64 = 3 << 20;

/// A volume through many lives.
struct Story {
    world: World,
    model: Shared<Model>,
    random: Random,
    block_bytes: u32,
    /// Some crash since the last full check took the power.
    power_lost: Rc<Cell<bool>>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let volatile_cache = random.below(4) > 0;
        let block_bytes = if random.below(3) == 0 { 512 } else { 4096 };
        let mut world = world(seed, volatile_cache);
        let created = world.run_once(NODE, LIMIT, move || async move {
            let path = Path::new(DISK);
            create(path, None).await;
            let (engine, _) = open(path).await;
            let volume = spec("demo", VOLUME_BYTES, block_bytes);
            engine.create_volume(volume).await.expect("create a volume");
            engine.shutdown().await.expect("shutdown");
        });
        assert!(created.is_some());
        let model = shared(Model::new(VOLUME_BYTES / u64::from(block_bytes)));
        let power_lost = Rc::new(Cell::new(false));
        Self { world, model, random, block_bytes, power_lost }
    }

    /// Starts a life: recover, check everything, then work without end.
    fn start(&mut self, workers: u64) {
        let seed = self.random.below(1 << 40);
        let mix = Mix::swarm(&mut self.random);
        let (model, power_lost) = (self.model.clone(), self.power_lost.clone());
        self.world.start(NODE, 1, move |_| {
            let (model, power_lost) = (model.clone(), power_lost.clone());
            async move {
                let (engine, report) = open(Path::new(DISK)).await;
                let replay = replay_of(&report);
                assert_eq!(replay.damaged_pages, 0, "nothing was damaged: {replay:?}");
                let volume = engine.volume("demo").expect("served");
                recover(&volume, &model, power_lost.get()).await;
                power_lost.set(false);
                Worker::run_many(&volume, &model, seed, mix, workers, u64::MAX).await;
            }
        });
    }

    fn crash(&mut self, crash: Crash) {
        self.world.crash(NODE, crash);
        self.crashed();
    }

    /// The node went down, by the test or at a crash point.
    fn crashed(&mut self) {
        let power = self.world.last_crash(NODE) == Some(Crash::PowerLoss);
        self.power_lost.set(self.power_lost.get() || power);
    }

    fn any_crash(&mut self) -> Crash {
        if self.random.below(2) == 0 { Crash::Kill } else { Crash::PowerLoss }
    }

    /// The last life: everything is checked, shut down, and checked again.
    fn end(mut self) {
        let (model, power_lost) = (self.model.clone(), self.power_lost.clone());
        let clean = self.world.run_once(NODE, LIMIT, move || {
            let (model, power_lost) = (model.clone(), power_lost.clone());
            async move {
                let (engine, _) = open(Path::new(DISK)).await;
                let volume = engine.volume("demo").expect("served");
                recover(&volume, &model, power_lost.get()).await;
                engine.shutdown().await.expect("shutdown");
                drop((engine, volume));
                let (engine, report) = open(Path::new(DISK)).await;
                check_all(&engine.volume("demo").expect("served"), &model).await;
                report.clean && replay_of(&report).batches == 0
            }
        });
        assert_eq!(clean, Some(true));
    }
}

/// Crashes at arbitrary moments.
fn lives(seed: u64) {
    let mut story = Story::new(seed);
    for _ in 0..4 {
        let workers = 1 + story.random.below(8);
        story.start(workers);
        // From the middle of recovery up to several flush cycles.
        let most = [5_000, 200_000, 4_000_000][story.random.below(3) as usize];
        let micros = story.random.below(most);
        story.world.run_for(std::time::Duration::from_micros(micros));
        let crash = story.any_crash();
        story.crash(crash);
    }
    assert!(story.block_bytes == 512 || story.block_bytes == 4096);
    story.end();
}

#[test]
fn crashes_at_any_moment() {
    for seed in seeds(0, 24) {
        lives(seed);
    }
}

/// The seeds of a test: all of `first..first + count`, or the one in `VOLUME_SEED`.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let one = std::env::var("VOLUME_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = std::env::var("VOLUME_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(count);
    let range = one.map_or(first..first + count, |seed| seed..seed + 1);
    range.inspect(|seed| println!("seed {seed}; repeat with VOLUME_SEED={seed}"))
}

const POINTS: [&str; 10] = [
    "journal::write",
    "journal::written",
    "journal::flush",
    "direct::write",
    "flush::after_cut",
    "flush::write",
    "flush::after_data",
    "flush::after_publish",
    "publish::after_flush",
    "publish::after_superblock",
];

/// Crashes at a named point, at several of its visits.
fn at_point(point: &'static str, seed: u64) {
    let mut story = Story::new(seed);
    for crash in [Crash::Kill, Crash::PowerLoss, Crash::Kill, Crash::PowerLoss] {
        let visit = 1 + story.random.below(20);
        story.world.crash_at(NODE, point, visit, crash);
        story.start(4);
        let limit = std::time::Duration::from_secs(60);
        if !story.world.try_run_until(limit, |world| !world.is_up(NODE)) {
            // This mix of requests does not come to the point: crash it anyway.
            story.crash(crash);
        }
        story.crashed();
    }
    story.end();
}

#[test]
fn crashes_at_every_point() {
    for point in POINTS {
        for seed in seeds(100, 2) {
            at_point(point, seed);
        }
    }
}
