//! Sense data.
//!
//! Source: SPC-4 section 4.5.

open_enum! {
    /// What kind of failure.
    SenseKey: u8 {
        NO_SENSE = 0x0, "Nothing to report.";
        RECOVERED_ERROR = 0x1, "Done after an error.";
        NOT_READY = 0x2, "The unit cannot be used now.";
        MEDIUM_ERROR = 0x3, "Data could not be read or written.";
        HARDWARE_ERROR = 0x4, "The unit failed.";
        ILLEGAL_REQUEST = 0x5, "The command is wrong.";
        UNIT_ATTENTION = 0x6, "Something changed that the host must know first.";
        DATA_PROTECT = 0x7, "Writing is not allowed, or there is no space.";
        COPY_ABORTED = 0xa, "A third party copy failed.";
        ABORTED_COMMAND = 0xb, "The target aborted the command.";
        MISCOMPARE = 0xe, "Data differs from what it was compared with.";
    }
}

open_enum! {
    /// Additional sense code in the high byte, its qualifier in the low one.
    SenseCode: u16 {
        NONE = 0x0000, "No additional sense information.";
        OPERATION_IN_PROGRESS = 0x0016, "Operation in progress.";
        STATE_TRANSITION = 0x040a, "Not accessible: asymmetric access state transition.";
        STANDBY = 0x040b, "Not accessible: target port in standby state.";
        UNAVAILABLE = 0x040c, "Not accessible: target port in unavailable state.";
        INITIALIZING_COMMAND_REQUIRED = 0x0402, "START STOP UNIT stopped the unit.";
        BECOMING_READY = 0x0401, "The unit is in the process of becoming ready.";
        NOT_READY = 0x0400, "The unit is not ready, cause not reportable.";
        OFFLINE = 0x0412, "The unit is offline.";
        SANITIZE_IN_PROGRESS = 0x041b, "A sanitize operation is running.";
        INVALID_INFORMATION_UNIT = 0x0e03, "Data length of the transport and of the CDB differ.";
        THIRD_PARTY_FAILURE = 0x0d01, "Third party device failure.";
        COPY_TARGET_NOT_REACHABLE = 0x0d02, "Copy target device not reachable.";
        UNREACHABLE_COPY_TARGET = 0x0804, "Unreachable copy target.";
        WRITE_ERROR = 0x0c00, "Write error.";
        UNRECOVERED_READ_ERROR = 0x1100, "Unrecovered read error.";
        PARAMETER_LIST_LENGTH = 0x1a00, "Parameter list length error.";
        MISCOMPARE = 0x1d00, "Miscompare during verify operation.";
        INVALID_OPCODE = 0x2000, "Invalid command operation code.";
        LBA_OUT_OF_RANGE = 0x2100, "Logical block address out of range.";
        INVALID_FIELD_IN_CDB = 0x2400, "Invalid field in CDB.";
        LUN_NOT_SUPPORTED = 0x2500, "Logical unit not supported.";
        INVALID_PARAMETER = 0x2600, "Invalid field in parameter list.";
        PARAMETER_VALUE = 0x2602, "Parameter value invalid.";
        TOO_MANY_TARGETS = 0x2606, "Too many target descriptors.";
        UNSUPPORTED_TARGET_TYPE = 0x2607, "Unsupported target descriptor type code.";
        TOO_MANY_SEGMENTS = 0x2608, "Too many segment descriptors.";
        UNSUPPORTED_SEGMENT_TYPE = 0x2609, "Unsupported segment descriptor type code.";
        INEXACT_SEGMENT = 0x260a, "Unexpected inexact segment.";
        SOFTWARE_WRITE_PROTECTED = 0x2702, "Logical unit software write protected.";
        SPACE_ALLOCATION_FAILED = 0x2707, "Space allocation failed write protect.";
        POWER_ON = 0x2900, "Power on, reset, or bus device reset occurred.";
        BUS_DEVICE_RESET = 0x2903, "Bus device reset function occurred.";
        MODE_PARAMETERS_CHANGED = 0x2a01, "Mode parameters changed.";
        RESERVATIONS_PREEMPTED = 0x2a03, "Reservations preempted.";
        RESERVATIONS_RELEASED = 0x2a04, "Reservations released.";
        REGISTRATIONS_PREEMPTED = 0x2a05, "Registrations preempted.";
        ACCESS_STATE_CHANGED = 0x2a06, "Asymmetric access state changed.";
        CAPACITY_CHANGED = 0x2a09, "Capacity data has changed.";
        COMMANDS_CLEARED = 0x2f00, "Commands cleared by another initiator.";
        SANITIZE_FAILED = 0x3103, "Sanitize command failed.";
        SAVING_NOT_SUPPORTED = 0x3900, "Saving parameters not supported.";
        MEDIUM_REMOVAL_PREVENTED = 0x5302, "Medium removal prevented.";
        REPORTED_LUNS_CHANGED = 0x3f0e, "Reported LUNs data has changed.";
        INTERNAL_FAILURE = 0x4400, "Internal target failure.";
        SET_GROUPS_FAILED = 0x670a, "Set target port groups command failed.";
    }
}

