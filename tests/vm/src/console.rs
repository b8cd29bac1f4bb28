//! The output of a child process, line by line, kept in a log at the same time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::time::{Deadline, spawn};
use crate::{Error, Result};

/// How many lines of a log an error message repeats.
const TAIL_LINES: usize = 60;

/// What waiting for a line gave.
#[derive(Debug, Eq, PartialEq)]
pub enum ConsoleEvent {
    /// A line, without its end and with anything that is not UTF-8 replaced.
    Line(String),
    /// The program closed its output: it ended.
    Ended,
    /// Nothing came in time.
    Late,
}

/// The lines a program writes, from the moment it was started.
#[derive(Debug)]
pub struct Console {
    who: &'static str,
    log: PathBuf,
    side_log: PathBuf,
    lines: Receiver<String>,
}

impl Console {
    /// Reads `stream` on a thread of its own until it ends, appending to the file `log`.
    /// What goes wrong is often explained in `side_log`, so errors show its end as well.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn watch(
        who: &'static str,
        stream: impl Read + Send + 'static,
        log: &Path,
        side_log: &Path,
    ) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.map_err(Error::io("open", log))?;
        let (sender, lines) = channel();
        spawn(move || copy_lines(stream, file, &sender));
        Ok(Self {
            who,
            log: log.to_path_buf(),
            side_log: side_log.to_path_buf(),
            lines,
        })
    }

    /// The next line, waiting at most `limit`.
    pub fn next(&mut self, limit: Duration) -> ConsoleEvent {
        match self.lines.recv_timeout(limit) {
            Ok(line) => ConsoleEvent::Line(line),
            Err(RecvTimeoutError::Disconnected) => ConsoleEvent::Ended,
            Err(RecvTimeoutError::Timeout) => ConsoleEvent::Late,
        }
    }

    /// The first line from now on that `matches`; `wanted` names it in errors.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`, [`Error::Ended`] when the program ends before.
    pub fn expect(
        &mut self,
        wanted: &str,
        limit: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Deadline::after(limit);
        loop {
            match self.next(deadline.left()) {
                ConsoleEvent::Line(line) if matches(&line) => return Ok(line),
                ConsoleEvent::Line(_) => {}
                ConsoleEvent::Ended => return Err(self.ended(wanted)),
                ConsoleEvent::Late => return Err(self.timeout(wanted, limit)),
            }
        }
    }

    /// Where everything is kept.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of both logs.
    #[must_use]
    pub fn tail(&self) -> String {
        let side = self.side_log.display();
        format!(
            "{}\n--- {side}\n{}",
            tail_of(&self.log),
            tail_of(&self.side_log)
        )
    }

    pub(crate) fn ended(&self, wanted: &str) -> Error {
        Error::Ended {
            who: self.who,
            wanted: wanted.to_owned(),
            log: self.log.clone(),
            tail: self.tail(),
        }
    }

    pub(crate) fn timeout(&self, wanted: &str, limit: Duration) -> Error {
        Error::Timeout {
            who: self.who,
            wanted: wanted.to_owned(),
            limit,
            log: self.log.clone(),
            tail: self.tail(),
        }
    }
}

/// The last lines of the file `log`; empty when it cannot be read.
pub(crate) fn tail_of(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn copy_lines(stream: impl Read, mut log: File, sender: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    // An error here is the end of the program as well: the pipe is gone.
    while reader
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|len| len > 0)
    {
        // The log is a help for people; a full disk must not hide the line from the test.
        let _ = log.write_all(&bytes);
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        // The console is gone once the test is over; the rest is still worth logging.
        let _ = sender.send(line);
    }
}
