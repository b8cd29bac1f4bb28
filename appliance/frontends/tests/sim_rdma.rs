//! NVMe/RDMA in the simulator: hosts crash, pairs break at every state, cards fail, receives run out.
//! What was acknowledged stays, nothing old comes back, and nothing is left over.

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::rdma_world::{BLOCK_BYTES, Core, Cores, SECOND, host_card, new_world, start_target};
use host::rdma::{Controller, Options};
use host::{HostError, HostOptions};
use rdma::Card;
use rdma::soft::Rates;
use reactor::sim::{Crash, World};
use reactor::time::{sleep, timeout};

/// Blocks of one write: small ones go in the capsule, large ones by RDMA READ.
const SIZES: [usize; 4] = [1, 2, 4, 64];

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

/// Each block of a write says which write it is of.
fn blocks_of(value: u64, blocks: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(blocks * BLOCK_BYTES / 8)
}

fn value_of(data: &[u8]) -> u64 {
    let words: Vec<u64> = data
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect();
    assert!(words.iter().all(|word| *word == words[0]), "a torn write");
    words[0]
}

/// One session: connect, check what is there, then write and read until something breaks.
async fn session(card: &Card, server: SocketAddr, progress: &Progress) -> Result<(), HostError> {
    let options = Options {
        host: HostOptions {
            timeout: 2 * SECOND,
            kato_ms: 1000,
            ..HostOptions::default()
        },
        invalidate: !progress.sessions.get().is_multiple_of(2),
        names_controller: !progress.sessions.get().is_multiple_of(3),
    };
    let nqn = common::volume_nqn();
    let mut controller = Controller::connect(card, server, &nqn, options).await?;
    controller.set_queue_count(1).await?;
    let mut io = controller.io_queue(1).await?;
    progress.sessions.set(progress.sessions.get() + 1);
    loop {
        for (slot, blocks) in SIZES.into_iter().enumerate() {
            let lba = slot as u64 * 100;
            let known = progress.slots.borrow()[slot];
            let found = value_of(&io.read(lba, blocks as u32).await?);
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
            io.write(lba, &blocks_of(value, blocks), false).await?;
            progress.slots.borrow_mut()[slot] = Known {
                acked: value,
                tried: value,
            };
            progress.writes.set(progress.writes.get() + 1);
        }
        io.flush().await?;
        controller.keep_alive().await?;
    }
}

async fn run_host(server: SocketAddr, progress: Rc<Progress>) {
    let card = host_card();
    loop {
        // An end that the host cannot see (a half-open connection) shows as silence.
        let _ = timeout(4 * SECOND, session(&card, server, &progress)).await;
        sleep(Duration::from_millis(5)).await;
    }
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

struct Run {
    world: World,
    cores: Cores,
    progress: Rc<Progress>,
    random: u64,
}

impl Run {
    fn new(seed: u64, cores: usize) -> Self {
        let mut world = new_world(seed);
        let (server, cores) = start_target(&mut world, cores);
        // What the target holds before any host came is counted first.
        world.run_for(SECOND / 100);
        let progress = Rc::new(Progress::default());
        let shared = progress.clone();
        world.start("host", 1, move |_| run_host(server, shared.clone()));
        Self {
            world,
            cores,
            progress,
            random: seed | 1,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn break_outside(&mut self) {
        let wait_us = self.below(20_000);
        self.world.run_for(Duration::from_micros(wait_us));
        match self.below(8) {
            0 => {
                self.world.crash("host", Crash::Kill);
                self.world.restart("host");
            }
            1 => {
                let silence_ms = self.below(6000);
                self.world.partition("host", "target");
                self.world.run_for(Duration::from_millis(silence_ms));
                self.world.heal("host", "target");
            }
            _ => {
                self.world.drop_connection("host", "target");
            }
        }
    }

    fn set_faults(&self, rates: Rates) {
        for core in self.cores.borrow().iter() {
            core.faults.set(rates);
        }
    }

    /// Lets everything settle, and counts what is left.
    fn finish(mut self) -> u64 {
        let before = self.progress.writes.get();
        let progress = self.progress.clone();
        self.world
            .run_until(60 * SECOND, |_| progress.writes.get() >= before + 20);
        assert!(self.progress.sessions.get() > 1, "connections broke");
        self.world.crash("host", Crash::Kill);
        let cores = self.cores.clone();
        self.world
            .run_until(60 * SECOND, |_| cores.borrow().iter().all(Core::is_idle));
        self.progress.writes.get()
    }
}

fn run_world(seed: u64, cores: usize, breaks: Breaks) -> u64 {
    let mut run = Run::new(seed, cores);
    match breaks {
        Breaks::Outside => (0..25).for_each(|_| run.break_outside()),
        Breaks::Cards => {
            run.world.run_for(Duration::from_millis(10));
            run.set_faults(rates());
            run.world.run_for(4 * SECOND);
            let struck: u64 = run.cores.borrow().iter().map(|c| c.faults.struck()).sum();
            assert!(struck > 10, "only {struck} faults struck");
            run.set_faults(Rates::default());
        }
    }
    run.finish()
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
