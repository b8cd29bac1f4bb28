//! The commands of a unit: one table that dispatch, checks of reserved bits, reservations and
//! REPORT SUPPORTED OPERATION CODES share.
//!
//! Source: SPC-4 table 60 and SBC-3 table 12 (reservations); SPC-4 section 5.15.2.4 (asymmetric
//! access states); SPC-4 section 6.35 (CDB usage data).

use wire::scsi::cdb::{block, control};
use wire::scsi::{Cdb, Command, OpCode};

/// What another nexus's reservation makes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Allowed always.
    Always,
    /// Allowed with every persistent reservation, not with one of SPC-2.
    Idle,
    /// As a read.
    Read,
    /// As a write.
    Write,
    /// The command decides itself.
    Own,
}

/// Which states of the unit and its target port a command still works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Every state.
    Always,
    /// A standby target port, and while the unit is sanitized.
    Standby,
    /// An active target port; the unit may be stopped.
    Active,
    /// The unit must be ready.
    Ready,
}

/// One command.
#[derive(Debug)]
pub(super) struct Row {
    pub opcode: OpCode,
    /// Low five bits of byte 1, for commands that have it.
    pub action: Option<u8>,
    /// Bits that mean something, from byte 1 on; the service action is left out.
    pub usage: &'static [u8],
    pub guard: Guard,
    pub reach: Reach,
    pub seconds: u32,
    pub decode: fn(&Cdb) -> Command,
}

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
pub(super) static ROWS: &[Row] = &[
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

/// No row.
const NOWHERE: u8 = u8::MAX;

/// Index of each operation code's first row.
static FIRST: [u8; 256] = index();

const fn index() -> [u8; 256] {
    let mut first = [NOWHERE; 256];
    let mut at = ROWS_LEN;
    while at > 0 {
        at -= 1;
        first[ROWS[at].opcode.0 as usize] = at as u8;
    }
    first
}

const ROWS_LEN: usize = ROWS.len();

/// Why there is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The operation code.
    Opcode,
    /// The service action.
    Action,
}

/// The row of a command descriptor block.
pub(super) fn find(cdb: &Cdb) -> Result<&'static Row, Unknown> {
    let mut rows = of_opcode(cdb[0]);
    let first = rows.next().ok_or(Unknown::Opcode)?;
    if first.action.is_none() {
        return Ok(first);
    }
    let action = Some(cdb[1] & 0x1f);
    of_opcode(cdb[0])
        .find(|row| row.action == action)
        .ok_or(Unknown::Action)
}

/// All rows of an operation code.
pub(super) fn of_opcode(opcode: u8) -> impl Iterator<Item = &'static Row> + Clone {
    let first = usize::from(FIRST[usize::from(opcode)]);
    let rows = ROWS.get(first..).unwrap_or_default();
    rows.iter().take_while(move |row| row.opcode.0 == opcode)
}

impl Row {
    /// Length of the command descriptor block in bytes.
    pub fn cdb_bytes(&self) -> usize {
        1 + self.usage.len()
    }

    /// The first bit that is set and means nothing here: (byte, bit).
    pub fn reserved_bit(&self, cdb: &Cdb) -> Option<(u16, u8)> {
        let pairs = cdb.iter().skip(1).zip(self.usage).enumerate();
        for (index, (byte, usage)) in pairs {
            let mut allowed = *usage;
            if index == 0 && self.action.is_some() {
                allowed |= 0x1f;
            }
            let wrong = byte & !allowed;
            if wrong != 0 {
                return Some((index as u16 + 1, 7 - wrong.leading_zeros() as u8));
            }
        }
        None
    }

    /// CDB usage data: the mask of bits that mean something, with operation code and service
    /// action in their places.
    pub fn usage_data(&self) -> impl Iterator<Item = u8> {
        let action = self.action.unwrap_or_default();
        let mut at = 0;
        std::iter::once(self.opcode.0).chain(self.usage.iter().map(move |mask| {
            at += 1;
            if at == 1 { mask | action } else { *mask }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::scsi::opcode::cdb_bytes;

    #[test]
    fn rows_are_sorted_and_as_long_as_their_group() {
        for pair in ROWS.windows(2) {
            let key = |row: &Row| (row.opcode, row.action);
            assert!(key(&pair[0]) < key(&pair[1]), "{:?}", pair[1]);
        }
        for row in ROWS {
            assert_eq!(Some(row.cdb_bytes()), cdb_bytes(row.opcode.0), "{row:?}");
            assert!(row.opcode.name().is_some());
        }
        assert!(ROWS.len() < usize::from(NOWHERE));
    }

    #[test]
    fn every_row_is_found_and_nothing_else() {
        let mut found = 0;
        for opcode in 0..=u8::MAX {
            for action in 0..32 {
                let mut cdb = [0; 16];
                (cdb[0], cdb[1]) = (opcode, action);
                if let Ok(row) = find(&cdb) {
                    assert_eq!(row.opcode.0, opcode);
                    assert!(row.action.is_none_or(|found| found == action));
                    found += usize::from(row.action.is_some() || action == 0);
                }
            }
        }
        assert_eq!(found, ROWS.len());
        assert_eq!(find(&[0xff; 16]).err(), Some(Unknown::Opcode));
        let mut cdb = [0; 16];
        cdb[0] = OpCode::MAINTENANCE_IN.0;
        assert_eq!(find(&cdb).err(), Some(Unknown::Action));
    }

    #[test]
    fn naca_is_a_reserved_bit_of_every_command() {
        for row in ROWS {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1]) = (row.opcode.0, row.action.unwrap_or_default());
            assert_eq!(row.reserved_bit(&cdb), None, "{row:?}");
            let control = row.cdb_bytes() - 1;
            cdb[control] = 0x04;
            assert_eq!(row.reserved_bit(&cdb), Some((control as u16, 2)), "{row:?}");
        }
    }
}
