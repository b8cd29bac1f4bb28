//! Initialize Connection Request.
//!
//! Source: NVMe/TCP 1.0 section 3.6.2.1.

use zerocopy::little_endian::{U16, U32};

use super::frame::PDA_MAX;
use super::header::field;
use super::{CommonHeader, PduError, PduType};

/// DGST bits of ICReq and ICResp.
pub mod dgst {
    /// Header digests.
    pub const HEADER: u8 = 1 << 0;
    /// Data digests.
    pub const DATA: u8 = 1 << 1;
}

wire_struct! {
    /// ICReq: what the host can do.
    IcReq[128] {
        0 ch: CommonHeader, "Type 00h, HLEN and PLEN 128.";
        8 pfv: U16, "PDU format version, 0.";
        10 hpda: u8, "Alignment of data sent to the host: 0-based, in dwords, 0 to 31.";
        11 dgst: u8, "Digests the host asks for, see `dgst`.";
        12 maxr2t: U32, "R2Ts in flight per command, 0-based.";
        16 rsvd16: [u8; 112], "Reserved.";
    }
}

impl IcReq {
    /// Builds a request.
    #[must_use]
    pub fn new(hpda: u8, dgst: u8, maxr2t_zero_based: u32) -> Self {
        Self {
            ch: CommonHeader::bare(PduType::IC_REQ, 128),
            hpda,
            dgst,
            maxr2t: U32::new(maxr2t_zero_based),
            ..Self::zeroed()
        }
    }

    /// Checks the fields after the common header.
    ///
    /// Errors: `Unsupported` for another format version, `HeaderField` for an alignment above 31.
    pub fn check(&self) -> Result<(), PduError> {
        if self.pfv.get() != 0 {
            let value = u64::from(self.pfv.get());
            return Err(PduError::Unsupported {
                kind: self.ch.kind,
                offset: field::PFV,
                value,
            });
        }
        if self.hpda > PDA_MAX {
            return Err(PduError::field(self.ch.kind, field::PDA, self.hpda));
        }
        Ok(())
    }
}
