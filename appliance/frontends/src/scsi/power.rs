//! START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL.
//!
//! Source: SBC-3 section 5.23; SPC-4 section 6.15.

use std::rc::Rc;

use volume::{Command, Request};
use wire::scsi::Sense;
use wire::scsi::cdb::Power;

use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer};

/// Nothing can be ejected, and there are no power conditions but on and off.
pub(super) fn plan(fields: &Power) -> Result<Transfer, Sense> {
    if fields.condition != 0 {
        return Err(Sense::invalid_cdb(4, Some(7)));
    }
    if fields.modifier != 0 {
        return Err(Sense::invalid_cdb(3, Some(3)));
    }
    if fields.load_eject {
        return Err(Sense::invalid_cdb(4, Some(1)));
    }
    Ok(Transfer::None)
}

/// A unit that stops has everything on durable media, unless the host says it need not.
pub(super) async fn execute(nexus: &Rc<Nexus>, fields: Power) -> Outcome {
    let unit = nexus.unit();
    if !fields.start && !fields.no_flush {
        let flushed = unit.volume().execute(Request::new(Command::Flush)).await;
        if let Err(error) = flushed {
            return status::of_error(&error, Access::Writes).into();
        }
    }
    unit.is_stopped.set(!fields.start);
    Outcome::good()
}

/// There is no removable medium: it is kept for the host, and ends with its nexus or a reset.
pub(super) fn prevent_allow(nexus: &Nexus, prevent: bool) -> Outcome {
    nexus.prevents_removal.set(prevent);
    Outcome::good()
}
