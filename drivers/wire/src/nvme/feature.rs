//! Features: identifiers and the values they carry.
//!
//! Source: base 2.0 section 5.27.1 (feature values).

use crate::Error;
use crate::nvme::command::bit;

open_enum! {
    /// Feature identifiers.
    FeatureId: u8 {
        ARBITRATION = 0x01, "Arbitration.";
        POWER_MANAGEMENT = 0x02, "Power Management.";
        TEMPERATURE_THRESHOLD = 0x04, "Temperature Threshold.";
        ERROR_RECOVERY = 0x05, "Error Recovery, per namespace.";
        VOLATILE_WRITE_CACHE = 0x06, "Volatile Write Cache.";
        NUMBER_OF_QUEUES = 0x07, "Number of Queues.";
        INTERRUPT_COALESCING = 0x08, "Interrupt Coalescing; not over fabrics.";
        INTERRUPT_VECTOR = 0x09, "Interrupt Vector Configuration; not over fabrics.";
        WRITE_ATOMICITY = 0x0a, "Write Atomicity Normal.";
        ASYNC_EVENT_CONFIG = 0x0b, "Asynchronous Event Configuration.";
        TIMESTAMP = 0x0e, "Timestamp.";
        KEEP_ALIVE_TIMER = 0x0f, "Keep Alive Timer.";
        HOST_BEHAVIOR = 0x16, "Host Behavior Support.";
        IO_COMMAND_SET_PROFILE = 0x19, "I/O Command Set Profile.";
        HOST_IDENTIFIER = 0x81, "Host Identifier.";
        RESERVATION_NOTIFICATION = 0x82, "Reservation Notification Mask.";
        RESERVATION_PERSISTENCE = 0x83, "Reservation Persistence.";
        NAMESPACE_WRITE_PROTECT = 0x84, "Namespace Write Protection.";
    }
}

open_enum! {
    /// Which value of a feature Get Features asks for.
    FeatureSelect: u8 {
        CURRENT = 0, "The value in use.";
        DEFAULT = 1, "The factory value.";
        SAVED = 2, "The value after a reset.";
        CAPABILITIES = 3, "What can be done with it, see `capabilities`.";
    }
}

bits! {
    /// Completion dword 0 of Get Features with `CAPABILITIES`.
    capabilities: u32 {
        SAVEABLE = 0, "The value can be saved.";
        NAMESPACE_SPECIFIC = 1, "The value is per namespace.";
        CHANGEABLE = 2, "The value can be changed.";
    }
}

/// Number of Queues: both counts 0-based, so one queue is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberOfQueues {
    /// Submission queues minus one.
    pub submission_zero_based: u16,
    /// Completion queues minus one.
    pub completion_zero_based: u16,
}

impl NumberOfQueues {
    /// Reads dword 11 (a request) or the completion's dword 0 (a grant).
    ///
    /// Errors: `InvalidField` for FFFFh, which the specification forbids in a request.
    pub fn decode(dword: u32) -> Result<Self, Error> {
        let counts = Self {
            submission_zero_based: (dword & 0xffff) as u16,
            completion_zero_based: (dword >> 16) as u16,
        };
        if counts.submission_zero_based == 0xffff || counts.completion_zero_based == 0xffff {
            return Err(Error::InvalidField {
                what: "NumberOfQueues",
                field: "NSQR or NCQR",
                value: u64::from(dword),
            });
        }
        Ok(counts)
    }

    /// The dword.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        self.submission_zero_based as u32 | (self.completion_zero_based as u32) << 16
    }
}

bits! {
    /// Asynchronous Event Configuration, dword 11. Bits 7:0 are the critical warnings.
    async_event: u32 {
        NAMESPACE_ATTRIBUTE = 8, "Namespace attribute notices.";
        FIRMWARE_ACTIVATION = 9, "Firmware activation notices.";
        TELEMETRY_LOG = 10, "Telemetry log notices.";
        ANA_CHANGE = 11, "Asymmetric namespace access change notices.";
        PREDICTABLE_LATENCY = 12, "Predictable latency event notices.";
        LBA_STATUS = 13, "LBA status information notices.";
        ENDURANCE_GROUP = 14, "Endurance group event notices.";
        NORMAL_SHUTDOWN = 15, "Normal subsystem shutdown notices.";
        DISCOVERY_LOG = 31, "Discovery log page change notices.";
    }
}

