//! A piece of a copy at the unit that it is read from or written to, on that unit's core.
//!
//! A piece is a request like any host's. It is allowed or refused by itself: a reservation, a reset
//! of the host's rights, a sanitize or the end of the unit that comes meanwhile ends the copy.

use std::rc::Rc;

use reactor::buf::Buf;
use reactor::sync::Pass;
use volume::{Command, ErrorKind, Request, VolumeError};
use wire::scsi::{Sense, SenseCode};

use super::{aborted, aborted_at};
use crate::reservation::{Access as Wanted, Identity};
use crate::scsi::status::{self, Access};
use crate::scsi::{LogicalUnit, Nexus, PortNames};

/// How often a part of a block is written anew when others change the rest of it meanwhile.
const PATCH_TRIES: usize = 16;

/// In whose name a copy is made.
pub(super) struct Host<'a> {
    names: &'a PortNames,
    /// Where the copy was asked for; none on another core.
    nexus: Option<&'a Rc<Nexus>>,
}

impl<'a> Host<'a> {
    /// The one that asked this nexus for the copy.
    pub fn of(nexus: &'a Rc<Nexus>) -> Self {
        Self {
            names: nexus.names(),
            nexus: Some(nexus),
        }
    }

    /// The one that asked a unit of another core, by these ports.
    pub fn named(names: &'a PortNames) -> Self {
        Self { names, nexus: None }
    }

    /// The nexus that it has at `unit` by the same ports.
    fn nexus_at(&self, unit: &Rc<LogicalUnit>) -> Option<Rc<Nexus>> {
        if let Some(own) = self.nexus.filter(|own| Rc::ptr_eq(own.unit(), unit)) {
            return Some(own.clone());
        }
        unit.nexuses().into_iter().find(|there| {
            let there = there.names();
            there.initiator_port == self.names.initiator_port
                && there.target_port == self.names.target_port
        })
    }

    /// The copy is made in its name: at another unit as the nexus that it has there, and if there is
    /// none, with the rights that such a one would have.
    fn may_access(&self, unit: &Rc<LogicalUnit>, wanted: Wanted) -> bool {
        if let Some(there) = self.nexus_at(unit) {
            return there.participant().check(wanted).is_ok();
        }
        let identity = Identity::Scsi {
            initiator_port: self.names.initiator_port.clone(),
            target_port: self.names.target_port,
        };
        let reservations = unit.reservations();
        let is_open = !reservations.is_locked() && !reservations.is_unit_reserved();
        is_open && reservations.state().allows(&identity, wanted)
    }
}

/// Whether the host may do that there now, and the unit can.
///
/// Errors: COPY ABORTED, pointing into the segment descriptor.
pub(super) fn check(unit: &Rc<LogicalUnit>, host: &Host<'_>, wanted: Wanted) -> Result<(), Sense> {
    let at = if wanted == Wanted::Read { 4 } else { 6 };
    let can = unit.is_ready() && unit.is_active(host.names.target_port);
    if unit.gate.is_closed() || !can || !host.may_access(unit, wanted) {
        return Err(aborted_at(SenseCode::COPY_TARGET_NOT_REACHABLE, at));
    }
    if wanted == Wanted::Write && unit.mode.get().is_write_protected {
        return Err(aborted(SenseCode::SOFTWARE_WRITE_PROTECTED));
    }
    Ok(())
}

/// The bytes from `at` on. Cancel and cost: as [`volume::Volume::execute`].
///
/// Errors: COPY ABORTED, as [`check`], or with the code that a read would have had.
pub(super) async fn read(
    unit: &Rc<LogicalUnit>,
    host: &Host<'_>,
    at: u64,
    len_bytes: u64,
) -> Result<Buf, Sense> {
    check(unit, host, Wanted::Read)?;
    let _pass = enter(unit)?;
    get(unit, at, len_bytes).await
}

