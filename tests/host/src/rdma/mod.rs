//! A host over NVMe/RDMA, on a reactor: for simulated worlds and for real cores.
//!
//! The same levels and names as over TCP, but every step is a future of the core that it is called
//! on: [`Queue`] is one connected queue with many commands in flight, [`Controller`] and
//! [`IoQueue`] are commands by name. A test that breaks the rules starts with [`Queue::open`], which
//! says nothing after the connection manager, or takes [`Queue::pair`] and posts what it likes.
//!
//! Every wait has a limit ([`HostOptions::timeout`](crate::HostOptions::timeout)). Memory that a
//! command exposes to the controller is taken back with its completion, or with the queue.

mod controller;
mod io;
mod queue;
mod transfer;

pub use controller::{Controller, capsule_data_bytes};
pub use io::IoQueue;
pub use queue::Queue;

use crate::HostOptions;

/// Settings of one host over RDMA; the same for all its queues.
///
/// Of [`HostOptions`], digests, alignment and R2Ts mean nothing here.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the host has in common with one over TCP.
    pub host: HostOptions,
    /// Ask the controller to have this host's card forget the key of each command.
    pub invalidate: bool,
    /// Name the controller of an I/O queue in the private data, as newer hosts do.
    pub names_controller: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: HostOptions::default(),
            invalidate: false,
            names_controller: true,
        }
    }
}

impl From<HostOptions> for Options {
    fn from(host: HostOptions) -> Self {
        Self {
            host,
            ..Self::default()
        }
    }
}
