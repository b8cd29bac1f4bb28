//! A Linux host uses volumes by NVMe/RDMA, on soft RoCE. Host and target are both in the VM, as this
//! machine's kernel has no RDMA.

use std::time::Duration;

use vm_tests::{Session, bedplate_perf, python_packages};

/// For one script, on a machine that is busy with other tests as well.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn a_host_finds_connects_and_uses_volumes() {
    let mut session = Session::start_rdma("rdma-basics", "basics", &[], LIMIT).unwrap();
    session.vm().expect("restart", LIMIT).unwrap();
    session.restart().unwrap();
    session.vm().send("restarted").unwrap();
    session.finish(LIMIT).unwrap();
}

#[test]
fn fio_finds_every_block_as_it_was_written() {
    // Packets of 1024 bytes here, of 4096 in the others.
    let small = ["MTU=1500".to_owned()];
    let session = Session::start_rdma("rdma-fio-verify", "fio-verify", &small, LIMIT).unwrap();
    session.finish(LIMIT).unwrap();
}

#[test]
fn one_volume_serves_both_transports_and_hosts_of_other_makes() {
    let python = format!("PYTHON={}", python_packages().unwrap().display());
    let perf = format!("PERF={}", bedplate_perf().unwrap().display());
    // Two cores: connections that are served away from the home of their volume.
    let extra = [python, perf, "CORES=0,1".to_owned()];
    let session = Session::start_rdma("rdma-both", "rdma-both", &extra, LIMIT).unwrap();
    session.finish(LIMIT).unwrap();
}

#[test]
fn nothing_is_left_of_a_hundred_connections_that_end_under_load() {
    let python = format!("PYTHON={}", python_packages().unwrap().display());
    let extra = [python, "ROUNDS=100".to_owned()];
    let session = Session::start_rdma("rdma-rounds", "rdma-rounds", &extra, LIMIT).unwrap();
    session.finish(LIMIT).unwrap();
}
