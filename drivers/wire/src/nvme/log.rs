//! Log pages.
//!
//! Source: base 2.0 section 5.16.1 (log page definitions). The discovery log is in
//! [`crate::fabrics::discovery`].

use core::fmt;

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::text::Ascii;

open_enum! {
    /// Log page identifiers.
    LogId: u8 {
        SUPPORTED_LOG_PAGES = 0x00, "Supported log pages.";
        ERROR = 0x01, "Error information.";
        SMART = 0x02, "SMART and health.";
        FIRMWARE_SLOT = 0x03, "Firmware slots.";
        CHANGED_NAMESPACES = 0x04, "Changed namespaces.";
        COMMANDS_EFFECTS = 0x05, "Commands supported and effects.";
        SELF_TEST = 0x06, "Device self-test.";
        TELEMETRY_HOST = 0x07, "Telemetry, host initiated.";
        TELEMETRY_CONTROLLER = 0x08, "Telemetry, controller initiated.";
        ENDURANCE_GROUP = 0x09, "Endurance group.";
        ANA = 0x0c, "Asymmetric namespace access.";
        PERSISTENT_EVENT = 0x0d, "Persistent events.";
        FEATURES_EFFECTS = 0x12, "Feature identifiers supported and effects.";
        DISCOVERY = 0x70, "Discovery.";
        RESERVATION = 0x80, "Reservation notifications.";
        SANITIZE = 0x81, "Sanitize status.";
    }
}

wire_struct! {
    /// One entry of the error log (LID 01h), newest first.
    ErrorEntry[64] {
        0 error_count: U64, "Number of this error, from 1; 0 is an unused entry.";
        8 sqid: U16, "Submission queue; FFFFh when not of a command.";
        10 cid: U16, "Command identifier; FFFFh when not of a command.";
        12 status: U16, "Status in bits 15:1, phase tag in bit 0.";
        14 parameter_location: U16, "Byte in bits 7:0 and bit in 10:8; FFFFh is unknown.";
        16 lba: U64, "First block in error.";
        24 nsid: U32, "Namespace.";
        28 vendor_log: u8, "Vendor log page with more, 0 is none.";
        29 trtype: u8, "Transport type.";
        30 rsvd30: [u8; 2], "Reserved.";
        32 command_specific: U64, "Command specific information.";
        40 transport_specific: U16, "Transport type specific information.";
        42 rsvd42: [u8; 22], "Reserved.";
    }
}

wire_struct! {
    /// SMART and health (LID 02h).
    SmartLog[512] {
        0 critical_warning: u8, "See `critical_warning`.";
        1 composite_temperature: U16, "In kelvin.";
        3 available_spare: u8, "In percent.";
        4 available_spare_threshold: u8, "In percent.";
        5 percentage_used: u8, "Of the device's life, may pass 100.";
        6 endurance_group_warning: u8, "Endurance group critical warnings.";
        7 rsvd7: [u8; 25], "Reserved.";
        32 data_units_read: U128, "In 1,000 times 512 bytes, rounded up.";
        48 data_units_written: U128, "In 1,000 times 512 bytes, rounded up.";
        64 host_read_commands: U128, "Read commands completed.";
        80 host_write_commands: U128, "Write commands completed.";
        96 controller_busy_minutes: U128, "Minutes with I/O in flight.";
        112 power_cycles: U128, "Power cycles.";
        128 power_on_hours: U128, "Hours powered on.";
        144 unsafe_shutdowns: U128, "Power losses without a shutdown notification.";
        160 media_errors: U128, "Unrecovered data integrity errors.";
        176 error_log_entries: U128, "Error log entries over the life of the controller.";
        192 warning_temperature_minutes: U32, "Minutes above the warning temperature.";
        196 critical_temperature_minutes: U32, "Minutes above the critical temperature.";
        200 temperature_sensors: [U16; 8], "In kelvin, 0 is not there.";
        216 thermal_transitions_1: U32, "Transitions to light throttling.";
        220 thermal_transitions_2: U32, "Transitions to heavy throttling.";
        224 thermal_seconds_1: U32, "Seconds in light throttling.";
        228 thermal_seconds_2: U32, "Seconds in heavy throttling.";
        232 rsvd232: [u8; 280], "Reserved.";
    }
}

bits! {
    /// Bits of the SMART critical warning.
    critical_warning: u8 {
        SPARE = 0, "Available spare is below its threshold.";
        TEMPERATURE = 1, "Temperature is beyond a threshold.";
        RELIABILITY = 2, "Reliability is degraded.";
        READ_ONLY = 3, "All media is read-only.";
        BACKUP_FAILED = 4, "The volatile memory backup failed.";
        PMR = 5, "The persistent memory region is unreliable.";
    }
}

wire_struct! {
    /// Firmware slots (LID 03h).
    FirmwareSlotLog[512] {
        0 afi: u8, "Active slot in bits 2:0, next one in bits 6:4.";
        1 rsvd1: [u8; 7], "Reserved.";
        8 revisions: [Ascii<8>; 7], "Firmware revision of slots 1 to 7.";
        64 rsvd64: [u8; 448], "Reserved.";
    }
}

/// Changed namespaces (LID 04h): up to 1,024 identifiers, FFFFFFFFh first when there are more.
pub type ChangedNamespaces = crate::nvme::identify::NsidList;

/// A table of 256 dwords, one an opcode or log page, printed without the zero ones.
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
pub struct DwordTable(pub [U32; 256]);

impl DwordTable {
    /// The value at `index`.
    #[must_use]
    pub fn get(&self, index: u8) -> u32 {
        self.0[usize::from(index)].get()
    }

    /// Sets the value at `index`.
    pub fn set(&mut self, index: u8, value: u32) {
        self.0[usize::from(index)].set(value);
    }
}

impl fmt::Debug for DwordTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, value)| value.get() != 0);
        f.debug_map()
            .entries(used.map(|(index, value)| (index, value.get())))
            .finish()
    }
}

wire_struct! {
    /// Commands supported and effects (LID 05h); see `effects` for the bits.
    CommandsEffectsLog[4096] {
        0 admin: DwordTable, "Admin commands by opcode.";
        1024 io: DwordTable, "I/O commands by opcode.";
        2048 rsvd2048: [u8; 2048], "Reserved.";
    }
}

bits! {
    /// Effects of a command. Bits 18:16 say what must not run beside it, 31:20 its scope.
    effects: u32 {
        CSUPP = 0, "The command is supported.";
        LBCC = 1, "It may change logical block contents.";
        NCC = 2, "It may change namespace capabilities.";
        NIC = 3, "It may change the inventory of namespaces.";
        CCC = 4, "It may change controller capabilities.";
        UUID_SELECT = 19, "It takes a UUID index.";
        SCOPE_NAMESPACE = 20, "It affects one namespace.";
        SCOPE_CONTROLLER = 21, "It affects the controller.";
    }
}

wire_struct! {
    /// Supported log pages (LID 00h): bit 0 supported, bit 1 index offsets supported.
    SupportedLogPages[1024] {
        0 pages: DwordTable, "By log page identifier.";
    }
}

bits! {
    /// Bits of a [`SupportedLogPages`] entry.
    log_page_support: u32 {
        LSUPP = 0, "The log page is supported.";
        IOS = 1, "Offsets may be an index.";
    }
}
