//! The discovery log page (LID 70h): a header, then entries of 1,024 bytes.
//!
//! Source: base 2.0 section 5.16.1.23, NVMe-oF 1.1 section 5.

use zerocopy::little_endian::{U16, U64};

use crate::Error;
use crate::text::{Ascii, NqnField};

open_enum! {
    /// Transport type.
    TransportType: u8 {
        RDMA = 1, "RDMA.";
        FIBRE_CHANNEL = 2, "Fibre Channel.";
        TCP = 3, "TCP.";
        LOOPBACK = 254, "Inside one host.";
    }
}

open_enum! {
    /// Address family.
    AddressFamily: u8 {
        IPV4 = 1, "IPv4.";
        IPV6 = 2, "IPv6.";
        INFINIBAND = 3, "InfiniBand.";
        FIBRE_CHANNEL = 4, "Fibre Channel.";
        LOOPBACK = 254, "Inside one host.";
    }
}

open_enum! {
    /// What an entry points to.
    SubsystemType: u8 {
        REFERRAL = 1, "Another discovery subsystem.";
        NVM = 2, "A subsystem with namespaces.";
        CURRENT_DISCOVERY = 3, "The discovery subsystem that answers.";
    }
}

/// TREQ bits.
pub mod treq {
    /// Whether a secure channel is needed is not said.
    pub const SECURE_NOT_SPECIFIED: u8 = 0;
    /// A secure channel is required.
    pub const SECURE_REQUIRED: u8 = 1;
    /// A secure channel is not required.
    pub const SECURE_NOT_REQUIRED: u8 = 2;
    /// The controller can do without submission queue flow control.
    pub const DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;
}

bits! {
    /// EFLAGS bits.
    eflags: u16 {
        DUPLICATE = 0, "The same information is returned by every discovery controller.";
        EXPLICIT_PERSISTENT = 1, "Explicit persistent connections are supported.";
    }
}

/// TSAS byte 0 for TCP: the channel's security.
pub mod tcp_security {
    /// No security.
    pub const NONE: u8 = 0;
    /// TLS 1.2 with a pre-shared key; obsolete.
    pub const TLS_1_2: u8 = 1;
    /// TLS 1.3.
    pub const TLS_1_3: u8 = 2;
}

/// CNTLID of an entry: the subsystem uses the dynamic controller model.
pub const CNTLID_DYNAMIC: u16 = 0xffff;

wire_struct! {
    /// Header of the discovery log.
    DiscoveryHeader[1024] {
        0 genctr: U64, "Generation: changes with the log; read it before and after.";
        8 numrec: U64, "Number of entries.";
        16 recfmt: U16, "Record format, 0.";
        18 rsvd18: [u8; 1006], "Reserved.";
    }
}

impl DiscoveryHeader {
    /// A header of `numrec` entries.
    #[must_use]
    pub fn new(genctr: u64, numrec: u64) -> Self {
        Self {
            genctr: U64::new(genctr),
            numrec: U64::new(numrec),
            ..Self::zeroed()
        }
    }

    /// Decodes and checks the record format.
    ///
    /// Errors: `Truncated`, `InvalidField` for a format that is not 0.
    pub fn check(bytes: &[u8]) -> Result<&Self, Error> {
        let header = Self::decode(bytes)?;
        match header.recfmt.get() {
            0 => Ok(header),
            other => Err(Error::InvalidField {
                what: "DiscoveryHeader",
                field: "RECFMT",
                value: u64::from(other),
            }),
        }
    }
}

wire_struct! {
    /// One entry of the discovery log.
    DiscoveryEntry[1024] {
        0 trtype: TransportType, "Transport type.";
        1 adrfam: AddressFamily, "Address family.";
        2 subtype: SubsystemType, "What the entry points to.";
        3 treq: u8, "Transport requirements, see `treq`.";
        4 portid: U16, "Port of the subsystem.";
        6 cntlid: U16, "Controller, FFFFh for the dynamic model.";
        8 asqsz: U16, "Largest admin queue in entries.";
        10 eflags: U16, "See `eflags`.";
        12 rsvd12: [u8; 20], "Reserved.";
        32 trsvcid: Ascii<32>, "Transport service: the port in decimal.";
        64 rsvd64: [u8; 192], "Reserved.";
        256 subnqn: NqnField, "Name of the subsystem.";
        512 traddr: Ascii<256>, "Transport address.";
        768 tsas: TransportSpecific, "Transport specific: `tcp_security` in byte 0, or `rdma::tsas`.";
    }
}

/// The 256 transport specific bytes, printed up to the last one in use.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct TransportSpecific(pub [u8; 256]);

impl core::fmt::Debug for TransportSpecific {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let used = self
            .0
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        f.debug_list().entries(self.0.iter().take(used)).finish()
    }
}
