//! Admin commands, one file per family.
//!
//! `plan` says which data a command needs, `execute` carries it out. Admin commands are rare, so
//! building a reply may allocate. Source: base 2.0 section 5.

pub(crate) mod features;
mod identify;
mod log_page;

use std::rc::Rc;

use reactor::buf::Buf;
use wire::nvme::command::{Abort, GetFeatures};
use wire::nvme::{AdminOpcode, Sqe, Status};

use crate::nvmf::controller::Controller;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::{Transfer, check_flags};
use crate::nvmf::transport::Transport;

/// What became of an admin command.
#[derive(Debug)]
pub enum AdminResult {
    /// It ended.
    Done(Outcome),
    /// It waits for an event; [`crate::nvmf::port::QueuePort::post`] completes it.
    Waits,
}

/// What an admin command is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminContext {
    /// The controller is enabled, and ready.
    pub is_ready: bool,
    /// It is a discovery controller.
    pub is_discovery: bool,
    /// MDTS in bytes.
    pub max_io_bytes: u32,
    /// What carries the queue.
    pub transport: Transport,
}

/// Checks an admin command as far as its data is concerned. The error completes it.
pub(crate) fn plan(context: &AdminContext, sqe: &Sqe) -> Result<Transfer, Status> {
    check_flags(sqe)?;
    if sqe.fuse() != wire::nvme::command::Fuse::NONE {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    if !context.is_ready {
        return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    }
    if !is_offered(sqe.admin_opcode(), context.is_discovery) {
        return Err(Status::INVALID_OPCODE.with_dnr());
    }
    let transport = context.transport;
    match sqe.admin_opcode() {
        AdminOpcode::IDENTIFY => identify::plan(sqe, transport),
        AdminOpcode::GET_LOG_PAGE => log_page::plan(sqe, context.max_io_bytes, transport),
        AdminOpcode::GET_FEATURES => features::plan_get(sqe, transport),
        AdminOpcode::SET_FEATURES => features::plan_set(sqe),
        _ => Ok(Transfer::None),
    }
}

/// Which commands exist on which kind of controller; everything else is an invalid opcode.
pub(crate) fn is_offered(opcode: AdminOpcode, discovery: bool) -> bool {
    match opcode {
        AdminOpcode::IDENTIFY
        | AdminOpcode::GET_LOG_PAGE
        | AdminOpcode::GET_FEATURES
        | AdminOpcode::SET_FEATURES
        | AdminOpcode::ASYNC_EVENT_REQUEST
        | AdminOpcode::KEEP_ALIVE => true,
        AdminOpcode::ABORT => !discovery,
        _ => false,
    }
}

/// True for a command that may wait for an event, and is then completed by
/// [`QueuePort::post`](crate::nvmf::port::QueuePort::post).
pub(crate) fn is_event_request(sqe: &Sqe) -> bool {
    !sqe.is_fabrics() && sqe.admin_opcode() == AdminOpcode::ASYNC_EVENT_REQUEST
}

/// Carries out a planned command. `data` is what the host sent.
///
/// Cancel: the command has no effect or all of it. Cost: may allocate.
pub async fn execute(controller: &Rc<Controller>, sqe: &Sqe, data: Option<Buf>) -> AdminResult {
    let outcome = match sqe.admin_opcode() {
        AdminOpcode::IDENTIFY => reply(identify::execute(controller, sqe)).await,
        AdminOpcode::GET_LOG_PAGE => {
            // What hosts know of failed commands, the log must know too.
            controller.catch_up();
            reply(log_page::execute(controller, sqe)).await
        }
        AdminOpcode::GET_FEATURES => get_features(controller, sqe).await,
        AdminOpcode::SET_FEATURES if features::is_persistence(sqe) => {
            let set = features::set_persistence(controller, sqe).await;
            set.map_or_else(Outcome::failure, Outcome::with_result)
        }
        AdminOpcode::SET_FEATURES => features::set(controller, sqe, data.as_deref())
            .map_or_else(Outcome::failure, Outcome::with_result),
        AdminOpcode::ASYNC_EVENT_REQUEST => return wait_for_event(controller, sqe.cid.get()),
        AdminOpcode::ABORT => abort(controller, sqe).await,
        // The timer was restarted when the command arrived.
        AdminOpcode::KEEP_ALIVE => Outcome::success(),
        _ => Outcome::failure(Status::INVALID_OPCODE.with_dnr()),
    };
    AdminResult::Done(outcome)
}

/// Copies a built reply into a buffer that the transport can send.
async fn reply(built: Result<Vec<u8>, Status>) -> Outcome {
    match built {
        Ok(bytes) => Outcome::with_data(to_buf(&bytes).await),
        Err(status) => Outcome::failure(status),
    }
}

async fn to_buf(bytes: &[u8]) -> Buf {
    let mut buf = reactor::buf::alloc(bytes.len()).await;
    buf.as_mut().copy_from_slice(bytes);
    buf
}

async fn get_features(controller: &Controller, sqe: &Sqe) -> Outcome {
    let Ok(fields) = GetFeatures::decode(sqe) else {
        return Outcome::failure(Status::INVALID_FIELD.with_dnr());
    };
    match features::get(controller, &fields, sqe.nsid.get()) {
        Ok(features::Value::Dword(value)) => Outcome::with_result(u64::from(value)),
        Ok(features::Value::HostId(id)) => Outcome::with_data(to_buf(&id).await),
        Err(status) => Outcome::failure(status),
    }
}

fn wait_for_event(controller: &Controller, cid: u16) -> AdminResult {
    let waited = controller.events.borrow_mut().wait(cid);
    match waited {
        Ok(Some(report)) if report.cid == cid => {
            AdminResult::Done(Outcome::with_result(u64::from(report.dw0)))
        }
        Ok(report) => {
            controller.deliver(report);
            AdminResult::Waits
        }
        Err(status) => AdminResult::Done(Outcome::failure(status)),
    }
}

/// Result dword 0 bit 0 is clear when the command was aborted. Source: base 2.0 section 5.1.
async fn abort(controller: &Controller, sqe: &Sqe) -> Outcome {
    let Ok(fields) = Abort::decode(sqe) else {
        return Outcome::failure(Status::INVALID_FIELD.with_dnr());
    };
    let aborted = controller.abort(fields.sqid, fields.cid).answer().await;
    Outcome::with_result(if aborted {
        0
    } else {
        u64::from(Abort::NOT_ABORTED)
    })
}
