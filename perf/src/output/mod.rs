//! `bedplate-perf run`: runs once and shows the result.

mod html;
mod machine;
mod plot;
mod summary;
mod text;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

pub use machine::Machine;
pub use summary::{Summary, all_latencies};

use crate::access::Distribution;
use crate::cli::{self, Output, RunArgs};
use crate::error::PerfError;
use crate::plan::{Load, Threads, Times};
use crate::run::{Job, Outcome, run as run_job};
use crate::target::{Name, Place, Target};
use crate::units::show_rate;

/// Version of the JSON schema.
const SCHEMA: u32 = 1;

/// What was measured where, for all three forms of output.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the schema.
    pub schema: u32,
    /// Version of this program.
    pub version: &'static str,
    /// What was measured.
    pub target: TargetFacts,
    /// Where.
    pub machine: Machine,
    /// With which load.
    pub load: LoadFacts,
    /// The numbers.
    pub result: Summary,
}

/// The target as it describes itself.
#[derive(Clone, Debug, Serialize)]
pub struct TargetFacts {
    /// Address.
    pub address: String,
    /// `nvme-tcp`, `nvme-rdma` or `iscsi`.
    pub protocol: &'static str,
    /// NVMe: the subsystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nqn: Option<String>,
    /// iSCSI: the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iqn: Option<String>,
    /// iSCSI: the unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lun: Option<u16>,
    /// What it is called, for people.
    #[serde(skip)]
    pub name: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware.
    pub firmware: String,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// Size of the namespace or unit in bytes.
    pub size_bytes: u64,
    /// Data of a write that travels without being asked for, in bytes.
    pub capsule_bytes: u32,
}

impl TargetFacts {
    /// What `target` says of itself.
    pub fn of(target: &Target) -> Self {
        let geometry = &target.geometry;
        let (nqn, iqn, lun) = match target.name.clone() {
            Name::Nvme { nqn } => (Some(nqn), None, None),
            Name::Iscsi { iqn, lun } => (None, Some(iqn), Some(lun)),
        };
        Self {
            address: target.address.to_string(),
            protocol: target.protocol(),
            nqn,
            iqn,
            lun,
            name: target.name.to_string(),
            model: target.model.clone(),
            serial: target.serial.clone(),
            firmware: target.firmware.clone(),
            block_bytes: geometry.block_bytes,
            size_bytes: geometry
                .blocks
                .saturating_mul(u64::from(geometry.block_bytes)),
            capsule_bytes: geometry.capsule_bytes,
        }
    }
}

/// The load as it was run.
#[derive(Clone, Debug, Serialize)]
pub struct LoadFacts {
    /// Share of reads.
    pub read_percent: u32,
    /// Share of writes with FUA.
    pub fua_percent: u32,
    /// A Flush after every so many writes; 0 is never.
    pub flush_every: u32,
    /// How units were picked.
    pub distribution: String,
    /// Bytes of each read and write.
    pub io_bytes: u32,
    /// Commands in flight on each queue.
    pub depth: u16,
    /// I/O queues.
    pub queues: u16,
    /// Load threads.
    pub threads: u16,
    /// Their cores.
    pub cores: Vec<usize>,
    /// Open loop: commands a second asked for.
    pub rate: Option<f64>,
    /// Open loop with Poisson arrivals.
    pub poisson: bool,
    /// Bytes of the namespace used.
    pub span_bytes: u64,
    /// Data was checked.
    pub verify: bool,
    /// Digests: header, data.
    pub digests: [bool; 2],
    /// Seconds before the measured part.
    pub ramp_s: f64,
    /// Seed.
    pub seed: u64,
}

