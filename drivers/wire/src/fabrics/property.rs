//! Property Get and Property Set.
//!
//! Source: base 2.0 sections 6.5 and 6.6, NVMe-oF 1.1 sections 3.4 and 3.5.

use zerocopy::little_endian::{U16, U32, U64};

use crate::Error;
use crate::fabrics::{FabricsType, fabrics_command};
use crate::nvme::register::PropertySize;

wire_struct! {
    /// Property Get. The value comes back in the completion's result.
    PropertyGet[64] {
        0 opcode: u8, "7Fh.";
        1 flags: u8, "Data pointer kind in bits 7:6.";
        2 cid: U16, "Command identifier.";
        4 fctype: FabricsType, "04h.";
        5 rsvd5: [u8; 35], "Reserved.";
        40 attrib: u8, "Property size in bits 2:0.";
        41 rsvd41: [u8; 3], "Reserved.";
        44 offset: U32, "Property offset in bytes.";
        48 rsvd48: [u8; 16], "Reserved.";
    }
}

fabrics_command!(PropertyGet, FabricsType::PROPERTY_GET, "Property Get");

impl PropertyGet {
    /// Builds the command.
    #[must_use]
    pub fn new(cid: u16, size: PropertySize, offset: u32) -> Self {
        Self {
            attrib: size.0,
            offset: U32::new(offset),
            ..Self::blank(cid)
        }
    }

    /// Size of the property in bytes; errors: `InvalidField` for a reserved size.
    pub fn size_bytes(&self) -> Result<usize, Error> {
        size_bytes("PropertyGet", self.attrib)
    }
}

wire_struct! {
    /// Property Set.
    PropertySet[64] {
        0 opcode: u8, "7Fh.";
        1 flags: u8, "Data pointer kind in bits 7:6.";
        2 cid: U16, "Command identifier.";
        4 fctype: FabricsType, "00h.";
        5 rsvd5: [u8; 35], "Reserved.";
        40 attrib: u8, "Property size in bits 2:0.";
        41 rsvd41: [u8; 3], "Reserved.";
        44 offset: U32, "Property offset in bytes.";
        48 value: U64, "New value; a 4-byte property is in the low half.";
        56 rsvd56: [u8; 8], "Reserved.";
    }
}

fabrics_command!(PropertySet, FabricsType::PROPERTY_SET, "Property Set");

impl PropertySet {
    /// Builds the command.
    #[must_use]
    pub fn new(cid: u16, size: PropertySize, offset: u32, value: u64) -> Self {
        Self {
            attrib: size.0,
            offset: U32::new(offset),
            value: U64::new(value),
            ..Self::blank(cid)
        }
    }

    /// Size of the property in bytes; errors: `InvalidField` for a reserved size.
    pub fn size_bytes(&self) -> Result<usize, Error> {
        size_bytes("PropertySet", self.attrib)
    }
}

fn size_bytes(what: &'static str, attrib: u8) -> Result<usize, Error> {
    match PropertySize(attrib & 7) {
        PropertySize::FOUR => Ok(4),
        PropertySize::EIGHT => Ok(8),
        other => Err(Error::InvalidField {
            what,
            field: "ATTRIB",
            value: u64::from(other.0),
        }),
    }
}
