//! Unit attentions: what a nexus must hear before its next command.
//!
//! A set, not a list: each condition is there at most once, so it cannot grow, and the more
//! important ones come first. Source: SAM-5 section 5.14.

use std::cell::Cell;

use wire::scsi::{Sense, SenseCode, SenseKey};

/// A condition. The order is the order in which hosts hear of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// The nexus is new, or the target was reset.
    PowerOn,
    /// The unit was reset.
    Reset,
    /// Another nexus cleared the task set.
    CommandsCleared,
    /// The capacity is another one.
    CapacityChanged,
    /// Another nexus changed mode pages.
    ModeChanged,
    /// An asymmetric access state changed.
    AccessStateChanged,
    /// The reservation was preempted.
    ReservationsPreempted,
    /// The reservation was released.
    ReservationsReleased,
    /// The nexus's registration was preempted.
    RegistrationsPreempted,
    /// Units came or went.
    LunsChanged,
}

const ALL: [Attention; 10] = [
    Attention::PowerOn,
    Attention::Reset,
    Attention::CommandsCleared,
    Attention::CapacityChanged,
    Attention::ModeChanged,
    Attention::AccessStateChanged,
    Attention::ReservationsPreempted,
    Attention::ReservationsReleased,
    Attention::RegistrationsPreempted,
    Attention::LunsChanged,
];

impl Attention {
    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// Its sense data.
    #[must_use]
    pub const fn sense(self) -> Sense {
        let code = match self {
            Self::PowerOn => SenseCode::POWER_ON,
            Self::Reset => SenseCode::BUS_DEVICE_RESET,
            Self::CommandsCleared => SenseCode::COMMANDS_CLEARED,
            Self::CapacityChanged => SenseCode::CAPACITY_CHANGED,
            Self::ModeChanged => SenseCode::MODE_PARAMETERS_CHANGED,
            Self::AccessStateChanged => SenseCode::ACCESS_STATE_CHANGED,
            Self::ReservationsPreempted => SenseCode::RESERVATIONS_PREEMPTED,
            Self::ReservationsReleased => SenseCode::RESERVATIONS_RELEASED,
            Self::RegistrationsPreempted => SenseCode::REGISTRATIONS_PREEMPTED,
            Self::LunsChanged => SenseCode::REPORTED_LUNS_CHANGED,
        };
        Sense::new(SenseKey::UNIT_ATTENTION, code)
    }
}

/// The conditions pending for one nexus.
#[derive(Debug, Default)]
pub(super) struct Attentions {
    pending: Cell<u16>,
}

impl Attentions {
    /// Establishes a condition. A reset includes everything that was pending: the host starts anew.
    pub fn establish(&self, attention: Attention) {
        let before = match attention {
            Attention::PowerOn | Attention::Reset => 0,
            _ => self.pending.get(),
        };
        self.pending.set(before | attention.bit());
    }

    /// Whether none is pending. The only question a command on the fast path asks.
    pub fn is_empty(&self) -> bool {
        self.pending.get() == 0
    }

    /// Takes the most important one.
    pub fn take(&self) -> Option<Attention> {
        let pending = self.pending.get();
        let found = ALL
            .into_iter()
            .find(|attention| pending & attention.bit() != 0)?;
        self.clear(found);
        Some(found)
    }

    /// Ends a condition, if it is pending.
    pub fn clear(&self, attention: Attention) {
        self.pending.set(self.pending.get() & !attention.bit());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_come_once_and_the_important_first() {
        let attentions = Attentions::default();
        for attention in [
            Attention::LunsChanged,
            Attention::ModeChanged,
            Attention::ModeChanged,
            Attention::CommandsCleared,
        ] {
            attentions.establish(attention);
        }
        let taken: Vec<_> = std::iter::from_fn(|| attentions.take()).collect();
        let expected = [
            Attention::CommandsCleared,
            Attention::ModeChanged,
            Attention::LunsChanged,
        ];
        assert_eq!(taken, expected);
        assert!(attentions.is_empty());
    }

    #[test]
    fn a_reset_includes_what_was_pending() {
        let attentions = Attentions::default();
        attentions.establish(Attention::ModeChanged);
        attentions.establish(Attention::Reset);
        assert_eq!(attentions.take(), Some(Attention::Reset));
        assert_eq!(attentions.take(), None);
    }

    #[test]
    fn every_condition_has_its_own_code() {
        let mut codes: Vec<_> = ALL.iter().map(|one| one.sense().code).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
    }
}