impl LoadFacts {
    fn of(job: &Job, target: &Target, link: &cli::ConnectArgs) -> Result<Self, PerfError> {
        let load = &job.load;
        let units = load.units(&target.geometry)?;
        Ok(Self {
            read_percent: load.mix.read_percent,
            fua_percent: load.mix.fua_percent,
            flush_every: load.mix.flush_every,
            distribution: match load.mix.distribution {
                Distribution::Uniform => "uniform".to_owned(),
                Distribution::Sequential => "sequential".to_owned(),
                Distribution::Zipf { theta } => format!("zipf:{theta}"),
            },
            io_bytes: load.io_bytes,
            depth: load.depth,
            queues: load.queues,
            threads: job.threads.count,
            cores: job.threads.cores.clone(),
            rate: load.rate,
            poisson: load.poisson,
            span_bytes: units * u64::from(load.io_bytes),
            verify: load.verify,
            digests: [link.header_digest, link.data_digest],
            ramp_s: job.times.ramp.as_secs_f64(),
            seed: load.seed,
        })
    }
}

/// Runs once and prints the result.
///
/// Errors: everything that ends a run; `File` when the report cannot be written.
pub fn run(args: &RunArgs) -> Result<(), PerfError> {
    let job = job(args)?;
    let mut target = Target::connect(&place(args)?, &args.link)?;
    let load = LoadFacts::of(&job, &target, &args.link)?;
    let outcome = with_progress(args, &mut target, &job)?;
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        target: TargetFacts::of(&target),
        machine: Machine::this(),
        load,
        result: Summary::new(&outcome, job.load.io_bytes),
    };
    match args.output {
        Output::Text => print!("{}", text::render(&report)),
        Output::Json => println!("{}", to_json(&report)),
    }
    if let Some(path) = &args.report {
        let page = html::render(&report, &outcome.stats);
        std::fs::write(path, page).map_err(|source| PerfError::File {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// The target of a run.
fn place(args: &RunArgs) -> Result<Place, PerfError> {
    let mut place = Place::new("--connect", &args.connect)?;
    if let Some(given) = &args.nqn {
        match &mut place {
            Place::Nvme { nqn, .. } | Place::Rdma { nqn, .. } if nqn.is_none() => {
                *nqn = Some(given.clone())
            }
            _ => {
                let problem = "the target has its name in --connect";
                return Err(PerfError::option("--nqn", given, problem));
            }
        }
    }
    Ok(place)
}

/// A value of this crate as JSON.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("only numbers, names and lists")
}

fn job(args: &RunArgs) -> Result<Job, PerfError> {
    if args.time < Duration::from_millis(1) {
        let given = format!("{:?}", args.time);
        return Err(PerfError::option("--time", given, "must be 1ms or more"));
    }
    let threads = Threads::new(&args.threads)?;
    Ok(Job {
        load: Load::of_run(args, &threads)?,
        threads,
        times: Times {
            time: args.time,
            ramp: args.ramp,
            io_timeout: args.link.io_timeout,
        },
        nsid: args.link.nsid,
    })
}

fn with_progress(args: &RunArgs, target: &mut Target, job: &Job) -> Result<Outcome, PerfError> {
    if !args.progress {
        return run_job(target, job, &mut |_, _| {});
    }
    let length = args.ramp + args.time;
    let bar = ProgressBar::with_draw_target(
        Some(length.as_millis() as u64),
        ProgressDrawTarget::stderr(),
    );
    let style = ProgressStyle::with_template("{bar:30} {msg}");
    bar.set_style(style.expect("a constant template is valid"));
    let mut before = (Duration::ZERO, 0);
    let result = run_job(target, job, &mut |elapsed, ios| {
        let seconds = (elapsed - before.0).as_secs_f64().max(1e-9);
        let rate = ios.saturating_sub(before.1) as f64 / seconds;
        before = (elapsed, ios);
        let part = match () {
            () if elapsed < args.ramp => "ramp".to_owned(),
            () if elapsed > length => "finishing".to_owned(),
            () => format!("{}IOPS", show_rate(rate)),
        };
        bar.set_position(elapsed.min(length).as_millis() as u64);
        bar.set_message(format!("{:.1} s  {part}", elapsed.as_secs_f64()));
    });
    bar.finish_and_clear();
    result
}
