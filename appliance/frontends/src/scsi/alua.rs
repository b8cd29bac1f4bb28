//! Asymmetric logical unit access: the groups of a unit's target ports, and their states.
//!
//! Each port is a group of its own, with its number. States are kept in memory only: after a
//! restart every group is active and optimized. Source: SPC-4 sections 5.15.2, 6.37, 6.45.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use reactor::buf::Buf;
use wire::scsi::data::alua::{AccessState, Group, SetGroup, StatusCode, set_groups};
use wire::scsi::{Sense, SenseCode, SenseKey, Writer};

use super::plan::{from_host, to_host};
use super::table::Reach;
use super::{Attention, LogicalUnit, Nexus, Outcome, Transfer};

/// The most groups a unit has: more than any configuration has portals.
const GROUPS_MAX: usize = 128;
/// The longest SET TARGET PORT GROUPS parameter list.
const LIST_BYTES_MAX: u32 = 4 + 4 * GROUPS_MAX as u32;
/// Seconds that hosts should allow for a transition: it is over at once.
const TRANSITION_S: u8 = 1;

/// The groups of a unit.
pub(super) struct Groups {
    groups: RefCell<BTreeMap<u16, (AccessState, StatusCode)>>,
    /// Some group is in another state than optimized: the only question the fast path asks.
    is_asymmetric: Cell<bool>,
}

impl Groups {
    pub fn new() -> Self {
        Self {
            groups: RefCell::default(),
            is_asymmetric: Cell::new(false),
        }
    }

    pub fn add(&self, number: u16) {
        let mut groups = self.groups.borrow_mut();
        if groups.len() < GROUPS_MAX {
            let initial = (AccessState::OPTIMIZED, StatusCode::NONE);
            groups.entry(number).or_insert(initial);
        }
    }

    fn state(&self, number: u16) -> AccessState {
        if !self.is_asymmetric.get() {
            return AccessState::OPTIMIZED;
        }
        let groups = self.groups.borrow();
        groups
            .get(&number)
            .map_or(AccessState::OPTIMIZED, |group| group.0)
    }

    /// Sets a state. True when it is another one than before.
    fn set(&self, number: u16, state: AccessState, status: StatusCode) -> bool {
        let mut groups = self.groups.borrow_mut();
        let Some(group) = groups.get_mut(&number) else {
            return false;
        };
        let is_change = group.0 != state;
        *group = (state, status);
        let is_other = |group: &(AccessState, StatusCode)| group.0 != AccessState::OPTIMIZED;
        self.is_asymmetric.set(groups.values().any(is_other));
        is_change
    }

    fn has(&self, number: u16) -> bool {
        self.groups.borrow().contains_key(&number)
    }
}

impl LogicalUnit {
    /// Whether the medium can be reached through a target port.
    pub(super) fn is_active(&self, target_port: u16) -> bool {
        matches!(
            self.groups.state(target_port),
            AccessState::OPTIMIZED | AccessState::NON_OPTIMIZED
        )
    }

    /// Sets the state of a target port group, as the target itself (implicitly). All nexuses hear
    /// of a change. False when there is no such group.
    pub fn set_access_state(&self, group: u16, state: AccessState) -> bool {
        if self.groups.set(group, state, StatusCode::IMPLICIT) {
            self.attention(Attention::AccessStateChanged, None);
        }
        self.groups.has(group)
    }
}

impl Nexus {
    /// Whether the state of the nexus's target port allows a command.
    pub(super) fn check_access_state(&self, reach: Reach) -> Result<(), Outcome> {
        let state = self.unit().groups.state(self.names().target_port);
        let (needed, code) = match state {
            AccessState::OPTIMIZED | AccessState::NON_OPTIMIZED => return Ok(()),
            AccessState::STANDBY => (Reach::Standby, SenseCode::STANDBY),
            AccessState::UNAVAILABLE => (Reach::Always, SenseCode::UNAVAILABLE),
            AccessState::TRANSITIONING => (Reach::Always, SenseCode::STATE_TRANSITION),
            _ => (Reach::Always, SenseCode::OFFLINE),
        };
        if reach <= needed {
            return Ok(());
        }
        Err(Sense::new(SenseKey::NOT_READY, code).into())
    }
}

pub(super) fn report(unit: &LogicalUnit, is_extended: bool, out: &mut Writer<'_>) {
    Group::begin(is_extended, TRANSITION_S, out);
    for (number, (state, status)) in unit.groups.groups.borrow().iter() {
        let group = Group {
            is_preferred: false,
            state: *state,
            status: *status,
            number: *number,
        };
        group.write(out);
    }
    Group::end(out);
}

/// The data formats are 0, and 1 with a longer header.
pub(super) fn plan_report(format: u8, allocation_bytes: u32) -> Result<Transfer, Sense> {
    if format > 1 {
        return Err(Sense::invalid_cdb(1, Some(7)));
    }
    Ok(to_host(allocation_bytes))
}

pub(super) fn plan_set(list_bytes: u32) -> Result<Transfer, Sense> {
    if list_bytes > LIST_BYTES_MAX {
        return Err(Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH));
    }
    Ok(from_host(list_bytes))
}

/// All descriptors are checked before the first takes effect.
pub(super) fn set(nexus: &Rc<Nexus>, data: Option<Buf>) -> Outcome {
    let Some(list) = data else {
        return Outcome::good();
    };
    let unit = nexus.unit();
    match checked(unit, &list) {
        Err(sense) => sense.into(),
        Ok(wanted) => {
            let mut is_change = false;
            for group in wanted {
                is_change |= unit
                    .groups
                    .set(group.number, group.state, StatusCode::BY_COMMAND);
            }
            if is_change {
                unit.attention(Attention::AccessStateChanged, Some(nexus));
            }
            Outcome::good()
        }
    }
}

/// Hosts cannot take a port offline, nor leave it between two states.
fn checked<'a>(
    unit: &LogicalUnit,
    list: &'a [u8],
) -> Result<impl Iterator<Item = SetGroup> + use<'a>, Sense> {
    let wanted = set_groups(list)?;
    for (index, group) in wanted.clone().enumerate() {
        let at = 4 + 4 * index as u16;
        let is_settable = [
            AccessState::OPTIMIZED,
            AccessState::NON_OPTIMIZED,
            AccessState::STANDBY,
            AccessState::UNAVAILABLE,
        ];
        if !is_settable.contains(&group.state) {
            return Err(Sense::invalid_parameter(at, Some(3)));
        }
        if !unit.groups.has(group.number) {
            return Err(Sense::invalid_parameter(at + 2, None));
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