/// Writes bytes from `at` on. Cancel and cost: as [`volume::Volume::execute`].
///
/// Errors: COPY ABORTED, as [`check`], or with the code that a write would have had.
pub(super) async fn write(
    unit: &Rc<LogicalUnit>,
    host: &Host<'_>,
    at: u64,
    data: Buf,
) -> Result<(), Sense> {
    check(unit, host, Wanted::Write)?;
    let _pass = enter(unit)?;
    // Who preempts and aborts the host there waits for this piece.
    let _copying = host.nexus_at(unit).map(|there| there.copying_in());
    put(unit, at, data).await
}

/// Who removes or sanitizes the unit waits for this piece.
fn enter(unit: &LogicalUnit) -> Result<Pass, Sense> {
    let gone = aborted(SenseCode::COPY_TARGET_NOT_REACHABLE);
    unit.gate.enter().map_err(|_| gone)
}

/// The bytes, and no others of their blocks.
async fn get(unit: &LogicalUnit, at: u64, len_bytes: u64) -> Result<Buf, Sense> {
    let block_bytes = u64::from(unit.info().block_bytes);
    let lba = at / block_bytes;
    let block_count = ((at + len_bytes).div_ceil(block_bytes) - lba) as u32;
    let request = Request::new(Command::Read { lba, block_count });
    let read = unit.volume().execute(request).await;
    let data = read.map_err(|error| failed(&error, Access::Reads))?;
    let data = data.ok_or(aborted(SenseCode::INTERNAL_FAILURE))?;
    let start = (at % block_bytes) as usize;
    Ok(data.slice(start..start + len_bytes as usize))
}

async fn put(unit: &LogicalUnit, at: u64, data: Buf) -> Result<(), Sense> {
    let block_bytes = u64::from(unit.info().block_bytes);
    let (lba, len_bytes) = (at / block_bytes, data.len() as u64);
    if !at.is_multiple_of(block_bytes) || !len_bytes.is_multiple_of(block_bytes) {
        let part = data.to_vec();
        // Nobody waits for memory while holding some.
        drop(data);
        return patch(unit, lba, (at % block_bytes) as usize, &part).await;
    }
    let command = if is_zero(&data) {
        // A copy of a thin volume is as thin.
        Command::WriteZeroes {
            lba,
            block_count: len_bytes / block_bytes,
            deallocate: true,
        }
    } else {
        Command::Write { lba, data }
    };
    let fua = unit.mode.get().write_through;
    let written = unit.volume().execute(Request { command, fua }).await;
    written
        .map(|_| ())
        .map_err(|error| failed(&error, Access::Writes))
}

fn is_zero(data: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    data.chunks(512).all(is_zero)
}

/// Changes a part of one block, and nothing that others do to the rest of it meanwhile.
async fn patch(unit: &LogicalUnit, lba: u64, at: usize, part: &[u8]) -> Result<(), Sense> {
    let block_bytes = unit.info().block_bytes as usize;
    let fua = unit.mode.get().write_through;
    let mut tries = 1;
    loop {
        let before = get(unit, lba * block_bytes as u64, block_bytes as u64).await?;
        let before = before.to_vec();
        let mut both = reactor::buf::alloc(2 * block_bytes).await;
        let (compare, write) = both.as_mut().split_at_mut(block_bytes);
        compare.copy_from_slice(&before);
        write.copy_from_slice(&before);
        write[at..at + part.len()].copy_from_slice(part);
        let command = Command::CompareAndWrite {
            lba,
            compare: both.slice(..block_bytes),
            write: both.slice(block_bytes..),
        };
        drop(both);
        match unit.volume().execute(Request { command, fua }).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::CompareMismatch && tries < PATCH_TRIES => {
                tries += 1;
            }
            Err(error) => return Err(failed(&error, Access::Writes)),
        }
    }
}

/// COPY ABORTED with the code that the command itself would have had.
fn failed(error: &VolumeError, access: Access) -> Sense {
    aborted(status::of_error(error, access).code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_enough_not_to_be_zero() {
        let mut data = vec![0; 1300];
        assert!(is_zero(&data));
        for at in [0, 511, 512, 1299] {
            data[at] = 1;
            assert!(!is_zero(&data), "byte {at}");
            data[at] = 0;
        }
    }
}
