//! The commands of a unit: one table that dispatch, checks of reserved bits, reservations and
//! REPORT SUPPORTED OPERATION CODES share.
//!
//! Source: SPC-4 table 60 and SBC-3 table 12 (reservations); SPC-4 section 5.15.2.4 (asymmetric
//! access states); SPC-4 section 6.35 (CDB usage data).

mod rows;

use wire::scsi::{Cdb, Command, OpCode};

pub(super) use rows::ROWS;

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
