//! The binary against its own null target: every option does what it says.

mod common;
#[path = "common/null.rs"]
mod null;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};

use common::{perf, run, run_json, stderr};
use null::{Null, assert_fails, ios};
use serde_json::Value;

#[test]
fn reads_and_writes_of_every_size_complete() {
    let null = Null::start(&[]);
    for (rw, bs) in [
        ("randread", "4k"),
        ("randwrite", "4k"),
        ("read", "128k"),
        ("write", "128k"),
        ("write", "1M"),
    ] {
        let report = run_json(&null.address, &["--rw", rw, "--bs", bs, "--qd", "8"]);
        assert!(
            report["result"]["ios"].as_u64().unwrap() > 0,
            "{rw} {bs}: {report}"
        );
    }
}

#[test]
fn digests_are_understood_both_ways() {
    let null = Null::start(&[]);
    for digests in [
        &["--header-digest"][..],
        &["--data-digest"],
        &["--header-digest", "--data-digest"],
    ] {
        for bs in ["4k", "64k"] {
            let mut all = vec!["--rw", "mix", "--bs", bs];
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
fn a_mix_keeps_its_shares_and_flushes() {
    let null = Null::start(&[]);
    let arguments = ["--rw", "mix", "--read-percent", "50", "--flush-every", "4"];
    let report = run_json(&null.address, &arguments);
    let count = |kind| ios(&report, kind) as f64;
    let (reads, writes, flushes) = (count("read"), count("write"), count("flush"));
    // Five standard deviations of a fair coin, and what was in flight at the window's ends.
    let slack = 5.0 * (reads + writes).sqrt() + 64.0;
    assert!(
        (reads - writes).abs() < slack,
        "{reads} reads, {writes} writes"
    );
    assert!(
        (writes - 4.0 * flushes).abs() < 256.0,
        "{writes} writes, {flushes} flushes"
    );
    assert!(flushes > 0.0);
}

#[test]
fn queues_are_shared_out_among_threads() {
    let null = Null::start(&[]);
    let report = run_json(
        &null.address,
        &["--threads", "2", "--queues", "5", "--qd", "2"],
    );
    assert_eq!(report["load"]["threads"], 2);
    assert!(ios(&report, "read") > 0);
}

#[test]
fn an_open_loop_reaches_its_rate() {
    let null = Null::start(&[]);
    let arguments = ["--rate", "2k", "--poisson", "--qd", "64", "--time", "2s"];
    let report = run_json(&null.address, &arguments);
    let iops = report["result"]["iops"].as_f64().unwrap();
    assert!((1_000.0..2_500.0).contains(&iops), "{iops}");
}

#[test]
fn an_open_loop_that_cannot_be_kept_up_says_so() {
    let null = Null::start(&[]);
    let report = run_json(&null.address, &["--rate", "50M", "--qd", "4"]);
    let result = &report["result"];
    assert!(result["unissued"].as_u64().unwrap() > 1_000_000, "{result}");
    // Due at a steady rate and served late: the median waited for a good part of the run.
    assert!(
        result["latency_ns"]["p50"].as_u64().unwrap() > 10_000_000,
        "{result}"
    );
}

#[test]
fn the_report_is_one_file_that_loads_nothing() {
    let null = Null::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    let arguments = ["--rw", "mix", "--report", path.to_str().unwrap()];
    assert!(run(&null.address, &arguments).status.success());
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("<svg ").count(), 3);
    assert_eq!(page.matches("<polyline ").count(), 2 + 1 + 2);
    for outside in ["<script", "src=", "href=", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn wrong_data_is_found() {
    let null = Null::start(&[]);
    let output = run(
        &null.address,
        &["--rw", "randwrite", "--verify", "--span", "1M"],
    );
    assert_fails(&output, 3, "DATA MISCOMPARE in read of 4096 bytes");
}

#[test]
fn impossible_options_name_themselves() {
    let null = Null::start(&["--in-capsule", "4k"]);
    for (arguments, needle) in [
        (
            &["--qd", "60000"][..],
            "--qd 60000: the target has room for 4095",
        ),
        (
            &["--bs", "512"],
            "--bs 512 B: the namespace has blocks of 4096 bytes",
        ),
        (
            &["--bs", "32M"],
            "--bs 32 MiB: the target takes at most 16 MiB",
        ),
        (&["--span", "4T"], "--span 4 TiB: the namespace has 1 GiB"),
        (&["--cores", "1000"], "--cores 1000"),
    ] {
        assert_fails(&run(&null.address, arguments), 2, needle);
    }
    assert_fails(&run("nowhere", &[]), 2, "write HOST:PORT");
    assert_fails(
        &run(&null.address, &["--nsid", "7"]),
        1,
        "try another --nsid",
    );
}

#[test]
fn a_target_that_is_not_there_is_named() {
    assert_fails(&run("127.0.0.1:1", &[]), 1, "127.0.0.1:1");
}

/// A peer that answers everything with the same bytes, or says nothing.
fn stranger(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    #[expect(clippy::disallowed_methods, reason = "a peer of a real process")]
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 128];
            // Whatever happens to this peer is seen by the process under test.
            let _ = socket
                .read_exact(&mut request)
                .and_then(|()| socket.write_all(answer));
            std::mem::forget(socket);
        }
    });
    address
}

#[test]
fn a_silent_peer_is_given_up() {
    let address = stranger(b"");
    let output = run(&address, &["--connect-timeout", "300ms"]);
    assert_fails(&output, 1, "no progress within 300 ms");
}

