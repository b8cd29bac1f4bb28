//! What goes into a queue and what comes out.

use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::command::{Abort, GetLogPage, Identify, SetFeatures};
use wire::nvme::feature::{FeatureId, NumberOfQueues};
use wire::nvme::identify::IDENTIFY_BYTES;
use wire::nvme::log::LogId;
use wire::nvme::register::PropertySize;
use wire::nvme::{Cqe, Sgl, Sqe, Status};

use crate::{Cid, HostError};

/// The queue replaces it by one of the right kind and length.
pub(crate) const NO_DATA: Sgl = Sgl::Transport { len_bytes: 0 };

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

/// Admin and fabrics commands by name.
impl Command {
    /// Identify.
    #[must_use]
    pub fn identify(fields: Identify, nsid: u32) -> Self {
        Self::receiving(fields.encode(0, nsid, NO_DATA), IDENTIFY_BYTES)
    }

    /// Get Log Page: `len_bytes` (a multiple of 4) from `offset_bytes`.
    #[must_use]
    pub fn get_log(lid: LogId, nsid: u32, offset_bytes: u64, len_bytes: usize) -> Self {
        let log = GetLogPage {
            lid,
            numd_zero_based: (len_bytes / 4).saturating_sub(1) as u32,
            lpo: offset_bytes,
            ..GetLogPage::default()
        };
        Self::receiving(log.encode(0, nsid, NO_DATA), len_bytes)
    }

    /// Set Features with a value in dword 11.
    #[must_use]
    pub fn set_feature(fid: FeatureId, value: u32) -> Self {
        let set = SetFeatures {
            fid,
            cdw11: value,
            ..SetFeatures::default()
        };
        Self::bare(set.encode(0, 0, None))
    }

    /// Set Features that asks for `count` I/O queues; [`granted_queues`] reads the answer.
    #[must_use]
    pub fn queue_count(count: u16) -> Self {
        let zero_based = count.saturating_sub(1);
        let ask = NumberOfQueues {
            submission_zero_based: zero_based,
            completion_zero_based: zero_based,
        };
        Self::set_feature(FeatureId::NUMBER_OF_QUEUES, ask.encode())
    }

    /// Abort.
    #[must_use]
    pub fn abort(sqid: u16, cid: Cid) -> Self {
        Self::bare(Abort { sqid, cid }.encode(0))
    }

    /// Property Get; `eight` for the 8-byte ones.
    #[must_use]
    pub fn property_get(offset: u32, eight: bool) -> Self {
        let size = if eight {
            PropertySize::EIGHT
        } else {
            PropertySize::FOUR
        };
        Self::bare(PropertyGet::new(0, size, offset).to_sqe())
    }

    /// Property Set of a 4-byte property.
    #[must_use]
    pub fn property_set(offset: u32, value: u32) -> Self {
        let set = PropertySet::new(0, PropertySize::FOUR, offset, u64::from(value));
        Self::bare(set.to_sqe())
    }
}

/// How many I/O queues the answer to [`Command::queue_count`] grants.
pub fn granted_queues(dw0: u32) -> Result<u16, HostError> {
    let granted = NumberOfQueues::decode(dw0)?;
    let least = granted
        .submission_zero_based
        .min(granted.completion_zero_based);
    Ok(least.saturating_add(1))
}

/// A command that is done.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Identifier that submit returned.
    pub cid: u16,
    /// The completion; over TCP built here when the last C2HData said SUCCESS.
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
