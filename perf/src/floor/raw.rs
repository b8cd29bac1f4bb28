//! The same load on a file or device through io_uring: what the storage below could do.
//!
//! Direct I/O, one core, as many operations in flight as the case has; on the project's own
//! reactor, so that the ring is set up as the appliance sets up its own.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{BufList, pool};
use reactor::cores::{self, CoreConfig};
use reactor::fs::{File, OpenOptions};
use reactor::{precise_now, spawn};

use crate::access::{Access, Random};
use crate::compare::Figures;
use crate::error::PerfError;
use crate::plan::Load;
use crate::queue::{Done, Io, Kind};
use crate::stats::{Stats, Window};
use wire::nvme::Status;

/// Memory for buffers: 128 operations of 1 MiB.
const POOL_BYTES: usize = 256 << 20;

/// What to run on what.
#[derive(Clone, Debug)]
pub struct RawJob {
    /// File or device. WRITES destroy what it holds.
    pub path: PathBuf,
    /// The load; its queues add up to one depth.
    pub load: Load,
    /// Measured time.
    pub time: Duration,
    /// Core to run on.
    pub core: Option<usize>,
}

/// Runs the load on the file; blocks until it is done.
///
/// Errors: `File` when it cannot be opened, is too small, or an operation fails; `System` when
/// the machine has no io_uring.
pub fn measure(job: &RawJob) -> Result<Figures, PerfError> {
    let config = CoreConfig {
        cpu: job.core,
        io_pool_bytes: POOL_BYTES,
        name: "raw".to_owned(),
        ..CoreConfig::default()
    };
    let (inner, path) = (job.clone(), job.path.clone());
    // A thread of its own: the reactor pins it, and this one must stay where it was.
    let thread = std::thread::spawn(move || cores::run(config, move || run(inner)));
    let result = thread
        .join()
        .map_err(|_| PerfError::ThreadLost { thread: 0 })?;
    let result = result.map_err(|error| PerfError::System {
        doing: "starting a core for the raw device",
        source: io::Error::other(error),
    })?;
    result.map_err(|source| PerfError::File { path, source })
}

async fn run(job: RawJob) -> io::Result<Figures> {
    let file = open(&job.path, &job.load)?;
    let io_bytes = job.load.io_bytes as usize;
    let units = file.info().len_bytes.min(job.load.span.unwrap_or(u64::MAX)) / io_bytes as u64;
    if units == 0 {
        return Err(io::Error::other("smaller than one block of the case"));
    }
    let random = Random::new(job.load.seed, 0);
    let access = Rc::new(RefCell::new(Access::new(
        job.load.mix,
        random,
        0,
        units,
        None,
    )));
    let time_ns = job.time.as_nanos() as u64;
    let stats = Rc::new(RefCell::new(Stats::new(Window {
        start_ns: 0,
        end_ns: time_ns,
        interval_ns: time_ns,
        by_start: false,
    })));
    let depth = u32::from(job.load.depth) * u32::from(job.load.queues);
    let base = precise_now();
    let mut tasks = Vec::new();
    for _ in 0..depth {
        let mut buffer = BufList::new();
        let mut part = pool().alloc(io_bytes).await;
        part.as_mut().fill(0x5a);
        buffer.push(part);
        let (file, access, stats) = (file.clone(), access.clone(), stats.clone());
        tasks.push(spawn(async move {
            let mut buffer = buffer;
            loop {
                let start_ns = precise_now().duration_since(base).as_nanos() as u64;
                if start_ns >= time_ns {
                    return Ok(());
                }
                let next = access.borrow_mut().next();
                let offset = next.unit * io_bytes as u64;
                buffer = operate(&file, next.kind, next.fua, offset, buffer).await?;
                let done = done(next.kind, start_ns);
                // Without a ledger there is nothing to compare, so nothing to fail.
                let _ = access.borrow_mut().done(&done, &[]);
                let end_ns = precise_now().duration_since(base).as_nanos() as u64;
                stats.borrow_mut().success(&done, end_ns);
            }
        }));
    }
    for task in tasks {
        let result: io::Result<()> = task.await;
        result?;
    }
    let stats = stats.borrow();
    Ok(Figures::of_stats(&stats, job.time.as_secs_f64()))
}

fn open(path: &Path, load: &Load) -> io::Result<File> {
    let options = OpenOptions {
        read_only: load.mix.read_percent == 100,
        ..OpenOptions::default()
    };
    let file = File::open(path, &options)?;
    if file.info().is_block_device && !options.read_only {
        let problem = "a device is only read here: give --raw a file on it for writes";
        return Err(io::Error::other(problem));
    }
    Ok(file)
}

async fn operate(
    file: &File,
    kind: Kind,
    fua: bool,
    offset: u64,
    buffer: BufList,
) -> io::Result<BufList> {
    let (result, buffer) = match kind {
        Kind::Read => file.read_list_at(offset, buffer).await,
        Kind::Write => file.write_at(offset, buffer).await,
        Kind::Flush => (file.sync().await, buffer),
    };
    result?;
    if fua {
        file.sync().await?;
    }
    Ok(buffer)
}

fn done(kind: Kind, start_ns: u64) -> Done {
    let io = Io {
        kind,
        unit: 0,
        fua: false,
        intended_ns: start_ns,
        issued_ns: start_ns,
    };
    Done {
        cid: 0,
        io,
        status: Status::SUCCESS.into(),
    }
}