#[test]
fn a_peer_of_another_protocol_is_refused() {
    let address = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let output = run(&address, &["--nqn", "nqn.2026-11.io.bedplate:demo"]);
    assert_fails(&output, 1, "terminate the connection");
}

#[test]
fn two_targets_are_compared_in_alternating_rounds() {
    let (one, two) = (Null::start(&[]), Null::start(&[]));
    let mut command = perf(&[
        "compare", "--rounds", "2", "--time", "100ms", "--ramp", "0s",
    ]);
    command.args(["--candidate", &one.address, "--reference", &two.address]);
    command.args([
        "--case",
        "4k-randread-qd8",
        "--case",
        "4k-randwrite-qd4-flush1",
    ]);
    command.args(["--wait", "poll", "--output", "json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = result["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let iops = &case["iops"];
        assert_eq!(iops["rounds"].as_array().unwrap().len(), 2);
        let at = |name: &str| iops[name].as_f64().unwrap();
        assert!(at("min") > 0.0 && at("min") <= at("median") && at("median") <= at("max"));
    }
}

#[test]
fn a_case_that_is_none_is_refused_before_anything_runs() {
    let mut command = perf(&["compare", "--candidate", "127.0.0.1:1"]);
    command.args(["--reference", "127.0.0.1:1", "--case", "4k-randread-fast"]);
    assert_fails(&command.output().unwrap(), 2, "--case 4k-randread-fast");
}

/// One floor run of two short rounds with `gates`.
fn floor(address: &str, gates: &str, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("floor.toml");
    std::fs::write(&path, gates).unwrap();
    let mut command = perf(&[
        "floor",
        "--connect",
        address,
        "--rounds",
        "2",
        "--time",
        "100ms",
    ]);
    command.args(["--ramp", "0s", "--wait", "poll", "--gates"]);
    command.arg(&path).args(more);
    command.output().unwrap()
}

fn gate(case: &str, against: &str, rest: &str) -> String {
    format!("[[gate]]\ncase = \"{case}\"\nagainst = \"{against}\"\n{rest}\n")
}

#[test]
fn a_floor_holds_or_falls_short_by_its_gates() {
    let null = Null::start(&[]);
    let low = gate("4k-randread-qd4", "loopback", "min_iops = 0.001");
    let high = gate("4k-randread-qd4", "loopback", "min_iops = 1000");
    let output = floor(&null.address, &low, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = floor(&null.address, &(low + &high), &[]);
    assert_fails(&output, 4, "1 gate(s) fell short");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("holds") && text.contains("FALLS SHORT: IOPS"),
        "{text}"
    );
}

#[test]
fn a_floor_knows_the_raw_file_and_what_was_stored() {
    let null = Null::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let (raw, saved) = (directory.path().join("raw"), directory.path().join("saved"));
    std::fs::write(&raw, vec![1; 4 << 20]).unwrap();
    let (raw, saved) = (raw.to_str().unwrap(), saved.to_str().unwrap());
    let gates = gate("128k-write-qd4", "raw", "min_iops = 0.0001")
        + &gate("4k-randwrite-qd4-flush2", "raw", "min_iops = 0.0001")
        + &gate("4k-randread-qd4", "baseline", "min_iops = 0.001");
    let output = floor(&null.address, &gates, &["--raw", raw, "--save", saved]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("holds").count(), 2, "{text}");
    assert!(
        text.contains("skipped: no --baseline FILE was given"),
        "{text}"
    );

    let again = gate(
        "4k-randread-qd4",
        "baseline",
        "min_iops = 0.001\nmax_p99 = 1e6",
    );
    let output = floor(
        &null.address,
        &again,
        &["--baseline", saved, "--output", "json"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let verdicts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts[0]["outcome"]["verdict"], "holds", "{verdicts}");
}

#[test]
fn gates_for_hardware_are_skipped_on_loopback() {
    let null = Null::start(&[]);
    let gates = gate(
        "4k-randread-qd4",
        "hardware",
        "min_iops = 1e9\nnic_gbit = 1",
    );
    let output = floor(&null.address, &gates, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("skipped: the target is on this machine"),
        "{text}"
    );
}

#[test]
fn gates_that_cannot_be_are_refused_with_their_line() {
    let output = floor("127.0.0.1:1", "[[gate]]\ncase = 7\n", &[]);
    assert_fails(&output, 2, "line 2");
}

/// Sends a signal by name.
fn send_signal(null: &Null, name: &str) {
    let line = format!("kill -{name} {}", null.child.id());
    let sent = std::process::Command::new("sh")
        .args(["-c", &line])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "{line}");
}

/// What a run says whose target gets `signal` once the load is on.
fn run_signalled(signal: &str) -> Output {
    let null = Null::start(&[]);
    let mut command = perf(&[
        "run",
        "--connect",
        &null.address,
        "--time",
        "20s",
        "--ramp",
        "0s",
    ]);
    command.args(["--wait", "poll", "--io-timeout", "500ms", "--progress"]);
    let child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    #[expect(clippy::disallowed_methods, reason = "a real process needs real time")]
    std::thread::sleep(std::time::Duration::from_millis(1000));
    send_signal(&null, signal);
    let output = child.wait_with_output().unwrap();
    // A stopped process takes no other signal but the last one.
    send_signal(&null, "KILL");
    output
}

#[test]
fn a_target_that_stops_answering_is_given_up() {
    assert_fails(&run_signalled("STOP"), 1, "none answered for");
}

#[test]
fn a_target_that_dies_ends_the_run() {
    let output = run_signalled("KILL");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("I/O queue 1 to 127.0.0.1"),
        "{}",
        stderr(&output)
    );
}
