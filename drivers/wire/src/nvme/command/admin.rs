//! Admin commands.
//!
//! Source: base 2.0 sections 5.1 (Abort), 5.2 (Asynchronous Event Request), 5.15 (Get Features),
//! 5.16 (Get Log Page), 5.17 (Identify), 5.27 (Set Features).

use zerocopy::little_endian::U32;

use crate::Error;
use crate::nvme::command::{AdminOpcode, Sqe, bit};
use crate::nvme::feature::{FeatureId, FeatureSelect};
use crate::nvme::identify::{Cns, Csi};
use crate::nvme::log::LogId;
use crate::nvme::sgl::Sgl;

/// Identify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identify {
    /// Which data structure.
    pub cns: Cns,
    /// Controller identifier, for the structures that want one.
    pub cntid: u16,
    /// Structure-specific identifier, dword 11 bits 15:0.
    pub cnssid: u16,
    /// Command set, dword 11 bits 31:24.
    pub csi: Csi,
    /// UUID index, 7 bits.
    pub uuid_index: u8,
}

impl Identify {
    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Identify", AdminOpcode::IDENTIFY.0)?;
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Ok(Self {
            cns: Cns((cdw10 & 0xff) as u8),
            cntid: (cdw10 >> 16) as u16,
            cnssid: (cdw11 & 0xffff) as u16,
            csi: Csi((cdw11 >> 24) as u8),
            uuid_index: (sqe.cdw14.get() & 0x7f) as u8,
        })
    }

    /// Builds the command; the answer is always 4,096 bytes.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Sgl) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::IDENTIFY.0, cid, nsid).with_data(data);
        sqe.cdw10 = U32::new(u32::from(self.cns.0) | u32::from(self.cntid) << 16);
        sqe.cdw11 = U32::new(u32::from(self.cnssid) | u32::from(self.csi.0) << 24);
        sqe.cdw14 = U32::new(u32::from(self.uuid_index & 0x7f));
        sqe
    }
}

/// Get Log Page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetLogPage {
    /// Which log.
    pub lid: LogId,
    /// Log specific parameter, 7 bits.
    pub lsp: u8,
    /// Retain asynchronous event: reading does not clear it.
    pub rae: bool,
    /// Number of dwords wanted, minus one.
    pub numd_zero_based: u32,
    /// Log specific identifier.
    pub lsi: u16,
    /// Where to start: bytes, or an entry index when `offset_is_index`.
    pub lpo: u64,
    /// Offset type: `lpo` counts entries.
    pub offset_is_index: bool,
    /// Command set.
    pub csi: Csi,
    /// UUID index, 7 bits.
    pub uuid_index: u8,
}

impl GetLogPage {
    /// Length wanted in bytes, 4 to 16 GiB.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        (u64::from(self.numd_zero_based) + 1) * 4
    }

    /// Reads the dwords; errors: `WrongCommand`. An offset that is not a multiple of 4 is kept:
    /// the controller answers it with Invalid Field.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Get Log Page", AdminOpcode::GET_LOG_PAGE.0)?;
        let (cdw10, cdw11, cdw14) = (sqe.cdw10.get(), sqe.cdw11.get(), sqe.cdw14.get());
        Ok(Self {
            lid: LogId((cdw10 & 0xff) as u8),
            lsp: (cdw10 >> 8 & 0x7f) as u8,
            rae: bit(cdw10, 15),
            numd_zero_based: (cdw10 >> 16) | (cdw11 & 0xffff) << 16,
            lsi: (cdw11 >> 16) as u16,
            lpo: Sqe::u64(sqe.cdw12, sqe.cdw13),
            offset_is_index: bit(cdw14, 23),
            csi: Csi((cdw14 >> 24) as u8),
            uuid_index: (cdw14 & 0x7f) as u8,
        })
    }

    /// Builds the command.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Sgl) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::GET_LOG_PAGE.0, cid, nsid).with_data(data);
        let cdw10 = u32::from(self.lid.0)
            | u32::from(self.lsp & 0x7f) << 8
            | u32::from(self.rae) << 15
            | (self.numd_zero_based & 0xffff) << 16;
        sqe.cdw10 = U32::new(cdw10);
        sqe.cdw11 = U32::new(self.numd_zero_based >> 16 | u32::from(self.lsi) << 16);
        Sqe::set_u64(&mut sqe.cdw12, &mut sqe.cdw13, self.lpo);
        let cdw14 = u32::from(self.uuid_index & 0x7f)
            | u32::from(self.offset_is_index) << 23
            | u32::from(self.csi.0) << 24;
        sqe.cdw14 = U32::new(cdw14);
        sqe
    }
}

/// Get Features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetFeatures {
    /// Which feature.
    pub fid: FeatureId,
    /// Current, default, saved or capabilities.
    pub select: FeatureSelect,
    /// Feature-specific dword 11.
    pub cdw11: u32,
}

