//! Simulated worlds, whatever is served in them.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::sim::{World, WorldOptions};
use reactor::time::sleep;

pub const SECOND: Duration = Duration::from_secs(1);

/// Cores hardly spin: that costs the simulator turns and finds nothing here.
pub fn options() -> WorldOptions {
    let mut options = WorldOptions::default();
    options.core.spin = reactor::Spin::For(Duration::from_micros(3));
    options
}

/// A world with these options.
pub fn world(seed: u64) -> World {
    World::new(seed, options())
}

/// Random numbers of what drives a world, apart from the world's own.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Runs a host to its end, on a node of its own.
pub fn run_host<F: Future<Output = ()> + 'static>(
    world: &mut World,
    server: SocketAddr,
    host: impl Fn(SocketAddr) -> F + 'static,
) {
    world.run_for(SECOND / 100);
    let done = start_host(world, server, host);
    world.run_until(600 * SECOND, |_| done.get());
}

/// Starts a host on a node of its own. Gives what will say that it came to its end.
pub fn start_host<F: Future<Output = ()> + 'static>(
    world: &mut World,
    server: SocketAddr,
    host: impl Fn(SocketAddr) -> F + 'static,
) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let seen = done.clone();
    world.start("host", 1, move |_| {
        let (work, seen) = (host(server), seen.clone());
        async move {
            work.await;
            seen.set(true);
            sleep(1_000_000 * SECOND).await;
        }
    });
    done
}
