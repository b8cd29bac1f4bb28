//! SGL descriptors.
//!
//! Source: base 2.0 section 4.1.2 (descriptor types and subtypes); NVMe/TCP 1.0 section 3.3
//! (which of them TCP uses: offset in the capsule, and transport data block).

use zerocopy::little_endian::{U32, U64};

use crate::Error;

wire_struct! {
    /// One 16-byte descriptor as bytes; [`SglDescriptor::parse`] gives its meaning.
    SglDescriptor[16] {
        0 address: U64, "Address, or an offset into the capsule for the offset subtype.";
        8 length: U32, "Length in bytes; for keyed descriptors bits 23:0, with key bits above.";
        12 tail: [u8; 3], "Reserved; for keyed descriptors the upper 24 bits of the key.";
        15 identifier: u8, "Type in bits 7:4, subtype in bits 3:0.";
    }
}

/// Identifier byte of a data block addressed by an offset into the capsule.
pub const ID_DATA_BLOCK_OFFSET: u8 = 0x01;
/// Identifier byte of a transport data block.
pub const ID_TRANSPORT_DATA_BLOCK: u8 = 0x5a;

/// What a descriptor says. Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sgl {
    /// Data at an address of host memory (PCIe only).
    DataBlock {
        /// Host address.
        address: u64,
        /// Length in bytes.
        len_bytes: u32,
    },
    /// Data inside this capsule, at `offset` from the in-capsule data start (ICDOFF applies).
    InCapsule {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len_bytes: u32,
    },
    /// Bytes of a read that the host does not want.
    BitBucket {
        /// Length in bytes.
        len_bytes: u32,
    },
    /// A further segment of descriptors at an address or, with `offset`, in the capsule.
    Segment {
        /// Address or offset of the segment.
        address: u64,
        /// Length in bytes.
        len_bytes: u32,
        /// True when `address` counts from the start of the in-capsule data.
        offset: bool,
        /// True for the last segment.
        last: bool,
    },
    /// Remote memory with a key (RDMA).
    Keyed {
        /// Remote address, or offset for the offset subtype.
        address: u64,
        /// Length in bytes, 24 bits.
        len_bytes: u32,
        /// Memory key.
        key: u32,
        /// True when the key is to be invalidated after the transfer.
        invalidate: bool,
    },
    /// Data moved by the transport (NVMe/TCP: C2HData, or R2T and H2CData).
    Transport {
        /// Length in bytes.
        len_bytes: u32,
    },
    /// Vendor-specific descriptor; the appliance refuses it.
    Vendor {
        /// Subtype nibble.
        subtype: u8,
    },
}

impl SglDescriptor {
    /// Decodes and checks type and subtype. Reserved bytes are ignored, as the specification asks.
    ///
    /// Errors: `SglType` for a type that does not exist, `SglSubtype` for a subtype it cannot have.
    pub fn parse(&self) -> Result<Sgl, Error> {
        let (kind, subtype) = (self.identifier >> 4, self.identifier & 0xf);
        let (address, len_bytes) = (self.address.get(), self.length.get());
        match (kind, subtype) {
            (0x0, 0x0) => Ok(Sgl::DataBlock { address, len_bytes }),
            (0x0, 0x1) => Ok(Sgl::InCapsule {
                offset: address,
                len_bytes,
            }),
            (0x1, 0x0) => Ok(Sgl::BitBucket { len_bytes }),
            (0x2 | 0x3, 0x0 | 0x1) => Ok(Sgl::Segment {
                address,
                len_bytes,
                offset: subtype == 1,
                last: kind == 3,
            }),
            (0x4, 0x0 | 0xf) => Ok(self.keyed(subtype == 0xf)),
            (0x5, 0xa) => Ok(Sgl::Transport { len_bytes }),
            (0xf, subtype) => Ok(Sgl::Vendor { subtype }),
            (0x0..=0x5, _) => Err(Error::SglSubtype {
                identifier: self.identifier,
            }),
            _ => Err(Error::SglType {
                identifier: self.identifier,
            }),
        }
    }

    fn keyed(&self, invalidate: bool) -> Sgl {
        let length = self.length.get();
        let [k1, k2, k3] = self.tail;
        let key = u32::from_le_bytes([length.to_le_bytes()[3], k1, k2, k3]);
        Sgl::Keyed {
            address: self.address.get(),
            len_bytes: length & 0x00ff_ffff,
            key,
            invalidate,
        }
    }
}

impl Sgl {
    /// Bytes the descriptor moves; a segment or vendor descriptor by itself moves none.
    #[must_use]
    pub const fn data_len_bytes(&self) -> u32 {
        match *self {
            Self::DataBlock { len_bytes, .. }
            | Self::InCapsule { len_bytes, .. }
            | Self::BitBucket { len_bytes }
            | Self::Keyed { len_bytes, .. }
            | Self::Transport { len_bytes } => len_bytes,
            Self::Segment { .. } | Self::Vendor { .. } => 0,
        }
    }

    /// Encodes; the upper byte of a keyed length is not sent, since the field has 24 bits.
    #[must_use]
    pub fn encode(&self) -> SglDescriptor {
        match *self {
            Self::DataBlock { address, len_bytes } => descriptor(0x00, address, len_bytes),
            Self::InCapsule { offset, len_bytes } => {
                descriptor(ID_DATA_BLOCK_OFFSET, offset, len_bytes)
            }
            Self::BitBucket { len_bytes } => descriptor(0x10, 0, len_bytes),
            Self::Segment {
                address,
                len_bytes,
                offset,
                last,
            } => {
                let kind = if last { 0x30 } else { 0x20 };
                descriptor(kind | u8::from(offset), address, len_bytes)
            }
            Self::Keyed {
                address,
                len_bytes,
                key,
                invalidate,
            } => {
                let [k0, k1, k2, k3] = key.to_le_bytes();
                let length = (len_bytes & 0x00ff_ffff) | (u32::from(k0) << 24);
                let identifier = if invalidate { 0x4f } else { 0x40 };
                SglDescriptor {
                    tail: [k1, k2, k3],
                    ..descriptor(identifier, address, length)
                }
            }
            Self::Transport { len_bytes } => descriptor(ID_TRANSPORT_DATA_BLOCK, 0, len_bytes),
            Self::Vendor { subtype } => descriptor(0xf0 | (subtype & 0xf), 0, 0),
        }
    }
}

fn descriptor(identifier: u8, address: u64, length: u32) -> SglDescriptor {
    SglDescriptor {
        address: U64::new(address),
        length: U32::new(length),
        tail: [0; 3],
        identifier,
    }
}
