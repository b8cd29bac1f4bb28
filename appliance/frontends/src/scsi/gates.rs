//! What may stop a command before anybody looks at its fields: unit attentions, the state of the
//! target port and of the unit, reservations.

use wire::scsi::{OpCode, Sense, SenseCode, SenseKey};

use super::table::{Guard, Reach, Row};
use super::{Nexus, Outcome};
use crate::reservation::Access;

/// The 8 bytes of a LUN that name unit 0: peripheral and flat addressing, SAM-5 section 4.7.
pub(super) fn is_unit(lun: [u8; 8]) -> bool {
    matches!(lun, [0x00 | 0x40, 0, 0, 0, 0, 0, 0, 0])
}

/// Commands that a pending unit attention does not stop, SAM-5 section 5.14.
fn ignores_attention(opcode: u8) -> bool {
    matches!(
        OpCode(opcode),
        OpCode::INQUIRY | OpCode::REPORT_LUNS | OpCode::REQUEST_SENSE
    )
}

impl Nexus {
    /// A pending unit attention ends the command, and is over then.
    pub(super) fn check_attention(&self, opcode: u8) -> Result<(), Outcome> {
        if self.attentions.is_empty() || ignores_attention(opcode) {
            return Ok(());
        }
        match self.attentions.take() {
            Some(attention) => Err(attention.sense().into()),
            None => Ok(()),
        }
    }

    /// Whether reservations of others allow it.
    pub(super) fn check_reservation(&self, guard: Guard) -> Result<(), Outcome> {
        let access = match guard {
            Guard::Always | Guard::Own | Guard::Idle => return Ok(()),
            Guard::Read => Access::Read,
            Guard::Write => Access::Write,
        };
        let checked = self.unit().reservations().check(self.participant(), access);
        checked.map_err(|_| Outcome::conflict())
    }

    /// Whether unit and target port are in a state in which it works.
    pub(super) fn check_state(&self, row: &Row) -> Result<(), Outcome> {
        let not_ready = |code| Err(Sense::new(SenseKey::NOT_READY, code).into());
        if row.reach == Reach::Ready && self.unit().is_stopped.get() {
            return not_ready(SenseCode::INITIALIZING_COMMAND_REQUIRED);
        }
        Ok(())
    }
}
