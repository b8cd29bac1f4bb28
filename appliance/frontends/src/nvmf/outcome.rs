//! How a command ended, before the transport adds queue head and identifier.

use reactor::buf::Buf;
use wire::nvme::Status;

/// Result of a command.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Command-specific result, completion dwords 0 and 1.
    pub result: u64,
    /// Data for the host; sent only when the status is success.
    pub data: Option<Buf>,
}

impl Outcome {
    /// Success without result or data.
    pub fn success() -> Self {
        Self {
            status: Status::SUCCESS,
            result: 0,
            data: None,
        }
    }

    /// Success with a result.
    pub fn with_result(result: u64) -> Self {
        Self {
            result,
            ..Self::success()
        }
    }

    /// Success with data.
    pub fn with_data(data: Buf) -> Self {
        Self {
            data: Some(data),
            ..Self::success()
        }
    }

    /// Failure.
    pub fn failure(status: Status) -> Self {
        Self {
            status,
            ..Self::success()
        }
    }
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self::failure(status)
    }
}
