//! Common header of every PDU.
//!
//! Source: NVMe/TCP 1.0 section 3.6.1 (common header), figure of PDU types.

use zerocopy::little_endian::U32;

open_enum! {
    /// PDU type.
    PduType: u8 {
        IC_REQ = 0x00, "Initialize Connection Request, host to controller.";
        IC_RESP = 0x01, "Initialize Connection Response, controller to host.";
        H2C_TERM_REQ = 0x02, "Terminate Connection Request of the host.";
        C2H_TERM_REQ = 0x03, "Terminate Connection Request of the controller.";
        CAPSULE_CMD = 0x04, "Command capsule, host to controller.";
        CAPSULE_RESP = 0x05, "Response capsule, controller to host.";
        H2C_DATA = 0x06, "Data, host to controller.";
        C2H_DATA = 0x07, "Data, controller to host.";
        R2T = 0x09, "Ready to Transfer, controller to host.";
    }
}

/// Flag bits of the common header.
pub mod flags {
    /// A header digest follows the header.
    pub const HDGSTF: u8 = 1 << 0;
    /// A data digest follows the data.
    pub const DDGSTF: u8 = 1 << 1;
    /// The last PDU of a transfer (H2CData, C2HData).
    pub const LAST_PDU: u8 = 1 << 2;
    /// The command succeeded and no response capsule follows (C2HData).
    pub const SUCCESS: u8 = 1 << 3;
}

/// Offsets of header fields in bytes: what a termination request reports.
pub mod field {
    /// PDU type.
    pub const TYPE: u8 = 0;
    /// Flags.
    pub const FLAGS: u8 = 1;
    /// Header length.
    pub const HLEN: u8 = 2;
    /// Data offset.
    pub const PDO: u8 = 3;
    /// PDU length.
    pub const PLEN: u8 = 4;
    /// PFV of ICReq and ICResp.
    pub const PFV: u8 = 8;
    /// HPDA of ICReq, CPDA of ICResp.
    pub const PDA: u8 = 10;
    /// Digests of ICReq and ICResp.
    pub const DGST: u8 = 11;
    /// MAXH2CDATA of ICResp.
    pub const MAXH2CDATA: u8 = 12;
    /// Command identifier of data PDUs and R2T.
    pub const CCCID: u8 = 8;
    /// Transfer tag of H2CData and R2T.
    pub const TTAG: u8 = 10;
    /// Data offset of data PDUs and R2T.
    pub const DATAO: u8 = 12;
    /// Data length of data PDUs and R2T.
    pub const DATAL: u8 = 16;
}

wire_struct! {
    /// The first 8 bytes of every PDU.
    CommonHeader[8] {
        0 kind: PduType, "PDU type.";
        1 flags: u8, "See `flags`.";
        2 hlen: u8, "Header length in bytes, digest not counted.";
        3 pdo: u8, "Offset of the data from the start of the PDU; 0 without data.";
        4 plen: U32, "Length of the whole PDU in bytes, digests and padding counted.";
    }
}

impl CommonHeader {
    /// A header for a PDU of fixed length without data or digest.
    #[must_use]
    pub fn bare(kind: PduType, hlen: u8) -> Self {
        Self {
            kind,
            flags: 0,
            hlen,
            pdo: 0,
            plen: U32::new(u32::from(hlen)),
        }
    }

    /// True when all bits of `mask` are set in the flags.
    #[must_use]
    pub const fn has(&self, mask: u8) -> bool {
        self.flags & mask == mask
    }
}
