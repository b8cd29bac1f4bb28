//! EXTENDED COPY (LID1) parameter list and RECEIVE COPY RESULTS data.
//!
//! Source: SPC-4 sections 6.4 and 6.5 (LID1 forms: 6.19 to 6.22).

use crate::scsi::{Sense, SenseCode, Status, Writer};

/// Length of the header.
pub const HEADER_BYTES: usize = 16;
/// Length of a target descriptor of any kind that is known here.
pub const TARGET_BYTES: usize = 32;
/// Identification descriptor target.
pub const TARGET_IDENTIFICATION: u8 = 0xe4;
/// Segment: block device to block device.
pub const SEGMENT_BLOCKS: u8 = 0x02;
/// Segment: block device to block device with offsets in bytes.
pub const SEGMENT_OFFSETS: u8 = 0x0a;

/// LIST ID USAGE: what becomes of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListIdUsage {
    /// Kept for RECEIVE COPY RESULTS.
    Hold,
    /// The list identifier is used, data need not be held.
    Discard,
    /// There is no list identifier.
    None,
    /// A reserved value.
    Reserved,
}

/// The header, and the two lists behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyList<'a> {
    /// Which copy.
    pub list_identifier: u8,
    /// What becomes of the result.
    pub usage: ListIdUsage,
    /// Target descriptors.
    pub targets: &'a [u8],
    /// Segment descriptors.
    pub segments: &'a [u8],
    /// Length of the inline data.
    pub inline_bytes: u32,
}

impl<'a> CopyList<'a> {
    /// Reads the header and cuts the lists.
    ///
    /// Errors: PARAMETER LIST LENGTH ERROR when the list ends before what the header announces.
    pub fn decode(list: &'a [u8]) -> Result<Self, Sense> {
        let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
        let (header, rest) = list.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
        let targets = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let segments = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let (targets, rest) = rest.split_at_checked(targets).ok_or(short)?;
        let segments = rest.get(..segments as usize).ok_or(short)?;
        Ok(Self {
            list_identifier: header[0],
            usage: match (header[1] >> 3) & 3 {
                0 => ListIdUsage::Hold,
                2 => ListIdUsage::Discard,
                3 => ListIdUsage::None,
                _ => ListIdUsage::Reserved,
            },
            targets,
            segments,
            inline_bytes: u32::from_be_bytes([header[12], header[13], header[14], header[15]]),
        })
    }
}

/// An identification descriptor target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTarget<'a> {
    /// Kind of the designator.
    pub designator_type: u8,
    /// Which unit.
    pub designator: &'a [u8],
    /// Peripheral device type.
    pub peripheral_type: u8,
    /// Bytes of a block, as the host believes.
    pub block_bytes: u32,
}

impl<'a> CopyTarget<'a> {
    /// Reads the target descriptor at byte `at` of the list.
    ///
    /// Errors: UNSUPPORTED TARGET DESCRIPTOR TYPE CODE for other kinds; INVALID FIELD IN PARAMETER
    /// LIST for a designator that is longer than its field or does not name a unit, and for NUL.
    pub fn decode(bytes: &'a [u8; TARGET_BYTES], at: u16) -> Result<Self, Sense> {
        if bytes[0] != TARGET_IDENTIFICATION {
            return Err(Sense::illegal(SenseCode::UNSUPPORTED_TARGET_TYPE));
        }
        if bytes[1] & 0x20 != 0 {
            return Err(Sense::invalid_parameter(at + 1, Some(5)));
        }
        if bytes[5] & 0x30 != 0 {
            return Err(Sense::invalid_parameter(at + 5, Some(5)));
        }
        let designator = bytes[8..28].get(..usize::from(bytes[7]));
        Ok(Self {
            designator_type: bytes[5] & 0xf,
            designator: designator.ok_or(Sense::invalid_parameter(at + 7, None))?,
            peripheral_type: bytes[1] & 0x1f,
            block_bytes: u32::from_be_bytes([0, bytes[29], bytes[30], bytes[31]]),
        })
    }
}

/// A segment: what to copy. Offsets and lengths in units of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the source's target descriptor.
    pub source: u16,
    /// Index of the destination's.
    pub destination: u16,
    /// First block of the source.
    pub source_lba: u64,
    /// First block of the destination.
    pub destination_lba: u64,
    /// How much.
    pub amount: Amount,
}

/// How much a segment copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many blocks, of the source or (DC) of the destination.
    Blocks {
        /// Number of blocks.
        block_count: u16,
        /// They are the destination's.
        of_destination: bool,
    },
    /// So many bytes.
    Bytes {
        /// Number of bytes.
        len_bytes: u32,
        /// Start inside the first block of the source.
        source_offset: u16,
        /// Start inside the first block of the destination.
        destination_offset: u16,
    },
}

