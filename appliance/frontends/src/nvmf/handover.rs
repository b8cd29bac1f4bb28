//! What the targets of several cores send each other: above all, connections on their way to the
//! core of their subsystem.
//!
//! The core that accepted a connection reads as far as Connect, which names the subsystem. When
//! that lives on another core, everything known so far moves there in one message.

use crate::nvmf::join::ConnectFor;
use crate::nvmf::moves::Traveller;

/// What cores tell each other.
pub(crate) enum TargetMessage {
    /// Subsystems or listeners changed.
    DirectoryChanged,
    /// A connection for a subsystem of the receiving core, or one that was served by the core of its
    /// controller and is here from now on.
    Connection(Box<dyn Traveller>),
    /// A Connect to be carried out for a connection that stays where it is.
    ConnectFor(Box<ConnectFor>),
}
