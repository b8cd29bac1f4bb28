//! No payload is copied over NVMe/RDMA: where the card puts the data of a write is where the disk
//! takes it from, and where the disk puts the data of a read is where the card takes it from. The
//! volume is a real one, with its journal, on a simulated disk.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::rdma_world::{BLOCK_BYTES, connect, host_card};
use common::sim::SECOND;
use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target, TargetOptions};
use host::rdma::Options;
use rdma::soft::{Faults, Moved};
use rdma::{Card, CardOptions};
use reactor::sim::{Crash, DiskBuffer, DiskOptions, World, WorldOptions};
use reactor::time::sleep;
use volume::PoolSpec;
use volume::{Engine, EngineOptions, VolumeSpec};

const DISK: &str = "/dev/disk";
const PORT: u16 = 4420;
/// Blocks of each command: in the capsule, and by RDMA READ; within a cluster, a whole one, and more.
const SIZES: [usize; 6] = [1, 2, 8, 16, 32, 64];
/// First block of a command.
const STRIDE: usize = 256;

#[derive(Default)]
struct Steps {
    allowed: Cell<usize>,
    done: Cell<usize>,
    is_reading: Cell<bool>,
}

fn data(size: usize) -> Vec<u8> {
    (0..size * BLOCK_BYTES)
        .map(|at| (at / 509 + size) as u8)
        .collect()
}

async fn engine() -> Engine {
    if let Ok((engine, _)) = Engine::open(EngineOptions::new(DISK)).await {
        return engine;
    }
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes: None,
        overwrite: true,
    };
    Engine::create_pool(DISK.as_ref(), &spec)
        .await
        .expect("a pool");
    let engine = Engine::open(EngineOptions::new(DISK)).await;
    let (engine, _) = engine.expect("it opens");
    let spec = VolumeSpec {
        name: common::VOLUME.into(),
        size_bytes: 16 << 20,
        block_bytes: BLOCK_BYTES as u32,
        journal_bytes: Some(8 << 20),
    };
    engine.create_volume(spec).await.expect("room for it");
    engine
}

async fn serve(faults: Faults) {
    let engine = engine().await;
    let volume = engine.volume(common::VOLUME).expect("it is there");
    let target = Target::new(TargetOptions::default()).expect("good options");
    target.use_card(Card::soft(CardOptions::default(), faults));
    let reservations = Reservations::load(volume.clone()).await;
    target
        .add_volume(volume, reservations, SubsystemOptions::default())
        .expect("the first");
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    target.listen_rdma(any).await.expect("the port is free");
    sleep(100_000 * SECOND).await;
}

/// One command for each step that is allowed.
async fn run_host(server: SocketAddr, steps: Rc<Steps>) {
    let connected = connect(&host_card(), server, 1, Options::default()).await;
    let (_controller, mut io) = connected.expect("it connects");
    loop {
        let step = steps.done.get();
        if step == steps.allowed.get() {
            sleep(Duration::from_micros(100)).await;
            continue;
        }
        let (lba, size) = ((step * STRIDE) as u64, SIZES[step]);
        if steps.is_reading.get() {
            let found = io.read(lba, size as u32).await.expect("it reads");
            assert!(found == data(size), "what was written is read");
        } else {
            io.write(lba, &data(size), true).await.expect("it writes");
        }
        steps.done.set(step + 1);
    }
}

/// Every byte of `moved` is in one of the pieces of memory that the disk had.
fn is_same_memory(moved: &Moved, disk: &[DiskBuffer]) -> bool {
    let mut at = moved.address;
    let end = moved.address + moved.len_bytes;
    while at < end {
        let holds = |piece: &&DiskBuffer| {
            piece.is_write == moved.is_in
                && piece.address <= at
                && at < piece.address + piece.len_bytes
        };
        match disk.iter().find(holds) {
            Some(piece) => at = piece.address + piece.len_bytes,
            None => return false,
        }
    }
    true
}

/// Lets the host do one command of each size, and follows its payload.
fn follow(world: &mut World, steps: &Rc<Steps>, faults: &Faults) {
    for (step, size) in SIZES.into_iter().enumerate() {
        // What belongs to the command before is over.
        world.run_for(Duration::from_millis(50));
        faults.take_moved();
        world.take_disk_buffers();
        steps.allowed.set(step + 1);
        let done = steps.clone();
        world.run_until(60 * SECOND, |_| done.done.get() > step);
        let disk = world.take_disk_buffers();
        let moved = faults.take_moved();
        let payload: usize = moved.iter().map(|moved| moved.len_bytes).sum();
        assert_eq!(payload, size * BLOCK_BYTES, "{size} blocks are moved once");
        for moved in moved {
            assert!(
                is_same_memory(&moved, &disk),
                "{size} blocks: {moved:?} is not what the disk had: {disk:?}"
            );
        }
    }
}

#[test]
fn payload_is_never_copied_between_card_and_disk() {
    let mut world = World::new(7, WorldOptions::default());
    world.add_disk(DISK, DiskOptions::default());
    let server = SocketAddr::new(world.node("target"), PORT);
    let (faults, steps) = (Faults::default(), Rc::new(Steps::default()));
    let shared = faults.clone();
    world.start("target", 1, move |_| serve(shared.clone()));
    world.run_for(SECOND);
    let shared = steps.clone();
    world.start("host", 1, move |_| run_host(server, shared.clone()));
    follow(&mut world, &steps, &faults);
    // Afterwards nothing is in memory any more, so that reads come from the disk.
    world.crash("host", Crash::Kill);
    world.crash("target", Crash::Kill);
    world.restart("target");
    world.run_for(SECOND);
    steps.allowed.set(0);
    steps.done.set(0);
    steps.is_reading.set(true);
    world.restart("host");
    follow(&mut world, &steps, &faults);
}
