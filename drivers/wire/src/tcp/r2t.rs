//! Ready to Transfer.
//!
//! Source: NVMe/TCP 1.0 section 3.6.2.9.

use zerocopy::little_endian::{U16, U32};

use super::header::field;
use super::{CommonHeader, Framing, Layout, PduError, PduType};

wire_struct! {
    /// R2T: the controller asks for a part of the command's data.
    R2t[24] {
        0 ch: CommonHeader, "Type 09h, HLEN 24.";
        8 cccid: U16, "Command identifier.";
        10 ttag: U16, "Transfer tag, to come back in H2CData.";
        12 r2to: U32, "Offset in the command's data, in bytes.";
        16 r2tl: U32, "Length asked for, in bytes.";
        20 rsvd20: [u8; 4], "Reserved.";
    }
}

impl R2t {
    /// A request for `len_bytes` at `offset`, and where its parts lie.
    #[must_use]
    pub fn new(
        cccid: u16,
        ttag: u16,
        offset: u32,
        len_bytes: u32,
        framing: &Framing,
    ) -> (Self, Layout) {
        let layout = Layout::to_send(Self::SIZE, 0, framing);
        let pdu = Self {
            ch: layout.small_header(PduType::R2T),
            cccid: U16::new(cccid),
            ttag: U16::new(ttag),
            r2to: U32::new(offset),
            r2tl: U32::new(len_bytes),
            rsvd20: [0; 4],
        };
        (pdu, layout)
    }

    /// Checks the fields after the common header.
    ///
    /// Errors: `HeaderField` for an offset not in dwords or an empty length, `OutOfRange` when
    /// offset and length pass the end of the number space.
    pub fn check(&self) -> Result<(), PduError> {
        let (kind, offset, len_bytes) = (self.ch.kind, self.r2to.get(), self.r2tl.get());
        if !offset.is_multiple_of(4) {
            return Err(PduError::field(kind, field::DATAO, offset));
        }
        if len_bytes == 0 {
            return Err(PduError::field(kind, field::DATAL, len_bytes));
        }
        match offset.checked_add(len_bytes) {
            Some(_) => Ok(()),
            None => Err(PduError::OutOfRange {
                kind,
                offset,
                len_bytes,
            }),
        }
    }
}
