//! The binary against its own null target of iSCSI: every option does what it says.

mod common;
#[path = "common/null.rs"]
mod null;

use common::{perf, run, run_json, stderr};
use null::{Null, assert_fails, ios};
use serde_json::Value;

fn start(arguments: &[&str]) -> Null {
    let mut all = vec!["--iscsi"];
    all.extend_from_slice(arguments);
    Null::start(&all)
}

#[test]
fn reads_and_writes_of_every_size_complete() {
    let null = start(&["--in-capsule", "16k"]);
    for (rw, bs) in [
        ("randread", "4k"),
        ("randwrite", "4k"),
        ("read", "128k"),
        ("write", "128k"),
        ("write", "2M"),
        ("read", "2M"),
    ] {
        let report = run_json(&null.address, &["--rw", rw, "--bs", bs, "--qd", "8"]);
        let target = &report["target"];
        assert_eq!(target["protocol"], "iscsi", "{target}");
        assert_eq!(target["lun"], 0);
        assert_eq!(target["model"], "BEDPLATE null target");
        assert_eq!(target["capsule_bytes"], 16_384);
        assert!(
            report["result"]["ios"].as_u64().unwrap() > 0,
            "{rw} {bs}: {report}"
        );
    }
}

#[test]
fn every_way_of_a_write_and_both_digests_work() {
    let null = start(&["--in-capsule", "64k", "--max-h2c", "32k"]);
    for more in [
        &[][..],
        &["--no-immediate-data"],
        &["--initial-r2t"],
        &["--initial-r2t", "--no-immediate-data"],
        &["--first-burst", "8k", "--max-burst", "16k"],
    ] {
        for digests in [
            &[][..],
            &["--header-digest"],
            &["--header-digest", "--data-digest"],
        ] {
            let mut all = vec!["--rw", "mix", "--bs", "128k", "--qd", "4"];
            all.extend_from_slice(more);
            all.extend_from_slice(digests);
            let report = run_json(&null.address, &all);
            assert!(
                ios(&report, "read") > 0 && ios(&report, "write") > 0,
                "{all:?}"
            );
        }
    }
}

#[test]
fn flushes_queues_and_rates_work() {
    let null = start(&[]);
    let mut arguments = vec!["--rw", "mix", "--read-percent", "50", "--flush-every", "4"];
    arguments.extend(["--queues", "3", "--threads", "2", "--fua-percent", "10"]);
    arguments.extend(["--rate", "2k", "--time", "1s"]);
    let report = run_json(&null.address, &arguments);
    for kind in ["read", "write", "flush"] {
        assert!(ios(&report, kind) > 0, "{kind}: {report}");
    }
    let iops = report["result"]["iops"].as_f64().unwrap();
    assert!((1_000.0..2_500.0).contains(&iops), "{iops}");
}

#[test]
fn wrong_data_is_found() {
    let null = start(&[]);
    let output = run(
        &null.address,
        &["--rw", "randwrite", "--verify", "--span", "1M"],
    );
    assert_fails(&output, 3, "DATA MISCOMPARE in read of 4096 bytes");
}

#[test]
fn impossible_options_name_themselves() {
    let null = start(&[]);
    for (arguments, needle) in [
        (
            &["--qd", "60000"][..],
            "--qd 60000: the target has room for 4095",
        ),
        (
            &["--bs", "32M"],
            "--bs 32 MiB: the target takes at most 16 MiB",
        ),
        (&["--nqn", "nqn.x"], "--nqn nqn.x: the target has its name"),
        (&["--first-burst", "1000"], "a multiple of 512"),
    ] {
        assert_fails(&run(&null.address, arguments), 2, needle);
    }
    let unit = format!("{}/iqn.x/99999", null.address);
    assert_fails(&run(&unit, &[]), 2, "the unit 99999 is none of 0 to 16383");
    assert_fails(
        &run("iscsi://127.0.0.1:1", &[]),
        1,
        "discovery at 127.0.0.1:1",
    );
}

#[test]
fn a_target_of_each_protocol_is_compared_and_filled() {
    let (one, two) = (start(&[]), Null::start(&[]));
    let mut command = perf(&["compare", "--rounds", "2", "--time", "100ms"]);
    command.args(["--candidate", &one.address, "--reference", &two.address]);
    command.args(["--ramp", "0s", "--case", "4k-randwrite-qd4-flush1"]);
    command.args(["--fill", "--span", "1060864"]);
    command.args(["--wait", "poll", "--output", "json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        result["candidate"]["iqn"],
        "iqn.2026-11.io.bedplate.perf:null"
    );
    assert_eq!(result["reference"]["protocol"], "nvme-tcp");
    assert!(result["cases"][0]["iops"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_floor_is_judged_by_a_null_target_of_the_same_protocol() {
    let null = start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let gates = directory.path().join("floor.toml");
    let gate = "[[gate]]\ncase = \"4k-randread-qd4\"\nagainst = \"loopback\"\nmin_iops = 0.001\n";
    std::fs::write(&gates, gate).unwrap();
    let mut command = perf(&["floor", "--connect", &null.address, "--rounds", "2"]);
    command.args([
        "--time", "100ms", "--ramp", "0s", "--wait", "poll", "--gates",
    ]);
    let output = command.arg(&gates).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
