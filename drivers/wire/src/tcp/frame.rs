//! Where the parts of a PDU lie, judged from its first 8 bytes.
//!
//! ```text
//! | header (HLEN) | HDGST 0 or 4 | pad to PDO | data | DDGST 0 or 4 |   total = PLEN
//! ```
//!
//! Source: NVMe/TCP 1.0 sections 3.3 (data placement), 3.6.1 (common header), 3.5 (digests); the
//! receiver's PDA says to which multiple of 4 bytes PDO is aligned.

use zerocopy::little_endian::U32;

use super::digest::DIGEST_BYTES;
use super::header::{field, flags};
use super::{CommonHeader, PduError, PduType};

/// Largest PDA on the wire: 0-based in dwords, so 128 bytes.
pub const PDA_MAX: u8 = 31;
/// Largest PDU header that a termination request carries back, in bytes.
pub const TERM_DATA_MAX: usize = 128;

/// Who reads the PDUs of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The controller: PDUs come from the host.
    Controller,
    /// The host: PDUs come from the controller.
    Host,
}

/// Negotiated form of the PDUs of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// Every PDU after the handshake carries a header digest.
    pub header_digest: bool,
    /// Every PDU with data carries a data digest.
    pub data_digest: bool,
    /// Alignment the receiver asked for (HPDA or CPDA): 0-based, in dwords, 0 to 31.
    pub pda: u8,
}

impl Framing {
    /// Alignment of the data in bytes: 4 to 128, a multiple of 4.
    #[must_use]
    pub const fn align_bytes(&self) -> usize {
        (self.pda as usize + 1) * 4
    }
}

/// What a receiver knows about its connection: enough to judge a common header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which side reads.
    pub receiver: Receiver,
    /// ICReq and ICResp were exchanged.
    pub ready: bool,
    /// Form of the PDUs coming in; `pda` is the receiver's own.
    pub framing: Framing,
    /// Most data in a command capsule, in bytes (controller only).
    pub max_capsule_data_bytes: u32,
    /// Most data in one data PDU, in bytes: MAXH2CDATA for the controller.
    pub max_data_bytes: u32,
}

/// Lengths of a PDU's parts in bytes, in the order in which they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Header, its digest not counted.
    pub header: usize,
    /// Header digest: 0 or 4.
    pub header_digest: usize,
    /// Padding between the header and the data.
    pub pad: usize,
    /// Data.
    pub data: usize,
    /// Data digest: 0 or 4.
    pub data_digest: usize,
}

/// Header length and abilities of each PDU type.
struct Form {
    hlen: u8,
    receiver: Receiver,
    handshake: bool,
    digests: bool,
    data: Data,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    None,
    Capsule,
    Transfer,
    Term,
}

const fn form(kind: PduType) -> Option<Form> {
    use Receiver::{Controller, Host};
    let (hlen, receiver, handshake, digests, data) = match kind {
        PduType::IC_REQ => (128, Controller, true, false, Data::None),
        PduType::IC_RESP => (128, Host, true, false, Data::None),
        PduType::H2C_TERM_REQ => (24, Controller, false, false, Data::Term),
        PduType::C2H_TERM_REQ => (24, Host, false, false, Data::Term),
        PduType::CAPSULE_CMD => (72, Controller, false, true, Data::Capsule),
        PduType::CAPSULE_RESP => (24, Host, false, true, Data::None),
        PduType::H2C_DATA => (24, Controller, false, true, Data::Transfer),
        PduType::C2H_DATA => (24, Host, false, true, Data::Transfer),
        PduType::R2T => (24, Host, false, true, Data::None),
        _ => return None,
    };
    Some(Form {
        hlen,
        receiver,
        handshake,
        digests,
        data,
    })
}

