//! A null target in a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::common::{perf, stderr};

/// A null target, killed when dropped.
pub struct Null {
    /// The process.
    pub child: Child,
    /// How it is named on the command line.
    pub address: String,
}

impl Null {
    /// Starts one on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["null", "--time", "60s"];
        all.extend_from_slice(arguments);
        let mut child = perf(&all)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let mut words = line.split(' ').skip(1);
        let scheme = match words.next().expect("a protocol") {
            "nvme-tcp" => "",
            "iscsi" => "iscsi://",
            "nvme-rdma" => "rdma://",
            other => panic!("another protocol: {other}"),
        };
        let address = format!("{scheme}{}", words.next().expect("an address"));
        Self { child, address }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The run failed with `code` and said `needle`.
#[track_caller]
pub fn assert_fails(output: &Output, code: i32, needle: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(needle), "{}", stderr(output));
}

/// Commands of a kind.
pub fn ios(report: &Value, kind: &str) -> u64 {
    report["result"]["kinds"][kind]["ios"].as_u64().unwrap_or(0)
}
