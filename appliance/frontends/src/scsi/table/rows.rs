//! The rows.
//!
//! Bits of a command descriptor block that mean something are written from byte 1 on, with 0 for
//! the control byte at the end: NACA is refused. Source: SPC-4 section 6, SBC-3 section 5.

use wire::scsi::cdb::{block, control};
use wire::scsi::{Cdb, Command, OpCode};

use super::{Guard, Reach, Row};

/// Nominal time of a command that touches no data, in seconds.
const QUICK: u32 = 1;
/// Nominal time of a command with at most one request's data.
const DATA: u32 = 10;
/// Nominal time of a command on many blocks.
const LONG: u32 = 300;

const RW6: &[u8] = &[0x1f, 0xff, 0xff, 0xff, 0];
const RW10: &[u8] = &[0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0];
const RW12: &[u8] = &[
    0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0,
];
const RW16: &[u8] = &[
    0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0,
];
const CHECK10: &[u8] = &[0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0];
const CHECK12: &[u8] = &[
    0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0,
];
const CHECK16: &[u8] = &[
    0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0,
];
const CACHE10: &[u8] = &[0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0];
const CACHE16: &[u8] = &[
    0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0,
];
const CAW: &[u8] = &[
    0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0,
];
const SAME10: &[u8] = &[0x08, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0];
const SAME16: &[u8] = &[
    0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0,
];
const NONE6: &[u8] = &[0, 0, 0, 0, 0];
const LIST16: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const LBA_LIST16: &[u8] = &[
    0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
];
const COPY_RESULTS: &[u8] = &[0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const LIST12: &[u8] = &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const RESERVE_IN: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
const RESERVE_OUT: &[u8] = &[0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0];

const fn row(
    opcode: OpCode,
    usage: &'static [u8],
    guard: Guard,
    reach: Reach,
    seconds: u32,
    decode: fn(&Cdb) -> Command,
) -> Row {
    Row {
        opcode,
        action: None,
        usage,
        guard,
        reach,
        seconds,
        decode,
    }
}

const fn action(action: u8, row: Row) -> Row {
    Row {
        action: Some(action),
        ..row
    }
}

const fn reserve_in(service: u8) -> Row {
    action(
        service,
        row(
            OpCode::PERSISTENT_RESERVE_IN,
            RESERVE_IN,
            Guard::Own,
            Reach::Standby,
            QUICK,
            control::reservation,
        ),
    )
}

const fn reserve_out(service: u8) -> Row {
    action(
        service,
        row(
            OpCode::PERSISTENT_RESERVE_OUT,
            RESERVE_OUT,
            Guard::Own,
            Reach::Standby,
            DATA,
            control::reservation,
        ),
    )
}

const fn copy_results(service: u8) -> Row {
    action(
        service,
        row(
            OpCode::RECEIVE_COPY_RESULTS,
            COPY_RESULTS,
            Guard::Write,
            Reach::Active,
            QUICK,
            control::copy_results,
        ),
    )
}

const fn sanitize(service: u8, usage: &'static [u8]) -> Row {
    action(
        service,
        row(
            OpCode::SANITIZE,
            usage,
            Guard::Write,
            Reach::Ready,
            LONG,
            control::sanitize,
        ),
    )
}

use Guard::{Always, Idle, Own, Read, Write};
use Reach::{Active, Ready, Standby};

/// Sorted by operation code, then service action.
pub(in crate::scsi) static ROWS: &[Row] = &[
    row(
        OpCode::TEST_UNIT_READY,
        NONE6,
        Idle,
        Ready,
        QUICK,
        control::test_unit_ready,
    ),
    row(
        OpCode::REQUEST_SENSE,
        &[0x01, 0, 0, 0xff, 0],
        Always,
        Reach::Always,
        QUICK,
        control::request_sense,
    ),
    row(OpCode::READ_6, RW6, Read, Ready, DATA, block::read6),
    row(OpCode::WRITE_6, RW6, Write, Ready, DATA, block::write6),
    row(
        OpCode::INQUIRY,
        &[0x01, 0xff, 0xff, 0xff, 0],
        Always,
        Reach::Always,
        QUICK,
        control::inquiry,
    ),
    row(
        OpCode::MODE_SELECT_6,
        &[0x11, 0, 0, 0xff, 0],
        Write,
        Standby,
        QUICK,
        control::mode_select6,
    ),
    row(
        OpCode::RESERVE_6,
        &[0x1f, 0xff, 0xff, 0xff, 0],
        Own,
        Active,
        QUICK,
        control::reservation,
    ),
    row(
        OpCode::RELEASE_6,
        &[0x1f, 0xff, 0, 0, 0],
        Own,
        Active,
        QUICK,
        control::reservation,
    ),
    row(
        OpCode::MODE_SENSE_6,
        &[0x08, 0xff, 0xff, 0xff, 0],
        Write,
        Standby,
        QUICK,
        control::mode_sense6,
    ),
    row(
        OpCode::START_STOP_UNIT,
        &[0x01, 0, 0x0f, 0xf7, 0],
        Idle,
        Active,
        DATA,
        control::start_stop,
    ),
    row(
        OpCode::RECEIVE_DIAGNOSTIC_RESULTS,
        &[0x01, 0xff, 0xff, 0xff, 0],
        Write,
        Standby,
        QUICK,
        control::receive_diagnostic,
    ),
    row(
        OpCode::SEND_DIAGNOSTIC,
        &[0xf7, 0, 0xff, 0xff, 0],
        Write,
        Standby,
        QUICK,
        control::send_diagnostic,
    ),
    row(
        OpCode::PREVENT_ALLOW_MEDIUM_REMOVAL,
        &[0, 0, 0, 0x01, 0],
        Idle,
        Active,
        QUICK,
        control::prevent_allow,
    ),
    row(
        OpCode::READ_CAPACITY_10,
        &[0; 9],
        Idle,
        Active,
        QUICK,
        block::read_capacity10,
    ),
    row(OpCode::READ_10, RW10, Read, Ready, DATA, block::read10),
    row(OpCode::WRITE_10, RW10, Write, Ready, DATA, block::write10),
    row(
        OpCode::WRITE_AND_VERIFY_10,
        CHECK10,
        Write,
        Ready,
        DATA,
        block::write_verify10,
    ),
    row(
        OpCode::VERIFY_10,
        CHECK10,
        Read,
        Ready,
        LONG,
        block::verify10,
    ),
    row(
        OpCode::PRE_FETCH_10,
        CACHE10,
        Read,
        Ready,
        QUICK,
        block::pre_fetch10,
    ),
    row(
        OpCode::SYNCHRONIZE_CACHE_10,
        CACHE10,
        Write,
        Ready,
        DATA,
        block::synchronize10,
    ),
    row(
        OpCode::READ_DEFECT_DATA_10,
        &[0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0],
        Idle,
        Ready,
        QUICK,
        block::read_defect_data10,
    ),
    row(
        OpCode::WRITE_SAME_10,
        SAME10,
        Write,
        Ready,
        LONG,
        block::write_same10,
    ),
    row(
        OpCode::UNMAP,
        &[0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0],
        Write,
        Ready,
        LONG,
        block::unmap,
    ),
    sanitize(0x01, &[0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    sanitize(0x02, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0]),
    sanitize(0x1f, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0]),
    row(
        OpCode::MODE_SELECT_10,
        &[0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
        Write,
        Standby,
        QUICK,
        control::mode_select10,
    ),
    row(
        OpCode::RESERVE_10,
        &[0x13, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
        Own,
        Active,
        QUICK,
        control::reservation,
    ),
    row(
        OpCode::RELEASE_10,
        &[0x13, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
        Own,
        Active,
        QUICK,
        control::reservation,
    ),
    row(
        OpCode::MODE_SENSE_10,
        &[0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
        Write,
        Standby,
        QUICK,
        control::mode_sense10,
    ),
    reserve_in(0),
    reserve_in(1),
    reserve_in(2),
    reserve_in(3),
    reserve_out(0),
    reserve_out(1),
    reserve_out(2),
    reserve_out(3),
    reserve_out(4),
    reserve_out(5),
    reserve_out(6),
    reserve_out(7),
    action(
        0x00,
        row(
            OpCode::EXTENDED_COPY,
            LIST16,
            Write,
            Ready,
            LONG,
            control::extended_copy,
        ),
    ),
    copy_results(0x00),
    copy_results(0x03),
    copy_results(0x04),
    row(OpCode::READ_16, RW16, Read, Ready, DATA, block::read16),
    row(
        OpCode::COMPARE_AND_WRITE,
        CAW,
        Write,
        Ready,
        DATA,
        block::compare_and_write,
    ),
    row(OpCode::WRITE_16, RW16, Write, Ready, DATA, block::write16),
    row(
        OpCode::ORWRITE_16,
        RW16,
        Write,
        Ready,
        DATA,
        block::orwrite16,
    ),
    row(
        OpCode::WRITE_AND_VERIFY_16,
        CHECK16,
        Write,
        Ready,
        DATA,
        block::write_verify16,
    ),
    row(
        OpCode::VERIFY_16,
        CHECK16,
        Read,
        Ready,
        LONG,
        block::verify16,
    ),
    row(
        OpCode::PRE_FETCH_16,
        CACHE16,
        Read,
        Ready,
        QUICK,
        block::pre_fetch16,
    ),
    row(
        OpCode::SYNCHRONIZE_CACHE_16,
        CACHE16,
        Write,
        Ready,
        DATA,
        block::synchronize16,
    ),
    row(
        OpCode::WRITE_SAME_16,
        SAME16,
        Write,
        Ready,
        LONG,
        block::write_same16,
    ),
    row(
        OpCode::WRITE_ATOMIC_16,
        RW16,
        Write,
        Ready,
        DATA,
        block::write_atomic16,
    ),
    action(
        0x10,
        row(
            OpCode::SERVICE_ACTION_IN_16,
            LIST16,
            Idle,
            Active,
            QUICK,
            block::read_capacity16,
        ),
    ),
    action(
        0x12,
        row(
            OpCode::SERVICE_ACTION_IN_16,
            LBA_LIST16,
            Read,
            Ready,
            DATA,
            block::lba_status,
        ),
    ),
    row(
        OpCode::REPORT_LUNS,
        &[0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Always,
        Reach::Always,
        QUICK,
        control::report_luns,
    ),
    action(
        0x0a,
        row(
            OpCode::MAINTENANCE_IN,
            &[0xe0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            Idle,
            Reach::Always,
            QUICK,
            control::report_groups,
        ),
    ),
    action(
        0x0c,
        row(
            OpCode::MAINTENANCE_IN,
            &[0, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
            Idle,
            Standby,
            QUICK,
            control::report_commands,
        ),
    ),
    action(
        0x0d,
        row(
            OpCode::MAINTENANCE_IN,
            &[0, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            Idle,
            Standby,
            QUICK,
            control::report_task_management,
        ),
    ),
    action(
        0x0a,
        row(
            OpCode::MAINTENANCE_OUT,
            LIST12,
            Write,
            Reach::Always,
            DATA,
            control::set_groups,
        ),
    ),
    row(OpCode::READ_12, RW12, Read, Ready, DATA, block::read12),
    row(OpCode::WRITE_12, RW12, Write, Ready, DATA, block::write12),
    row(
        OpCode::WRITE_AND_VERIFY_12,
        CHECK12,
        Write,
        Ready,
        DATA,
        block::write_verify12,
    ),
    row(
        OpCode::VERIFY_12,
        CHECK12,
        Read,
        Ready,
        LONG,
        block::verify12,
    ),
    row(
        OpCode::READ_DEFECT_DATA_12,
        &[0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Idle,
        Ready,
        QUICK,
        block::read_defect_data12,
    ),
];
