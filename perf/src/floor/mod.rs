//! `bedplate-perf floor`: does a target reach what `floor.toml` asks for?
//!
//! Every ratio is measured in one run: in each round the target, the null target and, where it is
//! asked for, the raw file run each case one right after the other. The median of the rounds'
//! ratios is judged. Exit code 4 when a gate fell short.

mod baseline;
mod gates;
mod nic;
mod raw;
mod verdict;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::cli::{FloorArgs, Output};
use crate::compare::{Figures, Ratio, job, measure, parse_case};
use crate::error::PerfError;
use crate::output::{Machine, TargetFacts, to_json};
use crate::plan::Threads;
use crate::run::Job;
use crate::target::{Place, Target};
use baseline::{Baseline, Level};
use gates::{Against, Gate};
use raw::RawJob;
use verdict::{Found, Outcome};

/// Step of the null target's in-capsule data.
const CAPSULE_STEP: u32 = 4096;
/// Most in-capsule data of the null target; a target may say any number.
const CAPSULE_MAX: u32 = 16 << 20;

/// The three sides of one case in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    target: Figures,
    loopback: Figures,
    raw: Option<Figures>,
}

/// Measures, judges and prints; stores the result when asked to.
///
/// Errors: `FellShort` when a gate did, and everything that ends a run.
pub fn run(args: &FloorArgs) -> Result<(), PerfError> {
    let machine = Machine::this();
    let stored = args.baseline.as_ref();
    let stored = stored
        .map(|path| Baseline::load(path, &machine))
        .transpose()?;
    let gates = gates::load(args.gates.as_deref())?;
    let target = Place::new("--connect", &args.connect)?;
    let facts = TargetFacts::of(&Target::connect(&target, &args.link)?);
    // What is to be stored for a baseline is measured even when there is none yet.
    let applies = |gate: &&Gate| {
        let stored_for = args.save.is_some() && gate.against == Against::Baseline;
        stored_for || why_not(args, gate, &target).is_none()
    };
    let cases = gates::cases(gates.iter().filter(applies));
    let null = Null::start(args, &target, &facts)?;
    let measured = measure_all(args, &gates, &cases, [&target, &null.side])?;
    let levels = levels(&measured);
    let verdicts: Vec<_> = gates
        .iter()
        .map(|gate| verdict::judge(gate, find(args, gate, &target, &measured, stored.as_ref())))
        .collect();
    match args.output {
        Output::Text => print!("{}", verdict::render(&verdicts)),
        Output::Json => println!("{}", to_json(&verdicts)),
    }
    if let Some(path) = &args.save {
        Baseline::new(&machine, levels).save(path)?;
    }
    let short = verdicts
        .iter()
        .filter(|v| matches!(v.outcome, Outcome::Short(_)));
    match short.count() {
        0 => Ok(()),
        count => Err(PerfError::FellShort { count }),
    }
}

type Measured = BTreeMap<String, Vec<Round>>;

/// Why a gate cannot be measured here.
fn why_not(args: &FloorArgs, gate: &Gate, target: &Place) -> Option<String> {
    match gate.against {
        Against::Loopback => None,
        Against::Raw if args.raw.is_none() => Some("no --raw FILE was given".to_owned()),
        Against::Baseline if args.baseline.is_none() => {
            Some("no --baseline FILE was given".to_owned())
        }
        Against::Raw | Against::Baseline => None,
        Against::Hardware => {
            let (needed, found) = (gate.nic_gbit.unwrap_or(u32::MAX), nic::fastest_gbit());
            if target.address().ip().is_loopback() {
                return Some("the target is on this machine".to_owned());
            }
            (found < needed).then(|| format!("needs {needed} Gbit/s, the fastest card has {found}"))
        }
    }
}

fn measure_all(
    args: &FloorArgs,
    gates: &[Gate],
    cases: &[String],
    sides: [&Place; 2],
) -> Result<Measured, PerfError> {
    let mut measured = Measured::new();
    for round in 0..args.rounds {
        for case in cases {
            let wants_raw = |gate: &Gate| gate.case == *case && gate.against == Against::Raw;
            let with_raw = gates.iter().any(wants_raw);
            let found = one_round(args, case, sides, with_raw, round % 2 == 1)?;
            eprintln!(
                "round {} {case}: IOPS x {:.3} of loopback",
                round + 1,
                found.target.iops / found.loopback.iops
            );
            measured.entry(case.clone()).or_default().push(found);
        }
    }
    Ok(measured)
}

