//! One I/O queue as a state machine: commands go in, bytes come out, bytes go in, completions
//! come out. It does no I/O itself, so a test can feed it any bytes.
//!
//! A queue of NVMe/TCP is a queue of a controller; a queue of iSCSI is a session of its own with
//! one connection, so that each has its command window. Over RDMA ([`rdma`]) there are no bytes:
//! there the state machine takes completions of the card and posts work.
//!
//! A payload is never copied in user space: a write is sent from where its data lies, and the data
//! of a read is dropped where the socket put it, unless the run verifies it.

mod connection;
mod input;
pub mod iscsi;
pub mod nvme;
mod output;
mod payload;
pub mod rdma;
#[cfg(test)]
mod script;
mod slot;
mod socket;
mod status;

use std::io::{Read, Write};

pub use connection::Connection;
pub use input::Input;
pub use output::Output;
pub use payload::Payload;
pub use slot::{Slot, Slots};
pub use status::Status;

use crate::error::PerfError;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
}

/// One command to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// What it does.
    pub kind: Kind,
    /// Which unit of the block size of the run, counted from the start of the namespace.
    pub unit: u64,
    /// Force Unit Access.
    pub fua: bool,
    /// When it should have started, in nanoseconds of the run's clock.
    pub intended_ns: u64,
    /// When it did.
    pub issued_ns: u64,
}

/// One command that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its slot; the slot's buffer keeps the data until the next command takes it.
    pub cid: u16,
    /// The command.
    pub io: Io,
    /// Its status.
    pub status: Status,
}

/// What the run asks of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Most commands in flight.
    pub depth: u16,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// Bytes of each read and write.
    pub io_bytes: u32,
    /// NVMe: data that fits into a command capsule, in bytes.
    pub capsule_bytes: u32,
    /// NVMe: namespace.
    pub nsid: u32,
    /// Keep what reads bring; each slot then has a buffer of its own for writes as well.
    pub keep_data: bool,
}

/// A connected queue, whatever carries it: commands go in, completions come out, nothing blocks.
pub trait Link {
    /// Commands in flight.
    fn in_flight(&self) -> usize;
    /// True when another command fits.
    fn has_room(&self) -> bool;
    /// The command in flight that was issued first.
    fn oldest(&self) -> Option<&Io>;
    /// The buffer of a slot. Only with [`Shape::keep_data`].
    fn buffer(&self, cid: u16) -> &[u8];
    /// Queues a command. `fill` writes the data of a write when data is kept, else `choice` says
    /// where in the pattern it starts.
    ///
    /// Panics when there is no room: ask [`Self::has_room`] first.
    fn submit(
        &mut self,
        io: Io,
        choice: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), PerfError>;
    /// Takes what came; completions go to `done`. True when something did.
    ///
    /// Errors: all of them end the queue.
    fn receive(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError>;
    /// Sends what is queued, as far as it goes; gives how many calls it made.
    ///
    /// Errors: all of them end the queue.
    fn send(&mut self) -> Result<u32, PerfError>;
}

/// Which queues to open, and how.
#[derive(Clone, Debug)]
pub enum Opening {
    /// Queues of a controller over TCP.
    Nvme(nvme::Opening),
    /// Sessions with a target.
    Iscsi(iscsi::Opening),
    /// Queues of a controller over RDMA: the load threads open them, since each belongs to a core.
    Rdma(rdma::Opening),
}

/// A queue over a socket.
#[derive(Debug)]
pub enum Queue {
    /// Of NVMe/TCP.
    Nvme(nvme::Queue),
    /// Of iSCSI.
    Iscsi(iscsi::Queue),
}

/// The same of either protocol.
macro_rules! either {
    ($queue:expr, $name:ident => $what:expr) => {
        match $queue {
            Queue::Nvme($name) => $what,
            Queue::Iscsi($name) => $what,
        }
    };
}

impl Queue {
    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        either!(self, queue => queue.slots.in_flight())
    }

    /// True when another command fits.
    pub fn has_room(&self) -> bool {
        either!(self, queue => queue.has_room())
    }

    /// The command in flight that was issued first.
    pub fn oldest(&self) -> Option<&Io> {
        either!(self, queue => queue.slots.oldest())
    }

    /// The buffer of a slot. Only with [`Shape::keep_data`].
    pub fn buffer(&self, cid: u16) -> &[u8] {
        either!(self, queue => queue.payload.buffer(cid))
    }

    /// True when all that was queued was sent.
    pub fn is_sent(&self) -> bool {
        either!(self, queue => queue.output.is_empty())
    }

    /// Sends what the socket takes; gives how many calls it made.
    ///
    /// Errors: `Socket`.
    pub fn send(&mut self, socket: &mut impl Write) -> Result<u32, PerfError> {
        let sent = either!(self, queue => queue.output.send(socket, queue.payload.bytes()));
        sent.map_err(|source| PerfError::Socket {
            doing: "sending",
            source,
        })
    }

    /// One receive; completions go to `done`. True when bytes came.
    ///
    /// Errors: all of them end the queue.
    pub fn receive(
        &mut self,
        socket: &mut impl Read,
        done: &mut Vec<Done>,
    ) -> Result<bool, PerfError> {
        either!(self, queue => {
            if queue.input.receive(socket)? == 0 {
                return Ok(false);
            }
            queue.process(done)?;
            Ok(true)
        })
    }

    /// Queues a command. `fill` writes the data of a write when data is kept, else `choice` says
    /// where in the pattern it starts.
    ///
    /// Panics when there is no room: ask [`Self::has_room`] first.
    pub fn submit(
        &mut self,
        io: Io,
        choice: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), PerfError> {
        either!(self, queue => queue.submit(io, choice, fill))
    }
}
