//! An iSCSI target on real sockets, and a thread for the initiators of a test.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use frontends::HostAccess;
use frontends::iscsi::{Directory, Options, Target};
use frontends::reservation::Reservations;
use reactor::net::BoundSocket;

use super::{Served, VOLUME_BYTES, core_config, start};

fn options(directory: Directory) -> Options {
    Options {
        stall_timeout: Duration::from_secs(5),
        linger: Duration::from_millis(500),
        directory,
        ..Options::default()
    }
}

/// Serves one volume of `block_bytes` blocks on loopback.
pub fn serve(block_bytes: u32) -> Served<Target> {
    serve_part(Directory::new(), Some(block_bytes))
}

/// The target of one core of several that share `directory`; with a volume or without.
pub fn serve_part(directory: Directory, block_bytes: Option<u32>) -> Served<Target> {
    let main = async move || {
        let target = Target::new(options(directory)).expect("the options are good");
        if let Some(block_bytes) = block_bytes {
            let blocks = VOLUME_BYTES / u64::from(block_bytes);
            let volume = volume::testing::memory_volume(blocks, block_bytes);
            let reservations = Reservations::load(volume.clone()).await;
            target
                .add_volume(volume, reservations, HostAccess::Any)
                .expect("the first of its name");
        }
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = BoundSocket::bind(local).expect("loopback can be bound");
        let listener = target.listen_on(bound, 1).expect("it listens");
        (target, listener.address())
    };
    start(core_config(), main, async |target: Target| {
        target.shutdown().await;
    })
}

/// A core of its own, on which a test's initiators work.
pub struct HostCore {
    served: Served<()>,
}

impl HostCore {
    pub fn new() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            served: start(core_config(), async move || ((), nowhere), async |()| {}),
        }
    }

    /// Runs `work` there and waits for what it gives.
    pub fn run<F, R>(&self, work: impl FnOnce() -> F + Send + 'static) -> R
    where
        F: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        self.served.on_core(|()| work())
    }

    /// Starts `work` there; the receiver gets what it gives.
    pub fn begin<F, R>(&self, work: impl FnOnce() -> F + Send + 'static) -> mpsc::Receiver<R>
    where
        F: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let (done, result) = mpsc::channel();
        self.served.on_core(move |()| async move {
            let work = work();
            drop(reactor::spawn(async move {
                let _ = done.send(work.await);
            }));
        });
        result
    }
}
