//! INQUIRY data.
//!
//! Source: SPC-4 sections 6.6 and 7.8; block limits and block device pages: SBC-3 section 6.6,
//! atomic writes: SBC-4 section 6.6.4.

use crate::scsi::Writer;

open_enum! {
    /// Vital product data pages.
    VitalPage: u8 {
        SUPPORTED = 0x00, "Which pages there are.";
        SERIAL_NUMBER = 0x80, "Unit serial number.";
        IDENTIFICATION = 0x83, "Designators.";
        EXTENDED = 0x86, "Extended INQUIRY data.";
        THIRD_PARTY_COPY = 0x8f, "Third party copy.";
        BLOCK_LIMITS = 0xb0, "Limits of block commands.";
        BLOCK_DEVICE = 0xb1, "What kind of medium.";
        PROVISIONING = 0xb2, "Logical block provisioning.";
    }
}

/// Peripheral qualifier and device type of a unit that is there: a direct access block device.
pub const PRESENT: u8 = 0x00;
/// Of one that is not and could not be.
pub const ABSENT: u8 = 0x7f;
/// Length of standard INQUIRY data with version descriptors.
pub const STANDARD_BYTES: usize = 96;
/// SAM-5, SPC-4, SBC-3, iSCSI, each without a version.
pub const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

/// Standard INQUIRY data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard<'a> {
    /// Peripheral qualifier and device type.
    pub peripheral: u8,
    /// T10 vendor identification, 8 bytes.
    pub vendor: &'a [u8],
    /// Product identification, 16 bytes.
    pub product: &'a [u8],
    /// Product revision, 4 bytes.
    pub revision: &'a [u8],
}

impl Standard<'_> {
    /// Writes it: SPC-4, implicit and explicit asymmetric access, third party copy, several
    /// ports, command queuing.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&[self.peripheral, 0, 0x06, 0x02]);
        out.bytes(&[(STANDARD_BYTES - 5) as u8, 0x38, 0x10, 0x02]);
        out.ascii(self.vendor, 8);
        out.ascii(self.product, 16);
        out.ascii(self.revision, 4);
        out.zeros(58 - 36);
        for descriptor in VERSION_DESCRIPTORS {
            out.u16(descriptor);
        }
        out.zeros(STANDARD_BYTES - 58 - 2 * VERSION_DESCRIPTORS.len());
    }
}

/// Starts a vital product data page; [`end_page`] ends it.
pub fn begin_page(peripheral: u8, page: VitalPage, out: &mut Writer<'_>) {
    out.bytes(&[peripheral, page.0, 0, 0]);
}

/// Puts the length of the page into its header.
pub fn end_page(out: &mut Writer<'_>) {
    out.patch_len16(2);
}

open_enum! {
    /// What kind of designator.
    DesignatorType: u8 {
        T10_VENDOR = 0x1, "Vendor and something of its own.";
        EUI_64 = 0x2, "8, 12 or 16 bytes.";
        NAA = 0x3, "Network address authority.";
        RELATIVE_TARGET_PORT = 0x4, "Number of the port.";
        TARGET_PORT_GROUP = 0x5, "Number of its group.";
        SCSI_NAME = 0x8, "UTF-8, such as an iSCSI name.";
    }
}

/// What a designator is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Association {
    /// The logical unit.
    Unit,
    /// The target port.
    Port,
    /// The target device.
    Device,
}

/// How the bytes of a designator are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeSet {
    /// Binary.
    Binary,
    /// ASCII.
    Ascii,
    /// UTF-8.
    Utf8,
}

/// One designator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Designator<'a> {
    /// What it is about.
    pub association: Association,
    /// How to read it.
    pub code_set: CodeSet,
    /// Its kind.
    pub kind: DesignatorType,
    /// Itself, at most 255 bytes.
    pub bytes: &'a [u8],
}

impl<'a> Designator<'a> {
    /// Writes it. Designators of ports and devices name iSCSI as their protocol.
    pub fn write(&self, out: &mut Writer<'_>) {
        let code_set = match self.code_set {
            CodeSet::Binary => 1,
            CodeSet::Ascii => 2,
            CodeSet::Utf8 => 3,
        };
        let (protocol, association) = match self.association {
            Association::Unit => (0, 0),
            Association::Port => (0x50, 0x90),
            Association::Device => (0x50, 0xa0),
        };
        let bytes = &self.bytes[..self.bytes.len().min(usize::from(u8::MAX))];
        out.bytes(&[
            protocol | code_set,
            association | self.kind.0,
            0,
            bytes.len() as u8,
        ]);
        out.bytes(bytes);
    }

    /// Reads one from the start of `bytes`, and what follows it.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [code_set, kind, _, len, rest @ ..] = bytes else {
            return None;
        };
        let (bytes, rest) = rest.split_at_checked(usize::from(*len))?;
        let designator = Self {
            association: match (kind >> 4) & 3 {
                0 => Association::Unit,
                1 => Association::Port,
                _ => Association::Device,
            },
            code_set: match code_set & 0xf {
                2 => CodeSet::Ascii,
                3 => CodeSet::Utf8,
                _ => CodeSet::Binary,
            },
            kind: DesignatorType(kind & 0xf),
            bytes,
        };
        Some((designator, rest))
    }
}

/// Page B0h. Lengths in logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// WRITE SAME with 0 blocks is refused.
    pub same_zero_refused: bool,
    /// COMPARE AND WRITE, at most.
    pub max_compare_and_write: u8,
    /// Transfers should be multiples of this.
    pub optimal_granularity: u16,
    /// Transfers, at most.
    pub max_transfer: u32,
    /// Transfers above it are slower.
    pub optimal_transfer: u32,
    /// PRE-FETCH, at most.
    pub max_prefetch: u32,
    /// UNMAP, at most in one command.
    pub max_unmap: u32,
    /// UNMAP, descriptors at most.
    pub max_unmap_descriptors: u32,
    /// What is unmapped should be multiples of this, from block 0 on.
    pub unmap_granularity: u32,
    /// WRITE SAME, at most.
    pub max_same: u64,
    /// WRITE ATOMIC, at most.
    pub max_atomic: u32,
}

impl BlockLimits {
    /// Writes the whole page.
    pub fn write(&self, peripheral: u8, out: &mut Writer<'_>) {
        begin_page(peripheral, VitalPage::BLOCK_LIMITS, out);
        out.u8(self.same_zero_refused.into());
        out.u8(self.max_compare_and_write);
        out.u16(self.optimal_granularity);
        out.u32(self.max_transfer);
        out.u32(self.optimal_transfer);
        out.u32(self.max_prefetch);
        out.u32(self.max_unmap);
        out.u32(self.max_unmap_descriptors);
        out.u32(self.unmap_granularity);
        // UGAVALID: alignment 0.
        out.u32(0x8000_0000);
        out.u64(self.max_same);
        out.u32(self.max_atomic);
        // Any alignment, any length, no atomic writes with a boundary.
        out.zeros(16);
        end_page(out);
    }
}
