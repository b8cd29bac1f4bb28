//! Connect: command, data and response.
//!
//! Source: base 2.0 section 6.3 (Connect), NVMe-oF 1.1 section 3.3.

use zerocopy::little_endian::{U16, U32};

use crate::Error;
use crate::fabrics::{FabricsType, fabrics_command};
use crate::nvme::SglDescriptor;
use crate::nvme::sgl::Sgl;
use crate::text::NqnField;

wire_struct! {
    /// The Connect command.
    ConnectCommand[64] {
        0 opcode: u8, "7Fh.";
        1 flags: u8, "Data pointer kind in bits 7:6.";
        2 cid: U16, "Command identifier.";
        4 fctype: FabricsType, "01h.";
        5 rsvd5: [u8; 19], "Reserved.";
        24 sgl: SglDescriptor, "Where the 1,024 bytes of data are.";
        40 recfmt: U16, "Record format, 0.";
        42 qid: U16, "Queue: 0 admin, else I/O.";
        44 sqsize: U16, "Queue size in entries, 0-based.";
        46 cattr: u8, "Attributes, see `cattr`.";
        47 rsvd47: u8, "Reserved.";
        48 kato_ms: U32, "Keep alive timeout in milliseconds; 0 is none; admin queue only.";
        52 rsvd52: [u8; 12], "Reserved.";
    }
}

fabrics_command!(ConnectCommand, FabricsType::CONNECT, "Connect");

impl ConnectCommand {
    /// A Connect for queue `qid` of `entries` entries (2 to 65,536), data inside the capsule.
    ///
    /// Errors: `InvalidField` for a queue size that cannot be sent.
    pub fn new(cid: u16, qid: u16, entries: u32, kato_ms: u32) -> Result<Self, Error> {
        let bad = Error::InvalidField {
            what: "ConnectCommand",
            field: "SQSIZE",
            value: u64::from(entries),
        };
        let sqsize = entries.checked_sub(1).filter(|size| *size > 0).ok_or(bad)?;
        let sqsize = u16::try_from(sqsize).map_err(|_| bad)?;
        let len_bytes = ConnectData::SIZE as u32;
        Ok(Self {
            sgl: Sgl::InCapsule {
                offset: 0,
                len_bytes,
            }
            .encode(),
            qid: U16::new(qid),
            sqsize: U16::new(sqsize),
            kato_ms: U32::new(kato_ms),
            ..Self::blank(cid)
        })
    }
}

bits! {
    /// CATTR bits. Bits 1:0 are the priority class.
    cattr: u8 {
        DISABLE_SQ_FLOW_CONTROL = 2, "The host does without SQHD updates.";
        INDIVIDUAL_QUEUE_DELETION = 3, "The host may delete single I/O queues.";
    }
}

wire_struct! {
    /// Data of Connect.
    ConnectData[1024] {
        0 hostid: [u8; 16], "Host identifier, as the Host Identifier feature.";
        16 cntlid: U16, "Controller: FFFFh any (dynamic model), FFFEh any (static model).";
        18 rsvd18: [u8; 238], "Reserved.";
        256 subnqn: NqnField, "Name of the subsystem.";
        512 hostnqn: NqnField, "Name of the host.";
        768 rsvd768: [u8; 256], "Reserved.";
    }
}

/// CNTLID in Connect: let the subsystem choose (dynamic controller model).
pub const CNTLID_DYNAMIC: u16 = 0xffff;
/// CNTLID in Connect: any controller of a static model.
pub const CNTLID_STATIC: u16 = 0xfffe;
/// Entries of an admin queue that every controller takes, and that hosts ask for. Source: base 2.0,
/// ASQSZ in the Discovery Log Page.
pub const ADMIN_QUEUE_ENTRIES: u16 = 32;

impl ConnectData {
    /// Builds the data after checking both names; errors: `Nqn`.
    pub fn new(hostid: [u8; 16], cntlid: u16, sub: &str, host: &str) -> Result<Self, Error> {
        Ok(Self {
            hostid,
            cntlid: U16::new(cntlid),
            subnqn: NqnField::new(sub, "SUBNQN")?,
            hostnqn: NqnField::new(host, "HOSTNQN")?,
            ..Self::zeroed()
        })
    }

    /// The checked subsystem name.
    ///
    /// Errors: `Nqn`; answer Connect Invalid Parameters with [`InvalidParameter::SUBNQN`].
    pub fn subsystem_nqn(&self) -> Result<&str, Error> {
        self.subnqn.parse("SUBNQN")
    }

    /// The checked host name.
    ///
    /// Errors: `Nqn`; answer Connect Invalid Parameters with [`InvalidParameter::HOSTNQN`].
    pub fn host_nqn(&self) -> Result<&str, Error> {
        self.hostnqn.parse("HOSTNQN")
    }
}

/// Result of a successful Connect: completion dword 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The controller the queue belongs to.
    pub cntlid: u16,
    /// Authentication requirements; 0 is none.
    pub authreq: u16,
}

impl ConnectResponse {
    /// Reads completion dword 0.
    #[must_use]
    pub const fn decode(dw0: u32) -> Self {
        Self {
            cntlid: (dw0 & 0xffff) as u16,
            authreq: (dw0 >> 16) as u16,
        }
    }

    /// Completion dword 0.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        self.cntlid as u32 | (self.authreq as u32) << 16
    }
}

/// Result of a Connect that failed with Connect Invalid Parameters: which one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvalidParameter {
    /// Offset of the parameter in bytes.
    pub offset: u16,
    /// True when the offset counts in the data, false in the command.
    pub in_data: bool,
}

impl InvalidParameter {
    /// Queue identifier.
    pub const QID: Self = Self {
        offset: 42,
        in_data: false,
    };
    /// Queue size.
    pub const SQSIZE: Self = Self {
        offset: 44,
        in_data: false,
    };
    /// Attributes.
    pub const CATTR: Self = Self {
        offset: 46,
        in_data: false,
    };
    /// Keep alive timeout.
    pub const KATO: Self = Self {
        offset: 48,
        in_data: false,
    };
    /// Host identifier.
    pub const HOSTID: Self = Self {
        offset: 0,
        in_data: true,
    };
    /// Controller identifier.
    pub const CNTLID: Self = Self {
        offset: 16,
        in_data: true,
    };
    /// Subsystem name.
    pub const SUBNQN: Self = Self {
        offset: 256,
        in_data: true,
    };
    /// Host name.
    pub const HOSTNQN: Self = Self {
        offset: 512,
        in_data: true,
    };

    /// Reads completion dword 0.
    #[must_use]
    pub const fn decode(dw0: u32) -> Self {
        Self {
            offset: (dw0 & 0xffff) as u16,
            in_data: dw0 >> 16 & 1 != 0,
        }
    }

    /// Completion dword 0.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        self.offset as u32 | (self.in_data as u32) << 16
    }
}
