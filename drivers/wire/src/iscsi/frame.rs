//! Where the parts of a PDU lie, judged from its basic header segment.
//!
//! ```text
//! | BHS 48 | AHS | header digest 0 or 4 | data | padding to 4 | data digest 0 or 4 |
//! ```
//!
//! Source: RFC 7143 sections 11.1 (template), 11.2 (basic header), 11.2.3 (digests), 11.2.4 (data).

use super::{BHS_BYTES, Bhs, Opcode, PduError};
use crate::crc::DIGEST_BYTES;

/// Most bytes of additional header segments that a header can announce.
pub const AHS_MAX_BYTES: usize = 255 * 4;
/// MaxRecvDataSegmentLength during a login, and until something else is declared, in bytes.
pub const DEFAULT_MAX_DATA_BYTES: u32 = 8192;
/// What parts are padded to, in bytes.
const WORD_BYTES: usize = 4;

/// Who reads the PDUs of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The target: PDUs come from the initiator.
    Target,
    /// The initiator: PDUs come from the target.
    Initiator,
}

/// Negotiated digests of a connection; both directions have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// HeaderDigest=CRC32C.
    pub header: bool,
    /// DataDigest=CRC32C.
    pub data: bool,
}

/// What a receiver knows about its connection: enough to judge a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which side reads.
    pub receiver: Receiver,
    /// Full feature phase was reached.
    pub full_feature: bool,
    /// Digests of the PDUs coming in.
    pub digests: Digests,
    /// Most data in one PDU, in bytes: the receiver's own MaxRecvDataSegmentLength.
    pub max_data_bytes: u32,
    /// Most additional header segments, in bytes: at most [`AHS_MAX_BYTES`].
    pub max_ahs_bytes: u32,
}

/// Lengths of a PDU's parts in bytes, in the order in which they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Basic header segment: 48.
    pub bhs: usize,
    /// Additional header segments.
    pub ahs: usize,
    /// Header digest: 0 or 4.
    pub header_digest: usize,
    /// Data.
    pub data: usize,
    /// Padding after the data: 0 to 3.
    pub padding: usize,
    /// Data digest: 0 or 4.
    pub data_digest: usize,
}

/// What a PDU may carry, and when.
struct Form {
    receiver: Receiver,
    login: bool,
    ahs: bool,
    data: bool,
}

const fn form(opcode: Opcode) -> Option<Form> {
    use Receiver::{Initiator, Target};
    let (receiver, login, ahs, data) = match opcode {
        Opcode::NOP_OUT | Opcode::TEXT_REQUEST | Opcode::DATA_OUT => (Target, false, false, true),
        Opcode::SCSI_COMMAND => (Target, false, true, true),
        Opcode::LOGIN_REQUEST => (Target, true, false, true),
        Opcode::TASK_REQUEST | Opcode::LOGOUT_REQUEST | Opcode::SNACK_REQUEST => {
            (Target, false, false, false)
        }
        Opcode::NOP_IN
        | Opcode::SCSI_RESPONSE
        | Opcode::TEXT_RESPONSE
        | Opcode::DATA_IN
        | Opcode::ASYNC_MESSAGE
        | Opcode::REJECT => (Initiator, false, false, true),
        Opcode::LOGIN_RESPONSE => (Initiator, true, false, true),
        Opcode::TASK_RESPONSE | Opcode::LOGOUT_RESPONSE | Opcode::R2T => {
            (Initiator, false, false, false)
        }
        _ => return None,
    };
    Some(Form {
        receiver,
        login,
        ahs,
        data,
    })
}

impl Link {
    /// A connection during its login: no digests, only login PDUs, data of at most
    /// [`DEFAULT_MAX_DATA_BYTES`].
    #[must_use]
    pub const fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            full_feature: false,
            digests: Digests {
                header: false,
                data: false,
            },
            max_data_bytes: DEFAULT_MAX_DATA_BYTES,
            max_ahs_bytes: 0,
        }
    }

    /// Judges the header of a PDU and says how long its parts are.
    ///
    /// Errors: every variant but those of digests. After one that [`PduError::is_fatal`] says is
    /// not fatal, the PDU can be skipped by [`Link::measure`]. With header digests, look here only
    /// for the length of what the digest covers until the digest was checked. Cost: constant.
    pub fn frame(&self, header: &Bhs) -> Result<Layout, PduError> {
        let opcode = header.opcode();
        let layout = self.measure(header)?;
        let form = form(opcode)
            .filter(|form| form.receiver == self.receiver)
            .ok_or(PduError::Opcode { opcode })?;
        if form.login == self.full_feature {
            return Err(PduError::Phase { opcode });
        }
        if !form.ahs && layout.ahs > 0 {
            return Err(too_much_ahs(opcode, layout.ahs, 0));
        }
        if !form.data && layout.data > 0 {
            return Err(too_much_data(opcode, layout.data, 0));
        }
        Ok(layout)
    }

    /// How long the parts of a PDU are, whatever its opcode.
    ///
    /// Errors: `Ahs` and `Data` when they are longer than the receiver takes.
    pub fn measure(&self, header: &Bhs) -> Result<Layout, PduError> {
        let opcode = header.opcode();
        let (ahs, data) = (header.ahs_bytes(), header.data_bytes());
        if ahs > self.max_ahs_bytes as usize {
            return Err(too_much_ahs(opcode, ahs, self.max_ahs_bytes));
        }
        if data > self.max_data_bytes as usize {
            return Err(too_much_data(opcode, data, self.max_data_bytes));
        }
        Ok(Layout::to_send(ahs, data, self.digests))
    }
}

fn too_much_ahs(opcode: Opcode, len_bytes: usize, limit: u32) -> PduError {
    PduError::Ahs {
        opcode,
        len_bytes: len_bytes as u32,
        limit,
    }
}

fn too_much_data(opcode: Opcode, len_bytes: usize, limit: u32) -> PduError {
    PduError::Data {
        opcode,
        len_bytes: len_bytes as u32,
        limit,
    }
}

impl Layout {
    /// The layout of a PDU to send, with `ahs` bytes of additional headers (a multiple of 4) and
    /// `data` bytes of data. A data segment of no bytes has no digest.
    #[must_use]
    pub const fn to_send(ahs: usize, data: usize, digests: Digests) -> Self {
        Self {
            bhs: BHS_BYTES,
            ahs,
            header_digest: if digests.header { DIGEST_BYTES } else { 0 },
            data,
            padding: data.next_multiple_of(WORD_BYTES) - data,
            data_digest: if digests.data && data > 0 {
                DIGEST_BYTES
            } else {
                0
            },
        }
    }

    /// Length of the header segments, which the header digest covers.
    #[must_use]
    pub const fn header(&self) -> usize {
        self.bhs + self.ahs
    }

    /// Offset of the data from the start of the PDU.
    #[must_use]
    pub const fn data_offset(&self) -> usize {
        self.header() + self.header_digest
    }

    /// Length of the whole PDU.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.data_offset() + self.data + self.padding + self.data_digest
    }
}