/// Where the wrong field is, SPC-4 section 4.5.2.4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB, else in the parameter list.
    pub in_cdb: bool,
    /// Byte, from 0.
    pub byte: u16,
    /// Its most significant bit, when less than a byte is meant.
    pub bit: Option<u8>,
}

/// What the sense key says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeySpecific {
    /// Nothing.
    #[default]
    None,
    /// With ILLEGAL REQUEST.
    Field(FieldPointer),
    /// With NO SENSE and NOT READY: so many of 65,536 parts are done.
    Progress(u16),
    /// With COPY ABORTED: the segment descriptor in which a field is wrong.
    Segment {
        /// Byte of the segment descriptor, else of the parameter list.
        in_segment: bool,
        /// Byte, from 0.
        byte: u16,
    },
}

/// Why a command failed. Becomes fixed or descriptor format sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Kind of failure.
    pub key: SenseKey,
    /// What failed.
    pub code: SenseCode,
    /// The INFORMATION field: an LBA, or the offset of a miscompare in bytes.
    pub information: Option<u64>,
    /// The COMMAND-SPECIFIC INFORMATION field.
    pub command_specific: Option<u64>,
    /// The sense key specific field.
    pub specific: KeySpecific,
}

/// Length of fixed format sense data here.
pub const FIXED_BYTES: usize = 18;
/// The longest descriptor format sense data here: header, information, command specific, key
/// specific.
pub const DESCRIPTOR_BYTES_MAX: usize = 8 + 12 + 12 + 8;

impl Sense {
    /// Sense data with nothing beyond key and code.
    #[must_use]
    pub const fn new(key: SenseKey, code: SenseCode) -> Self {
        Self {
            key,
            code,
            information: None,
            command_specific: None,
            specific: KeySpecific::None,
        }
    }

    /// A failure of the command itself.
    #[must_use]
    pub const fn illegal(code: SenseCode) -> Self {
        Self::new(SenseKey::ILLEGAL_REQUEST, code)
    }

    /// INVALID FIELD IN CDB, pointing to `byte`, and to `bit` of it when less than a byte is wrong.
    #[must_use]
    pub const fn invalid_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::pointing(SenseCode::INVALID_FIELD_IN_CDB, true, byte, bit)
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing to `byte`.
    #[must_use]
    pub const fn invalid_parameter(byte: u16, bit: Option<u8>) -> Self {
        Self::pointing(SenseCode::INVALID_PARAMETER, false, byte, bit)
    }

    const fn pointing(code: SenseCode, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        let mut sense = Self::illegal(code);
        sense.specific = KeySpecific::Field(FieldPointer { in_cdb, byte, bit });
        sense
    }

    /// The same with an INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// The same with a progress indication.
    #[must_use]
    pub const fn with_progress(mut self, progress: u16) -> Self {
        self.specific = KeySpecific::Progress(progress);
        self
    }

