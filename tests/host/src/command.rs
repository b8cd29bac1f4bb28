//! What goes into a queue and what comes out.

use wire::nvme::{Cqe, Sqe, Status};

use crate::HostError;

/// One command: its entry and its data. The queue sets identifier and data pointer.
#[derive(Clone, Debug)]
pub struct Command {
    /// The entry; its command identifier and SGL are overwritten.
    pub sqe: Sqe,
    /// Data to send.
    pub send: Vec<u8>,
    /// Bytes to receive.
    pub receive_bytes: usize,
}

impl Command {
    /// A command without data.
    #[must_use]
    pub fn bare(sqe: Sqe) -> Self {
        Self {
            sqe,
            send: Vec::new(),
            receive_bytes: 0,
        }
    }

    /// A command that sends `data`.
    #[must_use]
    pub fn sending(sqe: Sqe, data: Vec<u8>) -> Self {
        Self {
            sqe,
            send: data,
            receive_bytes: 0,
        }
    }

    /// A command that receives `receive_bytes` bytes.
    #[must_use]
    pub fn receiving(sqe: Sqe, receive_bytes: usize) -> Self {
        Self {
            sqe,
            send: Vec::new(),
            receive_bytes,
        }
    }
}

/// A command that is done.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Identifier that submit returned.
    pub cid: u16,
    /// The completion; built here when the last C2HData said SUCCESS.
    pub cqe: Cqe,
    /// Data received; `None` when the command receives none or failed.
    pub data: Option<Vec<u8>>,
}

impl Completion {
    /// Status without retry bits.
    #[must_use]
    pub fn status(&self) -> Status {
        self.cqe.status().code()
    }

    /// Errors: `Command` when the status is not success.
    pub fn ok(self, what: &'static str) -> Result<Self, HostError> {
        let status = self.cqe.status();
        if status.is_success() {
            return Ok(self);
        }
        Err(HostError::Command {
            what,
            status,
            result: self.cqe.result.get(),
        })
    }

    /// The data of a successful command.
    pub fn into_data(self, what: &'static str) -> Result<Vec<u8>, HostError> {
        let done = self.ok(what)?;
        let problem = || "success without data".to_owned();
        done.data.ok_or_else(|| HostError::Answer {
            what,
            problem: problem(),
        })
    }
}
