//! How a command ended.

use reactor::buf::Buf;
use wire::scsi::{Sense, SenseCode, SenseKey, Status};

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its status.
    pub status: Status,
    /// With CHECK CONDITION.
    pub sense: Option<Sense>,
    /// Data for the host, never more than the command asked for.
    pub data: Option<Buf>,
}

impl Outcome {
    /// GOOD without data.
    #[must_use]
    pub fn good() -> Self {
        Self::status(Status::GOOD)
    }

    /// A status without sense data.
    #[must_use]
    pub fn status(status: Status) -> Self {
        Self {
            status,
            sense: None,
            data: None,
        }
    }

    /// GOOD with data.
    #[must_use]
    pub fn with_data(data: Buf) -> Self {
        Self {
            data: Some(data),
            ..Self::good()
        }
    }

    /// CHECK CONDITION.
    #[must_use]
    pub fn check(sense: Sense) -> Self {
        Self {
            sense: Some(sense),
            ..Self::status(Status::CHECK_CONDITION)
        }
    }

    /// RESERVATION CONFLICT.
    #[must_use]
    pub fn conflict() -> Self {
        Self::status(Status::RESERVATION_CONFLICT)
    }

    /// INVALID FIELD IN CDB, pointing to a byte, or to a bit of it.
    #[must_use]
    pub fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::check(Sense::invalid_cdb(byte, bit))
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing to a byte, or to a bit of it.
    #[must_use]
    pub fn invalid_field_in_parameters(byte: u16, bit: Option<u8>) -> Self {
        Self::check(Sense::invalid_parameter(byte, bit))
    }

    /// PARAMETER LIST LENGTH ERROR.
    #[must_use]
    pub fn parameter_list_length() -> Self {
        Self::check(Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH))
    }

    /// Something that cannot be happened: HARDWARE ERROR, INTERNAL TARGET FAILURE.
    #[must_use]
    pub fn internal() -> Self {
        Self::check(Sense::new(
            SenseKey::HARDWARE_ERROR,
            SenseCode::INTERNAL_FAILURE,
        ))
    }

    /// Whether it is GOOD.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status == Status::GOOD
    }
}

impl From<Sense> for Outcome {
    fn from(sense: Sense) -> Self {
        Self::check(sense)
    }
}
