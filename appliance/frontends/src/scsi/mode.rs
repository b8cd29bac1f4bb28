//! MODE SENSE and MODE SELECT: caching, control, informational exceptions.
//!
//! The pages belong to the unit; all nexuses share them (MLUS), and nothing is saved: a reset
//! brings the defaults back. Source: SPC-4 sections 6.11 to 6.14 and 7.5; SBC-3 section 6.5.

use std::rc::Rc;

use volume::VolumeInfo;
use wire::scsi::cdb::{ModeSelect, ModeSense, PageControl};
use wire::scsi::data::mode::{
    BlockDescriptor, DPOFUA, ModeHeader, ModePage, WRITE_PROTECTED, split_page,
};
use wire::scsi::{Sense, SenseCode, Writer};

use super::plan::{from_host, to_host};
use super::{Attention, Nexus, Outcome, Transfer};

/// What hosts may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    /// D_SENSE.
    pub descriptor_sense: bool,
    /// SWP.
    pub is_write_protected: bool,
    /// TAS.
    pub reports_aborted: bool,
    /// WCE is off although there is a volatile cache: every write is done with FUA.
    pub write_through: bool,
}

/// Subpage FFh: all of them.
const ALL_SUBPAGES: u8 = 0xff;
/// Pages, in order.
const PAGES: [ModePage; 3] = [
    ModePage::CACHING,
    ModePage::CONTROL,
    ModePage::INFORMATIONAL_EXCEPTIONS,
];
/// The longest page.
const PAGE_BYTES_MAX: usize = 20;

const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;
const TAS: u8 = 0x40;
const WCE: u8 = 0x04;

/// A page as bytes.
struct Page {
    bytes: [u8; PAGE_BYTES_MAX],
    len: usize,
}