    /// Fixed format, SPC-4 section 4.5.3. An INFORMATION that needs more than 4 bytes is left out.
    #[must_use]
    pub fn fixed(&self) -> [u8; FIXED_BYTES] {
        let mut out = [0; FIXED_BYTES];
        out[0] = 0x70;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            out[0] |= 0x80;
            out[3..7].copy_from_slice(&information.to_be_bytes());
        }
        out[2] = self.key.0;
        out[7] = (FIXED_BYTES - 8) as u8;
        if let Some(specific) = self
            .command_specific
            .and_then(|value| u32::try_from(value).ok())
        {
            out[8..12].copy_from_slice(&specific.to_be_bytes());
        }
        out[12..14].copy_from_slice(&self.code.0.to_be_bytes());
        out[15..18].copy_from_slice(&self.specific.bytes());
        out
    }

    /// Descriptor format, SPC-4 section 4.5.2, into the start of `out`. Returns its length.
    pub fn descriptors(&self, out: &mut [u8; DESCRIPTOR_BYTES_MAX]) -> usize {
        out.fill(0);
        out[0] = 0x72;
        out[1] = self.key.0;
        out[2..4].copy_from_slice(&self.code.0.to_be_bytes());
        let mut at = 8;
        if let Some(information) = self.information {
            out[at..at + 4].copy_from_slice(&[0x00, 0x0a, 0x80, 0]);
            out[at + 4..at + 12].copy_from_slice(&information.to_be_bytes());
            at += 12;
        }
        if let Some(specific) = self.command_specific {
            out[at..at + 4].copy_from_slice(&[0x01, 0x0a, 0, 0]);
            out[at + 4..at + 12].copy_from_slice(&specific.to_be_bytes());
            at += 12;
        }
        if self.specific != KeySpecific::None {
            out[at..at + 4].copy_from_slice(&[0x02, 0x06, 0, 0]);
            out[at + 4..at + 7].copy_from_slice(&self.specific.bytes());
            at += 8;
        }
        out[7] = (at - 8) as u8;
        at
    }

    /// Reads sense data of either format, as a host does. `None` when it is neither or too short.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7f {
            0x70 => decode_fixed(bytes),
            0x72 => decode_descriptors(bytes),
            _ => None,
        }
    }
}

fn decode_fixed(bytes: &[u8]) -> Option<Sense> {
    let bytes: &[u8; FIXED_BYTES] = bytes.first_chunk()?;
    let key = SenseKey(bytes[2] & 0xf);
    let mut sense = Sense::new(key, SenseCode(u16::from_be_bytes([bytes[12], bytes[13]])));
    let word =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    sense.information = (bytes[0] & 0x80 != 0).then(|| word(3).into());
    sense.command_specific = (word(8) != 0).then(|| word(8).into());
    sense.specific = KeySpecific::decode(key, [bytes[15], bytes[16], bytes[17]]);
    Some(sense)
}

fn decode_descriptors(bytes: &[u8]) -> Option<Sense> {
    let head: &[u8; 8] = bytes.first_chunk()?;
    let key = SenseKey(head[1] & 0xf);
    let mut sense = Sense::new(key, SenseCode(u16::from_be_bytes([head[2], head[3]])));
    let mut rest = bytes.get(8..8 + usize::from(head[7]))?;
    while let [kind, len, tail @ ..] = rest {
        let (body, next) = tail.split_at_checked(usize::from(*len))?;
        let long = body.get(2..10).and_then(|value| value.try_into().ok());
        match kind {
            0x00 => sense.information = long.map(u64::from_be_bytes),
            0x01 => sense.command_specific = long.map(u64::from_be_bytes),
            0x02 => {
                let value: [u8; 3] = body.get(2..5)?.try_into().ok()?;
                sense.specific = KeySpecific::decode(key, value);
            }
            _ => {}
        }
        rest = next;
    }
    Some(sense)
}

impl KeySpecific {
    /// The three bytes of the field; the first bit says that they mean something.
    fn bytes(self) -> [u8; 3] {
        let (flags, value) = match self {
            Self::None => return [0; 3],
            Self::Field(field) => {
                let in_cdb = if field.in_cdb { 0x40 } else { 0 };
                let bit = field.bit.map_or(0, |bit| 0x08 | (bit & 7));
                (in_cdb | bit, field.byte)
            }
            Self::Progress(progress) => (0, progress),
            Self::Segment { in_segment, byte } => (if in_segment { 0x20 } else { 0 }, byte),
        };
        let [high, low] = value.to_be_bytes();
        [0x80 | flags, high, low]
    }

    fn decode(key: SenseKey, [flags, high, low]: [u8; 3]) -> Self {
        let value = u16::from_be_bytes([high, low]);
        match key {
            _ if flags & 0x80 == 0 => Self::None,
            SenseKey::ILLEGAL_REQUEST => Self::Field(FieldPointer {
                in_cdb: flags & 0x40 != 0,
                byte: value,
                bit: (flags & 0x08 != 0).then_some(flags & 7),
            }),
            SenseKey::NO_SENSE | SenseKey::NOT_READY => Self::Progress(value),
            SenseKey::COPY_ABORTED => Self::Segment {
                in_segment: flags & 0x20 != 0,
                byte: value,
            },
            _ => Self::None,
        }
    }
}