fn one_round(
    args: &FloorArgs,
    case: &str,
    [target, null]: [&Place; 2],
    with_raw: bool,
    reversed: bool,
) -> Result<Round, PerfError> {
    let threads = Threads::new(&args.threads)?;
    let mut job = job(&parse_case(case)?, &threads, args.times(), &args.link)?;
    job.load.span = args.span;
    let raw = || match &args.raw {
        Some(path) if with_raw => raw::measure(&RawJob {
            path: path.clone(),
            load: job.load.clone(),
            time: args.time,
            core: threads.cores.first().copied(),
        })
        .map(Some),
        _ => Ok(None),
    };
    let run = |side: &Place, job: &Job| measure(side, &args.link, job);
    if reversed {
        let (raw, loopback) = (raw()?, run(null, &job)?);
        let target = run(target, &job)?;
        return Ok(Round {
            target,
            loopback,
            raw,
        });
    }
    let (target, loopback) = (run(target, &job)?, run(null, &job)?);
    Ok(Round {
        target,
        loopback,
        raw: raw()?,
    })
}

/// Median ratio of `figure` over all rounds that have the reference.
fn ratio(
    rounds: &[Round],
    reference: impl Fn(&Round) -> Option<Figures>,
    figure: fn(&Figures) -> f64,
) -> f64 {
    let pairs = rounds
        .iter()
        .filter_map(|round| Some((figure(&round.target), figure(&reference(round)?))));
    Ratio::new(&pairs.collect::<Vec<_>>()).median
}

fn levels(measured: &Measured) -> BTreeMap<String, Level> {
    let level = |rounds: &Vec<Round>| Level {
        iops: ratio(rounds, |r| Some(r.loopback), |f| f.iops),
        p99: ratio(rounds, |r| Some(r.loopback), |f| f.p99),
    };
    let cases = measured.iter();
    cases
        .map(|(case, rounds)| (case.clone(), level(rounds)))
        .collect()
}

/// What a gate is judged by, or why there is nothing.
fn find(
    args: &FloorArgs,
    gate: &Gate,
    target: &Place,
    measured: &Measured,
    stored: Option<&Baseline>,
) -> Result<Found, String> {
    if let Some(why) = why_not(args, gate, target) {
        return Err(why);
    }
    let rounds = measured.get(&gate.case).ok_or("not measured")?;
    let against = |reference: fn(&Round) -> Option<Figures>| Found {
        iops: ratio(rounds, reference, |f| f.iops),
        p99: ratio(rounds, reference, |f| f.p99),
    };
    match gate.against {
        Against::Loopback => Ok(against(|round| Some(round.loopback))),
        Against::Raw => Ok(against(|round| round.raw)),
        Against::Baseline => {
            let stored = stored.and_then(|stored| stored.cases.get(&gate.case));
            let stored = stored.ok_or("the baseline does not have this case")?;
            let now = against(|round| Some(round.loopback));
            Ok(Found {
                iops: now.iops / stored.iops,
                p99: now.p99 / stored.p99,
            })
        }
        Against::Hardware => {
            let figures = rounds.iter().map(|round| round.target);
            let pairs = |figure: fn(&Figures) -> f64| {
                let pairs = figures.clone().map(|f| (figure(&f), 1.0));
                Ratio::new(&pairs.collect::<Vec<_>>()).median
            };
            Ok(Found {
                iops: pairs(|f| f.iops),
                p99: pairs(|f| f.p99) / 1e3,
            })
        }
    }
}

/// A null target in a process of its own, ended when dropped.
#[derive(Debug)]
struct Null {
    child: Child,
    side: Place,
}

impl Null {
    /// Starts one that looks like the target: same block, size and in-capsule data.
    fn start(args: &FloorArgs, target: &Place, facts: &TargetFacts) -> Result<Self, PerfError> {
        let system = |source| PerfError::System {
            doing: "starting the null target",
            source,
        };
        let capsule = facts.capsule_bytes.clamp(1, CAPSULE_MAX);
        let capsule = capsule.next_multiple_of(CAPSULE_STEP);
        let program = std::env::current_exe().map_err(system)?;
        let mut command = Command::new(program);
        // A card serves the addresses of its port: for RDMA the target's own, on this machine.
        let listen = match target {
            Place::Rdma { address, .. } => SocketAddr::new(address.ip(), 0).to_string(),
            Place::Nvme { .. } | Place::Iscsi { .. } => "127.0.0.1:0".to_owned(),
        };
        command.args(["null", "--listen", &listen, "--card", args.link.card.name()]);
        command.args(["--size", &facts.size_bytes.to_string()]);
        command.args(["--block-size", &facts.block_bytes.to_string()]);
        command.args(["--in-capsule", &capsule.to_string()]);
        let scheme = match facts.protocol {
            "iscsi" => "iscsi://",
            "nvme-rdma" => "rdma://",
            _ => "",
        };
        if let Some(name) = scheme.strip_suffix("://") {
            command.arg(format!("--{name}"));
        }
        if let Some(core) = args.null_core {
            command.args(["--core", &core.to_string()]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(system)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(system)?;
        }
        // Its own words about what is wrong went to standard error.
        let address = line.split(' ').nth(2).unwrap_or("(no address)");
        let place = format!("{scheme}{address}");
        Place::new("--null-core", &place).map(|side| Self { child, side })
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
