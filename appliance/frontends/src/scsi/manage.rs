//! Task management: functions that end tasks, of one nexus or of all.
//!
//! Source: SAM-5 section 7; SPC-4 section 5.9 (resets).

use std::rc::Rc;
use std::time::Duration;

use super::{AbortCause, Attention, Function, Managed, Nexus, gates};

/// How often a function looks whether the tasks it ended are settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);

impl Nexus {
    /// Carries out a task management function. When it returns, no ended task can take effect any
    /// more, and the other nexuses will hear of it.
    ///
    /// Errors: none; see [`Managed`]. Cancel: the tasks are ended all the same, only nobody waits.
    pub async fn manage(self: &Rc<Self>, lun: [u8; 8], function: Function) -> Managed {
        let is_target = matches!(
            function,
            Function::TargetWarmReset | Function::TargetColdReset
        );
        if !is_target && !gates::is_unit(lun) {
            return Managed::NoSuchUnit;
        }
        match function {
            Function::AbortTaskSet => self.abort(self, AbortCause::Own).await,
            Function::ClearTaskSet => self.clear_task_set().await,
            Function::LogicalUnitReset | Function::TargetWarmReset | Function::TargetColdReset => {
                self.reset().await;
            }
        }
        Managed::Complete
    }

    async fn clear_task_set(self: &Rc<Self>) {
        for nexus in self.unit().nexuses() {
            self.abort(&nexus, self.cause_for(&nexus)).await;
        }
    }

    /// Ends everything and sets the unit back. All nexuses hear of it, the one that asked, too.
    async fn reset(self: &Rc<Self>) {
        for nexus in self.unit().nexuses() {
            nexus.end_tasks(self.cause_for(&nexus));
        }
        self.unit().set_back();
        self.unit().attention(Attention::Reset, None);
        for nexus in self.unit().nexuses() {
            nexus.settled().await;
        }
    }

    fn cause_for(self: &Rc<Self>, nexus: &Rc<Nexus>) -> AbortCause {
        if Rc::ptr_eq(self, nexus) {
            AbortCause::Own
        } else {
            AbortCause::Other
        }
    }

    /// Ends the tasks of `nexus` and waits until they are settled. A host whose tasks disappear
    /// without a status is told by a unit attention.
    async fn abort(&self, nexus: &Rc<Nexus>, cause: AbortCause) {
        let ended = nexus.end_tasks(cause);
        let is_told = nexus.reports_aborted_tasks();
        if cause == AbortCause::Other && ended > 0 && !is_told {
            nexus.attentions.establish(Attention::CommandsCleared);
        }
        nexus.settled().await;
    }

    fn end_tasks(&self, cause: AbortCause) -> usize {
        self.port().map_or(0, |port| port.abort_tasks(cause))
    }

    /// Waits until no ended task can take effect any more.
    async fn settled(&self) {
        while self.port().is_some_and(|port| !port.is_settled()) {
            reactor::time::sleep(SETTLE_PAUSE).await;
        }
    }
}
