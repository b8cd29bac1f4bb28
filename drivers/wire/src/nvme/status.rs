//! Status of a completed command.
//!
//! Source: base 2.0 section 4.2.3 (status field), NVM command set 1.0 section 3 (media and
//! command-specific codes), base 2.0 section 6 and NVMe-oF 1.1 section 3 (Connect).

use core::fmt;

/// Status code types.
pub mod sct {
    /// Codes that any command may return.
    pub const GENERIC: u8 = 0;
    /// Codes whose meaning depends on the command.
    pub const COMMAND_SPECIFIC: u8 = 1;
    /// Media and data integrity errors.
    pub const MEDIA: u8 = 2;
    /// Path related errors: another path may work.
    pub const PATH: u8 = 3;
    /// Vendor specific.
    pub const VENDOR: u8 = 7;
}

/// A status without its phase tag: type, code, retry delay, More and Do Not Retry.
///
/// Kept as bits 15:1 of the completion's status word, with bit 0 clear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(u16);

const MORE: u16 = 1 << 14;
const DNR: u16 = 1 << 15;

impl Status {
    /// A status from its type (3 bits) and code, with Do Not Retry and More clear.
    #[must_use]
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self((((sct & 7) as u16) << 9) | ((sc as u16) << 1))
    }

    /// The status of a completion's status word; the phase tag is dropped.
    #[must_use]
    pub const fn from_field(field: u16) -> Self {
        Self(field & !1)
    }

    /// The status word: bits 15:1 the status, bit 0 the phase tag (always 0 over fabrics).
    #[must_use]
    pub const fn field(self, phase: bool) -> u16 {
        self.0 | phase as u16
    }

    /// Builds the 16-bit status word from its parts.
    #[must_use]
    pub const fn build(sct: u8, sc: u8, dnr: bool, more: bool) -> u16 {
        let status = Self::new(sct, sc);
        let status = if dnr { status.with_dnr() } else { status };
        let status = if more { status.with_more() } else { status };
        status.0
    }

    /// The same status with Do Not Retry: the host would fail again with the same command.
    #[must_use]
    pub const fn with_dnr(self) -> Self {
        Self(self.0 | DNR)
    }

    /// The same status with More: the error log holds an entry about this command.
    #[must_use]
    pub const fn with_more(self) -> Self {
        Self(self.0 | MORE)
    }

    /// The same status with a command retry delay index, 0 to 3 (0 is no delay).
    #[must_use]
    pub const fn with_retry_delay(self, index: u8) -> Self {
        Self((self.0 & !(3 << 12)) | (((index & 3) as u16) << 12))
    }

    /// Status code type, see [`sct`].
    #[must_use]
    pub const fn sct(self) -> u8 {
        ((self.0 >> 9) & 7) as u8
    }

    /// Status code.
    #[must_use]
    pub const fn sc(self) -> u8 {
        ((self.0 >> 1) & 0xff) as u8
    }

    /// Do Not Retry.
    #[must_use]
    pub const fn dnr(self) -> bool {
        self.0 & DNR != 0
    }

    /// More information is in the error log.
    #[must_use]
    pub const fn more(self) -> bool {
        self.0 & MORE != 0
    }

    /// Command retry delay index, 0 to 3.
    #[must_use]
    pub const fn retry_delay(self) -> u8 {
        ((self.0 >> 12) & 3) as u8
    }

    /// Type and code alone, for comparing with the constants here.
    #[must_use]
    pub const fn code(self) -> Self {
        Self::new(self.sct(), self.sc())
    }

    /// True when the command succeeded.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.sct() == 0 && self.sc() == 0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "sct {:#x} sc {:#04x}", self.sct(), self.sc())?,
        }
        if self.retry_delay() != 0 {
            write!(f, " retry-delay {}", self.retry_delay())?;
        }
        f.write_str(if self.more() { " more" } else { "" })?;
        f.write_str(if self.dnr() { " do-not-retry" } else { "" })
    }
}

/// Codes of NVM commands that share their number with a code of Connect; `name` gives the latter.
impl Status {
    /// The attributes of the command contradict each other.
    pub const CONFLICTING_ATTRIBUTES: Self = Self::new(sct::COMMAND_SPECIFIC, 0x80);
    /// The protection information settings are invalid.
    pub const INVALID_PROTECTION_INFORMATION: Self = Self::new(sct::COMMAND_SPECIFIC, 0x81);
    /// A write to a range that is read-only.
    pub const WRITE_TO_READ_ONLY_RANGE: Self = Self::new(sct::COMMAND_SPECIFIC, 0x82);
    /// Larger than DMRL, DMRSL, DMSL, VSL or WZSL allow.
    pub const COMMAND_SIZE_LIMIT_EXCEEDED: Self = Self::new(sct::COMMAND_SPECIFIC, 0x83);
}

