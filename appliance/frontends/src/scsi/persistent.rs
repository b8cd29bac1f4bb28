//! PERSISTENT RESERVE IN and OUT: service actions become [`Action`]s, refusals sense data.
//!
//! Source: SPC-4 sections 5.13, 6.15 and 6.16.

use std::rc::Rc;

use reactor::buf::Buf;
use volume::ErrorKind;
use wire::scsi::pr::{
    self, FullStatus, InAction, InCommand, LIST_BYTES, MoveList, OutAction, OutCommand, OutList,
    SCOPE_UNIT, TransportId,
};
use wire::scsi::{Cdb, Sense, SenseCode, Writer};

use super::{Nexus, Outcome, Transfer};
use crate::reservation::{Action, Current, Identity, Kind, Refusal, Reservations, State};

/// The longest parameter list: 24 bytes and about 30 TransportIDs.
const LIST_BYTES_MAX: u32 = 8 << 10;
/// Bytes of a registrant in READ FULL STATUS at most.
const DESCRIPTOR_BYTES_MAX: usize = 24 + 4 + 244;

const INVALID_RELEASE: SenseCode = SenseCode(0x2604);
const INSUFFICIENT_RESOURCES: SenseCode = SenseCode(0x5504);

pub(super) fn plan_in(_nexus: &Nexus, cdb: &Cdb) -> Result<Transfer, Outcome> {
    let command = InCommand::decode(cdb);
    if command.action.name().is_none() {
        return Err(Outcome::invalid_field_in_cdb(1, Some(4)));
    }
    let len_bytes = command.allocation_bytes.into();
    Ok(Transfer::ToHost { len_bytes })
}

pub(super) fn plan_out(_nexus: &Nexus, cdb: &Cdb) -> Result<Transfer, Outcome> {
    let command = OutCommand::decode(cdb);
    if command.action.name().is_none() {
        return Err(Outcome::invalid_field_in_cdb(1, Some(4)));
    }
    // Elsewhere scope and type are ignored, or only looked at when they matter.
    if command.action == OutAction::RESERVE {
        kind_of(&command)?;
    }
    let len_bytes = command.list_bytes;
    if !(LIST_BYTES as u32..=LIST_BYTES_MAX).contains(&len_bytes) {
        return Err(Outcome::parameter_list_length());
    }
    Ok(Transfer::FromHost { len_bytes })
}

/// Type and scope of a reservation, both of which must exist.
fn kind_of(command: &OutCommand) -> Result<Kind, Outcome> {
    if command.scope != SCOPE_UNIT {
        return Err(Outcome::invalid_field_in_cdb(2, Some(7)));
    }
    Kind::from_scsi(command.kind).ok_or_else(|| Outcome::invalid_field_in_cdb(2, Some(3)))
}

/// Cost: allocates the data.
pub(super) async fn execute_in(nexus: &Rc<Nexus>, cdb: Cdb) -> Outcome {
    let reservations = nexus.participant().reservations();
    if let Err(refusal) = readable(reservations) {
        return refused(refusal);
    }
    let command = InCommand::decode(&cdb);
    let data = data_of(command.action, &reservations.state());
    let len = data.len().min(command.allocation_bytes.into());
    if len == 0 {
        return Outcome::good();
    }
    let mut buf = reactor::buf::alloc(len).await;
    buf.as_mut()[..len].copy_from_slice(&data[..len]);
    Outcome::with_data(buf)
}

/// An SPC-2 reservation forbids it, also to its holder.
fn readable(reservations: &Reservations) -> Result<(), Refusal> {
    match (reservations.is_locked(), reservations.is_unit_reserved()) {
        (true, _) => Err(Refusal::Locked),
        (false, true) => Err(Refusal::Conflict),
        (false, false) => Ok(()),
    }
}

