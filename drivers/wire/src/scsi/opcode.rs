//! Operation codes and service actions.
//!
//! Source: SPC-4 annex D, SBC-3 section 5.

open_enum! {
    /// Byte 0 of a command descriptor block.
    OpCode: u8 {
        TEST_UNIT_READY = 0x00, "Is the unit usable?";
        REQUEST_SENSE = 0x03, "Sense data as parameter data.";
        READ_6 = 0x08, "Read.";
        WRITE_6 = 0x0a, "Write.";
        INQUIRY = 0x12, "What the unit is.";
        MODE_SELECT_6 = 0x15, "Change mode pages.";
        RESERVE_6 = 0x16, "SPC-2 reservation.";
        RELEASE_6 = 0x17, "End of it.";
        MODE_SENSE_6 = 0x1a, "Read mode pages.";
        START_STOP_UNIT = 0x1b, "Start, stop.";
        RECEIVE_DIAGNOSTIC_RESULTS = 0x1c, "Diagnostic pages.";
        SEND_DIAGNOSTIC = 0x1d, "Self test.";
        PREVENT_ALLOW_MEDIUM_REMOVAL = 0x1e, "Medium removal.";
        READ_CAPACITY_10 = 0x25, "Capacity.";
        READ_10 = 0x28, "Read.";
        WRITE_10 = 0x2a, "Write.";
        WRITE_AND_VERIFY_10 = 0x2e, "Write, then verify.";
        VERIFY_10 = 0x2f, "Verify, or compare.";
        PRE_FETCH_10 = 0x34, "Read into the cache.";
        SYNCHRONIZE_CACHE_10 = 0x35, "Flush.";
        READ_DEFECT_DATA_10 = 0x37, "Defect lists.";
        WRITE_SAME_10 = 0x41, "One block to many places.";
        UNMAP = 0x42, "Give space back.";
        SANITIZE = 0x48, "Erase everything.";
        MODE_SELECT_10 = 0x55, "Change mode pages.";
        RESERVE_10 = 0x56, "SPC-2 reservation.";
        RELEASE_10 = 0x57, "End of it.";
        MODE_SENSE_10 = 0x5a, "Read mode pages.";
        PERSISTENT_RESERVE_IN = 0x5e, "Read reservations.";
        PERSISTENT_RESERVE_OUT = 0x5f, "Change reservations.";
        VARIABLE_LENGTH = 0x7f, "CDB of up to 260 bytes.";
        EXTENDED_COPY = 0x83, "Third party copy out.";
        RECEIVE_COPY_RESULTS = 0x84, "Third party copy in.";
        READ_16 = 0x88, "Read.";
        COMPARE_AND_WRITE = 0x89, "Write if equal.";
        WRITE_16 = 0x8a, "Write.";
        ORWRITE_16 = 0x8b, "Write the OR of both.";
        WRITE_AND_VERIFY_16 = 0x8e, "Write, then verify.";
        VERIFY_16 = 0x8f, "Verify, or compare.";
        PRE_FETCH_16 = 0x90, "Read into the cache.";
        SYNCHRONIZE_CACHE_16 = 0x91, "Flush.";
        WRITE_SAME_16 = 0x93, "One block to many places.";
        WRITE_ATOMIC_16 = 0x9c, "Write, all or nothing.";
        SERVICE_ACTION_IN_16 = 0x9e, "READ CAPACITY (16), GET LBA STATUS.";
        REPORT_LUNS = 0xa0, "Which units there are.";
        MAINTENANCE_IN = 0xa3, "Target port groups, supported commands.";
        MAINTENANCE_OUT = 0xa4, "Set target port groups.";
        READ_12 = 0xa8, "Read.";
        WRITE_12 = 0xaa, "Write.";
        WRITE_AND_VERIFY_12 = 0xae, "Write, then verify.";
        VERIFY_12 = 0xaf, "Verify, or compare.";
        READ_DEFECT_DATA_12 = 0xb7, "Defect lists.";
    }
}

/// Length of a command descriptor block by its operation code's group, SPC-4 section 4.2.5.1.
/// `None`: variable length, or vendor-specific.
#[must_use]
pub const fn cdb_bytes(opcode: u8) -> Option<usize> {
    match opcode >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}
