//! RESERVE and RELEASE of SPC-2, in 6 and 10 bytes.

use std::rc::Rc;

use wire::scsi::{Cdb, Sense, SenseCode};

use super::{Nexus, Outcome};

pub(super) fn reserve(_nexus: &Rc<Nexus>, _cdb: Cdb) -> Outcome {
    Sense::illegal(SenseCode::INVALID_OPCODE).into()
}

pub(super) fn release(_nexus: &Rc<Nexus>, _cdb: Cdb) -> Outcome {
    Sense::illegal(SenseCode::INVALID_OPCODE).into()
}
