//! The binary against its own null target over RDMA, both on simulated cards: every option does
//! what it says.

mod common;
#[path = "common/null.rs"]
mod null;

use common::{perf, run, run_json, stderr};
use null::{Null, assert_fails, ios};
use serde_json::Value;

fn start(arguments: &[&str]) -> Null {
    let mut all = vec!["--rdma", "--card", "soft"];
    all.extend_from_slice(arguments);
    Null::start(&all)
}

/// `arguments` on the simulated card.
fn soft<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["--card", "soft"];
    all.extend_from_slice(arguments);
    all
}

#[test]
fn reads_and_writes_of_every_size_complete() {
    let null = start(&["--in-capsule", "16k"]);
    for (rw, bs) in [
        ("randread", "4k"),
        ("randwrite", "4k"),
        ("randwrite", "16k"),
        ("read", "128k"),
        ("write", "128k"),
        ("write", "1M"),
        ("read", "1M"),
    ] {
        let arguments = soft(&["--rw", rw, "--bs", bs, "--qd", "8"]);
        let report = run_json(&null.address, &arguments);
        let target = &report["target"];
        assert_eq!(target["protocol"], "nvme-rdma", "{target}");
        assert_eq!(target["nqn"], "nqn.2026-11.io.bedplate.perf:null");
        assert_eq!(target["capsule_bytes"], 16_384);
        assert!(
            report["result"]["ios"].as_u64().unwrap() > 0,
            "{rw} {bs}: {report}"
        );
    }
}

#[test]
fn flushes_queues_threads_and_rates_work() {
    let null = start(&[]);
    let mut arguments = soft(&["--rw", "mix", "--read-percent", "50", "--flush-every", "4"]);
    arguments.extend(["--queues", "3", "--threads", "2", "--fua-percent", "10"]);
    arguments.extend(["--rate", "500", "--time", "2s"]);
    let report = run_json(&null.address, &arguments);
    for kind in ["read", "write", "flush"] {
        assert!(ios(&report, kind) > 0, "{kind}: {report}");
    }
    let iops = report["result"]["iops"].as_f64().unwrap();
    assert!((200.0..700.0).contains(&iops), "{iops}");
}

#[test]
fn a_spinning_thread_and_an_open_loop_that_cannot_be_kept_up_give_way_to_the_card() {
    let null = start(&[]);
    for more in [&["--wait", "spin"][..], &["--rate", "50M", "--poisson"]] {
        let mut arguments = soft(&["--qd", "4"]);
        arguments.extend_from_slice(more);
        let report = run_json(&null.address, &arguments);
        assert!(ios(&report, "read") > 0, "{more:?}: {report}");
    }
}

#[test]
fn wrong_data_is_found() {
    let null = start(&[]);
    for bs in ["4k", "64k"] {
        let arguments = ["--rw", "randwrite", "--verify", "--span", "8M", "--bs", bs];
        let output = run(&null.address, &soft(&arguments));
        assert_fails(&output, 3, "DATA MISCOMPARE in read of");
    }
}

#[test]
fn impossible_options_name_themselves() {
    let null = start(&[]);
    for (arguments, needle) in [
        (
            &["--qd", "300"][..],
            "--qd 300: the target has room for 255",
        ),
        (
            &["--bs", "2M"],
            "--bs 2 MiB: the target takes at most 1 MiB",
        ),
        (&["--header-digest"], "--header-digest (given): RDMA"),
        (&["--data-digest"], "--data-digest (given): RDMA"),
    ] {
        assert_fails(&run(&null.address, &soft(arguments)), 2, needle);
    }
    let nobody = run("rdma://127.0.0.1:1", &soft(&[]));
    assert_fails(&nobody, 1, "connecting to discovery at 127.0.0.1:1");
    let output = perf(&["null", "--rdma", "--iscsi"]).output().unwrap();
    assert_fails(&output, 2, "cannot be used with");
}

#[test]
fn a_target_of_each_protocol_is_compared_and_filled() {
    let (one, two) = (start(&[]), Null::start(&[]));
    let mut command = perf(&[
        "compare", "--rounds", "2", "--time", "100ms", "--card", "soft",
    ]);
    command.args(["--candidate", &one.address, "--reference", &two.address]);
    command.args(["--ramp", "0s", "--case", "4k-randwrite-qd4-flush1"]);
    command.args(["--fill", "--span", "1060864"]);
    command.args(["--wait", "poll", "--output", "json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["candidate"]["protocol"], "nvme-rdma");
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
    command.args(soft(&["--time", "100ms", "--ramp", "0s", "--wait", "poll"]));
    let output = command.arg("--gates").arg(&gates).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// What a run says whose target is killed once the load is on.
#[test]
fn a_target_that_dies_ends_the_run() {
    let mut null = start(&[]);
    let mut arguments = vec!["run", "--connect", &null.address, "--time", "20s"];
    arguments.extend(soft(&[
        "--ramp",
        "0s",
        "--wait",
        "poll",
        "--io-timeout",
        "3s",
    ]));
    let child = perf(&arguments)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    #[expect(clippy::disallowed_methods, reason = "a real process needs real time")]
    std::thread::sleep(std::time::Duration::from_millis(1500));
    null.child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_fails(&output, 1, "I/O queue 1 to 127.0.0.1");
}
