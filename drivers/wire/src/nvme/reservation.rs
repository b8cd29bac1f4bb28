//! Reservation Register, Acquire, Release and Report: dwords and data.
//!
//! Source: base 2.0 sections 7.2 (Acquire), 7.3 (Register), 7.4 (Release), 7.5 (Report) and
//! 5.16.1.24 (Reservation Notification log page).

use zerocopy::little_endian::{U16, U32, U64};

use crate::Error;
use crate::nvme::command::{NvmOpcode, Sqe, bit};
use crate::nvme::sgl::Sgl;

open_enum! {
    /// RREGA: what Reservation Register does.
    RegisterAction: u8 {
        REGISTER = 0, "Registers a key.";
        UNREGISTER = 1, "Unregisters.";
        REPLACE = 2, "Changes the key.";
    }
}

open_enum! {
    /// RACQA: what Reservation Acquire does.
    AcquireAction: u8 {
        ACQUIRE = 0, "Reserves.";
        PREEMPT = 1, "Removes registrants by key, and takes the reservation from its holder.";
        PREEMPT_AND_ABORT = 2, "The same, and aborts their commands.";
    }
}

open_enum! {
    /// RRELA: what Reservation Release does.
    ReleaseAction: u8 {
        RELEASE = 0, "Releases.";
        CLEAR = 1, "Removes the reservation and all registrants.";
    }
}

open_enum! {
    /// CPTPL: what becomes of persistence through power loss.
    ChangePersistence: u8 {
        NO_CHANGE = 0, "Nothing.";
        CLEAR = 2, "Nothing is kept from now on.";
        SET = 3, "All is kept from now on.";
    }
}

/// Reservation Register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservationRegister {
    /// What to do.
    pub action: RegisterAction,
    /// IEKEY: the current key is not compared.
    pub ignore_key: bool,
    /// CPTPL.
    pub persistence: ChangePersistence,
}

impl ReservationRegister {
    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Reservation Register", NvmOpcode::RESERVATION_REGISTER.0)?;
        let cdw10 = sqe.cdw10.get();
        Ok(Self {
            action: RegisterAction((cdw10 & 7) as u8),
            ignore_key: bit(cdw10, 3),
            persistence: ChangePersistence((cdw10 >> 30) as u8),
        })
    }

    /// Builds the command; its data are [`ReservationKeys`].
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Sgl) -> Sqe {
        let opcode = NvmOpcode::RESERVATION_REGISTER;
        let persistence = u32::from(self.persistence.0 & 3) << 30;
        build(
            opcode,
            (cid, nsid, data),
            self.action.0,
            self.ignore_key,
            persistence,
        )
    }
}

/// A command with an action, IEKEY and RTYPE.
macro_rules! typed_command {
    ($(#[$meta:meta])* $name:ident: $action:ident, $opcode:ident, $what:literal, $data:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            /// What to do.
            pub action: $action,
            /// IEKEY: not allowed here.
            pub ignore_key: bool,
            /// RTYPE.
            pub kind: u8,
        }

        impl $name {
            /// Reads the dwords; errors: `WrongCommand`.
            pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
                sqe.expect($what, NvmOpcode::$opcode.0)?;
                let cdw10 = sqe.cdw10.get();
                Ok(Self {
                    action: $action((cdw10 & 7) as u8),
                    ignore_key: bit(cdw10, 3),
                    kind: (cdw10 >> 8) as u8,
                })
            }

            #[doc = concat!("Builds the command; its data is [`", stringify!($data), "`].")]
            #[must_use]
            pub fn encode(&self, cid: u16, nsid: u32, data: Sgl) -> Sqe {
                let kind = u32::from(self.kind) << 8;
                let opcode = NvmOpcode::$opcode;
                build(opcode, (cid, nsid, data), self.action.0, self.ignore_key, kind)
            }
        }
    };
}

typed_command! {
    /// Reservation Acquire.
    ReservationAcquire: AcquireAction, RESERVATION_ACQUIRE, "Reservation Acquire", ReservationKeys
}

typed_command! {
    /// Reservation Release.
    ReservationRelease: ReleaseAction, RESERVATION_RELEASE, "Reservation Release", ReservationKey
}

/// Reservation Report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservationReport {
    /// Dwords to return, 0-based.
    pub numd_zero_based: u32,
    /// EDS: the extended structure, for host identifiers of 128 bits.
    pub extended: bool,
}

impl ReservationReport {
    /// Bytes to return.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        (u64::from(self.numd_zero_based) + 1) * 4
    }

    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Reservation Report", NvmOpcode::RESERVATION_REPORT.0)?;
        Ok(Self {
            numd_zero_based: sqe.cdw10.get(),
            extended: bit(sqe.cdw11.get(), 0),
        })
    }

    /// Builds the command.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Sgl) -> Sqe {
        let mut sqe = Sqe::new(NvmOpcode::RESERVATION_REPORT.0, cid, nsid).with_data(data);
        sqe.cdw10 = U32::new(self.numd_zero_based);
        sqe.cdw11 = U32::new(u32::from(self.extended));
        sqe
    }
}

