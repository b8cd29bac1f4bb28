//! Strangers cannot fill the log: lines about bad connections are limited, and say so.

mod common;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::host::{Host, Link0, attach};
use common::{pause, serve};

/// What was logged so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, words: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let found = text.lines().filter(|line| line.contains(words));
        found.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that sends something that is not NVMe/TCP, and waits for its end.
fn nonsense(served: &common::Served) {
    let mut host = Host::raw(served.address);
    host.write(&[0xff; 128]);
    host.expect_term();
}

#[test]
fn a_flood_of_bad_connections_is_a_few_lines() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .init();
    let served = serve(4096);
    for _ in 0..60 {
        nonsense(&served);
    }
    let protocol = || log.lines_with("protocol error").len();
    // Sixty sockets may take some seconds on a busy machine, and each second admits one more.
    let logged = protocol();
    assert!((10..30).contains(&logged), "{logged} lines for 60 sockets");
    pause(Duration::from_millis(1500));
    nonsense(&served);
    served.wait_for("the flood's end", |metrics| {
        metrics.closed.get("protocol_error") == Some(&61)
    });
    assert!(protocol() > logged, "it speaks again after a while");
    let told = log.lines_with("more like it were not logged");
    assert!(!told.is_empty(), "what was left out is told");
    // The flood of one kind does not hide the lines of another.
    attach(served.address, Link0::default(), 16);
    assert_eq!(log.lines_with(": connected ").len(), 2);
}
