//! NVMe/TCP: moves capsules and data between sockets and the transport-free core.
//!
//! A new socket is greeted (`greet`: ICReq, ICResp, Connect), moves to the core of its subsystem
//! if need be, and then is a [`connection::Connection`]: one task reads PDUs (`receive`), one
//! sends (`send`), and every command in the volume is a task of its own.
//! Source: NVMe/TCP transport 1.0.

pub(crate) mod balance;
mod closing;
pub(crate) mod connection;
mod from_home;
mod fuse;
mod greet;
pub(crate) mod handshake;
mod intake;
pub(crate) mod moving;
mod r2t;
mod receive;
mod send;
mod socket;
mod watch;
pub(crate) mod wish;