fn data_of(action: InAction, state: &State) -> Vec<u8> {
    let mut data = vec![0; 24 + state.registrants().len() * DESCRIPTOR_BYTES_MAX];
    let mut writer = Writer::new(&mut data);
    let generation = state.generation();
    match action {
        InAction::READ_KEYS => {
            let keys = state.registrants().iter().map(|one| one.key);
            pr::read_keys(&mut writer, generation, keys);
        }
        InAction::READ_RESERVATION => {
            let held = state
                .held()
                .map(|held| (state.holder_key(), held.kind.scsi()));
            pr::read_reservation(&mut writer, generation, held);
        }
        InAction::REPORT_CAPABILITIES => {
            pr::report_capabilities(&mut writer, state.is_persistent());
        }
        _ => full_status(&mut writer, state),
    }
    let len = writer.written();
    data.truncate(len);
    data
}

fn full_status(writer: &mut Writer<'_>, state: &State) {
    let all = state.registrants().iter();
    let named: Vec<_> = all.map(|one| (one, one.identity.scsi_name())).collect();
    let statuses = named.iter().map(|(one, name)| {
        let is_holder = state.is_holder(&one.identity);
        let held = state.held().filter(|_| is_holder);
        FullStatus {
            key: one.key,
            held_kind: held.map(|held| held.kind.scsi()),
            target_port: one.identity.target_port(),
            transport_id: TransportId::of_name(name),
        }
    });
    pr::read_full_status(writer, state.generation(), statuses);
}

/// Cancel: before its turn nothing happened, later it goes on by itself.
pub(super) async fn execute_out(nexus: &Rc<Nexus>, cdb: Cdb, data: Option<Buf>) -> Outcome {
    let command = OutCommand::decode(&cdb);
    let participant = nexus.participant();
    let list = data.as_deref().unwrap_or_default();
    let list = match list.get(..command.list_bytes as usize) {
        Some(list) => list,
        None => return Outcome::parameter_list_length(),
    };
    let action = match command.action {
        OutAction::REGISTER_AND_MOVE => move_action(participant.reservations(), list),
        _ => action(nexus, &command, list),
    };
    let action = match action {
        Ok(action) => action,
        Err(outcome) => return outcome,
    };
    match participant.reservations().change(participant, action).await {
        Ok(()) => Outcome::good(),
        Err(refusal) => refused(refusal),
    }
}

fn action(nexus: &Nexus, command: &OutCommand, list: &[u8]) -> Result<Action, Outcome> {
    let list = OutList::decode(list).map_err(|_| Outcome::parameter_list_length())?;
    if list.names_others && command.action != OutAction::REGISTER {
        return Err(Outcome::invalid_field_in_parameters(20, Some(3)));
    }
    if !list.names_others && !list.is_plain() {
        return Err(Outcome::parameter_list_length());
    }
    let (key, victim) = (list.key, list.action_key);
    let kind = kind_of(command);
    match command.action {
        OutAction::REGISTER => register(nexus, &list, Current::Is(key)),
        OutAction::REGISTER_AND_IGNORE_EXISTING_KEY => register(nexus, &list, Current::Ignored),
        OutAction::RESERVE => Ok(Action::Reserve { key, kind: kind? }),
        OutAction::RELEASE => {
            let kind = kind.ok();
            Ok(Action::Release { key, kind })
        }
        OutAction::CLEAR => Ok(Action::Clear { key }),
        OutAction::PREEMPT | OutAction::PREEMPT_AND_ABORT => Ok(Action::Preempt {
            key,
            victim,
            kind: kind.ok(),
            abort: command.action == OutAction::PREEMPT_AND_ABORT,
        }),
        _ => Err(Outcome::invalid_field_in_cdb(1, Some(4))),
    }
}

fn register(nexus: &Nexus, list: &OutList<'_>, current: Current) -> Result<Action, Outcome> {
    let also = match list.names_others {
        true => named_in(nexus, list)?,
        false => Vec::new(),
    };
    Ok(Action::Register {
        current,
        key: list.action_key,
        also,
        all_ports: list.all_ports,
        persist: Some(list.persists),
    })
}

