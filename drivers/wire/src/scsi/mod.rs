//! SCSI: command descriptor blocks, sense data, parameter data. All numbers are big-endian.
//!
//! Source: SPC-4 and SBC-3.

pub mod cdb;
pub mod data;
pub mod opcode;
pub mod pr;
pub mod sense;
mod writer;

pub use cdb::{Cdb, Command};
pub use opcode::OpCode;
pub use sense::{Sense, SenseCode, SenseKey};
pub use writer::Writer;

open_enum! {
    /// Status of a command, SAM-5 section 5.3.
    Status: u8 {
        GOOD = 0x00, "Done.";
        CHECK_CONDITION = 0x02, "Failed; sense data says why.";
        CONDITION_MET = 0x04, "PRE-FETCH: all blocks fit the cache.";
        BUSY = 0x08, "Try again later.";
        RESERVATION_CONFLICT = 0x18, "Another nexus holds a reservation.";
        TASK_SET_FULL = 0x28, "No room for another task: send fewer.";
        ACA_ACTIVE = 0x30, "Not used here.";
        TASK_ABORTED = 0x40, "Aborted by another nexus.";
    }
}
