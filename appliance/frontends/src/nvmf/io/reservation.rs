//! Reservation Register, Acquire, Release and Report.
//!
//! What they do is in [`crate::reservation`]; here are their fields, and the one place where the
//! refusals become statuses. Source: base 2.0 sections 7.2 to 7.5 and 8.19.

use reactor::buf::Buf;
use wire::nvme::reservation::{
    AcquireAction, CNTLID_NONE, ChangePersistence, HOLDS, RegisterAction,
    RegisteredControllerExtended, ReleaseAction, ReservationAcquire, ReservationKey,
    ReservationKeys, ReservationRegister, ReservationRelease, ReservationReport, ReservationStatus,
    ReservationStatusExtended,
};
use wire::nvme::{Sqe, Status};
use zerocopy::little_endian::{U16, U32, U64};

use super::{IoCommand, IoContext, IoPlan, namespace, need};
use crate::nvmf::controller::Controller;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::Length;
use crate::reservation::{Action, Current, Identity, Kind, Participant, Refusal, Registrant};

const INVALID_FIELD: Status = Status::INVALID_FIELD.with_dnr();
const CONFLICT: Status = Status::RESERVATION_CONFLICT.with_dnr();

pub(super) fn plan_register(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    let fields = ReservationRegister::decode(sqe).map_err(|_| INVALID_FIELD)?;
    let known = fields.action.name().zip(fields.persistence.name());
    known.ok_or(INVALID_FIELD)?;
    plan(
        sqe,
        context,
        IoCommand::Register(fields),
        ReservationKeys::SIZE,
    )
}

pub(super) fn plan_acquire(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    let fields = ReservationAcquire::decode(sqe).map_err(|_| INVALID_FIELD)?;
    if fields.action.name().is_none() || fields.ignore_key {
        return Err(INVALID_FIELD);
    }
    plan(
        sqe,
        context,
        IoCommand::Acquire(fields),
        ReservationKeys::SIZE,
    )
}

pub(super) fn plan_release(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    let fields = ReservationRelease::decode(sqe).map_err(|_| INVALID_FIELD)?;
    if fields.action.name().is_none() || fields.ignore_key {
        return Err(INVALID_FIELD);
    }
    plan(
        sqe,
        context,
        IoCommand::Release(fields),
        ReservationKey::SIZE,
    )
}

fn plan(
    sqe: &Sqe,
    context: &IoContext<'_>,
    command: IoCommand,
    len_bytes: usize,
) -> Result<IoPlan, Status> {
    namespace(sqe, context)?;
    let transfer = context.data_from_host(sqe, len_bytes as u64, Length::AtLeast)?;
    if transfer.from_host_bytes() > u64::from(context.max_io_bytes) {
        return Err(INVALID_FIELD);
    }
    Ok(IoPlan { command, transfer })
}

pub(super) fn plan_report(sqe: &Sqe, context: &IoContext<'_>) -> Result<IoPlan, Status> {
    namespace(sqe, context)?;
    let fields = ReservationReport::decode(sqe).map_err(|_| INVALID_FIELD)?;
    // Hosts of fabrics have identifiers of 128 bits, which only the extended form can show.
    if !fields.extended {
        return Err(Status::HOST_ID_INCONSISTENT_FORMAT.with_dnr());
    }
    if fields.len_bytes() > u64::from(context.max_io_bytes) {
        return Err(INVALID_FIELD);
    }
    let transfer = context.data_to_host(sqe, fields.len_bytes(), Length::AtLeast)?;
    let command = IoCommand::Report(fields);
    Ok(IoPlan { command, transfer })
}

/// Carries out one of the commands of this file.
///
/// Cancel: as [`crate::reservation::Reservations::change`]. Cost: allocates.
pub(super) async fn execute(
    command: IoCommand,
    data: Option<Buf>,
    controller: &Controller,
) -> Outcome {
    if let IoCommand::Report(fields) = command {
        return report(fields, controller).await;
    }
    match change(command, data, controller).await {
        Ok(()) => Outcome::success(),
        Err(status) => Outcome::failure(status),
    }
}

async fn change(
    command: IoCommand,
    data: Option<Buf>,
    controller: &Controller,
) -> Result<(), Status> {
    let participant = controller.participant().ok_or(Status::INTERNAL_ERROR)?;
    let data = need(data)?;
    let short = |_| Status::SGL_DATA_LENGTH_INVALID.with_dnr();
    let action = match command {
        IoCommand::Register(fields) => register(
            fields,
            ReservationKeys::decode(&data).map_err(short)?,
            participant,
        )?,
        IoCommand::Acquire(fields) => {
            acquire(fields, ReservationKeys::decode(&data).map_err(short)?)?
        }
        IoCommand::Release(fields) => {
            release(fields, ReservationKey::decode(&data).map_err(short)?)
        }
        _ => return Err(Status::INTERNAL_ERROR),
    };
    drop(data);
    let changed = participant.reservations().change(participant, action);
    changed.await.map_err(status_of)
}

