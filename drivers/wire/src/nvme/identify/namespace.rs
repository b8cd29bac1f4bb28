//! Identify Namespace, namespace lists and identification descriptors.
//!
//! Source: NVM command set 1.0 sections 4.1.5.1 (CNS 00h) and 4.1.5.3 (CNS 05h); base 2.0 sections
//! 5.17.2.2 (CNS 02h), 5.17.2.3 (CNS 03h), 5.17.2.8 (CNS 08h), 5.17.2.19 (CNS 1Ch).

use core::fmt;

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::Error;
use crate::nvme::identify::{Csi, IDENTIFY_BYTES};

wire_struct! {
    /// One LBA format.
    LbaFormat[4] {
        0 ms: U16, "Metadata bytes per block.";
        2 lbads: u8, "Block size: 2^value bytes; 0 is an unused format.";
        3 rp: u8, "Relative performance in bits 1:0, 0 is best.";
    }
}

impl LbaFormat {
    /// A format without metadata and with best performance.
    #[must_use]
    pub fn new(block_shift: u8) -> Self {
        Self {
            ms: U16::ZERO,
            lbads: block_shift,
            rp: 0,
        }
    }
}

wire_struct! {
    /// Identify Namespace of the NVM command set (CNS 00h).
    IdentifyNamespace[4096] {
        0 nsze: U64, "Size in blocks.";
        8 ncap: U64, "Capacity in blocks.";
        16 nuse: U64, "Blocks in use.";
        24 nsfeat: u8, "Features, see `nsfeat`.";
        25 nlbaf: u8, "LBA formats, 0-based.";
        26 flbas: u8, "Format in use: bits 3:0 low, bits 6:5 high part of the index.";
        27 mc: u8, "Metadata capabilities.";
        28 dpc: u8, "Data protection capabilities.";
        29 dps: u8, "Data protection settings.";
        30 nmic: u8, "Bit 0: may be shared between controllers.";
        31 rescap: u8, "Reservation capabilities.";
        32 fpi: u8, "Format progress.";
        33 dlfeat: u8, "Deallocated block behaviour, see `dlfeat`.";
        34 nawun: U16, "Atomic write unit in blocks, 0-based.";
        36 nawupf: U16, "Atomic write unit over power failure in blocks, 0-based.";
        38 nacwu: U16, "Atomic Compare and Write unit in blocks, 0-based.";
        40 nabsn: U16, "Atomic boundary in blocks, 0-based; 0 is none.";
        42 nabo: U16, "Atomic boundary offset: first block of a boundary.";
        44 nabspf: U16, "Atomic boundary over power failure in blocks, 0-based.";
        46 noiob: U16, "Optimal I/O boundary in blocks; 0 is none.";
        48 nvmcap: U128, "Capacity in bytes.";
        64 npwg: U16, "Preferred write granularity in blocks, 0-based.";
        66 npwa: U16, "Preferred write alignment in blocks, 0-based.";
        68 npdg: U16, "Preferred deallocate granularity in blocks, 0-based.";
        70 npda: U16, "Preferred deallocate alignment in blocks, 0-based.";
        72 nows: U16, "Optimal write size in blocks, 0-based.";
        74 mssrl: U16, "Copy: blocks per source range.";
        76 mcl: U32, "Copy: blocks per command.";
        80 msrc: u8, "Copy: source ranges, 0-based.";
        81 rsvd81: [u8; 11], "Reserved.";
        92 anagrpid: U32, "ANA group; 0 is none.";
        96 rsvd96: [u8; 3], "Reserved.";
        99 nsattr: u8, "Bit 0: write protected.";
        100 nvmsetid: U16, "NVM set.";
        102 endgid: U16, "Endurance group.";
        104 nguid: [u8; 16], "Globally unique identifier, most significant byte first.";
        120 eui64: [u8; 8], "IEEE extended unique identifier, most significant byte first.";
        128 lbaf: [LbaFormat; 64], "LBA formats.";
        384 rsvd384: [u8; 3712], "Vendor specific; the appliance leaves it zero.";
    }
}

impl IdentifyNamespace {
    /// The format in use; `None` when FLBAS points past the last format.
    #[must_use]
    pub fn format_in_use(&self) -> Option<&LbaFormat> {
        let index = (self.flbas & 0xf) | (self.flbas >> 1 & 0x30);
        if index > self.nlbaf {
            None
        } else {
            self.lbaf.get(usize::from(index))
        }
    }
}

