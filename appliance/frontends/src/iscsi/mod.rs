//! iSCSI: sessions, connections and the login that leads to them, over `scsi`.
//!
//! A new socket is greeted (`greet`): its login is read, and moves to the core of the volume it
//! names. There it becomes a connection of a session: one task reads PDUs (`receive`), one sends
//! (`closing`), and every command in the volume is a task of its own (`execute`).
//!
//! Everything is at error recovery level 0: what is lost with a connection is sent again by the
//! initiator in a new session. Source: RFC 7143.

mod answer;
mod closing;
mod command;
mod connection;
mod control;
mod data_out;
mod directory;
mod execute;
mod greet;
mod handover;
mod intake;
pub mod login;
mod management;
mod metrics;
mod options;
mod outbox;
mod reason;
mod receive;
mod session;
mod table;
mod target;
mod task;
mod text;
mod transfer;
mod unit;
mod watch;
mod window;

pub use directory::{Directory, Portal};
pub use metrics::{ConnectionInfo, MetricsSnapshot, SessionInfo};
pub use options::{Auth, IQN_PREFIX, Options, volume_iqn};
pub use reason::CloseReason;
pub use target::Target;