fn register(
    fields: ReservationRegister,
    keys: &ReservationKeys,
    participant: &Participant,
) -> Result<Action, Status> {
    // All hosts without an identifier would be the same one.
    if participant.identity.host_id() == [0; 16] {
        return Err(INVALID_FIELD);
    }
    let (old, new) = (keys.current.get(), keys.other.get());
    let unregisters = fields.action == RegisterAction::UNREGISTER;
    if new == 0 && !unregisters {
        return Err(INVALID_FIELD);
    }
    let current = match (fields.action, fields.ignore_key) {
        (RegisterAction::REGISTER, _) => Current::NoneOrNew,
        (RegisterAction::UNREGISTER, true) => Current::Registered,
        (RegisterAction::REPLACE, true) => Current::Ignored,
        // 0 stands for "not registered", which is not meant.
        _ if old == 0 => return Err(CONFLICT),
        _ => Current::Is(old),
    };
    Ok(Action::Register {
        current,
        key: if unregisters { 0 } else { new },
        also: Vec::new(),
        all_ports: false,
        persist: match fields.persistence {
            ChangePersistence::SET => Some(true),
            ChangePersistence::CLEAR => Some(false),
            _ => None,
        },
    })
}

fn acquire(fields: ReservationAcquire, keys: &ReservationKeys) -> Result<Action, Status> {
    let (key, victim) = (keys.current.get(), keys.other.get());
    let kind = Kind::from_nvme(fields.kind);
    if fields.action == AcquireAction::ACQUIRE {
        let kind = kind.ok_or(INVALID_FIELD)?;
        return Ok(Action::Reserve { key, kind });
    }
    Ok(Action::Preempt {
        key,
        victim,
        kind,
        abort: fields.action == AcquireAction::PREEMPT_AND_ABORT,
    })
}

fn release(fields: ReservationRelease, keys: &ReservationKey) -> Action {
    let key = keys.current.get();
    match fields.action {
        ReleaseAction::CLEAR => Action::Clear { key },
        _ => Action::Release {
            key,
            kind: Kind::from_nvme(fields.kind),
        },
    }
}

/// The one table from a refusal to the status that hosts see.
pub(crate) fn status_of(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Conflict => CONFLICT,
        Refusal::WrongRelease
        | Refusal::InvalidKind
        | Refusal::InvalidKey
        | Refusal::NothingToMove
        | Refusal::InvalidIdentity
        | Refusal::OthersNotAllowed => INVALID_FIELD,
        // It stays so until somebody unregisters, or an operator acts.
        Refusal::Full | Refusal::Locked => Status::INTERNAL_ERROR.with_dnr(),
        Refusal::NotStored { .. } => Status::INTERNAL_ERROR,
    }
}

async fn report(fields: ReservationReport, controller: &Controller) -> Outcome {
    let bytes = match report_bytes(controller) {
        Ok(bytes) => bytes,
        Err(status) => return Outcome::failure(status),
    };
    let len = fields.len_bytes() as usize;
    let mut buf = reactor::buf::alloc(len).await;
    let (there, rest) = buf.as_mut()[..len].split_at_mut(len.min(bytes.len()));
    there.copy_from_slice(&bytes[..there.len()]);
    rest.fill(0);
    Outcome::with_data(buf)
}

/// An entry for each controller of a registrant; one with no controller here, such as a SCSI
/// nexus, has a single entry.
fn report_bytes(controller: &Controller) -> Result<Vec<u8>, Status> {
    let participant = controller.participant().ok_or(Status::INTERNAL_ERROR)?;
    let reservations = participant.reservations();
    if reservations.is_locked() {
        return Err(status_of(Refusal::Locked));
    }
    let state = reservations.state();
    let mut entries = Vec::new();
    for registrant in state.registrants() {
        let status = u8::from(state.is_holder(&registrant.identity)) * HOLDS;
        for cntlid in cntlids_of(controller, registrant) {
            entries.push(RegisteredControllerExtended {
                cntlid: U16::new(cntlid),
                status,
                key: U64::new(registrant.key),
                host_id: registrant.identity.host_id(),
                ..RegisteredControllerExtended::zeroed()
            });
        }
    }
    let header = ReservationStatusExtended {
        status: ReservationStatus {
            generation: U32::new(state.generation()),
            kind: state.held().map_or(0, |held| held.kind.nvme()),
            count: U16::new(entries.len() as u16),
            persistence: state.is_persistent().into(),
            ..ReservationStatus::zeroed()
        },
        ..ReservationStatusExtended::zeroed()
    };
    let mut bytes = header.as_wire().to_vec();
    bytes.extend(entries.iter().flat_map(|entry| entry.as_wire()));
    Ok(bytes)
}

fn cntlids_of(controller: &Controller, registrant: &Registrant) -> Vec<u16> {
    let none = vec![CNTLID_NONE];
    let Identity::Nvme { host_id } = registrant.identity else {
        return none;
    };
    let found = controller
        .subsystem()
        .map_or(Vec::new(), |subsystem| subsystem.cntlids_of(host_id));
    if found.is_empty() { none } else { found }
}
