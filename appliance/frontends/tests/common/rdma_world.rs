//! A target over NVMe/RDMA with simulated cards, in a simulated world.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use frontends::reservation::Reservations;
use frontends::{Directory, SubsystemOptions, Target, TargetOptions};
use rdma::soft::Faults;
use rdma::{Card, CardOptions};
use reactor::buf::BufPool;
use reactor::sim::{World, WorldOptions};
use reactor::time::sleep;

const PORT: u16 = 4420;
pub const SECOND: Duration = Duration::from_secs(1);
pub const BLOCK_BYTES: usize = 4096;

/// A world in which spinning, which finds nothing here, costs few turns.
pub fn new_world(seed: u64) -> World {
    let mut options = WorldOptions::default();
    options.core.spin = reactor::Spin::For(Duration::from_micros(3));
    World::new(seed, options)
}

/// A card for the host on the calling core.
pub fn host_card() -> Card {
    let options = CardOptions {
        exposes_memory: true,
        receive_data_bytes: 0,
        receive_entries: 256,
        ..CardOptions::default()
    };
    Card::soft(options, Faults::default())
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
