//! Options that go together, and those that do not.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

const GEOMETRY: Geometry = Geometry {
    block_bytes: 4096,
    blocks: 1 << 18,
    capsule_bytes: 8192,
    max_transfer_bytes: Some(1 << 20),
    queue_entries: 128,
};

fn args(line: &str) -> RunArgs {
    let words = "bedplate-perf run --connect 127.0.0.1:4420".split_whitespace();
    let cli = Cli::try_parse_from(words.chain(line.split_whitespace()));
    match cli.expect("the line parses").command {
        Command::Run(args) => *args,
        _ => panic!("run was asked for"),
    }
}

fn load(line: &str) -> Result<Load, PerfError> {
    let args = args(line);
    let threads = Threads::new(&args.threads)?;
    Load::of_run(&args, &threads)
}

fn units(line: &str) -> Result<u64, PerfError> {
    load(line)?.units(&GEOMETRY)
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, PerfError>, option: &str) {
    match result {
        Err(PerfError::Option { option: found, .. }) => assert_eq!(found, option),
        other => panic!("expected {option} to be refused, got {other:?}"),
    }
}

#[test]
fn defaults_are_4k_random_reads_at_32() {
    let load = load("").unwrap();
    assert_eq!((load.io_bytes, load.depth, load.queues), (4096, 32, 1));
    assert_eq!(load.mix.read_percent, 100);
    assert_eq!(load.mix.distribution, Distribution::Uniform);
    assert_eq!(load.units(&GEOMETRY).unwrap(), 1 << 18);
}

#[test]
fn each_rw_has_its_kinds_and_places() {
    let mix = |line| load(line).unwrap().mix;
    assert_eq!(mix("--rw read").distribution, Distribution::Sequential);
    assert_eq!(mix("--rw write").read_percent, 0);
    assert_eq!(mix("--rw mix").read_percent, 70);
    assert_eq!(mix("--rw mix --read-percent 25").read_percent, 25);
    let zipf = mix("--rw randwrite --distribution zipf:0.99").distribution;
    assert_eq!(zipf, Distribution::Zipf { theta: 0.99 });
}

#[test]
fn threads_follow_cores_and_queues_follow_threads() {
    let args = args("--cores 1,3");
    let threads = Threads::new(&args.threads).unwrap();
    assert_eq!((threads.count, &threads.cores[..]), (2, &[1, 3][..]));
    assert_eq!(Load::of_run(&args, &threads).unwrap().queues, 2);
    assert_eq!(load("--threads 2 --queues 8").unwrap().queues, 8);
}

#[test]
fn contradictions_are_refused() {
    refused(load("--rw randread --read-percent 50"), "--read-percent");
    refused(load("--rw read --distribution zipf:1"), "--distribution");
    refused(
        load("--rw randread --distribution zipf:0"),
        "--distribution",
    );
    refused(load("--rw randread --distribution zipf"), "--distribution");
    refused(
        load("--rw randread --distribution pareto"),
        "--distribution",
    );
    refused(load("--rw randread --fua-percent 5"), "--fua-percent");
    refused(load("--rw read --flush-every 4294967295"), "--flush-every");
    refused(load("--threads 4 --queues 2"), "--queues");
    refused(load("--bs 1000"), "--bs");
    refused(load("--bs 64M"), "--bs");
    refused(load("--cores 5000"), "--cores");
}

#[test]
fn the_parser_refuses_what_cannot_be() {
    for line in [
        "--qd 0",
        "--queues 0",
        "--read-percent 101",
        "--poisson",
        "--bs 0",
        "--rate 0",
        "--rw readwrite",
        "--time 5parsecs",
        "--max-r2t 0",
    ] {
        let words = "bedplate-perf run --connect h:1".split_whitespace();
        let parsed = Cli::try_parse_from(words.chain(line.split_whitespace()));
        assert!(parsed.is_err(), "{line} was taken");
    }
}

#[test]
fn the_target_has_its_limits() {
    refused(units("--bs 512"), "--bs");
    refused(units("--bs 2M"), "--bs");
    refused(units("--qd 128"), "--qd");
    refused(units("--span 2G"), "--span");
    assert_eq!(units("--qd 127 --bs 1M --span 64M").unwrap(), 64);
}

#[test]
fn a_part_for_each_queue_must_hold_its_commands() {
    refused(units("--rw read --queues 4 --span 12k"), "--span");
    assert_eq!(units("--rw read --queues 4 --span 16k").unwrap(), 4);
    refused(units("--rw randwrite --verify --qd 8 --span 32k"), "--span");
    assert_eq!(
        units("--rw randwrite --verify --qd 8 --span 36k").unwrap(),
        9
    );
}

#[test]
fn the_timeline_has_a_useful_number_of_points() {
    let times = |time| Times {
        time,
        ramp: Duration::ZERO,
        io_timeout: Duration::from_secs(1),
    };
    let interval = |seconds| times(Duration::from_secs(seconds)).interval();
    assert_eq!(interval(1), INTERVAL_MIN);
    assert_eq!(interval(12), Duration::from_millis(100));
    assert_eq!(interval(3600), INTERVAL_MAX);
}