macro_rules! statuses {
    ($( $name:ident = $sct:literal, $sc:literal, $doc:literal; )*) => {
        impl Status {
            $( #[doc = $doc] pub const $name: Self = Self::new($sct, $sc); )*

            /// The name of a known type and code. Command-specific codes that several commands
            /// share (80h to 8Fh) get the name of the base or fabrics meaning.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match (self.sct(), self.sc()) {
                    $( ($sct, $sc) => Some(stringify!($name)), )*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0, 0x00, "Completed without error.";
    INVALID_OPCODE = 0, 0x01, "The opcode is not supported.";
    INVALID_FIELD = 0, 0x02, "A reserved or unsupported value in a command field.";
    COMMAND_ID_CONFLICT = 0, 0x03, "The command identifier is already in use on this queue.";
    DATA_TRANSFER_ERROR = 0, 0x04, "The data could not be moved between host and controller.";
    ABORTED_POWER_LOSS = 0, 0x05, "Aborted because power is failing.";
    INTERNAL_ERROR = 0, 0x06, "An internal error; the host may retry.";
    ABORTED_BY_REQUEST = 0, 0x07, "Aborted by an Abort command.";
    ABORTED_SQ_DELETION = 0, 0x08, "Aborted because its queue was deleted.";
    ABORTED_FAILED_FUSED = 0, 0x09, "Aborted because the other half of the fused pair failed.";
    ABORTED_MISSING_FUSED = 0, 0x0a, "Aborted because the other half of the pair is missing.";
    INVALID_NAMESPACE = 0, 0x0b, "The namespace or its format is invalid.";
    COMMAND_SEQUENCE_ERROR = 0, 0x0c, "A protocol violation in a sequence of commands.";
    INVALID_SGL_SEGMENT = 0, 0x0d, "An SGL segment descriptor is in the wrong place.";
    INVALID_SGL_COUNT = 0, 0x0e, "Too many or too few SGL descriptors.";
    SGL_DATA_LENGTH_INVALID = 0, 0x0f, "The SGL is too short or too long for the data.";
    METADATA_SGL_LENGTH_INVALID = 0, 0x10, "The metadata SGL length is wrong.";
    SGL_TYPE_INVALID = 0, 0x11, "The SGL descriptor type is not supported.";
    INVALID_CMB_USE = 0, 0x12, "The controller memory buffer is misused.";
    PRP_OFFSET_INVALID = 0, 0x13, "The PRP offset is invalid.";
    ATOMIC_WRITE_UNIT_EXCEEDED = 0, 0x14, "Longer than the atomic write unit.";
    OPERATION_DENIED = 0, 0x15, "Access to the LBA range is denied.";
    SGL_OFFSET_INVALID = 0, 0x16, "The SGL offset is outside the capsule data.";
    HOST_ID_INCONSISTENT_FORMAT = 0, 0x18, "64-bit and 128-bit host identifiers are mixed.";
    KEEP_ALIVE_EXPIRED = 0, 0x19, "The keep alive timer expired.";
    KEEP_ALIVE_INVALID = 0, 0x1a, "The keep alive timeout is not supported.";
    ABORTED_PREEMPT = 0, 0x1b, "Aborted by a reservation preempt-and-abort.";
    SANITIZE_FAILED = 0, 0x1c, "The last sanitize failed.";
    SANITIZE_IN_PROGRESS = 0, 0x1d, "Not allowed during sanitize.";
    SGL_DATA_BLOCK_GRANULARITY_INVALID = 0, 0x1e, "SGL address or length is not aligned.";
    COMMAND_NOT_SUPPORTED_IN_CMB = 0, 0x1f, "Not supported for queues in controller memory.";
    NAMESPACE_WRITE_PROTECTED = 0, 0x20, "The namespace is write protected.";
    COMMAND_INTERRUPTED = 0, 0x21, "Interrupted by the controller; the host should retry.";
    TRANSIENT_TRANSPORT_ERROR = 0, 0x22, "A transport error; retry may succeed (data digest).";
    COMMAND_PROHIBITED = 0, 0x23, "Prohibited by lockdown.";
    ADMIN_COMMAND_MEDIA_NOT_READY = 0, 0x24, "The media is not ready for this admin command.";
    LBA_OUT_OF_RANGE = 0, 0x80, "The range goes past the end of the namespace.";
    CAPACITY_EXCEEDED = 0, 0x81, "The write would exceed the capacity: the pool is full.";
    NAMESPACE_NOT_READY = 0, 0x82, "The namespace cannot be accessed now.";
    RESERVATION_CONFLICT = 0, 0x83, "A reservation of another host forbids the access.";
    FORMAT_IN_PROGRESS = 0, 0x84, "A format is in progress.";

    COMPLETION_QUEUE_INVALID = 1, 0x00, "The completion queue does not exist.";
    INVALID_QUEUE_ID = 1, 0x01, "The queue identifier is invalid.";
    INVALID_QUEUE_SIZE = 1, 0x02, "The queue size is invalid.";
    ABORT_LIMIT_EXCEEDED = 1, 0x03, "Too many concurrent Abort commands.";
    AER_LIMIT_EXCEEDED = 1, 0x05, "Too many outstanding asynchronous event requests.";
    INVALID_FIRMWARE_SLOT = 1, 0x06, "The firmware slot is invalid.";
    INVALID_FIRMWARE_IMAGE = 1, 0x07, "The firmware image is invalid.";
    INVALID_INTERRUPT_VECTOR = 1, 0x08, "The interrupt vector is invalid.";
    INVALID_LOG_PAGE = 1, 0x09, "The log page is invalid.";
    INVALID_FORMAT = 1, 0x0a, "The LBA format is invalid.";
    FIRMWARE_NEEDS_RESET = 1, 0x0b, "Firmware activation needs a conventional reset.";
    INVALID_QUEUE_DELETION = 1, 0x0c, "The queue cannot be deleted now.";
    FEATURE_NOT_SAVEABLE = 1, 0x0d, "The feature value cannot be saved.";
    FEATURE_NOT_CHANGEABLE = 1, 0x0e, "The feature value cannot be changed.";
    FEATURE_NOT_NAMESPACE_SPECIFIC = 1, 0x0f, "The feature applies to the controller.";
    OVERLAPPING_RANGE = 1, 0x14, "Ranges overlap.";
    NAMESPACE_INSUFFICIENT_CAPACITY = 1, 0x15, "Not enough room for the namespace.";
    NAMESPACE_ID_UNAVAILABLE = 1, 0x16, "No namespace identifier is free.";
    NAMESPACE_ALREADY_ATTACHED = 1, 0x18, "The namespace is attached already.";
    NAMESPACE_IS_PRIVATE = 1, 0x19, "The namespace is private to another controller.";
    NAMESPACE_NOT_ATTACHED = 1, 0x1a, "The namespace is not attached.";
    THIN_PROVISIONING_NOT_SUPPORTED = 1, 0x1b, "Thin provisioning is not supported.";
    CONTROLLER_LIST_INVALID = 1, 0x1c, "The controller list is invalid.";
    SELF_TEST_IN_PROGRESS = 1, 0x1d, "A device self-test is in progress.";
    INVALID_CONTROLLER_ID = 1, 0x1f, "The controller identifier is invalid.";
    ANA_GROUP_ID_INVALID = 1, 0x24, "The ANA group identifier is invalid.";
    ANA_ATTACH_FAILED = 1, 0x25, "Attaching would break ANA group rules.";
    IO_COMMAND_SET_NOT_SUPPORTED = 1, 0x29, "The I/O command set is not supported.";
    IO_COMMAND_SET_NOT_ENABLED = 1, 0x2a, "The I/O command set is not enabled.";
    IO_COMMAND_SET_COMBINATION_REJECTED = 1, 0x2b, "The combination was rejected.";
    INVALID_IO_COMMAND_SET = 1, 0x2c, "The I/O command set is invalid.";
    CONNECT_INCOMPATIBLE_FORMAT = 1, 0x80, "Connect record format not supported.";
    CONNECT_CONTROLLER_BUSY = 1, 0x81, "The controller is busy; connect again later.";
    CONNECT_INVALID_PARAMETERS = 1, 0x82, "A Connect parameter is invalid; result says which.";
    CONNECT_RESTART_DISCOVERY = 1, 0x83, "The subsystem moved; discover again.";
    CONNECT_INVALID_HOST = 1, 0x84, "The host may not use this subsystem.";
    DISCONNECT_INVALID_QUEUE_TYPE = 1, 0x85, "Disconnect was sent on the wrong queue.";
    DISCOVER_RESTART = 1, 0x90, "The discovery log changed while it was read.";
    AUTHENTICATION_REQUIRED = 1, 0x91, "Authenticate before this command.";

    WRITE_FAULT = 2, 0x80, "The media could not be written.";
    UNRECOVERED_READ_ERROR = 2, 0x81, "The data could not be read back intact.";
    GUARD_CHECK_ERROR = 2, 0x82, "End-to-end guard check failed.";
    APPLICATION_TAG_CHECK_ERROR = 2, 0x83, "End-to-end application tag check failed.";
    REFERENCE_TAG_CHECK_ERROR = 2, 0x84, "End-to-end reference tag check failed.";
    COMPARE_FAILURE = 2, 0x85, "The data differs from what Compare sent.";
    ACCESS_DENIED = 2, 0x86, "Access to the namespace or range is denied.";
    DEALLOCATED_OR_UNWRITTEN = 2, 0x87, "A deallocated or unwritten block was read.";
    STORAGE_TAG_CHECK_ERROR = 2, 0x88, "End-to-end storage tag check failed.";

    PATH_INTERNAL_ERROR = 3, 0x00, "The path failed inside the subsystem.";
    ANA_PERSISTENT_LOSS = 3, 0x01, "This path will not come back.";
    ANA_INACCESSIBLE = 3, 0x02, "This path cannot be used now.";
    ANA_TRANSITION = 3, 0x03, "This path is changing its state.";
    CONTROLLER_PATHING_ERROR = 3, 0x60, "The controller saw a path error.";
    HOST_PATHING_ERROR = 3, 0x70, "The host saw a path error.";
    ABORTED_BY_HOST = 3, 0x71, "Aborted by the host's own software.";
}
