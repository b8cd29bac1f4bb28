//! `bedplate-perf compare`: two running targets in alternating rounds.
//!
//! A shared machine changes its speed between minutes, so a figure alone says little. Each round
//! runs both targets once, one right after the other, the next round in the opposite order; only
//! the ratio within a round counts, and what is printed is the median of those ratios with their
//! spread. The level of each side stands beside it for orientation.

mod cases;
mod ratio;
mod table;

use serde::Serialize;

pub use cases::Case;
pub use cases::parse as parse_case;
pub use ratio::Ratio;

use crate::cli::{CompareArgs, ConnectArgs, Output};
use crate::error::PerfError;
use crate::output::{Machine, TargetFacts, all_latencies, to_json};
use crate::plan::{Load, Threads, Times};
use crate::run::{Job, run as run_job};
use crate::stats::Stats;
use crate::target::{Place, Target};

/// Version of the JSON schema.
const SCHEMA: u32 = 1;

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version of the schema.
    pub schema: u32,
    /// The target that is judged.
    pub candidate: TargetFacts,
    /// The target that it is judged by.
    pub reference: TargetFacts,
    /// Where both were measured from.
    pub machine: Machine,
    /// Rounds.
    pub rounds: u32,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// The cases in the order given.
    pub cases: Vec<CaseResult>,
}

/// One case: candidate / reference of each figure.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The case.
    pub case: String,
    /// Commands a second; above 1 the candidate is faster.
    pub iops: Ratio,
    /// Mean latency; below 1 the candidate is faster.
    pub mean: Ratio,
    /// Median latency.
    pub p50: Ratio,
    /// 99th percentile.
    pub p99: Ratio,
    /// Smallest idle share of the client over all runs: near 0 the client was the limit.
    pub client_idle_share: f64,
}

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Commands a second.
    pub iops: f64,
    /// Mean latency in nanoseconds.
    pub mean: f64,
    /// Median latency.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Share of the client's time without work.
    pub idle: f64,
}

impl Figures {
    /// From what was counted in `seconds`.
    pub fn of_stats(stats: &Stats, seconds: f64) -> Self {
        let latency = all_latencies(stats);
        let effort = &stats.effort;
        Self {
            iops: stats.ios() as f64 / seconds,
            mean: latency.mean(),
            p50: latency.value_at_quantile(0.5) as f64,
            p99: latency.value_at_quantile(0.99) as f64,
            idle: effort.idle_ns as f64 / effort.total_ns.max(1) as f64,
        }
    }
}

/// Compares and prints the result; what goes on is told on standard error.
///
/// Errors: `Option` for a case that cannot be, and everything that ends a run.
pub fn run(args: &CompareArgs) -> Result<(), PerfError> {
    let cases = cases::collect(args)?;
    let sides = [
        Place::new("--candidate", &args.candidate)?,
        Place::new("--reference", &args.reference)?,
    ];
    let threads = Threads::new(&args.threads)?;
    let facts = [facts(&sides[0], &args.link)?, facts(&sides[1], &args.link)?];
    let smaller = facts[0].size_bytes.min(facts[1].size_bytes);
    let span = args.span.unwrap_or(smaller);
    let jobs = jobs(args, &cases, &threads, span)?;
    if args.fill {
        if args.link.nsid != 1 && sides.iter().any(|side| !side.is_iscsi()) {
            let problem =
                "--fill knows namespace 1 only: fill the namespaces before, and leave it out";
            return Err(PerfError::option("--nsid", args.link.nsid, problem));
        }
        for side in &sides {
            eprintln!("filling {}", side.address());
            Target::connect(side, &args.link)?.fill(span)?;
        }
    }
    let results = rounds(args, &sides, &jobs)?;
    let [candidate, reference] = facts;
    let comparison = Comparison {
        schema: SCHEMA,
        candidate,
        reference,
        machine: Machine::this(),
        rounds: args.rounds,
        seconds: args.time.as_secs_f64(),
        cases: results,
    };
    match args.output {
        Output::Text => print!("{}", table::render(&comparison)),
        Output::Json => println!("{}", to_json(&comparison)),
    }
    Ok(())
}

fn facts(side: &Place, link: &ConnectArgs) -> Result<TargetFacts, PerfError> {
    Ok(TargetFacts::of(&Target::connect(side, link)?))
}

/// What a case comes to.
///
/// Errors: `Option`.
pub fn job(
    case: &Case,
    threads: &Threads,
    times: Times,
    link: &ConnectArgs,
) -> Result<Job, PerfError> {
    Ok(Job {
        load: Load::new(&case.load, threads)?,
        threads: threads.clone(),
        times,
        nsid: link.nsid,
    })
}

fn jobs(
    args: &CompareArgs,
    cases: &[Case],
    threads: &Threads,
    span: u64,
) -> Result<Vec<(String, Job)>, PerfError> {
    let named = |case: &Case| {
        let mut job = job(case, threads, args.times(), &args.link)?;
        job.load.span = Some(span);
        Ok((case.name.clone(), job))
    };
    cases.iter().map(named).collect()
}

/// Runs all cases in each round, so that a drift of the machine meets all of them alike.
fn rounds(
    args: &CompareArgs,
    sides: &[Place; 2],
    jobs: &[(String, Job)],
) -> Result<Vec<CaseResult>, PerfError> {
    let mut figures: Vec<Vec<[Figures; 2]>> = vec![Vec::new(); jobs.len()];
    for round in 0..args.rounds {
        for ((name, job), figures) in jobs.iter().zip(&mut figures) {
            let pair = pair(sides, &args.link, job, round % 2 == 1)?;
            eprintln!(
                "round {} {name}: IOPS x {:.3}, p99 x {:.3}",
                round + 1,
                pair[0].iops / pair[1].iops,
                pair[0].p99 / pair[1].p99
            );
            figures.push(pair);
        }
    }
    let results = jobs.iter().zip(&figures);
    Ok(results.map(|((name, _), f)| result(name, f)).collect())
}

/// Runs both sides; gives candidate and reference in this order whichever ran first.
fn pair(
    sides: &[Place; 2],
    link: &ConnectArgs,
    job: &Job,
    reversed: bool,
) -> Result<[Figures; 2], PerfError> {
    let one = |side: &Place| measure(side, link, job);
    let [candidate, reference] = sides;
    if reversed {
        let reference = one(reference)?;
        return Ok([one(candidate)?, reference]);
    }
    Ok([one(candidate)?, one(reference)?])
}

/// Runs a job on one target.
///
/// Errors: everything that ends a run.
pub fn measure(side: &Place, link: &ConnectArgs, job: &Job) -> Result<Figures, PerfError> {
    let mut target = Target::connect(side, link)?;
    let outcome = run_job(&mut target, job, &mut |_, _| {})?;
    Ok(Figures::of_stats(&outcome.stats, outcome.seconds))
}

fn result(case: &str, figures: &[[Figures; 2]]) -> CaseResult {
    let ratio = |figure: fn(&Figures) -> f64| {
        let pairs = figures.iter().map(|[c, r]| (figure(c), figure(r)));
        Ratio::new(&pairs.collect::<Vec<_>>())
    };
    let idle = figures.iter().flatten().map(|figures| figures.idle);
    CaseResult {
        case: case.to_owned(),
        iops: ratio(|f| f.iops),
        mean: ratio(|f| f.mean),
        p50: ratio(|f| f.p50),
        p99: ratio(|f| f.p99),
        client_idle_share: idle.fold(1.0, f64::min),
    }
}
