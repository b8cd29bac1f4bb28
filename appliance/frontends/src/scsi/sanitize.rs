//! SANITIZE: everything is erased, and nothing else is done meanwhile.
//!
//! The operation is a task of the unit: no abort, reset or loss of a session ends it, only the
//! removal of the volume. It first makes the whole volume read as zeros, durably, so that a crash
//! during the passes of an overwrite leaves nothing of the data to be read. That it was under way
//! is not kept over a restart: a host that got no GOOD status has to ask again. NVMe hosts of the
//! volume are kept from it meanwhile. Source: SBC-3 sections 4.11 and 5.22.

use std::rc::Rc;
use std::time::Duration;

use reactor::buf::Buf;
use reactor::sync::Pass;
use volume::{Command, Request, VolumeError, VolumeInfo};
use wire::scsi::cdb::{self, SanitizeAction};
use wire::scsi::{Sense, SenseCode, SenseKey};

use super::plan::from_host;
use super::same::Block;
use super::table::Reach;
use super::{LogicalUnit, Nexus, Outcome, Transfer};

/// Bytes of the parameter list before the pattern.
const LIST_HEADER: usize = 4;
/// How fast it overwrites: the other volumes of the core go on.
const RATE_BYTES_PER_S: u64 = 256 << 20;
/// How much it writes before it looks at the clock.
const STRIDE_BYTES: u64 = 4 << 20;
/// How often it looks whether the commands before it have ended.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);
/// How often at most.
const SETTLE_LOOKS_MAX: usize = 60_000;
/// Why a sanitize ends when its volume does.
const GOES_AWAY: &str = "it is removed while it is sanitized";

/// Whether a unit is sanitized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// No.
    #[default]
    Idle,
    /// It is under way: so many of 65,536 parts are done.
    Running(u16),
    /// It failed; the host may leave that state without another try.
    Failed {
        /// AUSE was set.
        may_exit: bool,
    },
}

impl LogicalUnit {
    /// Whether a command may run during, or after a failed, sanitize.
    pub(super) fn check_sanitize(&self, reach: Reach, is_sanitize: bool) -> Result<(), Outcome> {
        match self.sanitize.get() {
            State::Idle => Ok(()),
            _ if reach <= Reach::Standby => Ok(()),
            State::Running(progress) => Err(in_progress(progress).into()),
            State::Failed { .. } if is_sanitize || reach == Reach::Active => Ok(()),
            State::Failed { .. } => Err(FAILED.into()),
        }
    }
}

/// NOT READY, SANITIZE IN PROGRESS.
pub(super) fn in_progress(progress: u16) -> Sense {
    Sense::new(SenseKey::NOT_READY, SenseCode::SANITIZE_IN_PROGRESS).with_progress(progress)
}

/// MEDIUM ERROR, SANITIZE COMMAND FAILED.
pub(super) const FAILED: Sense = Sense::new(SenseKey::MEDIUM_ERROR, SenseCode::SANITIZE_FAILED);

pub(super) fn plan(info: &VolumeInfo, fields: &cdb::Sanitize) -> Result<Transfer, Sense> {
    match fields.action {
        SanitizeAction::Overwrite { list_bytes } => {
            let longest = LIST_HEADER + info.block_bytes as usize;
            if !(LIST_HEADER + 1..=longest).contains(&usize::from(list_bytes)) {
                return Err(Sense::invalid_cdb(7, None));
            }
            Ok(from_host(list_bytes.into()))
        }
        SanitizeAction::BlockErase | SanitizeAction::ExitFailureMode => Ok(Transfer::None),
        // The keys cannot be changed where nothing is encrypted.
        SanitizeAction::CryptographicErase | SanitizeAction::Unknown => {
            Err(Sense::invalid_cdb(1, Some(4)))
        }
    }
}

/// What is to be done.
enum Work {
    Erase,
    Overwrite {
        block: Box<Block>,
        passes: u8,
        invert: bool,
    },
}

pub(super) async fn execute(
    nexus: &Rc<Nexus>,
    fields: cdb::Sanitize,
    data: Option<Buf>,
) -> Outcome {
    let unit = nexus.unit();
    let work = match (fields.action, data) {
        (SanitizeAction::ExitFailureMode, _) => return exit_failure_mode(unit),
        (SanitizeAction::Overwrite { .. }, Some(list)) => match overwrite(unit.info(), &list) {
            Ok(work) => work,
            Err(sense) => return sense.into(),
        },
        (SanitizeAction::BlockErase, _) => Work::Erase,
        _ => return Outcome::internal(),
    };
    match unit.sanitize.get() {
        State::Running(progress) => return in_progress(progress).into(),
        // What failed without a way out can only be cured by one that has none either.
        State::Failed { may_exit: false } if fields.unrestricted_exit => {
            return Outcome::invalid_field_in_cdb(1, Some(5));
        }
        State::Failed { .. } | State::Idle => unit.sanitize.set(State::Running(0)),
    }
    let handle = reactor::spawn(run(unit.clone(), work, fields.unrestricted_exit));
    if fields.immediate {
        return Outcome::good();
    }
    handle.await
}

