//! Get and Set Features. Source: base 2.0 sections 5.15 and 5.27.
//!
//! ONCS does not announce Save and Select: only the current value exists. A feature without an
//! effect here (power states, temperature) has one legal value, which a host may read and write.

use std::rc::Rc;

use wire::nvme::command::{GetFeatures, SetFeatures};
use wire::nvme::feature::{FeatureId, FeatureSelect, NumberOfQueues, host_identifier, write_cache};
use wire::nvme::reservation::persistence;
use wire::nvme::{NSID_ALL, Sqe, Status};

use crate::nvmf::controller::Controller;
use crate::nvmf::io::{NSID, reservation};
use crate::nvmf::plan::{Length, Transfer, to_host};
use crate::nvmf::transport::Transport;
use crate::reservation::{Action, Participant};

/// Largest keep alive timeout accepted, in milliseconds: one day.
pub const MAX_KATO_MS: u32 = 86_400_000;

/// The features that are nothing but a value. Reset with the controller.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    arbitration: u32,
    write_atomicity: u32,
    granted_queues: u16,
    /// Reservation notifications that the host does not want.
    pub(crate) notification_mask: u32,
}

impl Features {
    /// Values after reset; `io_queues` is the limit of the options.
    pub fn new(io_queues: u16) -> Self {
        // Burst 7: no limit, the scheduler is fair between connections, not within one.
        Self {
            arbitration: 7,
            write_atomicity: 0,
            granted_queues: io_queues,
            notification_mask: 0,
        }
    }

    /// I/O queues the host may connect.
    pub fn granted_queues(&self) -> u16 {
        self.granted_queues
    }
}

/// What Get Features returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Completion dword 0.
    Dword(u32),
    /// Data of the Host Identifier feature.
    HostId([u8; 16]),
}

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr();
const NOT_CHANGEABLE: Status = Status::FEATURE_NOT_CHANGEABLE.with_dnr();

/// Bytes of the extended host identifier.
const HOST_ID_BYTES: u64 = 16;
/// Temperature threshold of a device without sensors: never crossed.
const NO_THRESHOLD: u32 = 0xffff;

pub(super) fn plan_get(sqe: &Sqe, transport: Transport) -> Result<Transfer, Status> {
    let fields = GetFeatures::decode(sqe).map_err(|_| INVALID_FIELD)?;
    match fields.fid {
        FeatureId::HOST_IDENTIFIER => to_host(sqe, HOST_ID_BYTES, Length::AtLeast, transport),
        _ => Ok(Transfer::None),
    }
}

pub(super) fn plan_set(sqe: &Sqe) -> Result<Transfer, Status> {
    let fields = SetFeatures::decode(sqe).map_err(|_| INVALID_FIELD)?;
    if fields.save {
        return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
    }
    // Over fabrics the host identifier comes with Connect and cannot change afterwards.
    if fields.fid == FeatureId::HOST_IDENTIFIER {
        return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    }
    Ok(Transfer::None)
}

/// Reads a feature.
pub(super) fn get(
    controller: &Controller,
    fields: &GetFeatures,
    nsid: u32,
) -> Result<Value, Status> {
    if fields.select != FeatureSelect::CURRENT {
        return Err(INVALID_FIELD);
    }
    if fields.fid == FeatureId::HOST_IDENTIFIER {
        // Fabrics know the extended form only.
        let extended = fields.cdw11 & host_identifier::EXTENDED != 0;
        return if extended {
            Ok(Value::HostId(controller.host.id))
        } else {
            Err(INVALID_FIELD)
        };
    }
    let common = match fields.fid {
        FeatureId::KEEP_ALIVE_TIMER => Some(controller.kato_ms()),
        FeatureId::ASYNC_EVENT_CONFIG => Some(controller.events.borrow().config()),
        _ => None,
    };
    let value = match common {
        Some(value) => value,
        None if controller.is_discovery() => return Err(INVALID_FIELD),
        None if is_of_namespace(fields.fid) => namespace_value(controller, fields.fid, nsid)?,
        None => storage_value(controller, fields)?,
    };
    Ok(Value::Dword(value))
}

/// Features of reservations have a value for each namespace, of which there is one.
fn is_of_namespace(fid: FeatureId) -> bool {
    matches!(
        fid,
        FeatureId::RESERVATION_NOTIFICATION | FeatureId::RESERVATION_PERSISTENCE
    )
}

fn namespace_value(controller: &Controller, fid: FeatureId, nsid: u32) -> Result<u32, Status> {
    let participant = participant_of(controller, nsid == NSID)?;
    if fid == FeatureId::RESERVATION_NOTIFICATION {
        return Ok(controller.features.borrow().notification_mask);
    }
    let persists = participant.reservations().state().is_persistent();
    Ok(u32::from(persists) * persistence::PTPL)
}

/// The controller's part in the reservations, as long as its namespace is there.
fn participant_of(controller: &Controller, is_named: bool) -> Result<&Rc<Participant>, Status> {
    let is_live = controller
        .subsystem()
        .is_some_and(|subsystem| subsystem.is_live());
    let participant = controller.participant().filter(|_| is_live && is_named);
    participant.ok_or(Status::INVALID_NAMESPACE.with_dnr())
}

/// Whether this sets Reservation Persistence, which takes its time.
pub(super) fn is_persistence(sqe: &Sqe) -> bool {
    let fields = SetFeatures::decode(sqe);
    fields.is_ok_and(|fields| fields.fid == FeatureId::RESERVATION_PERSISTENCE)
}