impl Link {
    /// A connection before its handshake: only ICReq (or ICResp) and termination are allowed.
    #[must_use]
    pub fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            ready: false,
            framing: Framing::default(),
            max_capsule_data_bytes: 0,
            max_data_bytes: 0,
        }
    }

    /// Judges the first 8 bytes of a PDU and says how long its parts are.
    ///
    /// Errors: always fatal for the connection. `Sequence` for the wrong time, `LimitExceeded` or
    /// `OutOfRange` for too much data in a data PDU, `HeaderField` for everything else. Reserved
    /// flags and fields are ignored. Cost: constant, nothing is read beyond the 8 bytes.
    pub fn frame(&self, header: &CommonHeader) -> Result<Layout, PduError> {
        let kind = header.kind;
        let form = self.admit(kind)?;
        if header.hlen != form.hlen {
            return Err(PduError::field(kind, field::HLEN, header.hlen));
        }
        let header_digest = self.header_digest_bytes(&form, header)?;
        let start = usize::from(form.hlen) + header_digest;
        let plen = header.plen.get();
        let total = usize::try_from(plen).unwrap_or(usize::MAX);
        let bad_plen = PduError::field(kind, field::PLEN, plen);
        let body = total.checked_sub(start).ok_or(bad_plen)?;
        let bare = Layout {
            header: usize::from(form.hlen),
            header_digest,
            ..Layout::default()
        };
        match form.data {
            Data::None if body == 0 => Ok(bare),
            Data::None => Err(bad_plen),
            Data::Term if body <= TERM_DATA_MAX => Ok(Layout { data: body, ..bare }),
            Data::Term => Err(bad_plen),
            Data::Capsule if body == 0 => self.no_data(header).map(|()| bare),
            Data::Capsule | Data::Transfer => {
                let layout = self.with_data(header, bare, body)?;
                self.check_limit(header, form.data, layout.data)?;
                Ok(layout)
            }
        }
    }

    /// Is the type known, from the right side, and allowed before or after the handshake?
    fn admit(&self, kind: PduType) -> Result<Form, PduError> {
        let form = form(kind)
            .filter(|form| form.receiver == self.receiver)
            .ok_or(PduError::field(kind, field::TYPE, kind.0))?;
        let termination = form.data == Data::Term;
        if !termination && form.handshake == self.ready {
            return Err(PduError::Sequence { kind });
        }
        Ok(form)
    }

    fn header_digest_bytes(&self, form: &Form, header: &CommonHeader) -> Result<usize, PduError> {
        if !form.digests {
            return Ok(0);
        }
        if header.has(flags::HDGSTF) != self.framing.header_digest {
            return Err(PduError::field(header.kind, field::FLAGS, header.flags));
        }
        Ok(if self.framing.header_digest {
            DIGEST_BYTES
        } else {
            0
        })
    }

    /// A capsule that ends with its header cannot claim a data digest.
    fn no_data(&self, header: &CommonHeader) -> Result<(), PduError> {
        if header.has(flags::DDGSTF) {
            return Err(PduError::field(header.kind, field::FLAGS, header.flags));
        }
        Ok(())
    }

    fn with_data(
        &self,
        header: &CommonHeader,
        bare: Layout,
        body: usize,
    ) -> Result<Layout, PduError> {
        let kind = header.kind;
        if header.has(flags::DDGSTF) != self.framing.data_digest {
            return Err(PduError::field(kind, field::FLAGS, header.flags));
        }
        let pdo = usize::from(header.pdo);
        let bad_pdo = PduError::field(kind, field::PDO, header.pdo);
        let pad = pdo
            .checked_sub(bare.header + bare.header_digest)
            .ok_or(bad_pdo)?;
        if pdo % self.framing.align_bytes() != 0 || pad > body {
            return Err(bad_pdo);
        }
        let data_digest = if self.framing.data_digest {
            DIGEST_BYTES
        } else {
            0
        };
        let data = body.checked_sub(pad + data_digest).filter(|data| *data > 0);
        let data = data.ok_or(PduError::field(kind, field::PLEN, header.plen.get()))?;
        Ok(Layout {
            pad,
            data,
            data_digest,
            ..bare
        })
    }

    fn check_limit(&self, header: &CommonHeader, form: Data, data: usize) -> Result<(), PduError> {
        let kind = header.kind;
        let found = u32::try_from(data).unwrap_or(u32::MAX);
        let limit = match form {
            Data::Capsule => self.max_capsule_data_bytes,
            _ => self.max_data_bytes,
        };
        if found <= limit {
            return Ok(());
        }
        Err(match (form, self.receiver) {
            (Data::Capsule, _) => PduError::field(kind, field::PLEN, header.plen.get()),
            (_, Receiver::Controller) => PduError::LimitExceeded { kind, found, limit },
            (_, Receiver::Host) => PduError::OutOfRange {
                kind,
                offset: 0,
                len_bytes: found,
            },
        })
    }
}

impl Layout {
    /// The layout of a PDU to send: `hlen` bytes of header and `data_len` bytes of data.
    ///
    /// `framing.pda` is the peer's. Not for ICReq, ICResp and termination requests, which never
    /// carry digests.
    #[must_use]
    pub fn to_send(hlen: usize, data_len: usize, framing: &Framing) -> Self {
        let header_digest = if framing.header_digest {
            DIGEST_BYTES
        } else {
            0
        };
        let bare = Self {
            header: hlen,
            header_digest,
            ..Self::default()
        };
        if data_len == 0 {
            return bare;
        }
        let start = hlen + header_digest;
        let pad = start.next_multiple_of(framing.align_bytes()) - start;
        let data_digest = if framing.data_digest { DIGEST_BYTES } else { 0 };
        Self {
            pad,
            data: data_len,
            data_digest,
            ..bare
        }
    }

    /// Offset of the data from the start of the PDU.
    #[must_use]
    pub const fn data_offset(&self) -> usize {
        self.header + self.header_digest + self.pad
    }

    /// Length of the whole PDU.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.data_offset() + self.data + self.data_digest
    }

    /// The common header of a PDU without data, whose length always fits.
    pub(super) fn small_header(&self, kind: PduType) -> CommonHeader {
        let digest = if self.header_digest > 0 {
            flags::HDGSTF
        } else {
            0
        };
        let plen = U32::new((self.header + self.header_digest) as u32);
        CommonHeader {
            kind,
            flags: digest,
            hlen: self.header as u8,
            pdo: 0,
            plen,
        }
    }

    /// The common header that announces this layout, with `extra` flags besides the digests'.
    ///
    /// Errors: `LimitExceeded` when the PDU is longer than PLEN can say.
    pub fn common_header(&self, kind: PduType, extra: u8) -> Result<CommonHeader, PduError> {
        let too_long = PduError::LimitExceeded {
            kind,
            found: u32::try_from(self.data).unwrap_or(u32::MAX),
            limit: u32::MAX,
        };
        let plen = u32::try_from(self.total()).map_err(|_| too_long)?;
        let pdo = if self.data == 0 {
            0
        } else {
            self.data_offset()
        };
        let digest_flags = (if self.header_digest > 0 {
            flags::HDGSTF
        } else {
            0
        }) | (if self.data_digest > 0 {
            flags::DDGSTF
        } else {
            0
        });
        Ok(CommonHeader {
            kind,
            flags: extra | digest_flags,
            hlen: u8::try_from(self.header).map_err(|_| too_long)?,
            pdo: u8::try_from(pdo).map_err(|_| too_long)?,
            plen: U32::new(plen),
        })
    }
}
