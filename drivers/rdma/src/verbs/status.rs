//! What a card says about work, in our words.

use super::ffi;
use crate::WorkError;

/// The error that a status of a completion means; none for success.
pub fn work_error(status: u32) -> Option<WorkError> {
    Some(match status {
        ffi::STATUS_SUCCESS => return None,
        ffi::STATUS_LOCAL_LENGTH => WorkError::Length,
        ffi::STATUS_LOCAL_OPERATION | ffi::STATUS_LOCAL_PROTECTION | ffi::STATUS_LOCAL_ACCESS => {
            WorkError::Local
        }
        ffi::STATUS_FLUSHED => WorkError::Flushed,
        ffi::STATUS_REMOTE_INVALID => WorkError::RemoteInvalid,
        ffi::STATUS_REMOTE_ACCESS => WorkError::RemoteAccess,
        ffi::STATUS_REMOTE_OPERATION => WorkError::RemoteOperation,
        ffi::STATUS_RETRIES_EXCEEDED => WorkError::Unreachable,
        ffi::STATUS_RECEIVER_NOT_READY => WorkError::ReceiverNotReady,
        other => WorkError::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_meaning() {
        let expected = [
            (0, None),
            (1, Some(WorkError::Length)),
            (2, Some(WorkError::Local)),
            (4, Some(WorkError::Local)),
            (5, Some(WorkError::Flushed)),
            (8, Some(WorkError::Local)),
            (9, Some(WorkError::RemoteInvalid)),
            (10, Some(WorkError::RemoteAccess)),
            (11, Some(WorkError::RemoteOperation)),
            (12, Some(WorkError::Unreachable)),
            (13, Some(WorkError::ReceiverNotReady)),
            (21, Some(WorkError::Other(21))),
        ];
        for (status, error) in expected {
            assert_eq!(work_error(status), error, "status {status}");
        }
    }
}
