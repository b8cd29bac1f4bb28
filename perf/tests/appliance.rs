//! The binary against the appliance: real data, checked.

mod common;

use common::{run, run_json, stderr};
use system_tests::{Server, Setup, iqn, nqn};

fn server(block_bytes: u32) -> Server {
    let setup = Setup::new()
        .pool("main", "512MiB")
        .volume("load", "64MiB", block_bytes);
    Server::start(setup)
}

#[test]
fn what_is_written_is_read_back() {
    let server = server(4096);
    let address = server.address().to_string();
    for (bs, more) in [
        ("4k", &[][..]),
        ("4k", &["--header-digest", "--data-digest"]),
        ("64k", &["--max-r2t", "4"]),
        ("128k", &["--data-digest", "--fua-percent", "20"]),
    ] {
        let mut arguments = vec!["--rw", "mix", "--verify", "--qd", "16", "--bs", bs];
        arguments.extend_from_slice(more);
        let report = run_json(&address, &arguments);
        let verified = report["result"]["verified_reads"].as_u64().unwrap();
        assert!(verified > 0, "{arguments:?}: {report}");
        assert_eq!(report["target"]["nqn"], nqn("load"), "found by discovery");
    }
}

#[test]
fn small_blocks_and_many_queues_work() {
    let server = server(512);
    let arguments = [
        "--rw", "mix", "--verify", "--bs", "512", "--queues", "4", "--qd", "8",
    ];
    let report = run_json(&server.address().to_string(), &arguments);
    assert!(
        report["result"]["verified_reads"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn flushes_and_skew_work() {
    let server = server(4096);
    let mut arguments = vec!["--rw", "randwrite", "--distribution", "zipf:0.99"];
    arguments.extend(["--flush-every", "8", "--rate", "500"]);
    let report = run_json(&server.address().to_string(), &arguments);
    assert!(
        report["result"]["kinds"]["flush"]["ios"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn an_unknown_subsystem_is_refused() {
    let server = server(4096);
    let name = nqn("nobody");
    let output = run(&server.address().to_string(), &["--nqn", &name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("CONNECT_INVALID_PARAMETERS"),
        "{}",
        stderr(&output)
    );
}

fn iscsi_server(block_bytes: u32) -> Server {
    let setup = Setup::new()
        .iscsi(1)
        .pool("main", "512MiB")
        .volume("load", "64MiB", block_bytes);
    Server::start(setup)
}

#[test]
fn what_is_written_over_iscsi_is_read_back() {
    let server = iscsi_server(4096);
    let portal = format!("iscsi://{}", server.setup.iscsi[0]);
    for (bs, more) in [
        ("4k", &[][..]),
        ("4k", &["--header-digest", "--data-digest"]),
        ("64k", &["--initial-r2t", "--max-r2t", "4"]),
        ("128k", &["--no-immediate-data", "--fua-percent", "20"]),
        ("1M", &["--no-immediate-data", "--initial-r2t", "--qd", "4"]),
        (
            "128k",
            &["--data-digest", "--max-burst", "64k", "--first-burst", "8k"],
        ),
    ] {
        let mut arguments = vec!["--rw", "mix", "--verify", "--bs", bs];
        if !more.contains(&"--qd") {
            arguments.extend(["--qd", "16"]);
        }
        arguments.extend_from_slice(more);
        let report = run_json(&portal, &arguments);
        let verified = report["result"]["verified_reads"].as_u64().unwrap();
        assert!(verified > 0, "{arguments:?}: {report}");
        assert_eq!(report["target"]["iqn"], iqn("load"), "found by discovery");
    }
}

#[test]
fn sessions_with_small_blocks_share_a_volume() {
    let server = iscsi_server(512);
    let arguments = [
        "--rw", "mix", "--verify", "--bs", "512", "--queues", "4", "--qd", "8",
    ];
    let report = run_json(&server.setup.iscsi_url("load"), &arguments);
    assert!(
        report["result"]["verified_reads"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn flushes_over_iscsi_work() {
    let server = iscsi_server(4096);
    let arguments = ["--rw", "randwrite", "--flush-every", "8", "--rate", "500"];
    let report = run_json(&server.setup.iscsi_url("load"), &arguments);
    assert!(
        report["result"]["kinds"]["flush"]["ios"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn an_unknown_target_is_refused() {
    let server = iscsi_server(4096);
    let url = server.setup.iscsi_url("nobody");
    let output = run(&url, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("NOT_FOUND"), "{}", stderr(&output));
}
