//! Data PDUs of both directions.
//!
//! Source: NVMe/TCP 1.0 sections 3.6.2.7 (H2CData), 3.6.2.8 (C2HData), 3.3.2 (transfers with R2T).

use zerocopy::little_endian::{U16, U32};

use super::header::{field, flags};
use super::{CommonHeader, Framing, Layout, PduError, PduType, R2t};

wire_struct! {
    /// H2CData: data that an R2T asked for.
    H2cData[24] {
        0 ch: CommonHeader, "Type 06h, HLEN 24.";
        8 cccid: U16, "Command identifier.";
        10 ttag: U16, "Transfer tag of the R2T.";
        12 datao: U32, "Offset in the command's data, in bytes.";
        16 datal: U32, "Length in bytes.";
        20 rsvd20: [u8; 4], "Reserved.";
    }
}

wire_struct! {
    /// C2HData: data of a command, to the host.
    C2hData[24] {
        0 ch: CommonHeader, "Type 07h, HLEN 24.";
        8 cccid: U16, "Command identifier.";
        10 rsvd10: U16, "Reserved.";
        12 datao: U32, "Offset in the command's data, in bytes.";
        16 datal: U32, "Length in bytes.";
        20 rsvd20: [u8; 4], "Reserved.";
    }
}

impl H2cData {
    /// A PDU with `len_bytes` at `offset`, and where its parts lie.
    ///
    /// Errors: `LimitExceeded` when the data does not fit into a PDU.
    pub fn new(
        cccid: u16,
        ttag: u16,
        span: (u32, u32),
        last: bool,
        framing: &Framing,
    ) -> Result<(Self, Layout), PduError> {
        let (offset, len_bytes) = span;
        let layout = Layout::to_send(Self::SIZE, len_bytes as usize, framing);
        let extra = if last { flags::LAST_PDU } else { 0 };
        let pdu = Self {
            ch: layout.common_header(PduType::H2C_DATA, extra)?,
            cccid: U16::new(cccid),
            ttag: U16::new(ttag),
            datao: U32::new(offset),
            datal: U32::new(len_bytes),
            rsvd20: [0; 4],
        };
        Ok((pdu, layout))
    }

    /// True for the last PDU of its R2T.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.ch.has(flags::LAST_PDU)
    }

    /// Checks the fields after the common header against the layout.
    ///
    /// Errors: `HeaderField` for a length that PLEN contradicts or an offset not in dwords,
    /// `OutOfRange` when offset and length pass the end of the number space.
    pub fn check(&self, layout: &Layout) -> Result<(), PduError> {
        check_span(self.ch.kind, self.datao.get(), self.datal.get(), layout)
    }
}

impl C2hData {
    /// A PDU with `len_bytes` at `offset` (`span`), and where its parts lie.
    ///
    /// `extra` is [`flags::LAST_PDU`] for the last PDU of the command, with [`flags::SUCCESS`]
    /// when no response capsule will follow. Errors: `LimitExceeded` when the data does not fit
    /// into a PDU.
    pub fn new(
        cccid: u16,
        span: (u32, u32),
        extra: u8,
        framing: &Framing,
    ) -> Result<(Self, Layout), PduError> {
        let (offset, len_bytes) = span;
        let layout = Layout::to_send(Self::SIZE, len_bytes as usize, framing);
        let extra = extra & (flags::LAST_PDU | flags::SUCCESS);
        let pdu = Self {
            ch: layout.common_header(PduType::C2H_DATA, extra)?,
            cccid: U16::new(cccid),
            datao: U32::new(offset),
            datal: U32::new(len_bytes),
            ..Self::zeroed()
        };
        Ok((pdu, layout))
    }

    /// True for the last PDU of its command.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.ch.has(flags::LAST_PDU)
    }

    /// True when the command succeeded and no response capsule follows.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.ch.has(flags::SUCCESS)
    }

    /// Checks the fields after the common header against the layout.
    ///
    /// Errors: as [`H2cData::check`], and `HeaderField` for SUCCESS without LAST_PDU.
    pub fn check(&self, layout: &Layout) -> Result<(), PduError> {
        if self.is_success() && !self.is_last() {
            return Err(PduError::field(self.ch.kind, field::FLAGS, self.ch.flags));
        }
        check_span(self.ch.kind, self.datao.get(), self.datal.get(), layout)
    }
}

fn check_span(kind: PduType, offset: u32, len_bytes: u32, layout: &Layout) -> Result<(), PduError> {
    if usize::try_from(len_bytes) != Ok(layout.data) {
        return Err(PduError::field(kind, field::DATAL, len_bytes));
    }
    if !offset.is_multiple_of(4) {
        return Err(PduError::field(kind, field::DATAO, offset));
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

/// What one R2T still waits for. Data comes in order and without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Command identifier.
    pub cccid: u16,
    /// Transfer tag.
    pub ttag: u16,
    /// Offset of the next byte in the command's data.
    pub next_offset: u32,
    /// Bytes still to come.
    pub remaining_bytes: u32,
}

impl Grant {
    /// What `r2t` asked for, nothing received yet.
    #[must_use]
    pub fn of(r2t: &R2t) -> Self {
        Self {
            cccid: r2t.cccid.get(),
            ttag: r2t.ttag.get(),
            next_offset: r2t.r2to.get(),
            remaining_bytes: r2t.r2tl.get(),
        }
    }

    /// Takes the header of the next H2CData PDU; `true` when it is the last one.
    ///
    /// Errors: `HeaderField` for a tag or command identifier of another transfer, or for a
    /// LAST_PDU flag that comes early or not at all; `OutOfRange` for data that was not asked for
    /// or is out of order. The grant is unchanged then.
    pub fn accept(&mut self, pdu: &H2cData) -> Result<bool, PduError> {
        let kind = pdu.ch.kind;
        if pdu.ttag.get() != self.ttag {
            return Err(PduError::field(kind, field::TTAG, pdu.ttag.get()));
        }
        if pdu.cccid.get() != self.cccid {
            return Err(PduError::field(kind, field::CCCID, pdu.cccid.get()));
        }
        let (offset, len_bytes) = (pdu.datao.get(), pdu.datal.get());
        let out_of_range = PduError::OutOfRange {
            kind,
            offset,
            len_bytes,
        };
        let remaining = self
            .remaining_bytes
            .checked_sub(len_bytes)
            .ok_or(out_of_range)?;
        if offset != self.next_offset {
            return Err(out_of_range);
        }
        let next_offset = offset.checked_add(len_bytes).ok_or(out_of_range)?;
        if pdu.is_last() != (remaining == 0) {
            return Err(PduError::field(kind, field::FLAGS, pdu.ch.flags));
        }
        (self.next_offset, self.remaining_bytes) = (next_offset, remaining);
        Ok(remaining == 0)
    }
}
