//! Cores on real threads: configuration, start, join.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::backend::{Backend, UringBackend};
use crate::buf::BufPool;
use crate::context::CoreParts;
use crate::executor::Executor;

pub use crate::probe::{Feature, probe};

/// The number of a core, given by whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How long a core (and a hot connection) polls before it waits in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// This long after the last thing that happened. Zero parks at once.
    For(Duration),
    /// For ever: the core is never idle.
    Always,
}

/// What a core needs to know to start.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The CPU to pin the thread to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// How long to poll before parking.
    pub spin: Spin,
    /// Size of the pool for host I/O, in bytes.
    pub io_pool_bytes: usize,
    /// Size of the pool for the engine, in bytes.
    pub engine_pool_bytes: usize,
    /// Name of the thread and in logs.
    pub name: String,
}

impl Default for CoreConfig {
    /// Unpinned, 50 us of spin, 64 MiB for hosts, 32 MiB for the engine.
    fn default() -> CoreConfig {
        CoreConfig {
            cpu: None,
            spin: Spin::For(Duration::from_micros(50)),
            io_pool_bytes: 64 << 20,
            engine_pool_bytes: 32 << 20,
            name: String::from("core"),
        }
    }
}

/// A core could not start or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactorError {
    /// The kernel refuses io_uring.
    #[error(
        "core {core}: io_uring is not usable ({source}): Linux 5.11 or newer is needed, with \
         /proc/sys/kernel/io_uring_disabled at 0 and no seccomp filter against it"
    )]
    Ring {
        /// The core's name.
        core: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refuses to pin the thread.
    #[error(
        "core {core}: cannot run on CPU {cpu} ({source}): choose one that `taskset -p $$` allows"
    )]
    Pin {
        /// The core's name.
        core: String,
        /// The CPU asked for.
        cpu: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No memory for the buffer pools.
    #[error("core {core}: no buffer pool of {len_bytes} bytes ({source}): configure a smaller one")]
    Pool {
        /// The core's name.
        core: String,
        /// The size asked for.
        len_bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process has too many executors, or no thread or descriptor is left.
    #[error("core {core}: the executor cannot start ({source}): raise the process's limits")]
    Start {
        /// The core's name.
        core: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ring broke while running.
    #[error("core {core}: waiting in io_uring failed ({source}): restart the process")]
    Wait {
        /// The core's name.
        core: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The core's thread panicked; the panic's message was printed when it happened.
    #[error("core {core}: its thread panicked: see the message before this one")]
    Panicked {
        /// The core's name.
        core: String,
    },
}

/// Runs `main` on this thread and blocks until it is done. Tasks it left behind are dropped.
pub fn run<F, T>(config: CoreConfig, main: impl FnOnce() -> F) -> Result<T, ReactorError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    run_numbered(CoreId(0), config, main)
}

fn run_numbered<F, T>(
    id: CoreId,
    config: CoreConfig,
    main: impl FnOnce() -> F,
) -> Result<T, ReactorError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let core = config.name.clone();
    let mut executor = build(id, config)?;
    executor
        .run(main)
        .map_err(|source| ReactorError::Wait { core, source })
}

fn build(id: CoreId, config: CoreConfig) -> Result<Executor, ReactorError> {
    let core = config.name;
    if let Some(cpu) = config.cpu {
        pin(cpu).map_err(|source| ReactorError::Pin {
            core: core.clone(),
            cpu,
            source,
        })?;
    }
    let pool = |len_bytes: usize, kind: &str| {
        BufPool::new(len_bytes, &format!("{core}/{kind}")).map_err(|source| ReactorError::Pool {
            core: core.clone(),
            len_bytes,
            source,
        })
    };
    let io_pool = pool(config.io_pool_bytes, "io")?;
    let engine_pool = pool(config.engine_pool_bytes, "engine")?;
    let ring = UringBackend::new(vec![io_pool.clone(), engine_pool.clone()]).map_err(|source| {
        ReactorError::Ring {
            core: core.clone(),
            source,
        }
    })?;
    let parts = CoreParts {
        id,
        name: core.clone(),
        spin: config.spin,
        io_pool,
        engine_pool,
    };
    Executor::new(parts, Backend::Uring(Box::new(ring)))
        .map_err(|source| ReactorError::Start { core, source })
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// Running cores.
pub struct Cores {
    threads: Vec<(String, JoinHandle<Result<(), ReactorError>>)>,
}

/// Starts one pinned thread per configuration; each runs `main(index)` to its end.
///
/// All or none: no `main` runs before every core is ready. When one cannot start the others end
/// again and its error is returned. What a running core meets later is reported by [`Cores::join`].
pub fn start<F>(
    configs: Vec<CoreConfig>,
    main: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Result<Cores, ReactorError>
where
    F: Future<Output = ()> + 'static,
{
    let main = Arc::new(main);
    let (report, reports) = mpsc::channel();
    let mut cores = Cores {
        threads: Vec::with_capacity(configs.len()),
    };
    let mut starts = Vec::with_capacity(configs.len());
    for (index, config) in configs.into_iter().enumerate() {
        let core = config.name.clone();
        let (main, report) = (main.clone(), report.clone());
        let (start, may_start) = mpsc::channel();
        let body = move || start_and_run(index, config, report, may_start, || main(index));
        let thread = thread::Builder::new()
            .name(core.clone())
            .spawn(body)
            .map_err(|source| ReactorError::Start {
                core: core.clone(),
                source,
            })?;
        cores.threads.push((core, thread));
        starts.push(start);
    }
    drop(report);
    if reports.iter().any(|Ready(is_ready)| !is_ready) {
        drop(starts);
        return Err(cores
            .join()
            .expect_err("a core that could not start says why"));
    }
    starts
        .iter()
        .for_each(|start| start.send(()).unwrap_or_default());
    Ok(cores)
}

/// Whether a core could start.
struct Ready(bool);

/// The life of a core's thread. `may_start` fails when another core could not start.
fn start_and_run<F>(
    index: usize,
    config: CoreConfig,
    report: mpsc::Sender<Ready>,
    may_start: mpsc::Receiver<()>,
    main: impl FnOnce() -> F,
) -> Result<(), ReactorError>
where
    F: Future<Output = ()> + 'static,
{
    let core = config.name.clone();
    let built = build(CoreId(index as u16), config);
    // The receiver waits for every core, so it is there.
    report.send(Ready(built.is_ok())).unwrap_or_default();
    drop(report);
    let mut executor = built?;
    match may_start.recv() {
        Ok(()) => executor
            .run(main)
            .map_err(|source| ReactorError::Wait { core, source }),
        Err(mpsc::RecvError) => Ok(()),
    }
}

impl Cores {
    /// Waits until every core has ended and returns the first error.
    pub fn join(self) -> Result<(), ReactorError> {
        let mut outcome = Ok(());
        for (core, thread) in self.threads {
            let result = thread
                .join()
                .unwrap_or(Err(ReactorError::Panicked { core }));
            outcome = outcome.and(result);
        }
        outcome
    }
}