impl Page {
    fn new(page: ModePage, len: usize) -> Self {
        let mut bytes = [0; PAGE_BYTES_MAX];
        (bytes[0], bytes[1]) = (page.0, (len - 2) as u8);
        Self { bytes, len }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Sets `bit` of `byte` when `on`.
fn flag(byte: &mut u8, bit: u8, on: bool) {
    if on {
        *byte |= bit;
    }
}

/// The page with these values, which must be one of [`PAGES`].
fn page(page: ModePage, mode: Mode, info: &VolumeInfo) -> Page {
    match page {
        ModePage::CACHING => {
            let mut caching = Page::new(page, 20);
            let caches = info.volatile_cache && !mode.write_through;
            flag(&mut caching.bytes[2], WCE, caches);
            caching
        }
        ModePage::CONTROL => {
            let mut control = Page::new(page, 12);
            flag(&mut control.bytes[2], D_SENSE, mode.descriptor_sense);
            // Commands with the attribute SIMPLE run in any order.
            control.bytes[3] = 0x10;
            flag(&mut control.bytes[4], SWP, mode.is_write_protected);
            flag(&mut control.bytes[5], TAS, mode.reports_aborted);
            control
        }
        _ => {
            let mut exceptions = Page::new(page, 12);
            // DEXCPT: failures are reported by the commands that meet them, not ahead of time.
            exceptions.bytes[2] = 0x08;
            exceptions
        }
    }
}

/// The bits of a page that may be changed.
fn changeable(page: ModePage, info: &VolumeInfo) -> Page {
    match page {
        ModePage::CACHING => {
            let mut caching = Page::new(page, 20);
            flag(&mut caching.bytes[2], WCE, info.volatile_cache);
            caching
        }
        ModePage::CONTROL => {
            let mut control = Page::new(page, 12);
            control.bytes[2] = D_SENSE;
            control.bytes[4] = SWP;
            control.bytes[5] = TAS;
            control
        }
        _ => Page::new(page, 12),
    }
}

pub(super) fn plan_sense(fields: &ModeSense) -> Result<Transfer, Sense> {
    if fields.control == PageControl::Saved {
        return Err(Sense::illegal(SenseCode::SAVING_NOT_SUPPORTED));
    }
    let page = ModePage(fields.page);
    if page != ModePage::ALL && !PAGES.contains(&page) {
        return Err(Sense::invalid_cdb(2, Some(5)));
    }
    if !matches!(fields.subpage, 0 | ALL_SUBPAGES) {
        return Err(Sense::invalid_cdb(3, None));
    }
    Ok(to_host(fields.allocation_bytes.into()))
}

pub(super) fn sense(nexus: &Nexus, fields: &ModeSense, out: &mut Writer<'_>) {
    let (info, mode) = (nexus.unit().info(), nexus.unit().mode.get());
    let long_lba = fields.long && fields.long_lba;
    let mut header = ModeHeader {
        device_specific: DPOFUA,
        long_lba,
        descriptor_bytes: 0,
    };
    flag(
        &mut header.device_specific,
        WRITE_PROTECTED,
        mode.is_write_protected,
    );
    if !fields.no_block_descriptor {
        header.descriptor_bytes = BlockDescriptor::len_bytes(long_lba) as u16;
    }
    header.begin(fields.long, out);
    if !fields.no_block_descriptor {
        let descriptor = BlockDescriptor {
            block_count: info.block_count,
            block_bytes: info.block_bytes,
        };
        descriptor.write(long_lba, out);
    }
    let wanted = |page: &&ModePage| [ModePage::ALL, **page].contains(&ModePage(fields.page));
    for found in PAGES.iter().filter(wanted) {
        let bytes = match fields.control {
            PageControl::Changeable => changeable(*found, info),
            PageControl::Default => page(*found, Mode::default(), info),
            PageControl::Current | PageControl::Saved => page(*found, mode, info),
        };
        out.bytes(bytes.as_slice());
    }
    ModeHeader::end(fields.long, out);
}

pub(super) fn plan_select(fields: &ModeSelect) -> Result<Transfer, Sense> {
    if fields.save {
        return Err(Sense::invalid_cdb(1, Some(0)));
    }
    if !fields.page_format {
        return Err(Sense::invalid_cdb(1, Some(4)));
    }
    Ok(from_host(fields.list_bytes.into()))
}

/// Everything is checked before anything changes; the other nexuses hear of it.
pub(super) fn select(nexus: &Rc<Nexus>, fields: &ModeSelect, list: &[u8]) -> Outcome {
    let unit = nexus.unit();
    let before = unit.mode.get();
    match selected(before, unit.info(), fields.long, list) {
        Err(sense) => sense.into(),
        Ok(mode) => {
            if mode != before {
                unit.mode.set(mode);
                unit.attention(Attention::ModeChanged, Some(nexus));
            }
            Outcome::good()
        }
    }
}

/// The mode after a parameter list.
fn selected(mode: Mode, info: &VolumeInfo, is_long: bool, list: &[u8]) -> Result<Mode, Sense> {
    let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
    if list.is_empty() {
        return Ok(mode);
    }
    let (header, rest) = ModeHeader::decode(list, is_long).ok_or(short)?;
    if list[usize::from(is_long) + 1] != 0 {
        return Err(Sense::invalid_parameter(u16::from(is_long) + 1, None));
    }
    let descriptors = usize::from(header.descriptor_bytes);
    let (descriptor, mut rest) = rest.split_at_checked(descriptors).ok_or(short)?;
    check_descriptor(&header, descriptor, info, is_long)?;
    let mut mode = mode;
    while !rest.is_empty() {
        let at = (list.len() - rest.len()) as u16;
        let (found, after) = split_page(rest).ok_or(short)?;
        if found.subpage != 0 || !PAGES.contains(&found.page) {
            return Err(Sense::invalid_parameter(at, Some(5)));
        }
        mode = with_page(mode, info, found.page, found.bytes, at)?;
        rest = after;
    }
    Ok(mode)
}

/// Blocks cannot be given another size or number.
fn check_descriptor(
    header: &ModeHeader,
    bytes: &[u8],
    info: &VolumeInfo,
    is_long: bool,
) -> Result<(), Sense> {
    let at = ModeHeader::len_bytes(is_long) as u16;
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() != BlockDescriptor::len_bytes(header.long_lba) {
        return Err(Sense::invalid_parameter(at - 2, None));
    }
    let wrong = Sense::invalid_parameter(at, None);
    let given = BlockDescriptor::decode(bytes, header.long_lba).ok_or(wrong)?;
    let all_ones = if header.long_lba {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let is_count = [0, info.block_count, all_ones].contains(&given.block_count);
    if !is_count || given.block_bytes != info.block_bytes {
        return Err(wrong);
    }
    Ok(())
}

/// The mode after one page. Bits that cannot be changed must be as they are.
fn with_page(
    mode: Mode,
    info: &VolumeInfo,
    which: ModePage,
    bytes: &[u8],
    at: u16,
) -> Result<Mode, Sense> {
    let (now, mask) = (page(which, mode, info), changeable(which, info));
    if bytes.len() != now.len {
        return Err(Sense::invalid_parameter(at + 1, None));
    }
    let fixed = bytes.iter().zip(now.as_slice()).zip(mask.as_slice());
    for (index, ((given, now), mask)) in fixed.enumerate().skip(2) {
        let wrong = (given ^ now) & !mask;
        if wrong != 0 {
            let bit = 7 - wrong.leading_zeros() as u8;
            return Err(Sense::invalid_parameter(at + index as u16, Some(bit)));
        }
    }
    Ok(match which {
        ModePage::CACHING => Mode {
            write_through: info.volatile_cache && bytes[2] & WCE == 0,
            ..mode
        },
        ModePage::CONTROL => Mode {
            descriptor_sense: bytes[2] & D_SENSE != 0,
            is_write_protected: bytes[4] & SWP != 0,
            reports_aborted: bytes[5] & TAS != 0,
            ..mode
        },
        _ => mode,
    })
}
