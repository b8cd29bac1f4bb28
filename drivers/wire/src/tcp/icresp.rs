//! Initialize Connection Response.
//!
//! Source: NVMe/TCP 1.0 section 3.6.2.2.

use zerocopy::little_endian::{U16, U32};

use super::frame::PDA_MAX;
use super::header::field;
use super::icreq::dgst;
use super::{CommonHeader, IcReq, MIN_MAXH2CDATA_BYTES, PduError, PduType};

wire_struct! {
    /// ICResp: what the connection will do.
    IcResp[128] {
        0 ch: CommonHeader, "Type 01h, HLEN and PLEN 128.";
        8 pfv: U16, "PDU format version, 0.";
        10 cpda: u8, "Alignment of data sent to the controller: 0-based, in dwords, 0 to 31.";
        11 dgst: u8, "Digests in use, see `icreq::dgst`.";
        12 maxh2cdata: U32, "Most data in one H2CData PDU, in bytes.";
        16 rsvd16: [u8; 112], "Reserved.";
    }
}

impl IcResp {
    /// Builds a response.
    #[must_use]
    pub fn new(cpda: u8, dgst: u8, maxh2cdata_bytes: u32) -> Self {
        Self {
            ch: CommonHeader::bare(PduType::IC_RESP, 128),
            cpda,
            dgst,
            maxh2cdata: U32::new(maxh2cdata_bytes),
            ..Self::zeroed()
        }
    }

    /// Checks the fields after the common header against the request they answer.
    ///
    /// Errors: `Unsupported` for another format version, `HeaderField` for an alignment above 31,
    /// for digests that were not asked for, and for a MAXH2CDATA below 4,096 or not in dwords.
    pub fn check(&self, request: &IcReq) -> Result<(), PduError> {
        let kind = self.ch.kind;
        if self.pfv.get() != 0 {
            let value = u64::from(self.pfv.get());
            return Err(PduError::Unsupported {
                kind,
                offset: field::PFV,
                value,
            });
        }
        if self.cpda > PDA_MAX {
            return Err(PduError::field(kind, field::PDA, self.cpda));
        }
        if self.dgst & (dgst::HEADER | dgst::DATA) & !request.dgst != 0 {
            return Err(PduError::field(kind, field::DGST, self.dgst));
        }
        let limit = self.maxh2cdata.get();
        if limit < MIN_MAXH2CDATA_BYTES || !limit.is_multiple_of(4) {
            return Err(PduError::field(kind, field::MAXH2CDATA, limit));
        }
        Ok(())
    }
}
