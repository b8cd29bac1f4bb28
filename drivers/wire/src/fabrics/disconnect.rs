//! Disconnect: ends one I/O queue.
//!
//! Source: base 2.0 section 6.4, NVMe-oF 1.1 section 3.6.

use zerocopy::little_endian::U16;

use crate::fabrics::{FabricsType, fabrics_command};

wire_struct! {
    /// The Disconnect command.
    Disconnect[64] {
        0 opcode: u8, "7Fh.";
        1 flags: u8, "Data pointer kind in bits 7:6.";
        2 cid: U16, "Command identifier.";
        4 fctype: FabricsType, "08h.";
        5 rsvd5: [u8; 35], "Reserved.";
        40 recfmt: U16, "Record format, 0.";
        42 rsvd42: [u8; 22], "Reserved.";
    }
}

fabrics_command!(Disconnect, FabricsType::DISCONNECT, "Disconnect");

impl Disconnect {
    /// Builds the command.
    #[must_use]
    pub fn new(cid: u16) -> Self {
        Self::blank(cid)
    }
}
