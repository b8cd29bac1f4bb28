//! What may stop a command before anybody looks at its fields: unit attentions, the state of the
//! target port and of the unit, reservations.

use wire::scsi::cdb::SanitizeAction;
use wire::scsi::{Command, OpCode, Sense, SenseCode, SenseKey};

use super::table::{Guard, Reach, Row};
use super::{Nexus, Outcome, sanitize};
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
            Guard::Always | Guard::Own => return Ok(()),
            Guard::Idle => Access::Other,
            Guard::Read => Access::Read,
            Guard::Write => Access::Write,
        };
        let checked = self.unit().reservations().check(self.participant(), access);
        checked.map_err(|_| Outcome::conflict())
    }

    /// Whether unit and target port are in a state in which it works.
    pub(super) fn check_state(&self, reach: Reach, command: &Command) -> Result<(), Outcome> {
        self.check_access_state(reach)?;
        let is_sanitize = matches!(command, Command::Sanitize(_));
        self.unit().check_sanitize(reach, is_sanitize)?;
        if reach == Reach::Ready && self.unit().is_stopped.get() {
            return Err(STOPPED.into());
        }
        Ok(())
    }

    /// SWP: nothing is written, whoever asks.
    pub(super) fn check_write_protection(&self, command: &Command) -> Result<(), Outcome> {
        if self.unit().mode.get().is_write_protected && writes_medium(command) {
            return Err(
                Sense::new(SenseKey::DATA_PROTECT, SenseCode::SOFTWARE_WRITE_PROTECTED).into(),
            );
        }
        Ok(())
    }

    /// How the unit is, for REQUEST SENSE.
    pub(super) fn condition(&self) -> Sense {
        match self.unit().sanitize.get() {
            sanitize::State::Running(progress) => sanitize::in_progress(progress),
            sanitize::State::Failed { .. } => sanitize::FAILED,
            sanitize::State::Idle if self.unit().is_stopped.get() => STOPPED,
            sanitize::State::Idle => Sense::new(SenseKey::NO_SENSE, SenseCode::NONE),
        }
    }
}

/// NOT READY, INITIALIZING COMMAND REQUIRED.
const STOPPED: Sense = Sense::new(
    SenseKey::NOT_READY,
    SenseCode::INITIALIZING_COMMAND_REQUIRED,
);

/// Commands that SWP forbids. EXTENDED COPY looks at its destinations itself.
fn writes_medium(command: &Command) -> bool {
    match command {
        Command::Write(_)
        | Command::WriteAtomic { .. }
        | Command::WriteVerify(_)
        | Command::CompareAndWrite(_)
        | Command::OrWrite(_)
        | Command::Unmap { .. }
        | Command::WriteSame(_) => true,
        Command::Sanitize(fields) => fields.action != SanitizeAction::ExitFailureMode,
        _ => false,
    }
}

/// What a reservation makes of a command: stopping the unit and preventing removal are worse than
/// starting and allowing.
pub(super) fn guard_of(row: &Row, command: &Command) -> Guard {
    match command {
        Command::Power(fields) if !fields.start || fields.condition != 0 => Guard::Write,
        Command::PreventAllow { prevent: true } => Guard::Write,
        Command::PreventAllow { prevent: false } => Guard::Always,
        _ => row.guard,
    }
}
