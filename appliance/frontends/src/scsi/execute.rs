//! Which file does a planned command.

use std::rc::Rc;

use reactor::buf::Buf;
use wire::scsi::{Cdb, Command, OpCode, Sense, SenseCode, SenseKey, Writer};

use super::plan::Plan;
use super::{Nexus, Outcome, Transfer, inquiry, persistent, reserve6, rw};

/// Memory for parameter data: more than any of it is long.
const PARAMETER_BYTES: usize = 4096;

impl Nexus {
    /// Executes a planned command. `data` is what the host sent: exactly as much as the plan asks.
    ///
    /// Cancel: dropping the future before the volume has the request undoes it, later it completes
    /// unseen. Cost: reads and writes allocate nothing.
    pub async fn execute(self: &Rc<Self>, plan: Plan, data: Option<Buf>) -> Outcome {
        let Ok(_pass) = self.unit().gate.enter() else {
            return Sense::new(SenseKey::NOT_READY, SenseCode::NOT_READY).into();
        };
        // What was allowed when the command came may be forbidden now that its data is here.
        if let Err(conflict) = self.check_reservation(plan.guard) {
            return conflict;
        }
        match plan.command {
            Command::Read(blocks) => rw::read(self, blocks).await,
            Command::Write(blocks) => rw::write(self, blocks, data).await,
            // The rest is rare: boxed, so that a read's future stays small.
            _ => Box::pin(self.execute_rare(plan, data)).await,
        }
    }

    async fn execute_rare(self: &Rc<Self>, plan: Plan, data: Option<Buf>) -> Outcome {
        match plan.command {
            Command::TestUnitReady => Outcome::good(),
            Command::Inquiry(fields) => {
                let build = |out: &mut Writer<'_>| inquiry::build(self, &fields, plan.is_absent, out);
                parameters(plan.transfer(), build).await
            }
            Command::Reservation(cdb) => self.execute_own(cdb, data).await,
            _ => Outcome::internal(),
        }
    }

    async fn execute_own(self: &Rc<Self>, cdb: Cdb, data: Option<Buf>) -> Outcome {
        match OpCode(cdb[0]) {
            OpCode::PERSISTENT_RESERVE_IN => persistent::execute_in(self, cdb).await,
            OpCode::PERSISTENT_RESERVE_OUT => persistent::execute_out(self, cdb, data).await,
            OpCode::RESERVE_6 | OpCode::RESERVE_10 => reserve6::reserve(self, cdb),
            _ => reserve6::release(self, cdb),
        }
    }
}

/// GOOD with the parameter data that `build` writes, cut at the allocation length.
pub(super) async fn parameters(
    transfer: Transfer,
    build: impl FnOnce(&mut Writer<'_>),
) -> Outcome {
    let Transfer::ToHost { len_bytes } = transfer else {
        return Outcome::good();
    };
    let mut buf = reactor::buf::alloc(PARAMETER_BYTES).await;
    let mut writer = Writer::new(buf.as_mut());
    build(&mut writer);
    let written = writer.written();
    buf.truncate(written.min(len_bytes as usize));
    Outcome::with_data(buf)
}
