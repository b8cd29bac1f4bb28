//! Failures of a device, as data that every waiter can have a copy of.

use std::io;
use std::path::PathBuf;

/// What was asked of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Open or create.
    Open,
    /// Read bytes.
    Read,
    /// Write bytes.
    Write,
    /// Make completed writes durable.
    Flush,
    /// Give space back.
    Discard,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Flush => "flush",
            Operation::Discard => "discard",
        })
    }
}

/// Why a device did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Nothing is there.
    #[error("{path}: does not exist; check the path, or create it")]
    NotFound {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{path}: exists already; nothing was changed")]
    Exists {
        /// What was to be created.
        path: PathBuf,
    },
    /// A folder, a socket or something else that holds no blocks.
    #[error(
        "{path}: a directory, or something else that is neither a file nor a block device; name one of these"
    )]
    NotADevice {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{path}: in use by another process")]
    Locked {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The system does not promise this much memory to one process.
    #[error(
        "{path}: {len_bytes} bytes of memory cannot be had: {}; make it smaller",
        describe(*kind, *code)
    )]
    NoMemory {
        /// The device that was to be made.
        path: PathBuf,
        /// Length asked for.
        len_bytes: u64,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The operating system's number of it.
        code: Option<i32>,
    },
    /// The operating system refused.
    #[error("{path}: {operation} of {len_bytes} bytes at {offset} failed: {}", describe(*kind, *code))]
    Io {
        /// The device.
        path: PathBuf,
        /// What was asked.
        operation: Operation,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len_bytes: u64,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The operating system's number of it.
        code: Option<i32>,
    },
    /// Outside of the device, or not in whole 4 KiB blocks.
    #[error(
        "{path}: {operation} of {len_bytes} bytes at {offset}: not in 4 KiB blocks within {device_bytes} bytes"
    )]
    OutOfRange {
        /// The device.
        path: PathBuf,
        /// What was asked.
        operation: Operation,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len_bytes: u64,
        /// Length of the device.
        device_bytes: u64,
    },
    /// A flush failed earlier: what is on the device is not known any more.
    #[error("{path}: no more writes after a failed flush; open it again when it is repaired")]
    Failed {
        /// The device.
        path: PathBuf,
    },
}

fn describe(kind: io::ErrorKind, code: Option<i32>) -> String {
    code.map_or_else(
        || kind.to_string(),
        |code| io::Error::from_raw_os_error(code).to_string(),
    )
}
