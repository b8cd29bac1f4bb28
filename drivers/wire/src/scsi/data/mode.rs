//! Mode parameters: headers, block descriptors, pages.
//!
//! Source: SPC-4 section 7.5; caching page: SBC-3 section 6.5.5; informational exceptions: 7.5.11.

use crate::scsi::Writer;

open_enum! {
    /// Mode pages.
    ModePage: u8 {
        READ_WRITE_RECOVERY = 0x01, "Error recovery.";
        DISCONNECT = 0x02, "Disconnect-reconnect.";
        CACHING = 0x08, "Caching.";
        CONTROL = 0x0a, "Control.";
        POWER_CONDITION = 0x1a, "Power condition.";
        INFORMATIONAL_EXCEPTIONS = 0x1c, "Informational exceptions control.";
        ALL = 0x3f, "All of them.";
    }
}

/// DPOFUA in the device-specific parameter.
pub const DPOFUA: u8 = 0x10;
/// WP in it.
pub const WRITE_PROTECTED: u8 = 0x80;

/// The header before block descriptors and pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeHeader {
    /// [`DPOFUA`], [`WRITE_PROTECTED`].
    pub device_specific: u8,
    /// Block descriptors have 16 bytes.
    pub long_lba: bool,
    /// Bytes of all block descriptors.
    pub descriptor_bytes: u16,
}

impl ModeHeader {
    /// Length of the header of 6-byte, or 10-byte commands.
    #[must_use]
    pub const fn len_bytes(is_long: bool) -> usize {
        if is_long { 8 } else { 4 }
    }

    /// Writes it; [`ModeHeader::end`] puts the length in.
    pub fn begin(&self, is_long: bool, out: &mut Writer<'_>) {
        if is_long {
            out.bytes(&[0, 0, 0, self.device_specific, self.long_lba.into(), 0]);
            out.u16(self.descriptor_bytes);
        } else {
            out.bytes(&[0, 0, self.device_specific, self.descriptor_bytes as u8]);
        }
    }

    /// Puts the length of everything into the header.
    pub fn end(is_long: bool, out: &mut Writer<'_>) {
        if is_long {
            out.patch_len16(0);
        } else {
            let len = out.len().saturating_sub(1);
            out.patch(0, &[u8::try_from(len).unwrap_or(u8::MAX)]);
        }
    }

    /// Reads it from a parameter list, and what follows. `None` when the list is too short.
    #[must_use]
    pub fn decode(list: &[u8], is_long: bool) -> Option<(Self, &[u8])> {
        let (header, rest) = list.split_at_checked(Self::len_bytes(is_long))?;
        let header = match header {
            [_, _, device_specific, len] => Self {
                device_specific: *device_specific,
                long_lba: false,
                descriptor_bytes: u16::from(*len),
            },
            [_, _, _, device_specific, long_lba, _, high, low] => Self {
                device_specific: *device_specific,
                long_lba: long_lba & 1 != 0,
                descriptor_bytes: u16::from_be_bytes([*high, *low]),
            },
            _ => return None,
        };
        Some((header, rest))
    }
}

/// The block descriptor: how many blocks of which size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockDescriptor {
    /// Number of blocks; all ones when there are more than the short form can say.
    pub block_count: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
}

impl BlockDescriptor {
    /// Length of the short, or the long form.
    #[must_use]
    pub const fn len_bytes(long_lba: bool) -> usize {
        if long_lba { 16 } else { 8 }
    }

    /// Writes it.
    pub fn write(&self, long_lba: bool, out: &mut Writer<'_>) {
        if long_lba {
            out.u64(self.block_count).zeros(4).u32(self.block_bytes);
        } else {
            out.u32(u32::try_from(self.block_count).unwrap_or(u32::MAX));
            out.u32(self.block_bytes & 0x00ff_ffff);
        }
    }

    /// Reads it. `None` when the bytes are too few.
    #[must_use]
    pub fn decode(bytes: &[u8], long_lba: bool) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        Some(if long_lba {
            Self {
                block_count: u64::from(word(0)?) << 32 | u64::from(word(4)?),
                block_bytes: word(12)?,
            }
        } else {
            Self {
                block_count: word(0)?.into(),
                block_bytes: word(4)? & 0x00ff_ffff,
            }
        })
    }
}

/// A page in a MODE SELECT parameter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageBytes<'a> {
    /// Which page.
    pub page: ModePage,
    /// Which subpage.
    pub subpage: u8,
    /// The whole page, its header included.
    pub bytes: &'a [u8],
}

/// Takes the first page off a parameter list. `None` when the list ends inside it.
#[must_use]
pub fn split_page(list: &[u8]) -> Option<(PageBytes<'_>, &[u8])> {
    let has_subpage = list.first()? & 0x40 != 0;
    let (subpage, len) = if has_subpage {
        let len = u16::from_be_bytes([*list.get(2)?, *list.get(3)?]);
        (*list.get(1)?, 4 + usize::from(len))
    } else {
        (0, 2 + usize::from(*list.get(1)?))
    };
    let (bytes, rest) = list.split_at_checked(len)?;
    let page = PageBytes {
        page: ModePage(list.first()? & 0x3f),
        subpage,
        bytes,
    };
    Some((page, rest))
}
