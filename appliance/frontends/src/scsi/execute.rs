//! Which file does a planned command.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::Buf;
use wire::scsi::{Cdb, Command, OpCode, Sense, SenseCode, SenseKey, Status, Writer};

use super::plan::Plan;
use super::{
    Nexus, Outcome, Transfer, alua, cache, commands, compare, copy, inquiry, mode, persistent,
    power, provisioning, report, reserve6, rw, same, sanitize, unmap,
};

/// Memory for parameter data: more than any of it is long.
pub(super) const PARAMETER_BYTES: usize = 4096;

/// How often a command that waits for another task looks whether it is aborted.
const ABORT_PAUSE: Duration = Duration::from_millis(5);

/// Asked between two requests of one command: whether the rest is not wanted any more.
pub type IsAborted<'a> = &'a dyn Fn() -> bool;

impl Nexus {
    /// As [`Nexus::execute_until`], for a command that nobody aborts.
    pub async fn execute(self: &Rc<Self>, plan: Plan, data: Option<Buf>) -> Outcome {
        self.execute_until(plan, data, &|| false).await
    }

    /// Executes a planned command. `data` is what the host sent: exactly as much as the plan asks.
    ///
    /// Once `is_aborted`, it ends as soon as the request that the volume has is over: then it has
    /// no effect any more, and its outcome means nothing.
    /// Cancel: as [`volume::Volume::execute`]; what the volume has may still happen, unseen. Cost:
    /// reads and writes allocate nothing.
    pub async fn execute_until(
        self: &Rc<Self>,
        plan: Plan,
        data: Option<Buf>,
        is_aborted: IsAborted<'_>,
    ) -> Outcome {
        let Ok(pass) = self.unit().gate.enter() else {
            return Sense::new(SenseKey::NOT_READY, SenseCode::NOT_READY).into();
        };
        let _executing = self.executing();
        // What was allowed when the command came may be forbidden now that its data is here.
        if let Err(refused) = self.check_again(&plan) {
            return refused;
        }
        match plan.command {
            Command::Read(blocks) => rw::read(self, blocks).await,
            Command::Write(blocks) => rw::write(self, blocks, data).await,
            // It waits until no command is under way, and is itself none of them.
            Command::Sanitize(fields) => {
                drop(pass);
                let work = Box::pin(sanitize::execute(self, fields, data));
                Box::pin(unless(is_aborted, work)).await
            }
            // The rest is rare: boxed, so that a read's future stays small.
            _ => Box::pin(self.execute_rare(plan, data, is_aborted)).await,
        }
    }

    fn check_again(&self, plan: &Plan) -> Result<(), Outcome> {
        if plan.is_absent {
            return Ok(());
        }
        self.check_state(plan.reach, &plan.command)?;
        self.check_reservation(plan.guard)?;
        self.check_write_protection(&plan.command)
    }

    /// Commands that wait for the volume.
    async fn execute_rare(
        self: &Rc<Self>,
        plan: Plan,
        data: Option<Buf>,
        is_aborted: IsAborted<'_>,
    ) -> Outcome {
        match plan.command {
            Command::WriteAtomic { blocks, .. } => rw::write_atomic(self, blocks, data).await,
            Command::WriteVerify(fields) => {
                compare::write_verify(self, fields, data, is_aborted).await
            }
            Command::Verify(fields) => compare::verify(self, fields, data, is_aborted).await,
            Command::CompareAndWrite(blocks) => {
                compare::compare_and_write(self, blocks, data).await
            }
            Command::OrWrite(blocks) => rw::or(self, blocks, data).await,
            Command::SynchronizeCache { .. } => cache::synchronize(self).await,
            Command::Unmap { .. } => unmap::execute(self, data).await,
            Command::WriteSame(fields) => same::execute(self, fields, data, is_aborted).await,
            Command::LbaStatus { lba, .. } => {
                provisioning::execute(self, lba, plan.transfer()).await
            }
            Command::ExtendedCopy { .. } => copy::execute(self, data, is_aborted).await,
            Command::Power(fields) => power::execute(self, fields).await,
            Command::Reservation(cdb) => self.execute_own(cdb, data).await,
            _ => self.execute_quick(plan, data).await,
        }
    }

    /// Commands that touch no medium.
    async fn execute_quick(self: &Rc<Self>, plan: Plan, data: Option<Buf>) -> Outcome {
        match plan.command {
            Command::ModeSelect(fields) => {
                let list = data.as_deref().unwrap_or_default();
                mode::select(self, &fields, list)
            }
            Command::SetTargetPortGroups { .. } => alua::set(self, data),
            Command::PreventAllow { prevent } => power::prevent_allow(self, prevent),
            _ => {
                let build = |out: &mut Writer<'_>| self.build(&plan, out);
                parameters(plan.transfer(), build).await
            }
        }
    }

    /// Parameter data for the host; nothing for commands that have none.
    fn build(&self, plan: &Plan, out: &mut Writer<'_>) {
        let info = self.unit().info();
        match plan.command {
            Command::Inquiry(fields) => inquiry::build(self, &fields, plan.is_absent, out),
            Command::RequestSense { descriptors, .. } => {
                self.request_sense(descriptors, plan.is_absent, out);
            }
            Command::ReportLuns { select, .. } => report::luns(select, out),
            Command::ModeSense(fields) => mode::sense(self, &fields, out),
            Command::ReadCapacity10 => report::capacity(info).write_short(out),
            Command::ReadCapacity16 { .. } => report::capacity(info).write_long(out),
            Command::ReadDefectData {
                long,
                primary,
                grown,
                format,
                ..
            } => report::defects(long, primary, grown, format, out),
            Command::ReportTargetPortGroups { format, .. } => {
                alua::report(self.unit(), format == 1, out);
            }
            Command::ReportCommands(fields) => commands::report(&fields, out),
            Command::ReportTaskManagement { extended, .. } => {
                report::task_management(extended, out);
            }
            Command::CopyResults(fields) => copy::report(self, &fields, out),
            Command::ReceiveDiagnostic { .. } => report::diagnostic_page(out),
            _ => {}
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

/// The outcome of `work`, which may be left when nobody wants it.
async fn unless(
    is_aborted: IsAborted<'_>,
    mut work: Pin<Box<impl Future<Output = Outcome>>>,
) -> Outcome {
    loop {
        match reactor::time::timeout(ABORT_PAUSE, work.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_) if is_aborted() => return Outcome::status(Status::TASK_ABORTED),
            Err(_) => {}
        }
    }
}

/// GOOD with the parameter data that `build` writes, cut at the allocation length.
pub(super) async fn parameters(transfer: Transfer, build: impl FnOnce(&mut Writer<'_>)) -> Outcome {
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