bits! {
    /// NSFEAT bits.
    nsfeat: u8 {
        THIN = 0, "Thin provisioned: NUSE is true, writes may fail with Capacity Exceeded.";
        NAMESPACE_ATOMICS = 1, "NAWUN, NAWUPF and NACWU hold.";
        DEALLOCATED_ERROR = 2, "Reading deallocated blocks can be made an error.";
        UID_REUSE_NEVER = 3, "NGUID and EUI64 are never used again.";
        OPTIMAL_IO = 4, "NPWG, NPWA, NPDG, NPDA and NOWS hold.";
    }
}

/// DLFEAT values and bits.
pub mod dlfeat {
    /// Deallocated blocks read as zeroes (bits 2:0 = 1).
    pub const READ_ZEROES: u8 = 1;
    /// Deallocated blocks read as ones (bits 2:0 = 2).
    pub const READ_ONES: u8 = 2;
    /// Write Zeroes honours its deallocate bit.
    pub const WRITE_ZEROES_DEALLOCATE: u8 = 1 << 3;
    /// The guard of deallocated blocks is that of zeroes.
    pub const GUARD_CRC: u8 = 1 << 4;
}

wire_struct! {
    /// Identify Namespace of a command set, NVM (CNS 05h, CSI 0).
    IdentifyNamespaceNvm[4096] {
        0 lbstm: U64, "Logical block storage tag mask.";
        8 pic: u8, "Protection information capabilities.";
        9 rsvd9: [u8; 3], "Reserved.";
        12 elbaf: [U32; 64], "Extended LBA formats.";
        268 rsvd268: [u8; 3828], "Reserved.";
    }
}

wire_struct! {
    /// Identify Namespace whatever its command set (CNS 08h).
    IdentifyNamespaceIndependent[4096] {
        0 nsfeat: u8, "Bit 3: identifiers are never used again; bit 4: rotational media.";
        1 nmic: u8, "Bit 0: may be shared between controllers.";
        2 rescap: u8, "Reservation capabilities.";
        3 fpi: u8, "Format progress.";
        4 anagrpid: U32, "ANA group; 0 is none.";
        8 nsattr: u8, "Bit 0: write protected.";
        9 rsvd9: u8, "Reserved.";
        10 nvmsetid: U16, "NVM set.";
        12 endgid: U16, "Endurance group.";
        14 nstat: u8, "Bit 0: ready.";
        15 rsvd15: [u8; 4081], "Reserved.";
    }
}

/// 1,024 namespace identifiers, rising, ended by zero (CNS 02h, 07h, 10h; changed namespaces log).
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
pub struct NsidList(pub [U32; 1024]);

impl NsidList {
    /// Size on the wire in bytes.
    pub const SIZE: usize = IDENTIFY_BYTES;
    /// Most identifiers that fit.
    pub const CAPACITY: usize = 1024;

    /// The first 1,024 of `ids`, in the order given. Identify lists must rise and start above the
    /// command's NSID: the caller sees to that.
    #[must_use]
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self([U32::ZERO; 1024]);
        for (slot, id) in list.0.iter_mut().zip(ids) {
            slot.set(id);
        }
        list
    }

    /// Views the start of `bytes` as a list; errors: `Truncated`.
    pub fn decode(bytes: &[u8]) -> Result<&Self, Error> {
        match <Self as zerocopy::FromBytes>::ref_from_prefix(bytes) {
            Ok((list, _rest)) => Ok(list),
            Err(_) => Err(Error::Truncated {
                what: "NsidList",
                need_bytes: Self::SIZE,
                have_bytes: bytes.len(),
            }),
        }
    }

    /// The identifiers up to the first zero.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|id| id.get()).take_while(|id| *id != 0)
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        zerocopy::IntoBytes::as_bytes(self)
    }
}

impl fmt::Debug for NsidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

wire_struct! {
    /// I/O command set combinations (CNS 1Ch): bit n of a vector is command set n.
    IoCommandSets[4096] {
        0 vectors: CommandSetVectors, "512 combinations; the rest is zero.";
    }
}

/// The vectors of [`IoCommandSets`], printed up to the last one in use.
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
pub struct CommandSetVectors(pub [U64; 512]);

impl fmt::Debug for CommandSetVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self
            .0
            .iter()
            .rposition(|vector| vector.get() != 0)
            .map_or(0, |last| last + 1);
        f.debug_list()
            .entries(self.0.iter().take(used).map(|vector| vector.get()))
            .finish()
    }
}

