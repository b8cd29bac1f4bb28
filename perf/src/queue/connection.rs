//! A queue with its socket.

use std::net::TcpStream;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags};

use super::{Done, Io, Link, Queue, Shape, iscsi, nvme};
use crate::error::PerfError;

/// A queue with its socket, which is in non-blocking mode.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    queue: Queue,
}

impl Connection {
    /// Opens queue `qid`, from 1, of a controller. `pattern` is what writes send when no data is
    /// kept.
    ///
    /// Errors: what ends a connection; `Refused` when the target does not want it.
    pub fn nvme(
        opening: &nvme::Opening,
        qid: u16,
        shape: Shape,
        pattern: Vec<u8>,
    ) -> Result<Self, PerfError> {
        let (socket, terms) = nvme::open(opening, qid)?;
        let queue = Queue::Nvme(nvme::Queue::new(shape, terms, pattern));
        Ok(Self { socket, queue })
    }

    /// Opens a session with a target; else as [`Self::nvme`].
    ///
    /// Errors: what ends a connection; `Login` when the target does not want it.
    pub fn iscsi(
        opening: &iscsi::Opening,
        qid: u16,
        shape: Shape,
        pattern: Vec<u8>,
    ) -> Result<Self, PerfError> {
        let (socket, terms) = iscsi::open(opening, qid)?;
        let queue = Queue::Iscsi(iscsi::Queue::new(shape, terms, pattern));
        Ok(Self { socket, queue })
    }

    /// What to wait for.
    pub fn interest(&self) -> PollFd<'_> {
        let flags = if self.queue.is_sent() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLIN | PollFlags::POLLOUT
        };
        PollFd::new(self.socket.as_fd(), flags)
    }
}

impl Link for Connection {
    fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    fn oldest(&self) -> Option<&Io> {
        self.queue.oldest()
    }

    fn buffer(&self, cid: u16) -> &[u8] {
        self.queue.buffer(cid)
    }

    fn submit(
        &mut self,
        io: Io,
        choice: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), PerfError> {
        self.queue.submit(io, choice, fill)
    }

    fn receive(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        self.queue.receive(&mut self.socket, done)
    }

    fn send(&mut self) -> Result<u32, PerfError> {
        if self.queue.is_sent() {
            return Ok(0);
        }
        self.queue.send(&mut self.socket)
    }
}