fn build(
    opcode: NvmOpcode,
    (cid, nsid, data): (u16, u32, Sgl),
    action: u8,
    ignore_key: bool,
    rest: u32,
) -> Sqe {
    let mut sqe = Sqe::new(opcode.0, cid, nsid).with_data(data);
    let action = u32::from(action & 7);
    sqe.cdw10 = U32::new(action | u32::from(ignore_key) << 3 | rest);
    sqe
}

wire_struct! {
    /// Data of Reservation Register and Acquire.
    ReservationKeys[16] {
        0 current: U64, "CRKEY: the key that the host has.";
        8 other: U64, "NRKEY: its new key; or PRKEY: the key to preempt.";
    }
}

wire_struct! {
    /// Data of Reservation Release.
    ReservationKey[8] {
        0 current: U64, "CRKEY: the key that the host has.";
    }
}

wire_struct! {
    /// How the data of Reservation Report begins.
    ReservationStatus[24] {
        0 generation: U32, "GEN: counts changes of the registrants.";
        4 kind: u8, "RTYPE: type of the reservation, 0 for none.";
        5 count: U16, "REGCTL: controllers that follow.";
        7 rsvd7: [u8; 2], "Reserved.";
        9 persistence: u8, "PTPLS: 1 when all is kept through power loss.";
        10 rsvd10: [u8; 14], "Reserved.";
    }
}

wire_struct! {
    /// How the extended data of Reservation Report begins.
    ReservationStatusExtended[64] {
        0 status: ReservationStatus, "The same.";
        24 rsvd24: [u8; 40], "Reserved.";
    }
}

/// CNTLID of a registrant without a controller.
pub const CNTLID_NONE: u16 = 0xffff;
/// RCSTS: the host holds the reservation.
pub const HOLDS: u8 = 1;

wire_struct! {
    /// A controller of a registrant.
    RegisteredController[24] {
        0 cntlid: U16, "Its identifier.";
        2 status: u8, "RCSTS: bit 0, its host holds the reservation.";
        3 rsvd3: [u8; 5], "Reserved.";
        8 host_id: U64, "Host identifier of 64 bits.";
        16 key: U64, "Key of the host.";
    }
}

wire_struct! {
    /// A controller of a registrant, extended.
    RegisteredControllerExtended[64] {
        0 cntlid: U16, "Its identifier.";
        2 status: u8, "RCSTS: bit 0, its host holds the reservation.";
        3 rsvd3: [u8; 5], "Reserved.";
        8 key: U64, "Key of the host.";
        16 host_id: [u8; 16], "Host identifier of 128 bits.";
        32 rsvd32: [u8; 32], "Reserved.";
    }
}

open_enum! {
    /// What a Reservation Notification log page tells.
    NotificationType: u8 {
        EMPTY = 0, "Nothing: there is no page.";
        REGISTRATION_PREEMPTED = 1, "The host's registration was preempted.";
        RESERVATION_RELEASED = 2, "The reservation was released.";
        RESERVATION_PREEMPTED = 3, "The reservation was preempted.";
    }
}

wire_struct! {
    /// Reservation Notification (LID 80h): the oldest page there is.
    ReservationNotification[64] {
        0 count: U64, "Number of this page, from 1; wraps to 1; 0 when there is none.";
        8 kind: NotificationType, "What happened.";
        9 available: u8, "Pages behind this one, 255 when there are more.";
        10 rsvd10: [u8; 2], "Reserved.";
        12 nsid: U32, "Namespace.";
        16 rsvd16: [u8; 48], "Reserved.";
    }
}

bits! {
    /// RESCAP: what a namespace supports.
    rescap: u8 {
        PERSISTS = 0, "Through power loss.";
        WRITE_EXCLUSIVE = 1, "This type.";
        EXCLUSIVE_ACCESS = 2, "This type.";
        WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 3, "This type.";
        EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 4, "This type.";
        WRITE_EXCLUSIVE_ALL_REGISTRANTS = 5, "This type.";
        EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 6, "This type.";
        IGNORE_KEY_OF_1_3 = 7, "IEKEY as revision 1.3 defines it.";
    }
}

bits! {
    /// Reservation Notification Mask, dword 11: a set bit keeps the notification back.
    notification_mask: u32 {
        REGISTRATION_PREEMPTED = 1, "Of that type.";
        RESERVATION_RELEASED = 2, "Of that type.";
        RESERVATION_PREEMPTED = 3, "Of that type.";
    }
}

bits! {
    /// Reservation Persistence, dword 11.
    persistence: u32 {
        PTPL = 0, "All is kept through power loss.";
    }
}
