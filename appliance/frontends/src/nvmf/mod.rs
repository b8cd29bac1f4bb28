//! The transport-free core of the NVMe over Fabrics target: subsystems, controllers, queues and
//! commands. No sockets here; a transport gives it commands and data and takes outcomes.

pub mod abort;
pub(crate) mod admin;
pub(crate) mod away;
pub(crate) mod balance;
pub mod controller;
pub mod directory;
pub(crate) mod discovery;
pub(crate) mod error_log;
pub(crate) mod events;
pub(crate) mod fabrics;
pub(crate) mod fence;
pub(crate) mod handover;
pub mod io;
pub(crate) mod join;
pub(crate) mod moves;
pub(crate) mod notices;
pub mod outcome;
pub(crate) mod owner;
pub mod placement;
pub mod plan;
pub mod port;
pub(crate) mod queue;
pub(crate) mod registers;
pub(crate) mod stand_in;
pub(crate) mod status;
pub mod subsystem;
pub(crate) mod table;
pub mod target;
pub mod transport;
