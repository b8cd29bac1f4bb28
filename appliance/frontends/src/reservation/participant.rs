//! Those who take part: each a nexus or a controller, with what it may do now.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use super::{Identity, Reservations};

/// What a command does with the medium, for the check against reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it, flushes it, or changes how the unit works: what every type of reservation keeps
    /// from others.
    Write,
    /// Neither, such as TEST UNIT READY: only an SPC-2 reservation of another forbids it.
    Other,
}

/// Another holds a reservation that forbids this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// What a participant must tell its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Reservation of which it was a registrant was released: 2A/04.
    Released,
    /// Its registration was preempted: 2A/05.
    Preempted,
    /// All reservations and registrations were cleared, its own among them: 2A/03.
    ReservationsPreempted,
}

/// A frontend's end of a participant.
pub trait Listener {
    /// Tells the host, at the next occasion that its protocol has.
    fn notify(&self, notice: Notice);
    /// Ends the participant's commands (PREEMPT AND ABORT).
    fn abort_tasks(&self);
    /// Whether none of the aborted commands can take effect any more.
    fn is_settled(&self) -> bool;
}

/// A nexus or controller that takes part. Its checks cost a few instructions. Dropping it ends it.
pub struct Participant {
    /// Who it is.
    pub identity: Identity,
    number: u64,
    /// One bit for each [`Access`].
    allowed: Cell<u8>,
    listener: Weak<dyn Listener>,
    reservations: Rc<Reservations>,
}

impl Participant {
    pub(super) fn new(
        identity: Identity,
        number: u64,
        listener: Weak<dyn Listener>,
        reservations: Rc<Reservations>,
    ) -> Rc<Self> {
        Rc::new(Self {
            identity,
            number,
            allowed: Cell::new(0),
            listener,
            reservations,
        })
    }

    /// What it takes part in.
    pub fn reservations(&self) -> &Rc<Reservations> {
        &self.reservations
    }

    /// Whether it may access the medium now. Cost: one comparison.
    ///
    /// Ask when the command starts, which is after its data has come: what was allowed when the
    /// command arrived may be forbidden by then.
    #[inline]
    pub fn check(&self, access: Access) -> Result<(), Conflict> {
        match self.allowed.get() & bit(access) {
            0 => Err(Conflict),
            _ => Ok(()),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn allow(&self, may: impl Fn(Access) -> bool) {
        let all = [Access::Read, Access::Write, Access::Other];
        let allowed = all.into_iter().filter(|access| may(*access));
        self.allowed
            .set(allowed.map(bit).fold(0, |all, one| all | one));
    }

    pub(super) fn notify(&self, notice: Notice) {
        if let Some(listener) = self.listener.upgrade() {
            listener.notify(notice);
        }
    }

    pub(super) fn abort_tasks(&self) {
        if let Some(listener) = self.listener.upgrade() {
            listener.abort_tasks();
        }
    }

    /// A frontend's end that is gone has ended its commands.
    pub(super) fn is_settled(&self) -> bool {
        let listener = self.listener.upgrade();
        listener.is_none_or(|listener| listener.is_settled())
    }
}

const fn bit(access: Access) -> u8 {
    1 << access as u8
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.reservations.leave(self.number);
    }
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Participant")
            .field("identity", &self.identity)
            .field("allowed", &self.allowed.get())
            .finish_non_exhaustive()
    }
}
