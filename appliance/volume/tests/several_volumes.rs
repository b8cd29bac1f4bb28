//! Several volumes of both block sizes in one pool that crashes again and again: each is judged by
//! its own model, and none may touch what is another's.

mod common;

use std::path::Path;
use std::time::Duration;

use common::broken::{NODE, assert_clean, pool_of};
use common::model::Model;
use common::work::{Mix, Random, Worker, check_all, recover, shared};
use common::*;
use reactor::sim::{Crash, World};
use volume::{Engine, Outcome, Volume};

const VOLUMES: &[(&str, u64, u32)] = &[
    ("a", 3 << 20, 4096),
    ("b", 2 << 20, 512),
    ("c", 3 << 20, 4096),
];
/// Just more than all of it: clusters that one volume frees are soon another's.
const POOL: u64 = 27 << 20;
/// Requests of a worker in one life.
const REQUESTS: u64 = 50;

/// The models of all volumes.
type Models = Vec<Shared<Model>>;

struct Lives {
    world: World,
    models: Models,
    random: Random,
    power_lost: Shared<bool>,
}

impl Lives {
    fn new(seed: u64) -> Self {
        let model = |&(_, size, block): &(&str, u64, u32)| Model::new(size / u64::from(block));
        Self {
            world: pool_of(seed, POOL, VOLUMES),
            models: VOLUMES.iter().map(|spec| shared(model(spec))).collect(),
            random: Random::new(seed),
            power_lost: Shared::default(),
        }
    }

    /// A life with two workers a volume, each with its own mix of requests.
    fn start(&mut self) {
        let mixes: Vec<_> = VOLUMES
            .iter()
            .map(|_| (self.random.below(1 << 40), Mix::swarm(&mut self.random)))
            .collect();
        let payload_bytes = [0, 64 << 10, 4 << 20][self.random.below(3) as usize];
        let (models, power_lost) = (self.models.clone(), self.power_lost.clone());
        self.world.start(NODE, 1, move |_| {
            let (models, mixes) = (models.clone(), mixes.clone());
            let power_lost = power_lost.clone();
            async move {
                let opened = reopened(&models, &power_lost, payload_bytes).await;
                let (_engine, volumes) = opened;
                let work = volumes.into_iter().zip(models).zip(mixes);
                let running: Vec<_> = work
                    .map(|((volume, model), (seed, mix))| {
                        reactor::spawn(async move {
                            Worker::run_many(&volume, &model, seed, mix, 2, REQUESTS).await;
                        })
                    })
                    .collect();
                for task in running {
                    task.await;
                }
                std::future::pending::<()>().await;
            }
        });
    }

    fn crash_soon(&mut self) {
        let most = [5_000, 200_000, 4_000_000][self.random.below(3) as usize];
        let micros = self.random.below(most);
        self.world.run_for(Duration::from_micros(micros));
        if self.world.is_up(NODE) {
            let crash = self.any_crash();
            self.world.crash(NODE, crash);
        }
        self.crashed();
    }

    fn any_crash(&mut self) -> Crash {
        [Crash::Kill, Crash::PowerLoss][self.random.below(2) as usize]
    }

    fn crashed(&mut self) {
        let power = self.world.last_crash(NODE) == Some(Crash::PowerLoss);
        let before = *self.power_lost.borrow();
        *self.power_lost.borrow_mut() = before || power;
    }

    /// The last life: everything is checked, shut down, and the pool is as it should be.
    fn end(mut self) {
        assert_clean(&mut self.world);
        let (models, power_lost) = (self.models.clone(), self.power_lost.clone());
        let ended = self.world.run_once(NODE, LIMIT, move || {
            let (models, power_lost) = (models.clone(), power_lost.clone());
            async move {
                let (engine, volumes) = reopened(&models, &power_lost, 4 << 20).await;
                drop(volumes);
                engine.shutdown().await.expect("shutdown");
                drop(engine);
                let (engine, report) = open(Path::new(DISK)).await;
                assert!(report.clean);
                for (volume, model) in volumes_of(&engine).iter().zip(&models) {
                    check_all(volume, model).await;
                }
            }
        });
        ended.expect("no crash is left");
        assert_clean(&mut self.world);
    }
}

fn volumes_of(engine: &Engine) -> Vec<Volume> {
    let names = VOLUMES.iter().map(|(name, ..)| name);
    names
        .map(|name| engine.volume(name).expect("served"))
        .collect()
}

/// Opens the pool and judges what every volume has.
async fn reopened(
    models: &Models,
    power_lost: &Shared<bool>,
    payload_bytes: usize,
) -> (Engine, Vec<Volume>) {
    let (engine, report) = open_with(Path::new(DISK), payload_bytes).await;
    for volume in &report.volumes {
        let Outcome::Opened(replay) = &volume.outcome else {
            panic!("{volume:?}")
        };
        assert_eq!(replay.damaged_pages, 0, "{volume:?}");
    }
    let volumes = volumes_of(&engine);
    let lost = *power_lost.borrow();
    for (volume, model) in volumes.iter().zip(models) {
        recover(volume, model, lost).await;
    }
    *power_lost.borrow_mut() = false;
    (engine, volumes)
}

#[test]
fn crashes_at_any_moment() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut lives = Lives::new(seed);
        for _ in 0..4 {
            lives.start();
            lives.crash_soon();
        }
        lives.end();
    }
}

/// Where the volumes wait for each other, and where one works while another publishes.
const POINTS: [&str; 7] = [
    "journal::written",
    "direct::write",
    "flush::after_cut",
    "flush::after_data",
    "flush::after_publish",
    "publish::after_nodes",
    "publish::after_superblock",
];

#[test]
fn crashes_at_points() {
    for (seed, point) in (100..).zip(POINTS) {
        println!("seed {seed}, {point}");
        let mut lives = Lives::new(seed);
        for crash in [Crash::Kill, Crash::PowerLoss, Crash::PowerLoss] {
            let visit = 1 + lives.random.below(20);
            lives.world.crash_at(NODE, point, visit, crash);
            lives.start();
            let limit = Duration::from_secs(60);
            let is_down = |world: &World| !world.is_up(NODE);
            // This work may not come to the point so often: the next life begins with it armed.
            if !lives.world.try_run_until(limit, is_down) {
                lives.world.crash(NODE, crash);
            }
            lives.crashed();
        }
        // Points that are armed still: let them go off.
        for _ in 0..3 {
            lives.start();
            lives.world.run_for(Duration::from_secs(60));
            if lives.world.is_up(NODE) {
                lives.world.crash(NODE, Crash::Kill);
            }
            lives.crashed();
        }
        lives.end();
    }
}
