//! What can go wrong between the machine, the VM and the target.

use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a VM test could not go on.
#[derive(thiserror::Error)]
pub enum Error {
    /// A program or file the tests need is not on this machine.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// What was looked for.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A system call on something of ours failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// `prepare.sh` could not make the kernel and initramfs.
    #[error("tests/vm/prepare.sh failed ({status}): {stderr}")]
    Prepare {
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// The guest or the target did not say what was waited for in time.
    #[error("{who} did not say {wanted:?} within {limit:?}; its log: {}\n{tail}", log.display())]
    Timeout {
        /// `the guest` or `bedplate`.
        who: &'static str,
        /// The text waited for.
        wanted: String,
        /// How long.
        limit: Duration,
        /// Where everything it said is kept.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// The guest or the target ended before it said what was waited for.
    #[error("{who} ended before it said {wanted:?}; its log: {}\n{tail}", log.display())]
    Ended {
        /// `the guest` or `bedplate`.
        who: &'static str,
        /// The text waited for.
        wanted: String,
        /// Where everything it said is kept.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// The guest script gave up.
    #[error("the guest script failed: {reason}; its log: {}\n{tail}", log.display())]
    GuestFailed {
        /// What it said.
        reason: String,
        /// Where everything it said is kept.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// A program ended with a status it must not end with.
    #[error("{what} ended with {status}; its log: {}\n{tail}", log.display())]
    Status {
        /// Which program, and when.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// Where its output is kept.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// A setting of the environment means nothing.
    #[error("{name} is {value:?} and must be {expected}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A result of a measurement cannot be understood.
    #[error("no {what} in {}: look at what the guest measured there", path.display())]
    NoFigure {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A line of the guest is not what the protocol says.
    #[error("the guest said {line:?}, which is not {expected}")]
    Protocol {
        /// The line.
        line: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// Something acknowledged is missing or older than what was acknowledged.
    #[error("{stream}: {acked} was acknowledged as durable, but only {found} was found")]
    Lost {
        /// Which stream of records.
        stream: String,
        /// The newest acknowledged record.
        acked: u64,
        /// The newest record found.
        found: u64,
    },
}

impl Error {
    /// Wraps an I/O error of `action` on `path`; made for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// As a sentence: a test that unwraps an error shows this form, and people read it.
impl Debug for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}
