//! A volume in a simulated world, through many lives.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use reactor::sim::{Crash, World};

use super::model::Model;
use super::work::{Mix, Random, Worker, check_all, recover, shared};
use super::*;

pub const NODE: &str = "target";
const VOLUME_BYTES: u64 = 3 << 20;

/// A volume through many lives.
pub struct Story {
    pub world: World,
    model: Shared<Model>,
    pub random: Random,
    /// Requests of one worker in one life; then only the flusher goes on.
    pub requests: u64,
    block_bytes: u32,
    /// Some crash since the last full check took the power.
    power_lost: Rc<Cell<bool>>,
}

impl Story {
    pub fn new(seed: u64, requests: u64) -> Self {
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
        Self {
            world,
            model,
            random,
            requests,
            block_bytes,
            power_lost,
        }
    }

    /// Starts a life: recover, check everything, then work until the crash.
    pub fn start(&mut self, workers: u64) {
        let seed = self.random.below(1 << 40);
        let mix = Mix::swarm(&mut self.random);
        let requests = self.requests;
        let payload_bytes = [0, 64 << 10, 4 << 20][self.random.below(3) as usize];
        let (model, power_lost) = (self.model.clone(), self.power_lost.clone());
        self.world.start(NODE, 1, move |_| {
            let (model, power_lost) = (model.clone(), power_lost.clone());
            async move {
                let (engine, report) = open_with(Path::new(DISK), payload_bytes).await;
                let replay = replay_of(&report);
                assert_eq!(replay.damaged_pages, 0, "nothing was damaged: {replay:?}");
                let volume = engine.volume("demo").expect("served");
                recover(&volume, &model, power_lost.get()).await;
                power_lost.set(false);
                // Bounded, so that a life costs seconds of computing; then the flusher is alone.
                Worker::run_many(&volume, &model, seed, mix, workers, requests).await;
                std::future::pending::<()>().await;
            }
        });
    }

    pub fn crash(&mut self, crash: Crash) {
        self.world.crash(NODE, crash);
        self.crashed();
    }

    /// The node went down, by the test or at a crash point.
    pub fn crashed(&mut self) {
        let power = self.world.last_crash(NODE) == Some(Crash::PowerLoss);
        self.power_lost.set(self.power_lost.get() || power);
    }

    pub fn any_crash(&mut self) -> Crash {
        if self.random.below(2) == 0 {
            Crash::Kill
        } else {
            Crash::PowerLoss
        }
    }

    /// The last life: everything is checked, shut down, and checked again.
    pub fn end(mut self) {
        // A crash point armed earlier and not passed until now may still go off, once each.
        let mut clean = None;
        for _ in 0..8 {
            clean = self.last_life();
            if clean.is_some() {
                break;
            }
            self.crashed();
        }
        assert_eq!(clean, Some(true));
    }

    fn last_life(&mut self) -> Option<bool> {
        let (model, power_lost) = (self.model.clone(), self.power_lost.clone());
        self.world.run_once(NODE, LIMIT, move || {
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
        })
    }
}

/// Crashes at arbitrary moments.
pub fn lives(seed: u64, requests: u64) {
    let mut story = Story::new(seed, requests);
    for _ in 0..4 {
        let workers = 1 + story.random.below(8);
        story.start(workers);
        // From the middle of recovery up to several flush cycles.
        let most = [5_000, 200_000, 4_000_000][story.random.below(3) as usize];
        let micros = story.random.below(most);
        story
            .world
            .run_for(std::time::Duration::from_micros(micros));
        let crash = story.any_crash();
        story.crash(crash);
    }
    assert!(story.block_bytes == 512 || story.block_bytes == 4096);
    story.end();
}
