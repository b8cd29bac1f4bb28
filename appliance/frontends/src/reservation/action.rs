//! What hosts ask for, in the words of both protocols at once, and how it can be refused.

use volume::ErrorKind;

use super::{Identity, Kind, Notice, State};

/// Which registration a Register command expects its sender to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// This key; 0 when it is not registered. REGISTER.
    Is(u64),
    /// Any or none. REGISTER AND IGNORE EXISTING KEY; NVMe replace with IEKEY.
    Ignored,
    /// Any. NVMe unregister with IEKEY.
    Registered,
    /// None, or the new key already. NVMe register.
    NoneOrNew,
}

/// A reservation command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Registers, changes the key, or unregisters.
    Register {
        /// What the sender is thought to have.
        current: Current,
        /// The key from now on; 0 unregisters.
        key: u64,
        /// Others that get the same registration: SPEC_I_PT. They must have none.
        also: Vec<Identity>,
        /// At every port of the SCSI target: ALL_TG_PT.
        all_ports: bool,
        /// Whether all is kept through power loss from now on; none leaves it.
        persist: Option<bool>,
    },
    /// Reserves.
    Reserve {
        /// Key of the sender.
        key: u64,
        /// The type.
        kind: Kind,
    },
    /// Releases what the sender holds.
    Release {
        /// Key of the sender.
        key: u64,
        /// The type, which must be the one held; none is no known type.
        kind: Option<Kind>,
    },
    /// Removes the reservation and all registrants.
    Clear {
        /// Key of the sender.
        key: u64,
    },
    /// Removes registrants by their key, and takes the reservation when its holder is one of them.
    Preempt {
        /// Key of the sender.
        key: u64,
        /// Key of those to remove; 0 is everybody else, when every registrant is a holder.
        victim: u64,
        /// Type of the reservation, if it is taken; none is no known type.
        kind: Option<Kind>,
        /// Their commands are aborted.
        abort: bool,
    },
    /// REGISTER AND MOVE: gives the reservation to another.
    Move {
        /// Key of the sender.
        key: u64,
        /// Who gets it.
        to: Identity,
        /// The key it is registered with from now on.
        new_key: u64,
        /// The sender unregisters.
        unregister: bool,
        /// As of `Register`.
        persist: Option<bool>,
    },
    /// NVMe feature Reservation Persistence.
    Persist(bool),
}

/// Why a command was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The sender is not registered, its key is another, or another holds the reservation.
    Conflict,
    /// The reservation is of another type than the sender releases.
    WrongRelease,
    /// No known type.
    InvalidKind,
    /// A key that cannot be meant.
    InvalidKey,
    /// There is no reservation that could be moved.
    NothingToMove,
    /// Who shall be registered cannot be, or is already.
    InvalidIdentity,
    /// Others can be registered only together with a sender that was not registered.
    OthersNotAllowed,
    /// There are [`super::REGISTRANTS_MAX`] registrants.
    Full,
    /// It could not be made durable.
    NotStored {
        /// What the volume said.
        kind: ErrorKind,
    },
    /// What was kept cannot be read.
    Locked,
}

/// What an accepted command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub state: State,
    /// Whom to tell what.
    pub notices: Vec<(Identity, Notice)>,
    /// Whose commands to abort.
    pub aborted: Vec<Identity>,
}
