//! The whole target, from the bytes of its socket to the device in memory and back.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target, TargetOptions};
use reactor::time::sleep;
use wire::nvme::command::ReadWrite;
use wire::nvme::{NvmOpcode, Sgl};

use crate::volumes::Setup;
use crate::{DEPTH, LIMIT, calm_world, host};

const PORT: u16 = 4420;
const VOLUME: &str = "steps";
const BLOCK_BYTES: u32 = 4096;
/// Blocks that the commands of a burst are apart: two in each cluster.
const APART: u64 = 32;
/// Until the target listens and nothing is dirty.
const READY_AFTER: Duration = Duration::from_secs(30);

/// A block read over NVMe/TCP, 32 commands at a time.
pub(crate) fn read_4k(count: u64) {
    let sgl = Sgl::Transport {
        len_bytes: BLOCK_BYTES,
    };
    bursts(NvmOpcode::READ, sgl, &[], count);
}

/// A block written over NVMe/TCP with its data in the capsule, 32 commands at a time.
pub(crate) fn write_4k(count: u64) {
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes: BLOCK_BYTES,
    };
    bursts(NvmOpcode::WRITE, sgl, &[0x5a; BLOCK_BYTES as usize], count);
}

async fn serve(server: SocketAddr) {
    let setup = Setup::new(VOLUME).await;
    setup.fill(DEPTH * APART).await;
    setup.flushed().await;
    let target = Target::new(TargetOptions::default()).expect("good options");
    let volume = setup.volume.clone();
    let reservations = Reservations::load(volume.clone()).await;
    target
        .add_volume(volume, reservations, SubsystemOptions::default())
        .expect("the first");
    target.listen(server).await.expect("the port is free");
    sleep(LIMIT).await;
}

/// A host that sends 32 commands at once, waits for all answers, and begins again.
fn bursts(opcode: NvmOpcode, sgl: Sgl, data: &[u8], count: u64) {
    let mut world = calm_world();
    let server = SocketAddr::new(world.node("target"), PORT);
    world.start("target", 1, move |_| serve(server));
    world.run_for(READY_AFTER);
    let burst: Rc<[u8]> = (0..DEPTH)
        .flat_map(|index| {
            let command = ReadWrite::new(index * APART, 1).expect("one block");
            host::capsule(command.encode(opcode, index as u16, 1, Some(sgl)), data)
        })
        .collect();
    let done = Rc::new(Cell::new(false));
    let is_done = done.clone();
    world.start("host", 1, move |_| {
        let (burst, done) = (burst.clone(), done.clone());
        async move {
            let [_admin, mut io] = host::attach(server, VOLUME).await;
            for _ in 0..count / DEPTH {
                io.run(&burst, DEPTH).await;
            }
            done.set(true);
        }
    });
    world.run_until(LIMIT, |_| is_done.get());
}
