//! Loopback traffic, captured and dissected by tshark.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{Process, Server};

/// Longest time until tshark says that it captures.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A capture file with its headers and no packet is shorter than this.
const EMPTY_CAPTURE_BYTES: u64 = 700;
/// dumpcap hands on what it has several times a second.
const QUIET_TIME: Duration = Duration::from_millis(1200);

/// How tshark calls what it is to find on the port, and what it has to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    name: &'static str,
    preferences: &'static [&'static str],
}

/// NVMe/TCP.
pub const NVME_TCP: Protocol = Protocol {
    name: "nvme-tcp",
    preferences: &["nvme-tcp.check_hdgst:TRUE", "nvme-tcp.check_ddgst:TRUE"],
};

/// iSCSI; its digests are checked without being asked for.
pub const ISCSI: Protocol = Protocol {
    name: "iscsi",
    // Longer data segments would be taken for something else.
    preferences: &["iscsi.bogus_pdu_max_data_len:1048576"],
};

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    tshark: Child,
    file: PathBuf,
    port: u16,
    protocol: Protocol,
}

impl Capture {
    /// Starts to capture TCP port `port` on loopback into `directory`.
    #[must_use]
    pub fn start(directory: &Path, port: u16, protocol: Protocol) -> Self {
        let file = directory.join("traffic.pcapng");
        let filter = format!("tcp port {port}");
        let arguments = [
            "-q", "-i", "lo", "-s", "0", "-B", "256", "-f", &filter, "-w",
        ];
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "tshark"])
            .args(arguments)
            .arg(&file);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let tshark = command.spawn().expect("setpriv runs");
        let mut capture = Self {
            tshark,
            file,
            port,
            protocol,
        };
        capture.wait_started();
        capture
    }

    fn wait_started(&mut self) {
        let stderr = self.tshark.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens any more once the capture runs.
                let _ = sender.send(line);
            }
        });
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(START_LIMIT) {
            let capturing = line.contains("Capturing on") || line.contains("Capture started");
            said.push(line);
            if capturing {
                self.wait_for_packets();
                return;
            }
        }
        panic!("tshark does not capture (root is needed, package tshark): {said:?}");
    }

    /// tshark says that it captures before the kernel's filter is in place: a dissection that
    /// misses the start of a connection is worth nothing. Empty connections until one is seen.
    fn wait_for_packets(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let empty = self.written_bytes();
        while self.written_bytes() <= empty.max(EMPTY_CAPTURE_BYTES) {
            assert!(Instant::now() < deadline, "tshark writes no packets");
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the last packets have come out of the kernel's and dumpcap's buffers.
    fn wait_quiet(&self) {
        let mut last = self.written_bytes();
        loop {
            std::thread::sleep(QUIET_TIME);
            let now = self.written_bytes();
            if now == last {
                return;
            }
            last = now;
        }
    }

    fn written_bytes(&self) -> u64 {
        std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }

    /// Ends the capture and gives its dissection.
    #[must_use]
    pub fn finish(mut self) -> Dissection {
        self.wait_quiet();
        Process {
            pid: self.tshark.id(),
        }
        .signal(Signal::SIGINT);
        let deadline = Instant::now() + START_LIMIT;
        while !matches!(self.tshark.try_wait(), Ok(Some(_))) {
            assert!(Instant::now() < deadline, "tshark does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        Dissection {
            file: self.file.clone(),
            port: self.port,
            protocol: self.protocol,
            server: None,
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It has ended by itself when all went well.
        let _ = self.tshark.kill();
        let _ = self.tshark.wait();
    }
}

/// A finished capture.
#[derive(Debug)]
pub struct Dissection {
    file: PathBuf,
    port: u16,
    protocol: Protocol,
    server: Option<Server>,
}

impl Dissection {
    /// Keeps the server whose directory holds the capture.
    #[must_use]
    pub fn keep(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }

    /// Values of `field` over all packets, one string a value.
    #[must_use]
    pub fn values(&self, field: &str) -> Vec<String> {
        let text = self.tshark(&["-T", "fields", "-E", "aggregator=,", "-e", field]);
        let values = text.lines().flat_map(|line| line.split(','));
        values
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Packets that match a display filter, one line each.
    #[must_use]
    pub fn matching(&self, filter: &str) -> Vec<String> {
        self.tshark(&["-Y", filter])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The full dissection of packets that match a display filter.
    #[must_use]
    pub fn details(&self, filter: &str) -> String {
        self.tshark(&["-V", "-Y", filter])
    }

    fn tshark(&self, arguments: &[&str]) -> String {
        let Protocol { name, preferences } = self.protocol;
        let decode = format!("tcp.port=={},{name}", self.port);
        let output = Command::new("tshark")
            .arg("-r")
            .arg(&self.file)
            .args(["-d", &decode])
            .args(preferences.iter().flat_map(|value| ["-o", value]))
            .args(arguments)
            .output()
            .expect("tshark runs");
        assert!(
            output.status.success(),
            "tshark: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
