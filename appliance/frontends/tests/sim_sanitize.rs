//! In the simulator: power loss at any time during a SANITIZE of a volume on a disk. Once the unit
//! said that it is under way with some progress, nothing of the data can be read ever after.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use frontends::reservation::Reservations;
use frontends::scsi::{AbortCause, LogicalUnit, Nexus, NexusPort, Outcome, PortNames, Transfer};
use reactor::sim::{Crash, DiskOptions, World, WorldOptions};
use volume::{Command, Engine, EngineOptions, PoolSpec, Request, Volume, VolumeSpec};
use wire::scsi::SenseCode;
use wire::scsi::sense::KeySpecific;

const DISK: &str = "pool";
const VOLUME: &str = "v";
const BLOCK_BYTES: u32 = 4096;
const BLOCKS: u64 = 4096;
const OLD: u8 = 0xaa;
const NEW: u8 = 0x55;
const SEEDS: u64 = 12;

/// What the world's lives tell the test.
#[derive(Clone, Default)]
struct Told {
    lives: Rc<Cell<u32>>,
    is_running: Rc<Cell<bool>>,
    has_progress: Rc<Cell<bool>>,
    is_done: Rc<Cell<bool>>,
    /// Blocks with old data, zeros, and the pattern, found in the second life.
    found: Rc<Cell<Option<[u64; 3]>>>,
}

struct Port;

impl NexusPort for Port {
    fn abort_tasks(&self, _cause: AbortCause) -> usize {
        0
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn close(&self) {}
}

async fn open() -> (Engine, Volume) {
    if let Ok((engine, _)) = Engine::open(EngineOptions::new(DISK)).await {
        let volume = engine.volume(VOLUME).expect("it is still there");
        return (engine, volume);
    }
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes: None,
        overwrite: false,
    };
    let created = Engine::create_pool(DISK.as_ref(), &spec).await;
    created.expect("a pool");
    let opened = Engine::open(EngineOptions::new(DISK)).await;
    let (engine, _) = opened.expect("it opens");
    let spec = VolumeSpec {
        name: VOLUME.into(),
        size_bytes: BLOCKS * u64::from(BLOCK_BYTES),
        block_bytes: BLOCK_BYTES,
        journal_bytes: Some(4 << 20),
    };
    let volume = engine.create_volume(spec).await.expect("room for it");
    (engine, volume)
}

async fn fill(volume: &Volume) {
    for lba in (0..BLOCKS).step_by(64) {
        let mut data = reactor::buf::alloc(64 * BLOCK_BYTES as usize).await;
        data.as_mut().fill(OLD);
        let write = Request::with_fua(Command::Write { lba, data });
        volume.execute(write).await.expect("written");
    }
}

async fn count(volume: &Volume) -> [u64; 3] {
    let mut found = [0; 3];
    for lba in 0..BLOCKS {
        let read = Request::new(Command::Read {
            lba,
            block_count: 1,
        });
        let data = volume.execute(read).await.expect("read");
        let data = data.expect("a read has data");
        assert!(data.iter().all(|byte| *byte == data[0]), "a torn block");
        let kind = [OLD, 0, NEW].iter().position(|kind| *kind == data[0]);
        found[kind.expect("one of the three")] += 1;
    }
    found
}

async fn command(nexus: &Rc<Nexus>, cdb: &[u8], list: &[u8]) -> Outcome {
    let plan = match nexus.plan([0; 8], cdb) {
        Ok(plan) => plan,
        Err(outcome) => return outcome,
    };
    let data = match plan.transfer() {
        Transfer::FromHost { len_bytes } => {
            let mut data = reactor::buf::alloc(len_bytes as usize).await;
            data.as_mut().copy_from_slice(list);
            Some(data)
        }
        _ => None,
    };
    nexus.execute(plan, data).await
}

/// Whether the unit is being sanitized, and whether it is past its first step.
async fn look(nexus: &Rc<Nexus>, told: &Told) -> bool {
    let Some(sense) = command(nexus, &[0; 6], &[]).await.sense else {
        return false;
    };
    if let KeySpecific::Progress(progress) = sense.specific {
        told.is_running.set(true);
        told.has_progress.set(progress > 0);
    }
    sense.code == SenseCode::SANITIZE_IN_PROGRESS
}

async fn live(told: Told) {
    let (_engine, volume) = open().await;
    let reservations = Reservations::load(volume.clone()).await;
    let unit = LogicalUnit::new(volume.clone(), reservations);
    let port = Rc::new(Port);
    let weak: Weak<Port> = Rc::downgrade(&port);
    let names = PortNames {
        initiator_port: "iqn.2026-11.example:a,i,0x000000000001".into(),
        target: "iqn.2026-11.example:v".into(),
        target_port: 1,
    };
    let nexus = unit.attach(weak, names);
    // The unit attention of a new nexus.
    command(&nexus, &[0; 6], &[]).await;
    told.lives.set(told.lives.get() + 1);
    if told.lives.get() == 1 {
        fill(&volume).await;
        let overwrite = [0x48, 0x81, 0, 0, 0, 0, 0, 0, 5, 0];
        let begun = command(&nexus, &overwrite, &[2, 0, 0, 1, NEW]).await;
        assert!(begun.is_good(), "{begun:?}");
        while look(&nexus, &told).await {
            reactor::time::sleep(Duration::from_micros(100)).await;
        }
        told.is_done.set(true);
    } else {
        assert!(!look(&nexus, &told).await, "nobody goes on with it");
        told.found.set(Some(count(&volume).await));
    }
    std::future::pending().await
}

/// Power is lost `after_us` after the sanitize began.
fn run(seed: u64, after_us: u64) -> (Told, [u64; 3]) {
    let mut world = World::new(seed, WorldOptions::default());
    world.add_disk(DISK, DiskOptions::default());
    let told = Told::default();
    let main = told.clone();
    world.start("target", 1, move |_core| live(main.clone()));
    while !told.is_running.get() {
        world.run_for(Duration::from_micros(50));
    }
    world.run_for(Duration::from_micros(after_us));
    let at_crash = Told {
        has_progress: Rc::new(Cell::new(told.has_progress.get())),
        is_done: Rc::new(Cell::new(told.is_done.get())),
        ..told.clone()
    };
    world.crash("target", Crash::PowerLoss);
    world.restart("target");
    world.run_for(Duration::from_secs(30));
    let found = told.found.get().expect("the second life looked");
    (at_crash, found)
}

#[test]
fn old_data_is_gone_before_the_first_progress_whenever_power_is_lost() {
    let (mut early, mut under_way) = (0, 0);
    for seed in 0..SEEDS {
        // From the first step to the passes of 62 ms each.
        let after_us = [0, 100, 300, 1000, 20_000, 90_000][seed as usize % 6];
        let (told, [old, zeros, pattern]) = run(seed, after_us);
        assert_eq!(old + zeros + pattern, BLOCKS);
        if told.has_progress.get() {
            under_way += 1;
            assert_eq!(old, 0, "seed {seed}: {zeros} zeros, {pattern} new");
        } else {
            early += 1;
        }
    }
    assert!(early > 0 && under_way > 0, "{early} early, {under_way} not");
}

#[test]
fn a_finished_one_is_durable() {
    let (told, found) = run(99, 2_000_000);
    assert!(told.is_done.get());
    assert_eq!(found, [0, 0, BLOCKS]);
}
