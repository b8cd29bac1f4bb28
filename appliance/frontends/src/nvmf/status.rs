//! The one table from an engine error to the NVMe status that hosts see.
//!
//! Do Not Retry is set where the same command would fail the same way; Linux then gives up at once
//! instead of trying five times. Source: NVM command set 1.0 section 3; base 2.0 section 4.2.3.

use volume::{ErrorKind, VolumeError};
use wire::nvme::{Sgl, Status};

/// Which half of the media errors a command gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read, Compare, Verify.
    Reads,
    /// Everything that changes or flushes data.
    Writes,
}

/// The status that completes a command which failed with `error`.
pub fn of_error(error: &VolumeError, access: Access) -> Status {
    of_kind(error.kind(), access)
}

/// The table itself.
pub fn of_kind(kind: ErrorKind, access: Access) -> Status {
    match (kind, access) {
        (ErrorKind::OutOfRange, _) => Status::LBA_OUT_OF_RANGE.with_dnr(),
        (ErrorKind::TooLarge | ErrorKind::Invalid, _) => Status::INVALID_FIELD.with_dnr(),
        (ErrorKind::CompareMismatch, _) => Status::COMPARE_FAILURE.with_dnr(),
        // The same bytes would be refused again: only a copy helps.
        (ErrorKind::Corrupt, _) => Status::UNRECOVERED_READ_ERROR.with_dnr(),
        // Somebody may trim or add space: the host decides how long it waits.
        (ErrorKind::PoolFull, _) => Status::CAPACITY_EXCEEDED,
        // Fail-stop: it stays so until an operator acts.
        (ErrorKind::Failed, Access::Reads) => Status::UNRECOVERED_READ_ERROR.with_dnr(),
        (ErrorKind::Failed, Access::Writes) => Status::WRITE_FAULT.with_dnr(),
        (ErrorKind::Device, Access::Reads) => Status::UNRECOVERED_READ_ERROR,
        (ErrorKind::Device, Access::Writes) => Status::WRITE_FAULT,
        (ErrorKind::Closed, _) => Status::NAMESPACE_NOT_READY,
        (ErrorKind::NotFound, _) => Status::INVALID_NAMESPACE.with_dnr(),
    }
}

/// Completion of a command whose data pointer cannot be decoded.
pub fn of_sgl_error(error: &wire::Error) -> Status {
    match error {
        wire::Error::SglType { .. } | wire::Error::SglSubtype { .. } => {
            Status::SGL_TYPE_INVALID.with_dnr()
        }
        _ => Status::INVALID_FIELD.with_dnr(),
    }
}

/// Completion of a command whose data pointer is of a kind that this place does not take.
pub fn of_wrong_sgl(sgl: &Sgl) -> Status {
    match sgl {
        Sgl::Segment { .. } => Status::INVALID_SGL_SEGMENT.with_dnr(),
        _ => Status::SGL_TYPE_INVALID.with_dnr(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host does with the status: give up, retry, or try another copy.
    #[test]
    fn every_kind_of_error_has_its_status() {
        let reads = Access::Reads;
        let writes = Access::Writes;
        let table = [
            (
                ErrorKind::OutOfRange,
                writes,
                Status::LBA_OUT_OF_RANGE,
                true,
            ),
            (ErrorKind::TooLarge, writes, Status::INVALID_FIELD, true),
            (ErrorKind::Invalid, writes, Status::INVALID_FIELD, true),
            (
                ErrorKind::CompareMismatch,
                reads,
                Status::COMPARE_FAILURE,
                true,
            ),
            (
                ErrorKind::Corrupt,
                reads,
                Status::UNRECOVERED_READ_ERROR,
                true,
            ),
            (
                ErrorKind::PoolFull,
                writes,
                Status::CAPACITY_EXCEEDED,
                false,
            ),
            (ErrorKind::Failed, writes, Status::WRITE_FAULT, true),
            (
                ErrorKind::Failed,
                reads,
                Status::UNRECOVERED_READ_ERROR,
                true,
            ),
            (ErrorKind::Device, writes, Status::WRITE_FAULT, false),
            (
                ErrorKind::Device,
                reads,
                Status::UNRECOVERED_READ_ERROR,
                false,
            ),
            (
                ErrorKind::Closed,
                writes,
                Status::NAMESPACE_NOT_READY,
                false,
            ),
            (ErrorKind::NotFound, reads, Status::INVALID_NAMESPACE, true),
        ];
        for (kind, access, status, dnr) in table {
            let found = of_kind(kind, access);
            assert_eq!(
                (found.code(), found.dnr()),
                (status, dnr),
                "{kind:?} {access:?}"
            );
        }
    }
}
