//! A target over NVMe/RDMA with simulated cards, in a simulated world.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use frontends::reservation::Reservations;
use frontends::{Directory, SubsystemOptions, Target, TargetOptions};
use host::rdma::{Controller, IoQueue, Options};
use host::{HostError, HostOptions};
use rdma::soft::Faults;
use rdma::{Card, CardOptions};
use reactor::buf::BufPool;
use reactor::sim::{Crash, World};
use reactor::time::sleep;

use super::breaks::Book;
use super::sim::SECOND;
use super::sim_host::{block_data, block_value};

const PORT: u16 = 4420;
pub const BLOCK_BYTES: usize = 4096;

/// A card for the host on the calling core.
pub fn host_card() -> Card {
    host_card_with(Faults::default())
}

/// The same, with these faults.
pub fn host_card_with(faults: Faults) -> Card {
    let options = CardOptions {
        exposes_memory: true,
        receive_data_bytes: 0,
        receive_entries: 256,
        ..CardOptions::default()
    };
    Card::soft(options, faults)
}

/// What a host waits for is lost after seconds, and so is the host for the target.
pub fn impatient() -> HostOptions {
    HostOptions {
        timeout: 2 * SECOND,
        kato_ms: 1000,
        ..HostOptions::default()
    }
}

/// A controller of the volume that may have `queues`, and the first of them.
pub async fn connect(
    card: &Card,
    server: SocketAddr,
    queues: u16,
    options: Options,
) -> Result<(Controller, IoQueue), HostError> {
    let nqn = super::volume_nqn();
    let mut controller = Controller::connect(card, server, &nqn, options).await?;
    controller.set_queue_count(queues).await?;
    let io = controller.io_queue(1).await?;
    Ok((controller, io))
}

/// One core of the target.
#[derive(Clone)]
pub struct Core {
    pub target: Target,
    pub card: Card,
    pub faults: Faults,
    pool: BufPool,
    /// What the card's receives hold of it.
    posted_bytes: usize,
}

impl Core {
    /// Nothing of any host is left.
    pub fn is_idle(&self) -> bool {
        self.target.connections().is_empty()
            && self.target.away().is_empty()
            && self.card.stats().queue_pairs == 0
            && self.pool.in_use_bytes() == self.posted_bytes
    }
}

pub type Cores = Rc<RefCell<Vec<Core>>>;

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
pub fn start_target(world: &mut World, cores: usize) -> (SocketAddr, Cores) {
    let address: IpAddr = world.node("target");
    let shared = Cores::default();
    let entered = shared.clone();
    world.start_with("target", cores, move || {
        let directory = Directory::new();
        let entered = entered.clone();
        move |core| {
            let (directory, entered) = (directory.clone(), entered.clone());
            async move {
                let target = Target::new(options(directory)).expect("good options");
                let faults = Faults::default();
                let card_options = CardOptions {
                    receive_entries: 64,
                    ..CardOptions::default()
                };
                let card = Card::soft(card_options, faults.clone());
                target.use_card(card.clone());
                if core + 1 == cores {
                    let volume = volume::testing::memory_volume(1000, BLOCK_BYTES as u32);
                    let reservations = Reservations::load(volume.clone()).await;
                    target
                        .add_volume(volume, reservations, SubsystemOptions::default())
                        .expect("the first");
                }
                if core == 0 {
                    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
                    target.listen_rdma(any).await.expect("the port is free");
                }
                // The receives are posted by now.
                sleep(Duration::from_millis(1)).await;
                let pool = reactor::buf::pool();
                entered.borrow_mut().push(Core {
                    target,
                    card,
                    faults,
                    posted_bytes: pool.in_use_bytes(),
                    pool,
                });
                sleep(100_000 * SECOND).await;
            }
        }
    });
    (SocketAddr::new(address, PORT), shared)
}

/// Ends the host: nothing of it is left at the target after a while.
pub fn settles(world: &mut World, cores: &Cores) {
    world.crash("host", Crash::Kill);
    world.run_until(60 * SECOND, |_| cores.borrow().iter().all(Core::is_idle));
}

/// Reads and then writes each slot of the book; `sizes` are their blocks.
pub async fn turn_over(io: &mut IoQueue, book: &Book, sizes: &[usize]) -> Result<(), HostError> {
    for (slot, &blocks) in sizes.iter().enumerate() {
        let lba = slot as u64 * 100;
        let found = io.read(lba, blocks as u32).await?;
        book.found(slot, block_value(&found, blocks));
        let value = book.next(slot);
        io.write(lba, &block_data(value, blocks), false).await?;
        book.acknowledged(slot);
    }
    io.flush().await
}