open_enum! {
    /// Type of a namespace identification descriptor.
    NsidType: u8 {
        EUI64 = 1, "8 bytes.";
        NGUID = 2, "16 bytes.";
        UUID = 3, "16 bytes.";
        CSI = 4, "1 byte: the command set.";
    }
}

/// One identification descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsDescriptor<'a> {
    /// IEEE extended unique identifier.
    Eui64([u8; 8]),
    /// Globally unique identifier.
    Nguid([u8; 16]),
    /// UUID, most significant byte first.
    Uuid([u8; 16]),
    /// Command set.
    Csi(Csi),
    /// A type that this version does not know.
    Unknown(NsidType, &'a [u8]),
}

/// Walks the descriptors of a CNS 03h answer; ends at a zero type or at the end of the bytes.
#[derive(Clone, Copy, Debug)]
pub struct DescriptorIter<'a> {
    rest: &'a [u8],
}

impl<'a> DescriptorIter<'a> {
    /// Starts at the first descriptor of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn step(&mut self) -> Result<Option<NsDescriptor<'a>>, Error> {
        let Some(([kind, len, _, _], body)) = self.rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        if *kind == 0 {
            return Ok(None);
        }
        let Some((value, rest)) = body.split_at_checked(usize::from(*len)) else {
            let (need_bytes, have_bytes) = (usize::from(*len), body.len());
            return Err(Error::Truncated {
                what: "NsDescriptor",
                need_bytes,
                have_bytes,
            });
        };
        self.rest = rest;
        decode_descriptor(NsidType(*kind), value).map(Some)
    }
}

impl<'a> Iterator for DescriptorIter<'a> {
    type Item = Result<NsDescriptor<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.rest = &[];
        }
        item
    }
}

fn decode_descriptor(kind: NsidType, value: &[u8]) -> Result<NsDescriptor<'_>, Error> {
    let bad_length = Error::InvalidField {
        what: "NsDescriptor",
        field: "NIDL",
        value: value.len() as u64,
    };
    match kind {
        NsidType::EUI64 => value
            .try_into()
            .map(NsDescriptor::Eui64)
            .map_err(|_| bad_length),
        NsidType::NGUID => value
            .try_into()
            .map(NsDescriptor::Nguid)
            .map_err(|_| bad_length),
        NsidType::UUID => value
            .try_into()
            .map(NsDescriptor::Uuid)
            .map_err(|_| bad_length),
        NsidType::CSI => match value {
            [csi] => Ok(NsDescriptor::Csi(Csi(*csi))),
            _ => Err(bad_length),
        },
        other => Ok(NsDescriptor::Unknown(other, value)),
    }
}

/// Builds a CNS 03h answer in a fixed buffer.
#[derive(Clone, Debug)]
pub struct DescriptorWriter {
    bytes: [u8; IDENTIFY_BYTES],
    used: usize,
}

impl DescriptorWriter {
    /// An empty answer.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; IDENTIFY_BYTES],
            used: 0,
        }
    }

    /// Adds a descriptor.
    ///
    /// Errors: `InvalidField` when it does not fit, or an unknown one is longer than 255 bytes.
    pub fn push(&mut self, descriptor: &NsDescriptor<'_>) -> Result<(), Error> {
        match descriptor {
            NsDescriptor::Eui64(id) => self.put(NsidType::EUI64, id),
            NsDescriptor::Nguid(id) => self.put(NsidType::NGUID, id),
            NsDescriptor::Uuid(id) => self.put(NsidType::UUID, id),
            NsDescriptor::Csi(csi) => self.put(NsidType::CSI, &[csi.0]),
            NsDescriptor::Unknown(kind, value) => self.put(*kind, value),
        }
    }

    /// The 4,096 bytes to send; unused ones are zero, which ends the list.
    #[must_use]
    pub const fn as_wire(&self) -> &[u8; IDENTIFY_BYTES] {
        &self.bytes
    }

    fn put(&mut self, kind: NsidType, value: &[u8]) -> Result<(), Error> {
        let too_long = Error::InvalidField {
            what: "NsDescriptor",
            field: "NIDL",
            value: value.len() as u64,
        };
        let len = u8::try_from(value.len()).map_err(|_| too_long)?;
        let end = self.used + 4 + value.len();
        let slot = self.bytes.get_mut(self.used..end).ok_or(too_long)?;
        let (head, body) = slot.split_at_mut(4);
        head.copy_from_slice(&[kind.0, len, 0, 0]);
        body.copy_from_slice(value);
        self.used = end;
        Ok(())
    }
}

impl Default for DescriptorWriter {
    fn default() -> Self {
        Self::new()
    }
}
