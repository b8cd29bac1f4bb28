//! The options, checked against each other and against the target.

use std::time::Duration;

use crate::access::{Distribution, Mix};
use crate::cli::{CompareArgs, FloorArgs, LoadArgs, ReadWrite, RunArgs, ThreadArgs, Wait};
use crate::error::PerfError;
use crate::target::Geometry;
use crate::units::show_bytes;

/// Most units that a verifying run keeps a version of: 1 GiB of memory.
const VERIFY_UNITS_MAX: u64 = 1 << 28;
/// Points of a timeline.
const INTERVALS: u32 = 120;
/// Shortest and longest interval of a timeline.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What is known before the target is.
#[derive(Clone, Debug)]
pub struct Load {
    /// Kinds and places.
    pub mix: Mix,
    /// Bytes of each read and write.
    pub io_bytes: u32,
    /// Commands in flight on each queue.
    pub depth: u16,
    /// I/O queues in all.
    pub queues: u16,
    /// Open loop: commands a second in all.
    pub rate: Option<f64>,
    /// Open loop with Poisson arrivals.
    pub poisson: bool,
    /// Bytes of the namespace to use.
    pub span: Option<u64>,
    /// Seed of everything random.
    pub seed: u64,
    /// Check what reads bring.
    pub verify: bool,
    /// Failed commands after which the run goes on.
    pub max_errors: u64,
}

/// Threads and their cores.
#[derive(Clone, Debug)]
pub struct Threads {
    /// Load threads.
    pub count: u16,
    /// Core of each; empty when they are not pinned.
    pub cores: Vec<usize>,
    /// What an idle thread does.
    pub wait: Wait,
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Measured.
    pub time: Duration,
    /// Before, not measured.
    pub ramp: Duration,
    /// Longest wait for one command.
    pub io_timeout: Duration,
}

impl Times {
    /// Distance of the timeline's points.
    pub fn interval(&self) -> Duration {
        (self.time / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX)
    }
}

impl CompareArgs {
    /// The times of each run.
    pub fn times(&self) -> Times {
        Times {
            time: self.time,
            ramp: self.ramp,
            io_timeout: self.link.io_timeout,
        }
    }
}

impl FloorArgs {
    /// The times of each run.
    pub fn times(&self) -> Times {
        Times {
            time: self.time,
            ramp: self.ramp,
            io_timeout: self.link.io_timeout,
        }
    }
}

impl Threads {
    /// Checks the thread options.
    ///
    /// Errors: `Option`.
    pub fn new(args: &ThreadArgs) -> Result<Self, PerfError> {
        let default = u16::try_from(args.cores.len().max(1)).unwrap_or(u16::MAX);
        let count = args.threads.unwrap_or(default);
        if let Some(core) = args.cores.iter().find(|core| **core >= 1024) {
            let problem = "core numbers go up to 1023; `nproc` says how many there are";
            return Err(PerfError::option("--cores", core, problem));
        }
        Ok(Self {
            count,
            cores: args.cores.clone(),
            wait: args.wait,
        })
    }

    /// The core of thread `index`, if it is to be pinned.
    pub fn core(&self, index: usize) -> Option<usize> {
        self.cores.get(index % self.cores.len().max(1)).copied()
    }
}

impl Load {
    /// Checks the options of `run`.
    ///
    /// Errors: `Option`.
    pub fn of_run(args: &RunArgs, threads: &Threads) -> Result<Self, PerfError> {
        let mut load = Self::new(&args.load, threads)?;
        load.verify = args.verify;
        load.max_errors = args.max_errors;
        Ok(load)
    }

    /// Checks the options that describe a load.
    ///
    /// Errors: `Option`.
    pub fn new(args: &LoadArgs, threads: &Threads) -> Result<Self, PerfError> {
        let io_bytes = u32::try_from(args.bs)
            .ok()
            .filter(|bytes| bytes.is_multiple_of(512) && *bytes <= 32 << 20);
        let Some(io_bytes) = io_bytes else {
            let problem = "must be a multiple of 512 bytes, at most 32 MiB";
            return Err(PerfError::option("--bs", show_bytes(args.bs), problem));
        };
        let queues = args.queues.unwrap_or(threads.count);
        if queues < threads.count {
            let problem = format!("{} threads need at least one queue each", threads.count);
            return Err(PerfError::option("--queues", queues, problem));
        }
        Ok(Self {
            mix: mix(args)?,
            io_bytes,
            depth: args.qd,
            queues,
            rate: args.rate,
            poisson: args.poisson,
            span: args.span,
            seed: args.seed,
            verify: false,
            max_errors: 0,
        })
    }