bits! {
    /// Volatile Write Cache, dword 11.
    write_cache: u32 {
        ENABLE = 0, "The cache is in use: Flush and FUA matter.";
    }
}

bits! {
    /// Write Atomicity Normal, dword 11.
    write_atomicity: u32 {
        DISABLE_NORMAL = 0, "Only the power-fail unit (AWUPF) is needed, not AWUN.";
    }
}

bits! {
    /// Host Identifier, dword 11.
    host_identifier: u32 {
        EXTENDED = 0, "The identifier has 16 bytes, not 8; always so over fabrics.";
    }
}

/// Arbitration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arbitration {
    /// Burst: 2^value commands, 7 is no limit (3 bits).
    pub burst: u8,
    /// Low priority weight, 0-based.
    pub low_weight: u8,
    /// Medium priority weight, 0-based.
    pub medium_weight: u8,
    /// High priority weight, 0-based.
    pub high_weight: u8,
}

impl Arbitration {
    /// Reads dword 11.
    #[must_use]
    pub const fn decode(dword: u32) -> Self {
        let [burst, low_weight, medium_weight, high_weight] = dword.to_le_bytes();
        Self {
            burst: burst & 7,
            low_weight,
            medium_weight,
            high_weight,
        }
    }

    /// The dword.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        u32::from_le_bytes([
            self.burst & 7,
            self.low_weight,
            self.medium_weight,
            self.high_weight,
        ])
    }
}

/// Power Management.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerManagement {
    /// Power state, 5 bits.
    pub power_state: u8,
    /// Workload hint, 3 bits.
    pub workload_hint: u8,
}

impl PowerManagement {
    /// Reads dword 11.
    #[must_use]
    pub const fn decode(dword: u32) -> Self {
        Self {
            power_state: (dword & 0x1f) as u8,
            workload_hint: (dword >> 5 & 7) as u8,
        }
    }

    /// The dword.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        (self.power_state & 0x1f) as u32 | ((self.workload_hint & 7) as u32) << 5
    }
}

/// Temperature Threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemperatureThreshold {
    /// Threshold in kelvin.
    pub kelvin: u16,
    /// Sensor: 0 composite, 1 to 8, 15 all (4 bits).
    pub sensor: u8,
    /// True for the under-temperature threshold.
    pub under: bool,
}

impl TemperatureThreshold {
    /// Reads dword 11.
    ///
    /// Errors: `InvalidField` for a threshold type that is reserved.
    pub fn decode(dword: u32) -> Result<Self, Error> {
        let kind = dword >> 20 & 3;
        if kind > 1 {
            return Err(Error::InvalidField {
                what: "TemperatureThreshold",
                field: "THSEL",
                value: u64::from(kind),
            });
        }
        Ok(Self {
            kelvin: (dword & 0xffff) as u16,
            sensor: (dword >> 16 & 0xf) as u8,
            under: kind == 1,
        })
    }

    /// The dword.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        self.kelvin as u32 | ((self.sensor & 0xf) as u32) << 16 | (self.under as u32) << 20
    }
}

/// Error Recovery, of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorRecovery {
    /// Time limited error recovery in 100 ms; 0 is no limit.
    pub timeout_100ms: u16,
    /// Reading a deallocated or unwritten block is an error.
    pub deallocated_error: bool,
}

impl ErrorRecovery {
    /// Reads dword 11.
    #[must_use]
    pub const fn decode(dword: u32) -> Self {
        Self {
            timeout_100ms: (dword & 0xffff) as u16,
            deallocated_error: bit(dword, 16),
        }
    }

    /// The dword.
    #[must_use]
    pub const fn encode(&self) -> u32 {
        self.timeout_100ms as u32 | (self.deallocated_error as u32) << 16
    }
}

wire_struct! {
    /// Data of the Host Identifier feature in its extended form.
    HostIdentifier[16] {
        0 host_id: [u8; 16], "The host's identifier, the same one as in Connect.";
    }
}