fn exit_failure_mode(unit: &LogicalUnit) -> Outcome {
    match unit.sanitize.get() {
        State::Idle => Outcome::good(),
        State::Running(progress) => in_progress(progress).into(),
        State::Failed { may_exit: false } => Outcome::invalid_field_in_cdb(1, Some(4)),
        State::Failed { may_exit: true } => {
            unit.sanitize.set(State::Idle);
            Outcome::good()
        }
    }
}

/// Reads the parameter list of an overwrite.
fn overwrite(info: &VolumeInfo, list: &[u8]) -> Result<Work, Sense> {
    let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
    let (header, pattern) = list.split_first_chunk::<LIST_HEADER>().ok_or(short)?;
    let passes = header[0] & 0x1f;
    if passes == 0 || header[0] & 0x60 != 0 {
        return Err(Sense::invalid_parameter(0, None));
    }
    if header[1] != 0 {
        return Err(Sense::invalid_parameter(1, None));
    }
    let pattern_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let block_bytes = info.block_bytes as usize;
    if pattern_bytes == 0 || pattern_bytes > block_bytes || pattern_bytes != pattern.len() {
        return Err(Sense::invalid_parameter(2, None));
    }
    let mut block = Box::new(Block::zeros(info.block_bytes));
    block.repeat(pattern);
    let invert = header[0] & 0x80 != 0;
    Ok(Work::Overwrite {
        block,
        passes,
        invert,
    })
}

/// The whole operation. When it fails, the medium can only be used after another try, or when the
/// host was allowed to give up.
async fn run(unit: Rc<LogicalUnit>, work: Work, may_exit: bool) -> Outcome {
    let _hold = unit.reservations().hold();
    let done = match alone(&unit).await {
        Ok(_pass) => erase(&unit, work).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => {
            unit.sanitize.set(State::Idle);
            Outcome::good()
        }
        Err(error) => {
            tracing::error!(volume = %unit.info().name, %error, "sanitize failed");
            unit.sanitize.set(State::Failed { may_exit });
            FAILED.into()
        }
    }
}

/// Waits until all that was under way in the volume has ended, so that nothing is written behind
/// us.
///
/// Errors: `Closed` when the volume goes away, or something in it does not end.
async fn alone(unit: &LogicalUnit) -> Result<Pass, VolumeError> {
    unit.gate.drained().await;
    for _ in 0..SETTLE_LOOKS_MAX {
        if unit.volume().metrics().in_flight == 0 {
            break;
        }
        reactor::time::sleep(SETTLE_PAUSE).await;
    }
    if unit.volume().metrics().in_flight > 0 {
        return Err(closed(unit, "requests before a sanitize do not end"));
    }
    let pass = unit.gate.enter();
    pass.map_err(|_| closed(unit, GOES_AWAY))
}

fn closed(unit: &LogicalUnit, why: &'static str) -> VolumeError {
    let volume = unit.info().name.clone();
    VolumeError::Closed { volume, why }
}

async fn erase(unit: &LogicalUnit, work: Work) -> Result<(), VolumeError> {
    let volume = unit.volume();
    let everything = Command::WriteZeroes {
        lba: 0,
        block_count: unit.info().block_count,
        deallocate: true,
    };
    volume.execute(Request::with_fua(everything)).await?;
    if let Work::Overwrite {
        mut block,
        passes,
        invert,
    } = work
    {
        // The last pass writes the pattern as it is.
        if invert && passes.is_multiple_of(2) {
            block.invert();
        }
        for pass in 0..passes {
            write_pass(unit, &block, (pass, passes)).await?;
            if invert {
                block.invert();
            }
        }
    }
    volume.execute(Request::new(Command::Flush)).await?;
    Ok(())
}

/// Writes the block everywhere, at a pace.
async fn write_pass(
    unit: &LogicalUnit,
    block: &Block,
    (pass, passes): (u8, u8),
) -> Result<(), VolumeError> {
    let block_bytes = u64::from(unit.info().block_bytes);
    let stride = STRIDE_BYTES / block_bytes;
    let end = unit.info().block_count;
    let start = reactor::now();
    let mut lba = 0;
    while lba < end {
        if unit.gate.is_closed() {
            return Err(closed(unit, GOES_AWAY));
        }
        let count = stride.min(end - lba);
        block
            .write(unit.volume(), (lba, count), false, &|| false)
            .await?;
        lba += count;
        let done = (u128::from(pass) * u128::from(end) + u128::from(lba)) << 16;
        let all = u128::from(passes) * u128::from(end);
        let progress = u16::try_from(done / all.max(1)).unwrap_or(u16::MAX);
        unit.sanitize.set(State::Running(progress));
        let due = Duration::from_millis(lba * block_bytes * 1000 / RATE_BYTES_PER_S);
        let elapsed = reactor::now().saturating_duration_since(start);
        reactor::time::sleep(due.saturating_sub(elapsed)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
