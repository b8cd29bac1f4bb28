//! The appliance as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use host::{Controller, Host, HostOptions, IoQueue};
use nix::sys::signal::Signal;

use crate::setup::{CONTROL_SOCKET, nqn};
use crate::{Binary, Finished, Process, Setup};

/// Longest time from start to the first `ready:` line.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Longest time from a termination signal to the exit.
const EXIT_LIMIT: Duration = Duration::from_secs(30);

type Log = Arc<Mutex<Vec<String>>>;

/// A running server and the place it runs in. Killed and, on failure, quoted when dropped.
#[derive(Debug)]
pub struct Server {
    /// What it runs on.
    pub setup: Setup,
    /// The binary.
    pub binary: Binary,
    child: Option<Child>,
    log: Log,
}

impl Server {
    /// Writes the configuration, starts the server and waits until it is ready.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        setup.write_config();
        let binary = Binary::find();
        let mut server = Self {
            setup,
            binary,
            child: None,
            log: Log::default(),
        };
        server.launch();
        server
    }

    /// Starts it again, on the same ports, after it ended.
    pub fn launch(&mut self) {
        let lines = self.spawn();
        self.wait_ready(&lines);
    }

    /// Starts it and kills it after `delay`, ready or not.
    pub fn launch_and_kill(&mut self, delay: Duration) {
        let _lines = self.spawn();
        std::thread::sleep(delay);
        self.kill();
    }

    fn spawn(&mut self) -> Receiver<String> {
        assert!(self.child.is_none(), "the server runs already");
        let arguments = ["serve", "--config", self.setup.config_name()];
        let mut command = self.binary.command(self.setup.directory(), &arguments);
        let mut child = command.spawn().expect("setpriv runs");
        let (sender, lines) = channel();
        follow(child.stdout.take(), "out", &self.log, Some(sender));
        follow(child.stderr.take(), "err", &self.log, None);
        self.note(format!("--- started, process {}", child.id()));
        self.child = Some(child);
        lines
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> Process {
        Process {
            pid: self.child.as_ref().expect("the server runs").id(),
        }
    }

    /// Address of the NVMe/TCP listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.setup.address
    }

    /// A host with the default options and one I/O queue on this volume.
    #[track_caller]
    #[must_use]
    pub fn connect(&self, volume: &str) -> (Controller, IoQueue) {
        let options = HostOptions::default();
        let controller = Host::connect(self.address(), &nqn(volume), options);
        let mut controller = controller.expect("the host connects");
        let queue = controller.io_queues(1).expect("an I/O queue").remove(0);
        (controller, queue)
    }

    /// Kills it as a crash would and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the server can be killed");
        child.wait().expect("the server can be waited for");
        self.note("--- killed".to_owned());
    }

    /// Sends `signal` and waits for the exit code.
    #[must_use]
    pub fn stop(&mut self, signal: Signal) -> Option<i32> {
        self.process().signal(signal);
        self.wait_exit().code()
    }

    /// Stops it with SIGTERM; panics unless it exits with 0.
    pub fn terminate(&mut self) {
        let code = self.stop(Signal::SIGTERM);
        assert_eq!(code, Some(0), "exit code after SIGTERM");
    }

    /// Waits for its exit.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + EXIT_LIMIT;
        let mut child = self.child.take().expect("the server runs");
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().expect("the server can be waited for") {
                self.note(format!("--- ended, {status}"));
                return status;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child = Some(child);
        panic!("the server did not end within {} s", EXIT_LIMIT.as_secs());
    }

    /// Gives back what it ran on, for another server; a process that still runs is killed.
    #[must_use]
    pub fn into_setup(mut self) -> Setup {
        std::mem::take(&mut self.setup)
    }

    /// True while the process runs.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Runs a client command against this server.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Finished {
        let mut all = vec!["--socket", CONTROL_SOCKET];
        all.extend_from_slice(arguments);
        self.binary.run(self.setup.directory(), &all)
    }

    /// Runs a client command with `--output json`; panics unless it succeeds and prints JSON.
    #[must_use]
    #[track_caller]
    pub fn cli_json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--output", "json"];
        all.extend_from_slice(arguments);
        let finished = self.cli(&all).expect_code(0);
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}\n{finished}"))
    }

    /// What its metrics listener answers, the HTTP head included.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.setup.metrics).expect("metrics");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// The value of one metric, named with its labels as the listener writes them.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let rest = text.lines().find_map(|line| line.strip_prefix(name));
        let value = rest.and_then(|rest| rest.strip_prefix(' ')?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }

    /// Lines that the server printed so far, both outputs.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, line: String) {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    fn wait_ready(&mut self, lines: &Receiver<String>) {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) if line.starts_with("ready:") => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no `ready:` line within {} s", READY_LIMIT.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait_exit();
                    panic!("the server ended before it was ready: {status}");
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let skipped = log.len().saturating_sub(200);
            eprintln!("--- log of the server, {skipped} lines left out");
            for line in log.iter().skip(skipped) {
                eprintln!("{line}");
            }
        }
    }
}

/// Copies a pipe's lines into the log, and to `lines` when there is somebody to wait for them.
fn follow(
    pipe: Option<impl Read + Send + 'static>,
    name: &'static str,
    log: &Log,
    lines: Option<Sender<String>>,
) {
    let (Some(pipe), log) = (pipe, Arc::clone(log)) else {
        return;
    };
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(format!("{name} {line}"));
            drop(log);
            if let Some(lines) = &lines {
                // Nobody listens any more once the server is ready.
                let _ = lines.send(line);
            }
        }
    });
}
