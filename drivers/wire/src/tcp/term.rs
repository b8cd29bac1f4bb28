//! Terminate Connection Requests of both sides.
//!
//! Source: NVMe/TCP 1.0 sections 3.6.2.3 and 3.6.2.4.

use zerocopy::little_endian::{U16, U32};

use super::frame::TERM_DATA_MAX;
use super::{CommonHeader, FatalStatus, PduError, PduType, Receiver};

wire_struct! {
    /// H2CTermReq and C2HTermReq; the header of the PDU in error follows as data.
    TermReq[24] {
        0 ch: CommonHeader, "Type 02h or 03h, HLEN 24, PLEN 24 to 152, no digests.";
        8 fes: U16, "Fatal error status.";
        10 fei: U32, "Fatal error information.";
        14 rsvd14: [u8; 10], "Reserved.";
    }
}

impl TermReq {
    /// The fatal error status.
    #[must_use]
    pub fn status(&self) -> FatalStatus {
        FatalStatus(self.fes.get())
    }
}

/// A complete termination request, ready to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermFrame {
    bytes: [u8; TermReq::SIZE + TERM_DATA_MAX],
    len: usize,
}

impl TermFrame {
    /// Builds the request that reports `error` about the PDU that starts with `pdu_header`.
    ///
    /// `sender_is` names the side that found the error (the receiver of the bad PDU). Of
    /// `pdu_header` at most 128 bytes are sent back.
    #[must_use]
    pub fn new(sender_is: Receiver, error: &PduError, pdu_header: &[u8]) -> Self {
        let kind = match sender_is {
            Receiver::Controller => PduType::C2H_TERM_REQ,
            Receiver::Host => PduType::H2C_TERM_REQ,
        };
        let copied = pdu_header.len().min(TERM_DATA_MAX);
        let len = TermReq::SIZE + copied;
        let mut ch = CommonHeader::bare(kind, 24);
        ch.plen = U32::new(len as u32);
        let request = TermReq {
            ch,
            fes: U16::new(error.status().0),
            fei: U32::new(error.information()),
            ..TermReq::zeroed()
        };
        let mut bytes = [0; TermReq::SIZE + TERM_DATA_MAX];
        let (head, tail) = bytes.split_at_mut(TermReq::SIZE);
        head.copy_from_slice(request.as_wire());
        for (to, from) in tail.iter_mut().zip(pdu_header) {
            *to = *from;
        }
        Self { bytes, len }
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}
