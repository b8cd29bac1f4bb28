//! One run from connecting to the merged result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::access::{Access, Distribution, Ledger, Random};
use crate::error::PerfError;
use crate::lane::{Lane, Prepared};
use crate::pace::Pace;
use crate::plan::{Load, Threads, Times};
use crate::queue::{Connection, Opening, Shape};
use crate::stats::{Stats, Window};
use crate::target::Target;
use crate::verbs;
use crate::worker::{Shared, Worker};

/// Bytes that unverified writes take their data from, beyond one write: random, so that a target
/// can neither compress nor deduplicate it, and small enough to stay in the cache.
const PATTERN_BYTES: usize = 256 << 10;
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Everything that a run needs beside the target.
#[derive(Clone, Debug)]
pub struct Job {
    /// The load.
    pub load: Load,
    /// Threads and their cores.
    pub threads: Threads,
    /// How long.
    pub times: Times,
    /// Namespace.
    pub nsid: u32,
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// What all threads counted.
    pub stats: Stats,
    /// Measured time in seconds.
    pub seconds: f64,
    /// Distance of the timeline's points.
    pub interval: Duration,
}

/// Tells how far a run is: elapsed time and commands completed so far.
pub type Watch<'a> = &'a mut dyn FnMut(Duration, u64);

/// Opens the queues, runs the load, and adds up what the threads counted.
///
/// Errors: the first failure of any thread; the others are stopped. Bounded by ramp, time and
/// the I/O timeout, plus the time of reading back when the run verifies.
pub fn run(target: &mut Target, job: &Job, watch: Watch<'_>) -> Result<Outcome, PerfError> {
    let units = job.load.units(&target.geometry)?;
    let opening = target.queues(job.load.queues, job.load.depth)?;
    let count = usize::from(job.load.queues);
    let prepared = (0..count).map(|index| prepare(target, job, units, index));
    let prepared = shares(prepared, job);
    let (threads, shared) = match &opening {
        Opening::Nvme(opening) => start(prepared, job, |qid, shape, pattern| {
            Connection::nvme(opening, qid, shape, pattern)
        }),
        Opening::Iscsi(opening) => start(prepared, job, |qid, shape, pattern| {
            Connection::iscsi(opening, qid, shape, pattern)
        }),
        Opening::Rdma(opening) => verbs::start(prepared, job, opening),
    }?;
    watch_until_done(&threads, &shared, watch);
    let stats = join(threads)?;
    Ok(Outcome {
        stats,
        seconds: job.times.time.as_secs_f64(),
        interval: job.times.interval(),
    })
}

/// What the threads share; the run's clock starts now.
pub fn shared(job: &Job) -> Shared {
    let ramp_ns = job.times.ramp.as_nanos() as u64;
    let window = Window {
        start_ns: ramp_ns,
        end_ns: ramp_ns + job.times.time.as_nanos() as u64,
        interval_ns: job.times.interval().as_nanos() as u64,
        by_start: job.load.rate.is_some(),
    };
    let counters = (0..job.threads.count).map(|_| AtomicU64::new(0));
    Shared {
        base: Instant::now(),
        window,
        stop: Arc::new(AtomicBool::new(false)),
        completed: Arc::new(counters.collect()),
        wait: job.threads.wait,
        io_timeout: job.times.io_timeout,
        max_errors: job.load.max_errors,
    }
}

/// Gives one queue its part of the load.
fn prepare(target: &Target, job: &Job, units: u64, index: usize) -> Prepared {
    let load = &job.load;
    let shape = Shape {
        depth: load.depth,
        block_bytes: target.geometry.block_bytes,
        io_bytes: load.io_bytes,
        capsule_bytes: target.geometry.capsule_bytes,
        nsid: job.nsid,
        keep_data: load.verify,
    };
    let queues = usize::from(load.queues);
    let (first, count) = part(load, units, index);
    let ledger = load.verify.then(|| Ledger::new(run_id(), first, count));
    // Streams of one seed: 3 per queue, none shared.
    let random = |stream: u64| Random::new(load.seed, index as u64 * 3 + stream);
    let pace = match load.rate {
        None => Pace::Closed,
        Some(rate) => Pace::open(rate, index, queues, load.poisson.then(|| random(1))),
    };
    Prepared {
        address: target.address,
        qid: index as u16 + 1,
        shape,
        pattern: pattern(&mut random(2), load),
        access: Access::new(load.mix, random(0), first, count, ledger),
        pace,
    }
}

