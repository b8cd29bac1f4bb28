//! An iSCSI target in a simulated world.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use frontends::HostAccess;
use frontends::iscsi::{Directory, Options, Target};
use frontends::reservation::Reservations;
use reactor::buf::BufPool;
use reactor::net::BoundSocket;
use reactor::sim::World;
use reactor::time::sleep;
use volume::Volume;

use super::sim::{SECOND, run_host, world};

pub const PORT: u16 = 3260;
pub const BLOCK: usize = 4096;
pub const BLOCKS: u64 = 4096;

/// The targets of all cores, with their pools.
pub type Shared = Rc<RefCell<Vec<(Target, BufPool)>>>;

pub fn options(directory: Directory) -> Options {
    Options {
        login_timeout: 2 * SECOND,
        stall_timeout: 2 * SECOND,
        nop_interval: 2 * SECOND,
        nop_timeout: 2 * SECOND,
        linger: SECOND / 2,
        directory,
        ..Options::default()
    }
}

/// Offers `volume` and listens on every core of the node, as one portal.
pub async fn offer(target: &Target, volume: Volume) {
    let reservations = Reservations::load(volume.clone()).await;
    target
        .add_volume(volume, reservations, HostAccess::Any)
        .expect("the first of its name");
}

pub fn listen(target: &Target, portal: u16) {
    let any = SocketAddr::from(([0, 0, 0, 0], PORT + portal - 1));
    let bound = BoundSocket::bind(any).expect("the port is free");
    target.listen_on(bound, portal).expect("it listens");
}

/// Starts a target: core 0 listens on portals 1 and 2, the volume lives on the last core.
pub fn start(
    world: &mut World,
    cores: usize,
    change: impl Fn(&mut Options) + Clone + 'static,
) -> (SocketAddr, Shared) {
    let address = world.node("target");
    let shared = Shared::default();
    let targets = shared.clone();
    world.start_with("target", cores, move || {
        let directory = Directory::new();
        let (targets, change) = (targets.clone(), change.clone());
        move |core| {
            let (targets, change) = (targets.clone(), change.clone());
            let mut options = options(directory.clone());
            change(&mut options);
            async move {
                let target = Target::new(options).expect("good options");
                let pool = reactor::buf::pool();
                targets.borrow_mut().push((target.clone(), pool));
                if core + 1 == cores {
                    let volume = volume::testing::memory_volume(BLOCKS, BLOCK as u32);
                    offer(&target, volume).await;
                }
                if core == 0 {
                    listen(&target, 1);
                    listen(&target, 2);
                }
                sleep(1_000_000 * SECOND).await;
            }
        }
    });
    (SocketAddr::new(address, PORT), shared)
}

/// Runs a host against a target with one core until it is done.
pub fn with_host<F: Future<Output = ()> + 'static>(
    seed: u64,
    change: impl Fn(&mut Options) + Clone + 'static,
    host: impl Fn(SocketAddr) -> F + 'static,
) {
    let mut world = world(seed);
    let (server, targets) = start(&mut world, 1, change);
    run_host(&mut world, server, host);
    settles(&mut world, &targets);
}

/// Ends the host: nothing of it is left at the target after a while.
pub fn settles(world: &mut World, targets: &Shared) {
    world.crash("host", reactor::sim::Crash::Kill);
    let idle = |_: &World| {
        targets
            .borrow()
            .iter()
            .all(|(target, pool)| target.sessions().is_empty() && pool.in_use_bytes() == 0)
    };
    world.run_until(60 * SECOND, idle);
}