/// Changes Reservation Persistence, durably; see [`crate::reservation::Reservations::change`].
pub(super) async fn set_persistence(controller: &Controller, sqe: &Sqe) -> Result<u64, Status> {
    let fields = SetFeatures::decode(sqe).map_err(|_| INVALID_FIELD)?;
    let is_named = matches!(sqe.nsid.get(), NSID | NSID_ALL);
    let participant = participant_of(controller, is_named)?;
    let action = Action::Persist(fields.cdw11 & persistence::PTPL != 0);
    let changed = participant.reservations().change(participant, action);
    changed.await.map_err(reservation::status_of)?;
    Ok(0)
}

fn set_notification_mask(controller: &Controller, cdw11: u32, nsid: u32) -> Result<u64, Status> {
    participant_of(controller, matches!(nsid, NSID | NSID_ALL))?;
    controller.features.borrow_mut().notification_mask = cdw11;
    Ok(0)
}

fn storage_value(controller: &Controller, fields: &GetFeatures) -> Result<u32, Status> {
    let features = controller.features.borrow();
    match fields.fid {
        FeatureId::ARBITRATION => Ok(features.arbitration),
        FeatureId::POWER_MANAGEMENT | FeatureId::ERROR_RECOVERY => Ok(0),
        FeatureId::TEMPERATURE_THRESHOLD => Ok(threshold(fields.cdw11)),
        FeatureId::VOLATILE_WRITE_CACHE if has_cache(controller) => Ok(write_cache::ENABLE),
        FeatureId::NUMBER_OF_QUEUES => Ok(queues(features.granted_queues)),
        FeatureId::WRITE_ATOMICITY => Ok(features.write_atomicity),
        FeatureId::IO_COMMAND_SET_PROFILE => Ok(0),
        _ => Err(INVALID_FIELD),
    }
}

/// Changes a feature; the result is completion dword 0.
pub(super) fn set(controller: &Controller, sqe: &Sqe, _data: Option<&[u8]>) -> Result<u64, Status> {
    let fields = SetFeatures::decode(sqe).map_err(|_| INVALID_FIELD)?;
    match fields.fid {
        FeatureId::KEEP_ALIVE_TIMER => set_keep_alive(controller, fields.cdw11),
        FeatureId::ASYNC_EVENT_CONFIG => {
            let report = controller.events.borrow_mut().set_config(fields.cdw11)?;
            controller.deliver(report);
            Ok(0)
        }
        _ if controller.is_discovery() => Err(INVALID_FIELD),
        FeatureId::NUMBER_OF_QUEUES => set_queues(controller, fields.cdw11),
        FeatureId::RESERVATION_NOTIFICATION => {
            set_notification_mask(controller, fields.cdw11, sqe.nsid.get())
        }
        FeatureId::ARBITRATION => {
            controller.features.borrow_mut().arbitration = fields.cdw11;
            Ok(0)
        }
        FeatureId::WRITE_ATOMICITY => {
            controller.features.borrow_mut().write_atomicity = fields.cdw11 & 1;
            Ok(0)
        }
        _ => set_fixed(controller, &fields),
    }
}

/// Features with one legal value: writing that value works, another one is refused.
fn set_fixed(controller: &Controller, fields: &SetFeatures) -> Result<u64, Status> {
    let current = GetFeatures {
        fid: fields.fid,
        cdw11: fields.cdw11,
        ..GetFeatures::default()
    };
    let (mask, value) = match fields.fid {
        FeatureId::TEMPERATURE_THRESHOLD => (0xffff, storage_value(controller, &current)?),
        FeatureId::VOLATILE_WRITE_CACHE => (1, storage_value(controller, &current)?),
        _ => (u32::MAX, storage_value(controller, &current)?),
    };
    if fields.cdw11 & mask == value {
        Ok(0)
    } else {
        Err(NOT_CHANGEABLE)
    }
}

/// KATO is rounded up to the granularity of KAS (100 ms).
fn set_keep_alive(controller: &Controller, kato_ms: u32) -> Result<u64, Status> {
    controller.set_kato_ms(checked_kato_ms(kato_ms)?);
    Ok(0)
}

/// The timeout a host gets for the one it asked for; 0 stays 0.
pub(crate) fn checked_kato_ms(kato_ms: u32) -> Result<u32, Status> {
    if kato_ms > MAX_KATO_MS {
        return Err(Status::KEEP_ALIVE_INVALID.with_dnr());
    }
    Ok(kato_ms.next_multiple_of(100))
}

fn set_queues(controller: &Controller, cdw11: u32) -> Result<u64, Status> {
    let wanted = NumberOfQueues::decode(cdw11).map_err(|_| INVALID_FIELD)?;
    if controller.io_queue_count() != 0 {
        return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    }
    let asked = wanted
        .submission_zero_based
        .min(wanted.completion_zero_based);
    let granted = (asked + 1).min(controller.limits.io_queues);
    controller.features.borrow_mut().granted_queues = granted;
    Ok(u64::from(queues(granted)))
}

fn queues(granted: u16) -> u32 {
    let zero_based = granted.saturating_sub(1);
    NumberOfQueues {
        submission_zero_based: zero_based,
        completion_zero_based: zero_based,
    }
    .encode()
}

fn threshold(cdw11: u32) -> u32 {
    let under = cdw11 >> 20 & 3 == 1;
    if under { 0 } else { NO_THRESHOLD }
}

fn has_cache(controller: &Controller) -> bool {
    controller
        .subsystem()
        .is_some_and(|subsystem| subsystem.info.volatile_cache)
}
