//! Completion queue entry.
//!
//! Source: base 2.0 section 3.3.3.2 (layout), NVMe-oF: the first 8 bytes are one result field.

use zerocopy::little_endian::{U16, U64};

use crate::nvme::Status;

wire_struct! {
    /// A 16-byte completion; over fabrics it is the response capsule.
    Cqe[16] {
        0 result: U64, "Command-specific result; Property Get uses all 8 bytes.";
        8 sqhd: U16, "Submission queue head, in entries.";
        10 sqid: U16, "Submission queue identifier; reserved over fabrics.";
        12 cid: U16, "Identifier of the command that completed.";
        14 status: U16, "Status and phase tag, see `Status`.";
    }
}

impl Cqe {
    /// A completion as sent over fabrics: phase tag and queue identifier zero.
    #[must_use]
    pub fn new(cid: u16, sqhd: u16, status: Status, result: u64) -> Self {
        Self {
            result: U64::new(result),
            sqhd: U16::new(sqhd),
            sqid: U16::ZERO,
            cid: U16::new(cid),
            status: U16::new(status.field(false)),
        }
    }

    /// The status without its phase tag.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::from_field(self.status.get())
    }

    /// The phase tag.
    #[must_use]
    pub fn phase(&self) -> bool {
        self.status.get() & 1 != 0
    }

    /// Dword 0 of the result.
    #[must_use]
    pub fn dw0(&self) -> u32 {
        let bytes = self.result.get().to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}
