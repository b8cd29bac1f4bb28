//! RESERVE and RELEASE of SPC-2, in 6 and 10 bytes.
//!
//! The whole unit for the nexus that asks; third parties and extents are not supported. They
//! conflict with persistent reservations, as CRH = 0 in REPORT CAPABILITIES says.
//! Source: SPC-2 sections 7.16, 7.17, 7.20 and 7.21.

use std::rc::Rc;

use wire::scsi::{Cdb, OpCode};

use super::{Nexus, Outcome};

pub(super) fn reserve(nexus: &Rc<Nexus>, cdb: Cdb) -> Outcome {
    if let Err(outcome) = check(&cdb) {
        return outcome;
    }
    let participant = nexus.participant();
    match participant.reservations().reserve_unit(participant) {
        Ok(()) => Outcome::good(),
        Err(_) => Outcome::conflict(),
    }
}

pub(super) fn release(nexus: &Rc<Nexus>, cdb: Cdb) -> Outcome {
    if let Err(outcome) = check(&cdb) {
        return outcome;
    }
    let participant = nexus.participant();
    match participant.reservations().release_unit(participant) {
        Ok(()) => Outcome::good(),
        Err(_) => Outcome::conflict(),
    }
}

/// Third party, long identifiers and extents ask for what is not there.
fn check(cdb: &Cdb) -> Result<(), Outcome> {
    let is_long = matches!(OpCode(cdb[0]), OpCode::RESERVE_10 | OpCode::RELEASE_10);
    let list = if is_long { &cdb[7..9] } else { &cdb[3..5] };
    if cdb[1] & 0x1f != 0 {
        return Err(Outcome::invalid_field_in_cdb(1, Some(4)));
    }
    match list.iter().all(|&byte| byte == 0) {
        true => Ok(()),
        false => Err(Outcome::invalid_field_in_cdb(
            if is_long { 7 } else { 3 },
            None,
        )),
    }
}