/// The nexuses that the TransportIDs of SPEC_I_PT name, at the port that the command came by.
fn named_in(nexus: &Nexus, list: &OutList<'_>) -> Result<Vec<Identity>, Outcome> {
    let wrong = || Outcome::invalid_field_in_parameters(24, None);
    let target_port = nexus.names().target_port;
    let reservations = nexus.participant().reservations();
    let mut identities = Vec::new();
    for id in list.transport_ids().map_err(|_| wrong())? {
        let found = resolve(reservations, id.map_err(|_| wrong())?, target_port);
        if found.is_empty() {
            return Err(wrong());
        }
        identities.extend(found);
    }
    let own = &nexus.participant().identity;
    if identities.contains(own) {
        return Err(wrong());
    }
    Ok(identities)
}

fn move_action(reservations: &Reservations, list: &[u8]) -> Result<Action, Outcome> {
    let wrong = || Outcome::invalid_field_in_parameters(24, None);
    let list = MoveList::decode(list).map_err(|error| match error {
        wire::Error::Truncated { .. } => Outcome::parameter_list_length(),
        _ => wrong(),
    })?;
    let mut found = resolve(reservations, list.transport_id, list.target_port);
    let to = found.pop().filter(|_| found.is_empty()).ok_or_else(wrong)?;
    Ok(Action::Move {
        key: list.key,
        to,
        new_key: list.action_key,
        unregister: list.unregisters,
        persist: Some(list.persists),
    })
}

/// Who is meant: a port by its name, a device's ports as far as they are attached, an NVMe host.
fn resolve(reservations: &Reservations, id: TransportId<'_>, target_port: u16) -> Vec<Identity> {
    let all = reservations.participants();
    let at_port = all
        .iter()
        .filter(|one| one.identity.target_port() == target_port);
    let attached = at_port.map(|one| &one.identity);
    match id {
        TransportId::Port(name) => {
            // Names of iSCSI are the same in either case.
            let mut attached = attached;
            let known = attached.find(|one| one.scsi_name().eq_ignore_ascii_case(name));
            let known = known.cloned();
            let identity = known.or_else(|| Identity::from_scsi_name(name, target_port));
            identity.into_iter().collect()
        }
        TransportId::Device(name) => {
            let host = Identity::from_scsi_name(name, target_port);
            if let Some(host @ Identity::Nvme { .. }) = host {
                return vec![host];
            }
            let of_device = |one: &&Identity| {
                let port = one.scsi_name();
                let device = port.split_once(",i,0x").map(|(device, _)| device);
                device.is_some_and(|device| device.eq_ignore_ascii_case(name))
            };
            let mut found: Vec<_> = attached.filter(of_device).cloned().collect();
            found.sort_unstable();
            found.dedup();
            found
        }
    }
}

/// The status that a refusal becomes.
fn refused(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Conflict => Outcome::conflict(),
        Refusal::WrongRelease => Sense::illegal(INVALID_RELEASE).into(),
        Refusal::InvalidKind => Outcome::invalid_field_in_cdb(2, Some(3)),
        Refusal::InvalidKey => Outcome::invalid_field_in_parameters(8, None),
        Refusal::NothingToMove | Refusal::OthersNotAllowed => {
            Outcome::invalid_field_in_cdb(1, Some(4))
        }
        Refusal::InvalidIdentity => Outcome::invalid_field_in_parameters(24, None),
        Refusal::Full
        | Refusal::NotStored {
            kind: ErrorKind::PoolFull,
        } => Sense::illegal(INSUFFICIENT_RESOURCES).into(),
        Refusal::NotStored { .. } | Refusal::Locked => Outcome::internal(),
    }
}

#[cfg(test)]
mod tests;
