//! In the simulator: connections break at every state, hosts crash and vanish, connections move
//! between cores. What was acknowledged stays, nothing old comes back, nothing is left over.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use common::sim_host::Queue;
use frontends::reservation::Reservations;
use frontends::{Directory, SubsystemOptions, Target, TargetOptions};
use reactor::buf::BufPool;
use reactor::sim::{Crash, World, WorldOptions};
use reactor::time::{sleep, timeout};
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::nvme::Sqe;

const PORT: u16 = 4420;
const SECOND: Duration = Duration::from_secs(1);
/// Blocks of one write: small ones go in the capsule, large ones by R2T.
const SIZES: [usize; 3] = [1, 2, 4];

/// What one slot of the volume may hold: the last acknowledged value, or the one under way.
#[derive(Clone, Copy, Default)]
struct Known {
    acked: u64,
    tried: u64,
}

#[derive(Default)]
struct Progress {
    slots: RefCell<[Known; SIZES.len()]>,
    sessions: Cell<u64>,
    writes: Cell<u64>,
}

/// One session: connect, check what is there, then write and read until something breaks.
async fn session(server: SocketAddr, progress: &Progress) -> io::Result<()> {
    let (mut admin, cntlid) = Queue::open(server, 0, CNTLID_DYNAMIC).await?;
    admin.enable().await?;
    let (mut io, _) = Queue::open(server, 1, cntlid).await?;
    progress.sessions.set(progress.sessions.get() + 1);
    loop {
        for (slot, blocks) in SIZES.into_iter().enumerate() {
            let lba = slot as u64 * 100;
            let known = progress.slots.borrow()[slot];
            let found = io.read(lba, blocks).await?;
            assert!(
                found == known.acked || found == known.tried,
                "slot {slot} holds {found}, acknowledged was {}, under way {}",
                known.acked,
                known.tried
            );
            let value = known.tried + 1;
            progress.slots.borrow_mut()[slot] = Known {
                acked: found,
                tried: value,
            };
            io.write(lba, value, blocks).await?;
            progress.slots.borrow_mut()[slot] = Known {
                acked: value,
                tried: value,
            };
            progress.writes.set(progress.writes.get() + 1);
        }
        admin.run(Sqe::keep_alive(5), &[], &[]).await?;
    }
}

async fn host(server: SocketAddr, progress: Rc<Progress>) {
    loop {
        // An end that the host cannot see (a half-open connection) shows as silence.
        let _ = timeout(4 * SECOND, session(server, &progress)).await;
        sleep(Duration::from_millis(5)).await;
    }
}

type Shared = Rc<RefCell<Vec<(Target, BufPool)>>>;

fn options(directory: Directory) -> TargetOptions {
    TargetOptions {
        connect_timeout: 2 * SECOND,
        stall_timeout: 2 * SECOND,
        keep_alive_grace: SECOND,
        directory,
        ..TargetOptions::default()
    }
}

/// Core 0 listens; the volume lives on the last core.
fn start_target(world: &mut World, cores: usize) -> (SocketAddr, Shared) {
    let address: IpAddr = world.node("target");
    let shared = Shared::default();
    let targets = shared.clone();
    world.start_with("target", cores, move || {
        let directory = Directory::new();
        let targets = targets.clone();
        move |core| {
            let (directory, targets) = (directory.clone(), targets.clone());
            async move {
                let target = Target::new(options(directory)).expect("good options");
                targets
                    .borrow_mut()
                    .push((target.clone(), reactor::buf::pool()));
                if core + 1 == cores {
                    let volume = volume::testing::memory_volume(1000, 4096);
                    let reservations = Reservations::load(volume.clone()).await;
                    target
                        .add_volume(volume, reservations, SubsystemOptions::default())
                        .expect("the first");
                }
                if core == 0 {
                    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
                    target.listen(any).await.expect("the port is free");
                }
                sleep(100_000 * SECOND).await;
            }
        }
    });
    (SocketAddr::new(address, PORT), shared)
}

/// Breaks connections `breaks` times, then lets everything settle and counts what is left.
fn run_world(seed: u64, cores: usize, breaks: u32) -> u64 {
    let mut options = WorldOptions::default();
    // Spinning costs the simulator turns and finds nothing here.
    options.core.spin = reactor::Spin::For(Duration::from_micros(3));
    let mut world = World::new(seed, options);
    let (server, targets) = start_target(&mut world, cores);
    let progress = Rc::new(Progress::default());
    let shared = progress.clone();
    world.start("host", 1, move |_| host(server, shared.clone()));
    let mut random = seed | 1;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for _ in 0..breaks {
        // From the first SYN to some commands into the session.
        world.run_for(Duration::from_micros(below(20_000)));
        match below(8) {
            0 => {
                world.crash("host", Crash::Kill);
                world.restart("host");
            }
            1 => {
                world.partition("host", "target");
                world.run_for(Duration::from_millis(below(6000)));
                world.heal("host", "target");
            }
            _ => {
                world.drop_connection("host", "target");
            }
        }
    }
    let before = progress.writes.get();
    world.run_until(60 * SECOND, |_| progress.writes.get() >= before + 20);
    assert!(progress.sessions.get() > 1, "connections broke");
    world.crash("host", Crash::Kill);
    let idle = |_: &World| {
        targets
            .borrow()
            .iter()
            .all(|(target, pool)| target.connections().is_empty() && pool.in_use_bytes() == 0)
    };
    world.run_until(60 * SECOND, idle);
    progress.writes.get()
}

#[test]
fn connections_that_break_at_every_state_leave_nothing_behind() {
    for seed in 1..=5 {
        run_world(seed, 1, 25);
    }
}

#[test]
fn connections_move_to_the_core_of_their_volume() {
    for seed in 1..=3 {
        run_world(seed, 2, 20);
    }
}
