//! NVMe/TCP: moves capsules and data between sockets and the transport-free core.
//!
//! A new socket is greeted (`greet`: ICReq, ICResp, Connect), moves to the core of its subsystem
//! if need be, and then is a [`connection::Connection`]: one task reads PDUs (`receive`), one
//! sends (`send`); the queue between them is `nvmf::queue`.
//! Source: NVMe/TCP transport 1.0.

mod closing;
mod connection;
mod greet;
mod handshake;
mod intake;
mod moving;
mod receive;
mod send;
mod socket;
mod wish;
