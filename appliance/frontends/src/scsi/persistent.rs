//! PERSISTENT RESERVE IN and OUT.

use std::rc::Rc;

use reactor::buf::Buf;
use wire::scsi::{Cdb, Sense, SenseCode};

use super::{Nexus, Outcome, Transfer};

pub(super) fn plan_in(_nexus: &Nexus, _cdb: &Cdb) -> Result<Transfer, Outcome> {
    Err(Sense::illegal(SenseCode::INVALID_OPCODE).into())
}

pub(super) fn plan_out(_nexus: &Nexus, _cdb: &Cdb) -> Result<Transfer, Outcome> {
    Err(Sense::illegal(SenseCode::INVALID_OPCODE).into())
}

pub(super) async fn execute_in(_nexus: &Rc<Nexus>, _cdb: Cdb) -> Outcome {
    Outcome::internal()
}

pub(super) async fn execute_out(_nexus: &Rc<Nexus>, _cdb: Cdb, _data: Option<Buf>) -> Outcome {
    Outcome::internal()
}