    /// Units of the span on a namespace.
    ///
    /// Errors: `Option` when the load does not fit on the namespace or through the controller.
    pub fn units(&self, geometry: &Geometry) -> Result<u64, PerfError> {
        let io_bytes = u64::from(self.io_bytes);
        self.check_size(geometry)?;
        let size = geometry
            .blocks
            .saturating_mul(u64::from(geometry.block_bytes));
        let span = self.span.unwrap_or(size);
        if span > size {
            let problem = format!("the namespace has {}", show_bytes(size));
            return Err(PerfError::option("--span", show_bytes(span), problem));
        }
        let units = span / io_bytes;
        let parted = self.verify || self.mix.distribution == Distribution::Sequential;
        let parts = if parted { u64::from(self.queues) } else { 1 };
        let in_flight = if self.verify {
            u64::from(self.depth)
        } else {
            0
        };
        let needed = parts * (in_flight + 1);
        if units < needed {
            let needed = show_bytes(needed * io_bytes);
            let problem = format!("this load needs at least {needed}: lower --qd or --queues");
            return Err(PerfError::option("--span", show_bytes(span), problem));
        }
        if self.verify && units > VERIFY_UNITS_MAX {
            let most = show_bytes(VERIFY_UNITS_MAX * io_bytes);
            let problem = format!("a verifying run takes at most {most}: give a smaller --span");
            return Err(PerfError::option("--verify", show_bytes(span), problem));
        }
        Ok(units)
    }

    fn check_size(&self, geometry: &Geometry) -> Result<(), PerfError> {
        let bs = show_bytes(u64::from(self.io_bytes));
        if !self.io_bytes.is_multiple_of(geometry.block_bytes) {
            let problem = format!("the namespace has blocks of {} bytes", geometry.block_bytes);
            return Err(PerfError::option("--bs", bs, problem));
        }
        if self.io_bytes / geometry.block_bytes > 65_536 {
            return Err(PerfError::option("--bs", bs, "more than 65,536 blocks"));
        }
        if let Some(most) = geometry.max_transfer_bytes
            && u64::from(self.io_bytes) > most
        {
            let problem = format!("the target takes at most {}", show_bytes(most));
            return Err(PerfError::option("--bs", bs, problem));
        }
        if u32::from(self.depth) >= geometry.queue_entries {
            let most = geometry.queue_entries - 1;
            let problem = format!("the target has room for {most} on a queue: use more --queues");
            return Err(PerfError::option("--qd", self.depth, problem));
        }
        Ok(())
    }
}

fn mix(args: &LoadArgs) -> Result<Mix, PerfError> {
    let (read_percent, random) = match args.rw {
        ReadWrite::Read => (100, false),
        ReadWrite::Write => (0, false),
        ReadWrite::Randread => (100, true),
        ReadWrite::Randwrite => (0, true),
        ReadWrite::Mix => (args.read_percent.unwrap_or(70), true),
    };
    let distribution = match &args.distribution {
        None if random => Distribution::Uniform,
        None => Distribution::Sequential,
        Some(text) => distribution(text)?,
    };
    let mix = Mix {
        read_percent,
        fua_percent: args.fua_percent,
        flush_every: args.flush_every,
        distribution,
    };
    check_kinds(args, &mix)?;
    Ok(mix)
}

/// Refuses options that do not go with the kinds of commands asked for.
fn check_kinds(args: &LoadArgs, mix: &Mix) -> Result<(), PerfError> {
    let random = !matches!(args.rw, ReadWrite::Read | ReadWrite::Write);
    if let Some(given) = args.read_percent
        && args.rw != ReadWrite::Mix
    {
        let problem = "goes with --rw mix only";
        return Err(PerfError::option("--read-percent", given, problem));
    }
    if !random && mix.distribution != Distribution::Sequential {
        let given = args.distribution.as_deref().unwrap_or_default();
        let problem = "needs --rw randread, randwrite or mix";
        return Err(PerfError::option("--distribution", given, problem));
    }
    let writes_only = "goes with writes only: choose another --rw";
    if mix.read_percent == 100 && mix.flush_every > 0 {
        return Err(PerfError::option(
            "--flush-every",
            mix.flush_every,
            writes_only,
        ));
    }
    if mix.read_percent == 100 && mix.fua_percent > 0 {
        return Err(PerfError::option(
            "--fua-percent",
            mix.fua_percent,
            writes_only,
        ));
    }
    Ok(())
}

/// Parses `uniform`, `sequential` or `zipf:THETA`.
///
/// Errors: `Option`.
pub fn distribution(text: &str) -> Result<Distribution, PerfError> {
    let bad = |problem| Err(PerfError::option("--distribution", text, problem));
    match text.split_once(':') {
        None if text == "uniform" => Ok(Distribution::Uniform),
        None if text == "sequential" => Ok(Distribution::Sequential),
        Some(("zipf", theta)) => match theta.parse::<f64>() {
            Ok(theta) if theta > 0.0 && theta < 10.0 => Ok(Distribution::Zipf { theta }),
            _ => bad("THETA must be above 0 and below 10, such as zipf:0.99"),
        },
        _ => bad("write uniform, sequential or zipf:0.99"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