/// First unit and number of units of a queue: a part of its own where queues must not meet.
fn part(load: &Load, units: u64, index: usize) -> (u64, u64) {
    if load.verify || load.mix.distribution == Distribution::Sequential {
        let count = units / u64::from(load.queues);
        return (count * index as u64, count);
    }
    (0, units)
}

/// Differs from run to run, so that a verifying run does not take old blocks for its own.
fn run_id() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = since.map_or(0, |since| since.as_nanos() as u64);
    nanoseconds ^ (u64::from(std::process::id()) << 40)
}

fn pattern(random: &mut Random, load: &Load) -> Vec<u8> {
    if load.verify {
        return Vec::new();
    }
    let words = (PATTERN_BYTES + load.io_bytes as usize) / 8;
    (0..words)
        .flat_map(|_| random.next().to_le_bytes())
        .collect()
}

/// A running load thread.
pub type Thread = JoinHandle<Result<Stats, PerfError>>;

/// Shares the queues out among the threads.
fn shares(prepared: impl Iterator<Item = Prepared>, job: &Job) -> Vec<Vec<Prepared>> {
    let count = usize::from(job.threads.count);
    let mut shares: Vec<Vec<Prepared>> = (0..count).map(|_| Vec::new()).collect();
    for (index, prepared) in prepared.enumerate() {
        if let Some(share) = shares.get_mut(index % count) {
            share.push(prepared);
        }
    }
    shares
}

/// Opens all queues, then starts the threads.
fn start(
    shares: Vec<Vec<Prepared>>,
    job: &Job,
    connect: impl Fn(u16, Shape, Vec<u8>) -> Result<Connection, PerfError>,
) -> Result<(Vec<Thread>, Shared), PerfError> {
    let lanes = |share: Vec<Prepared>| share.into_iter().map(|one| one.lane(&connect)).collect();
    let shares: Vec<Vec<Lane<Connection>>> =
        shares.into_iter().map(lanes).collect::<Result<_, _>>()?;
    let shared = shared(job);
    let mut threads = Vec::new();
    for (index, lanes) in shares.into_iter().enumerate() {
        let core = job.threads.core(index);
        let worker = Worker::new(index, lanes, shared.clone());
        threads.push(spawn(index, move || worker.run(core))?);
    }
    Ok((threads, shared))
}

/// Starts load thread `index`.
///
/// Errors: `System`.
pub fn spawn(
    index: usize,
    work: impl FnOnce() -> Result<Stats, PerfError> + Send + 'static,
) -> Result<Thread, PerfError> {
    let thread = std::thread::Builder::new()
        .name(format!("load-{index}"))
        .spawn(work);
    thread.map_err(|source| PerfError::System {
        doing: "starting a load thread",
        source,
    })
}

fn watch_until_done(threads: &[Thread], shared: &Shared, watch: Watch<'_>) {
    while !threads.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(PROGRESS_INTERVAL);
        let completed = shared.completed.iter().map(|c| c.load(Ordering::Relaxed));
        watch(shared.base.elapsed(), completed.sum());
    }
}

/// The sum over all threads, or the first error.
pub fn join(threads: Vec<Thread>) -> Result<Stats, PerfError> {
    let mut results = threads.into_iter().enumerate().map(|(thread, handle)| {
        handle
            .join()
            .unwrap_or(Err(PerfError::ThreadLost { thread }))
    });
    let lost = PerfError::ThreadLost { thread: 0 };
    let mut total = results.next().unwrap_or(Err(lost))?;
    for stats in results {
        total.merge(&stats?);
    }
    Ok(total)
}
