//! Two nodes, every fault there is, many seeds: all work comes back exactly once and in order,
//! what arrives is what was sent, and at the end no memory is missing.

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::user::{Counts, use_pair};
use common::{PAIR, options, until};
use rdma::Card;
use rdma::soft::{Faults, Rates};
use reactor::buf::pool;
use reactor::sim::{Crash, World, WorldOptions};
use reactor::time::{sleep, timeout};

const PORT: u16 = 4420;
const SEEDS: u64 = 24;
const CONNECTIONS: usize = 12;

/// What the test and the nodes share.
#[derive(Default)]
struct Run {
    counts: Counts,
    faults: RefCell<Vec<Faults>>,
    host_is_done: Cell<bool>,
    target_is_done: Cell<bool>,
    pairs: Cell<u64>,
}

/// Half of the faults, with any intensity.
fn draw(seed: u64) -> Rates {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut ppm = |max: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let on = state >> 40 & 1 == 1;
        if on { (state >> 8) as u32 % max } else { 0 }
    };
    Rates {
        work_fails_ppm: ppm(20_000),
        late_ppm: ppm(300_000),
        late_flush_ppm: ppm(500_000),
        late: Duration::from_millis(5),
        break_ppm: ppm(5_000),
        setup_break_ppm: ppm(200_000),
        dry_ppm: ppm(50_000),
        dry: Duration::from_millis(10),
        connect_vanishes_ppm: ppm(200_000),
        disconnect_twice_ppm: ppm(1_000_000),
    }
}

fn card(run: &Run, rates: Rates) -> Card {
    let faults = Faults::default();
    faults.set(rates);
    run.faults.borrow_mut().push(faults.clone());
    Card::soft(options(), faults)
}

/// Everything is given back, also by what failed.
async fn at_rest(card: Card, at_start: usize) {
    until("all pairs are gone", || card.stats().queue_pairs == 0).await;
    let all = u64::from(options().receive_entries);
    until("all receives are posted", || {
        card.stats().receives_posted == all
    })
    .await;
    assert_eq!(card.stats().memory_regions, 0);
    drop(card);
    until("all memory is back", || pool().in_use_bytes() == at_start).await;
}

async fn target(run: Rc<Run>, rates: Rates) {
    let at_start = pool().in_use_bytes();
    let card = card(&run, rates);
    let address = SocketAddr::from(([0, 0, 0, 0], PORT));
    let listener = card.listen(address).await.expect("the port is free");
    while !run.host_is_done.get() {
        let next = timeout(Duration::from_millis(100), listener.accept()).await;
        let Ok(Ok(incoming)) = next else { continue };
        match reactor::random_u64() % 10 {
            0 => incoming.reject(b"no"),
            1 => drop(incoming),
            _ => {
                let (card, run) = (card.clone(), run.clone());
                reactor::spawn(async move {
                    let accept = incoming.accept(b"yes", PAIR);
                    if let Ok(Ok(pair)) = timeout(Duration::from_secs(5), accept).await {
                        use_pair(&card, pair, &run.counts).await;
                    }
                })
                .detach();
            }
        }
    }
    drop(listener);
    at_rest(card, at_start).await;
    run.target_is_done.set(true);
}

async fn host(run: Rc<Run>, address: SocketAddr, rates: Rates) {
    let at_start = pool().in_use_bytes();
    let card = card(&run, rates);
    let mut users = Vec::new();
    for _ in 0..CONNECTIONS {
        let (card, run) = (card.clone(), run.clone());
        users.push(reactor::spawn(async move {
            sleep(Duration::from_micros(reactor::random_u64() % 20_000)).await;
            let connect = card.connect(address, b"host", PAIR);
            if let Ok(Ok((pair, _))) = timeout(Duration::from_secs(5), connect).await {
                run.pairs.set(run.pairs.get() + 1);
                use_pair(&card, pair, &run.counts).await;
            }
        }));
    }
    for user in users {
        user.await;
    }
    at_rest(card, at_start).await;
    run.host_is_done.set(true);
}

/// What the network and the machines do, beside what the cards do.
fn trouble(world: &mut World, seed: u64) {
    for step in 0..20_u64 {
        world.run_for(Duration::from_millis(4));
        match (seed * 31 + step * 7) % 41 {
            0 => {
                world.drop_connection("host", "target");
            }
            1 => world.partition("host", "target"),
            2 => world.partition_one_way("target", "host"),
            3 | 4 => world.heal_all(),
            5 if seed.is_multiple_of(3) && world.is_up("host") => {
                let crash = match seed % 2 {
                    0 => Crash::PowerLoss,
                    _ => Crash::Kill,
                };
                world.crash("host", crash);
                world.run_for(Duration::from_millis(30));
                world.restart("host");
            }
            _ => {}
        }
    }
    world.heal_all();
}

fn run_seed(seed: u64, with_trouble: bool) -> Rc<Run> {
    let mut options = match with_trouble {
        true => WorldOptions::swarm(seed),
        false => WorldOptions::default(),
    };
    options.crash = WorldOptions::default().crash;
    options.core.io_pool_bytes = 16 << 20;
    options.core.engine_pool_bytes = 4 << 20;
    let mut world = World::new(seed, options);
    let run = Rc::new(Run::default());
    let address = SocketAddr::new(world.node("target"), PORT);
    let rates = |salt| match with_trouble {
        true => draw(seed * 2 + salt),
        false => Rates::default(),
    };
    let (mine, theirs) = (rates(0), rates(1));
    let shared = run.clone();
    world.start("target", 1, move |_| target(shared.clone(), mine));
    world.run_for(Duration::from_millis(1));
    let shared = run.clone();
    world.start("host", 1, move |_| host(shared.clone(), address, theirs));
    if with_trouble {
        trouble(&mut world, seed);
    }
    world.run_until(Duration::from_secs(600), |_| run.target_is_done.get());
    run
}

#[test]
fn without_faults_everything_works() {
    for seed in 0..5 {
        let run = run_seed(seed, false);
        assert!(run.pairs.get() > 4, "seed {seed}");
        assert_eq!(run.counts.failed.get(), run.counts.flushed.get());
        assert!(run.counts.done.get() > 300, "seed {seed}: {:?}", run.counts);
    }
}

#[test]
fn with_all_faults_all_work_comes_back_once() {
    let (mut failed, mut done, mut struck) = (0, 0, 0);
    for seed in 0..SEEDS {
        let run = run_seed(seed, true);
        failed += run.counts.failed.get();
        done += run.counts.done.get();
        let faults = run.faults.borrow();
        struck += faults.iter().map(Faults::struck).sum::<u64>();
    }
    // The sweep is about something: much works, much fails, and the faults are the reason.
    assert!(done > 1000 && failed > 300, "{done} done, {failed} failed");
    assert!(struck > 200, "{struck} faults");
}

#[test]
fn a_seed_takes_the_same_course_again() {
    let counts = |seed| format!("{:?}", run_seed(seed, true).counts);
    assert_eq!(counts(3), counts(3));
}
