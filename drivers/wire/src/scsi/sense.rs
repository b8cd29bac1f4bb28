//! Sense data.
//!
//! Source: SPC-4 section 4.5.

open_enum! {
    /// What kind of failure.
    SenseKey: u8 {
        NO_SENSE = 0x0, "Nothing to report.";
        RECOVERED_ERROR = 0x1, "Done after an error.";
        NOT_READY = 0x2, "The unit cannot be used now.";
        MEDIUM_ERROR = 0x3, "Data could not be read or written.";
        HARDWARE_ERROR = 0x4, "The unit failed.";
        ILLEGAL_REQUEST = 0x5, "The command is wrong.";
        UNIT_ATTENTION = 0x6, "Something changed that the host must know first.";
        DATA_PROTECT = 0x7, "Writing is not allowed, or there is no space.";
        COPY_ABORTED = 0xa, "A third party copy failed.";
        ABORTED_COMMAND = 0xb, "The target aborted the command.";
        MISCOMPARE = 0xe, "Data differs from what it was compared with.";
    }
}

/// Why a command failed. Becomes fixed format (18 bytes) or descriptor format sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Kind of failure.
    pub key: SenseKey,
    /// Additional sense code, then its qualifier: `0x2400` is INVALID FIELD IN CDB.
    pub asc_ascq: u16,
    /// The INFORMATION field, such as the offset of a miscompare.
    pub information: Option<u32>,
    /// Field pointer into the CDB or the parameter data: (is in the CDB, byte, highest bit).
    pub field: Option<(bool, u16, Option<u8>)>,
}

impl Sense {
    /// Sense data with nothing beyond key and code.
    #[must_use]
    pub const fn new(key: SenseKey, asc_ascq: u16) -> Self {
        Self {
            key,
            asc_ascq,
            information: None,
            field: None,
        }
    }
}
