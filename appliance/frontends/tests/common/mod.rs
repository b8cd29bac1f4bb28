//! A target on its own thread and a small blocking host, for the tests of this crate.
#![allow(dead_code, reason = "every test file uses another part")]

pub mod breaks;
pub mod busy_host;
pub mod host;
pub mod initiator;
pub mod iscsi_served;
pub mod iscsi_world;
pub mod rdma_world;
pub mod sim;
pub mod sim_host;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;
use std::time::Duration;

use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target, TargetOptions};
use reactor::cores::CoreConfig;

/// Work for the target's thread.
type Job<T> = Box<dyn FnOnce(T) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A running target with one memory volume, served on loopback.
pub struct Served<T: 'static = Target> {
    pub address: SocketAddr,
    jobs: Option<reactor::mailbox::Sender<Job<T>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The name that `memory_volume` gives its volume.
pub const VOLUME: &str = "memory";

pub fn volume_nqn() -> String {
    frontends::volume_nqn(VOLUME)
}

/// Size of the volume in bytes.
pub const VOLUME_BYTES: u64 = 64 << 20;

/// Serves one volume of `block_bytes` blocks with quick timeouts.
pub fn serve(block_bytes: u32) -> Served {
    serve_with(block_bytes, quick_options, SubsystemOptions::default())
}

pub fn quick_options() -> TargetOptions {
    TargetOptions {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
        linger: Duration::from_millis(500),
        keep_alive_grace: Duration::from_millis(100),
        ..TargetOptions::default()
    }
}

pub fn serve_with(
    block_bytes: u32,
    options: impl FnOnce() -> TargetOptions + Send + 'static,
    subsystem: SubsystemOptions,
) -> Served {
    serve_on(core_config(), block_bytes, options, subsystem)
}

pub fn core_config() -> CoreConfig {
    CoreConfig {
        cpu: None,
        spin: reactor::Spin::For(Duration::from_micros(50)),
        io_pool_bytes: 64 << 20,
        engine_pool_bytes: 4 << 20,
        name: "target".to_owned(),
    }
}

pub fn serve_on(
    config: CoreConfig,
    block_bytes: u32,
    options: impl FnOnce() -> TargetOptions + Send + 'static,
    subsystem: SubsystemOptions,
) -> Served {
    let main = async move || {
        let target = Target::new(options()).expect("the options are good");
        let blocks = VOLUME_BYTES / u64::from(block_bytes);
        let volume = volume::testing::memory_volume(blocks, block_bytes);
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations, subsystem)
            .expect("the first of its name");
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = target.listen(local).await.expect("loopback can be bound");
        (target, listener.address())
    };
    start(config, main, async |target: Target| target.shutdown().await)
}

/// Runs a target on a thread of its own: `main` makes it, `end` shuts it down.
pub fn start<T: Clone + 'static>(
    config: CoreConfig,
    main: impl AsyncFnOnce() -> (T, SocketAddr) + Send + 'static,
    end: impl AsyncFnOnce(T) + Send + 'static,
) -> Served<T> {
    // RUST_LOG=debug shows what the target says; without it this does nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let (ready, address) = mpsc::channel();
    let (jobs, mut inbox) = reactor::mailbox::channel::<Job<T>>(16);
    #[expect(
        clippy::disallowed_methods,
        reason = "the target gets a thread of its own"
    )]
    let thread = std::thread::spawn(move || {
        let main = || async move {
            let (target, address) = main().await;
            ready.send(address).expect("the test waits");
            while let Some(job) = inbox.recv().await {
                job(target.clone()).await;
            }
            end(target).await;
        };
        reactor::cores::run(config, main).expect("the core runs");
    });
    let address = address
        .recv_timeout(Duration::from_secs(20))
        .expect("the target starts");
    Served {
        address,
        jobs: Some(jobs),
        thread: Some(thread),
    }
}

impl<T: 'static> Served<T> {
    /// Runs `job` on the target's core and returns what it gives.
    pub fn on_core<F, R>(&self, job: impl FnOnce(T) -> F + Send + 'static) -> R
    where
        F: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let (done, result) = mpsc::channel();
        let job: Job<T> = Box::new(move |target| {
            let work = job(target);
            Box::pin(async move {
                // The test may have given up.
                let _ = done.send(work.await);
            })
        });
        let jobs = self.jobs.as_ref().expect("the target runs");
        assert!(jobs.try_send(job).is_ok(), "the target takes jobs");
        result
            .recv_timeout(Duration::from_secs(30))
            .expect("the job ends")
    }

    /// Allocations on the target's core so far.
    pub fn allocations(&self) -> u64 {
        self.on_core(|_| async { allocations::on_this_thread() })
    }

    /// Allocations of `work` on the target's core, those of asking not counted.
    pub fn allocations_of(&self, work: impl FnOnce()) -> u64 {
        let first = self.allocations();
        let second = self.allocations();
        let asking = second - first;
        work();
        self.allocations() - second - asking
    }

    /// Shuts the target down and waits for its thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the target ends without a panic");
        }
    }
}

impl Served {
    /// Waits until `done` holds for the connections, for things that end by themselves.
    pub fn wait_for(&self, what: &str, done: impl Fn(&frontends::MetricsSnapshot) -> bool) {
        for _ in 0..200 {
            let metrics = self.on_core(|target| async move { target.snapshot_metrics() });
            if done(&metrics) {
                return;
            }
            pause(Duration::from_millis(25));
        }
        panic!("{what} did not happen in 5 s");
    }
}

impl<T: 'static> Drop for Served<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

pub fn pause(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the host side has no reactor")]
    std::thread::sleep(duration);
}
