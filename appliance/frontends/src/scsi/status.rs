//! The one table from an engine error to the sense data that hosts see; `nvmf::status` is its
//! sibling.
//!
//! Source: SPC-4 section 4.5.7, SBC-3 section 4.18 (error reporting).

use volume::{ErrorKind, VolumeError};
use wire::scsi::{Sense, SenseCode, SenseKey};

/// Which half of the media errors a command gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads, compares, verifies.
    Reads,
    /// Everything that changes or flushes data.
    Writes,
}

/// Sense data of a command that failed with `error`.
pub(super) fn of_error(error: &VolumeError, access: Access) -> Sense {
    let (key, code) = of_kind(error.kind(), access);
    let sense = Sense::new(key, code);
    match error {
        VolumeError::OutOfRange { lba, .. } => sense.with_information(*lba),
        VolumeError::Corrupt { corruption, .. } => sense.with_information(corruption.lba),
        _ => sense,
    }
}

/// The table itself.
pub(super) fn of_kind(kind: ErrorKind, access: Access) -> (SenseKey, SenseCode) {
    use SenseCode as Code;
    match (kind, access) {
        (ErrorKind::OutOfRange, _) => (SenseKey::ILLEGAL_REQUEST, Code::LBA_OUT_OF_RANGE),
        (ErrorKind::TooLarge | ErrorKind::Invalid, _) => {
            (SenseKey::ILLEGAL_REQUEST, Code::INVALID_FIELD_IN_CDB)
        }
        (ErrorKind::CompareMismatch, _) => (SenseKey::MISCOMPARE, Code::MISCOMPARE),
        (ErrorKind::Corrupt, _) => (SenseKey::MEDIUM_ERROR, Code::UNRECOVERED_READ_ERROR),
        // Thin provisioning: hosts stop writing and tell their operator.
        (ErrorKind::PoolFull, _) => (SenseKey::DATA_PROTECT, Code::SPACE_ALLOCATION_FAILED),
        (ErrorKind::Failed, _) => (SenseKey::HARDWARE_ERROR, Code::INTERNAL_FAILURE),
        (ErrorKind::Device, Access::Reads) => {
            (SenseKey::MEDIUM_ERROR, Code::UNRECOVERED_READ_ERROR)
        }
        (ErrorKind::Device, Access::Writes) => (SenseKey::MEDIUM_ERROR, Code::WRITE_ERROR),
        (ErrorKind::Closed, _) => (SenseKey::NOT_READY, Code::NOT_READY),
        (ErrorKind::NotFound, _) => (SenseKey::ILLEGAL_REQUEST, Code::LUN_NOT_SUPPORTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host does with the sense key: give up, retry, ask the operator.
    #[test]
    fn every_kind_of_error_has_its_sense() {
        let table = [
            (ErrorKind::OutOfRange, 0x5, 0x2100, 0x2100),
            (ErrorKind::TooLarge, 0x5, 0x2400, 0x2400),
            (ErrorKind::Invalid, 0x5, 0x2400, 0x2400),
            (ErrorKind::CompareMismatch, 0xe, 0x1d00, 0x1d00),
            (ErrorKind::Corrupt, 0x3, 0x1100, 0x1100),
            (ErrorKind::PoolFull, 0x7, 0x2707, 0x2707),
            (ErrorKind::Failed, 0x4, 0x4400, 0x4400),
            (ErrorKind::Device, 0x3, 0x1100, 0x0c00),
            (ErrorKind::Closed, 0x2, 0x0400, 0x0400),
            (ErrorKind::NotFound, 0x5, 0x2500, 0x2500),
        ];
        for (kind, key, reads, writes) in table {
            for (access, code) in [(Access::Reads, reads), (Access::Writes, writes)] {
                let expected = (SenseKey(key), SenseCode(code));
                assert_eq!(of_kind(kind, access), expected, "{kind:?} {access:?}");
            }
        }
    }

    #[test]
    fn the_first_bad_block_is_told() {
        let error = VolumeError::OutOfRange {
            lba: 7,
            block_count: 1,
            capacity_blocks: 7,
        };
        assert_eq!(of_error(&error, Access::Reads).information, Some(7));
    }
}
