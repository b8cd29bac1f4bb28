//! In the simulator: connections break at every state, hosts crash and vanish, connections move
//! between cores. What was acknowledged stays, nothing old comes back, nothing is left over.

mod common;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use common::breaks::{Book, again_and_again, break_often, works_on};
use common::sim::{SECOND, world};
use common::sim_host::Queue;
use frontends::reservation::Reservations;
use frontends::{Directory, SubsystemOptions, Target, TargetOptions};
use reactor::buf::BufPool;
use reactor::sim::{Crash, World};
use reactor::time::sleep;
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::nvme::Sqe;

const PORT: u16 = 4420;
/// Blocks of one write: small ones go in the capsule, large ones by R2T.
const SIZES: [usize; 3] = [1, 2, 4];

/// One session: connect, check what is there, then write and read until something breaks.
async fn session(server: SocketAddr, book: &Book) -> io::Result<()> {
    let (mut admin, cntlid) = Queue::open(server, 0, CNTLID_DYNAMIC).await?;
    admin.enable().await?;
    let (mut io, _) = Queue::open(server, 1, cntlid).await?;
    book.begin_session();
    loop {
        for (slot, blocks) in SIZES.into_iter().enumerate() {
            let lba = slot as u64 * 100;
            book.found(slot, io.read(lba, blocks).await?);
            io.write(lba, book.next(slot), blocks).await?;
            book.acknowledged(slot);
        }
        admin.run(Sqe::keep_alive(5), &[], &[]).await?;
    }
}

async fn host(server: SocketAddr, book: Rc<Book>) {
    again_and_again(|| session(server, &book)).await;
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
fn run_world(seed: u64, cores: usize, breaks: u32) {
    let mut world = world(seed);
    let (server, targets) = start_target(&mut world, cores);
    let book = Book::new(SIZES.len());
    let shared = book.clone();
    world.start("host", 1, move |_| host(server, shared.clone()));
    break_often(&mut world, seed, breaks);
    works_on(&mut world, &book);
    world.crash("host", Crash::Kill);
    let idle = |_: &World| {
        targets
            .borrow()
            .iter()
            .all(|(target, pool)| target.connections().is_empty() && pool.in_use_bytes() == 0)
    };
    world.run_until(60 * SECOND, idle);
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
