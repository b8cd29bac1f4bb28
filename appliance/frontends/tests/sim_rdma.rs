//! NVMe/RDMA in the simulator: hosts crash, pairs break at every state, cards fail, receives run out.
//! What was acknowledged stays, nothing old comes back, and nothing is left over.

mod common;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::breaks::{Book, again_and_again, break_often, works_on};
use common::rdma_world::{Cores, connect, host_card, impatient, settles, start_target, turn_over};
use common::sim::{SECOND, world};
use host::HostError;
use host::rdma::Options;
use rdma::Card;
use rdma::soft::Rates;
use reactor::sim::World;

/// Blocks of one write: small ones go in the capsule, large ones by RDMA READ.
const SIZES: [usize; 4] = [1, 2, 4, 64];

/// One session: connect, check what is there, then write and read until something breaks.
async fn session(card: &Card, server: SocketAddr, book: &Book) -> Result<(), HostError> {
    let options = Options {
        host: impatient(),
        invalidate: !book.sessions().is_multiple_of(2),
        names_controller: !book.sessions().is_multiple_of(3),
    };
    let (mut controller, mut io) = connect(card, server, 1, options).await?;
    book.begin_session();
    loop {
        turn_over(&mut io, book, &SIZES).await?;
        controller.keep_alive().await?;
    }
}

async fn run_host(server: SocketAddr, book: Rc<Book>) {
    let card = host_card();
    again_and_again(|| session(&card, server, &book)).await;
}

/// What breaks in a run.
#[derive(Clone, Copy)]
enum Breaks {
    /// Connections, hosts and the network.
    Outside,
    /// The target's cards.
    Cards,
}

fn rates() -> Rates {
    Rates {
        work_fails_ppm: 3_000,
        late_ppm: 20_000,
        late_flush_ppm: 100_000,
        late: Duration::from_millis(2),
        break_ppm: 1_000,
        setup_break_ppm: 100_000,
        dry_ppm: 5_000,
        dry: Duration::from_millis(20),
        connect_vanishes_ppm: 20_000,
        disconnect_twice_ppm: 100_000,
    }
}

fn set_faults(cores: &Cores, rates: Rates) {
    for core in cores.borrow().iter() {
        core.faults.set(rates);
    }
}

fn break_cards(world: &mut World, cores: &Cores) {
    world.run_for(Duration::from_millis(10));
    set_faults(cores, rates());
    world.run_for(4 * SECOND);
    let struck: u64 = cores.borrow().iter().map(|c| c.faults.struck()).sum();
    assert!(struck > 10, "only {struck} faults struck");
    set_faults(cores, Rates::default());
}

/// Breaks much, lets everything settle, and counts what is left.
fn run_world(seed: u64, cores: usize, breaks: Breaks) {
    let mut world = world(seed);
    let (server, cores) = start_target(&mut world, cores);
    // What the target holds before any host came is counted first.
    world.run_for(SECOND / 100);
    let book = Book::new(SIZES.len());
    let shared = book.clone();
    world.start("host", 1, move |_| run_host(server, shared.clone()));
    match breaks {
        Breaks::Outside => break_often(&mut world, seed, 25),
        Breaks::Cards => break_cards(&mut world, &cores),
    }
    works_on(&mut world, &book);
    settles(&mut world, &cores);
}

#[test]
fn pairs_that_break_at_every_state_leave_nothing_behind() {
    for seed in 1..=5 {
        run_world(seed, 1, Breaks::Outside);
    }
}

#[test]
fn hosts_reach_a_volume_of_another_core() {
    for seed in 1..=3 {
        run_world(seed, 2, Breaks::Outside);
    }
}

#[test]
fn cards_that_fail_lose_nothing_that_was_acknowledged() {
    for seed in 1..=5 {
        run_world(seed, 1, Breaks::Cards);
    }
}

#[test]
fn cards_of_two_cores_fail() {
    for seed in 1..=3 {
        run_world(seed, 2, Breaks::Cards);
    }
}