/// Takes the first segment off a list.
///
/// Errors: UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE; PARAMETER LIST LENGTH ERROR when the list ends
/// inside it; INVALID FIELD IN PARAMETER LIST when its length is not that of its kind.
pub fn split_segment(list: &[u8]) -> Result<(Segment, &[u8]), Sense> {
    let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
    let kind = *list.first().ok_or(short)?;
    let need = match kind {
        SEGMENT_BLOCKS => 28,
        SEGMENT_OFFSETS => 32,
        _ => return Err(Sense::illegal(SenseCode::UNSUPPORTED_SEGMENT_TYPE)),
    };
    let (bytes, rest) = list.split_at_checked(need).ok_or(short)?;
    if usize::from(half(bytes, 2)) != need - 4 {
        return Err(Sense::illegal(SenseCode::INVALID_PARAMETER));
    }
    let amount = if kind == SEGMENT_BLOCKS {
        Amount::Blocks {
            block_count: half(bytes, 10),
            of_destination: bytes[1] & 0x02 != 0,
        }
    } else {
        Amount::Bytes {
            len_bytes: word(bytes, 8),
            source_offset: half(bytes, 28),
            destination_offset: half(bytes, 30),
        }
    };
    let segment = Segment {
        source: half(bytes, 4),
        destination: half(bytes, 6),
        source_lba: long(bytes, 12),
        destination_lba: long(bytes, 20),
        amount,
    };
    Ok((segment, rest))
}

open_enum! {
    /// COPY STATUS: how a copy is.
    CopyState: u8 {
        RUNNING = 0x00, "Not ended.";
        DONE = 0x01, "Ended without errors.";
        FAILED = 0x02, "Ended with errors.";
    }
}

/// RECEIVE COPY RESULTS with service action COPY STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStatus {
    /// Whether it ended.
    pub state: CopyState,
    /// Segments that are done.
    pub segments: u16,
    /// Bytes written.
    pub len_bytes: u64,
}

impl CopyStatus {
    /// Writes it. The count is in bytes, or in KiB when it is too large for that.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.u32(0).u8(self.state.0 & 0x7f).u16(self.segments);
        match u32::try_from(self.len_bytes) {
            Ok(count) => out.u8(0).u32(count),
            Err(_) => out
                .u8(1)
                .u32(u32::try_from(self.len_bytes >> 10).unwrap_or(u32::MAX)),
        };
        out.patch_len32(0);
    }
}

/// RECEIVE COPY RESULTS with service action FAILED SEGMENT DETAILS: the status and the sense data
/// of the copy; nothing when it did not fail.
pub fn write_failed_details(status: Status, sense: Option<&[u8]>, out: &mut Writer<'_>) {
    out.u32(0);
    if let Some(sense) = sense {
        out.zeros(52).u8(status.0).u8(0);
        out.u16(sense.len() as u16).bytes(sense);
    }
    out.patch_len32(0);
}

/// RECEIVE COPY RESULTS with service action OPERATING PARAMETERS: the limits of EXTENDED COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatingParameters<'a> {
    /// A copy may come without a list identifier.
    pub no_list_identifier: bool,
    /// Target descriptors in a list.
    pub targets_max: u16,
    /// Segment descriptors in a list.
    pub segments_max: u16,
    /// Bytes of all descriptors.
    pub descriptors_bytes_max: u32,
    /// Bytes that a segment copies.
    pub segment_bytes_max: u32,
    /// Copies with a list identifier at a time.
    pub copies_max: u8,
    /// Smallest length in a segment, as a power of two.
    pub granularity: u8,
    /// Types of descriptors, in ascending order.
    pub kinds: &'a [u8],
}

impl OperatingParameters<'_> {
    /// Writes them: no inline data, no held data, no streams.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.u32(0);
        out.bytes(&[self.no_list_identifier.into(), 0, 0, 0]);
        out.u16(self.targets_max).u16(self.segments_max);
        out.u32(self.descriptors_bytes_max);
        out.u32(self.segment_bytes_max);
        out.zeros(14);
        out.u16(self.copies_max.into()).u8(self.copies_max);
        out.u8(self.granularity).zeros(5);
        out.u8(self.kinds.len() as u8).bytes(self.kinds);
        out.patch_len32(0);
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) << 16 | u32::from(half(bytes, at + 2))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) << 32 | u64::from(word(bytes, at + 4))
}