impl GetFeatures {
    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Get Features", AdminOpcode::GET_FEATURES.0)?;
        let cdw10 = sqe.cdw10.get();
        Ok(Self {
            fid: FeatureId((cdw10 & 0xff) as u8),
            select: FeatureSelect((cdw10 >> 8 & 7) as u8),
            cdw11: sqe.cdw11.get(),
        })
    }

    /// Builds the command; `data` for features that return a structure.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Option<Sgl>) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::GET_FEATURES.0, cid, nsid);
        sqe.cdw10 = U32::new(u32::from(self.fid.0) | u32::from(self.select.0 & 7) << 8);
        sqe.cdw11 = U32::new(self.cdw11);
        match data {
            Some(sgl) => sqe.with_data(sgl),
            None => sqe,
        }
    }
}

/// Set Features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetFeatures {
    /// Which feature.
    pub fid: FeatureId,
    /// Keep the value over power cycles.
    pub save: bool,
    /// Feature-specific dword 11, see [`crate::nvme::feature`].
    pub cdw11: u32,
    /// Feature-specific dword 12.
    pub cdw12: u32,
}

impl SetFeatures {
    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Set Features", AdminOpcode::SET_FEATURES.0)?;
        let cdw10 = sqe.cdw10.get();
        Ok(Self {
            fid: FeatureId((cdw10 & 0xff) as u8),
            save: bit(cdw10, 31),
            cdw11: sqe.cdw11.get(),
            cdw12: sqe.cdw12.get(),
        })
    }

    /// Builds the command; `data` for features that carry a structure.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Option<Sgl>) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::SET_FEATURES.0, cid, nsid);
        sqe.cdw10 = U32::new(u32::from(self.fid.0) | u32::from(self.save) << 31);
        sqe.cdw11 = U32::new(self.cdw11);
        sqe.cdw12 = U32::new(self.cdw12);
        match data {
            Some(sgl) => sqe.with_data(sgl),
            None => sqe,
        }
    }
}

/// Abort: which command to abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abort {
    /// Queue of the command.
    pub sqid: u16,
    /// Identifier of the command.
    pub cid: u16,
}

impl Abort {
    /// Bit 0 of the completion's dword 0: set when the command was NOT aborted.
    pub const NOT_ABORTED: u32 = 1;

    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Abort", AdminOpcode::ABORT.0)?;
        let cdw10 = sqe.cdw10.get();
        Ok(Self {
            sqid: (cdw10 & 0xffff) as u16,
            cid: (cdw10 >> 16) as u16,
        })
    }

    /// Builds the command; `cid` is its own identifier.
    #[must_use]
    pub fn encode(&self, cid: u16) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::ABORT.0, cid, 0);
        sqe.cdw10 = U32::new(u32::from(self.sqid) | u32::from(self.cid) << 16);
        sqe
    }
}

open_enum! {
    /// Type of an asynchronous event.
    AsyncEventType: u8 {
        ERROR = 0, "Error status.";
        HEALTH = 1, "SMART or health status.";
        NOTICE = 2, "Notice: namespaces, firmware, ANA, discovery log.";
        IO_COMMAND_SET = 6, "I/O command set specific.";
        VENDOR = 7, "Vendor specific.";
    }
}

/// Result of an Asynchronous Event Request: completion dword 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncEvent {
    /// Kind of event.
    pub event_type: AsyncEventType,
    /// What happened; its meaning depends on the type.
    pub info: u8,
    /// The log page to read, which also clears the event.
    pub lid: LogId,
}

impl AsyncEvent {
    /// Namespaces were created, deleted or changed.
    pub const NAMESPACE_CHANGED: Self = Self {
        event_type: AsyncEventType::NOTICE,
        info: 0x00,
        lid: LogId::CHANGED_NAMESPACES,
    };
    /// The discovery log changed.
    pub const DISCOVERY_LOG_CHANGED: Self = Self {
        event_type: AsyncEventType::NOTICE,
        info: 0xf0,
        lid: LogId::DISCOVERY,
    };
    /// There is a Reservation Notification log page.
    pub const RESERVATION_LOG: Self = Self {
        event_type: AsyncEventType::IO_COMMAND_SET,
        info: 0x00,
        lid: LogId::RESERVATION,
    };

    /// Reads completion dword 0.
    #[must_use]
    pub const fn decode(dw0: u32) -> Self {
        Self {
            event_type: AsyncEventType((dw0 & 7) as u8),
            info: (dw0 >> 8 & 0xff) as u8,
            lid: LogId((dw0 >> 16 & 0xff) as u8),
        }
    }

    /// Completion dword 0.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        (self.event_type.0 & 7) as u32 | (self.info as u32) << 8 | (self.lid.0 as u32) << 16
    }
}
