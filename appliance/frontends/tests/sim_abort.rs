//! In the simulator: Abort stops commands that wait in the volume for a device that stands still.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::VOLUME;
use common::sim_host::{BLOCK, Queue, block_data};
use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target, TargetOptions};
use reactor::sim::{DiskHandle, DiskOptions, World, WorldOptions};
use reactor::time::sleep;
use volume::{Engine, EngineOptions, PoolSpec, VolumeSpec};
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::nvme::command::{Abort, ReadWrite};
use wire::nvme::{NvmOpcode, Sgl, Status};

const PORT: u16 = 4420;
const DISK: &str = "pool";
/// How long the device stands still: longer than the abort may take, shorter than keep alive.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Serves a new volume on the simulated disk.
async fn serve() {
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes: None,
        overwrite: false,
    };
    Engine::create_pool(DISK.as_ref(), &spec)
        .await
        .expect("a pool");
    let (engine, _) = Engine::open(EngineOptions::new(DISK))
        .await
        .expect("it opens");
    let spec = VolumeSpec {
        name: VOLUME.into(),
        size_bytes: 4 << 20,
        block_bytes: BLOCK as u32,
        journal_bytes: Some(4 << 20),
    };
    let volume = engine.create_volume(spec).await.expect("room for it");
    let target = Target::new(TargetOptions::default()).expect("good options");
    let reservations = Reservations::load(volume.clone()).await;
    target
        .add_volume(volume, reservations, SubsystemOptions::default())
        .expect("the first");
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    target.listen(any).await.expect("the port is free");
    sleep(1_000 * STANDSTILL).await;
}

async fn host(server: SocketAddr, disk: DiskHandle, done: Rc<Cell<bool>>) {
    let (mut admin, cntlid) = Queue::open(server, 0, CNTLID_DYNAMIC).await.expect("admin");
    admin.enable().await.expect("enabled");
    let (mut io, _) = Queue::open(server, 1, cntlid).await.expect("io");
    io.write(0, 1, 1).await.expect("written");
    disk.set_slow(STANDSTILL);
    let began = reactor::now();
    let data = block_data(2, 1);
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes: BLOCK as u32,
    };
    let sqe = ReadWrite::new(0, 1)
        .expect("a count")
        .encode(NvmOpcode::WRITE, 7, 1, Some(sgl));
    io.start(sqe, &data).await.expect("sent");
    sleep(Duration::from_millis(10)).await;
    let abort = Abort { sqid: 1, cid: 7 };
    let (cqe, _) = admin
        .run(abort.encode(8), &[], &[])
        .await
        .expect("answered");
    assert!(cqe.status().is_success() && cqe.dw0() & Abort::NOT_ABORTED == 0);
    let (cqe, _) = io.finish(&[]).await.expect("answered");
    assert_eq!(
        (cqe.cid.get(), cqe.status()),
        (7, Status::ABORTED_BY_REQUEST)
    );
    assert!(
        reactor::now() - began < STANDSTILL / 10,
        "the device was waited for"
    );
    let (cqe, _) = admin
        .run(abort.encode(9), &[], &[])
        .await
        .expect("answered");
    assert_ne!(
        cqe.dw0() & Abort::NOT_ABORTED,
        0,
        "there is nothing left to abort"
    );
    disk.set_slow(Duration::ZERO);
    // What follows the abort wins, however late the aborted write reaches the device.
    io.write(0, 3, 1).await.expect("written");
    sleep(STANDSTILL / 2).await;
    assert_eq!(io.read(0, 1).await.expect("read"), 3);
    done.set(true);
}

#[test]
fn abort_stops_a_write_that_waits_for_the_device() {
    for seed in 0..8 {
        let mut world = World::new(seed, WorldOptions::default());
        let disk = world.add_disk(DISK, DiskOptions::default());
        let server = SocketAddr::new(world.node("target"), PORT);
        world.start("target", 1, |_| serve());
        world.run_for(Duration::from_secs(1));
        let done = Rc::new(Cell::new(false));
        let seen = done.clone();
        world.start("host", 1, move |_| host(server, disk.clone(), seen.clone()));
        world.run_until(10 * STANDSTILL, |_| done.get());
    }
}
