//! Sockets: listeners through the ring, the rest by plain non-blocking calls.
#![expect(
    unsafe_code,
    reason = "an accepted connection's descriptor is taken over"
)]

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode};

use super::outcome::check;
use super::{IGNORED, SPECIAL, UringBackend, cancelled};
use crate::backend::listeners::{Delivery, ListenerKey, Need};
use crate::backend::{Handle, Outcome, sockets};

impl UringBackend {
    pub(crate) fn bind(&mut self, addr: SocketAddr) -> io::Result<(Handle, SocketAddr)> {
        let (fd, local_addr) = sockets::bind(addr)?;
        Ok((Handle::socket(fd), local_addr))
    }

    pub(crate) fn listen(&mut self, bound: &Handle) -> io::Result<()> {
        sockets::listen(bound.fd())?;
        self.listeners.add(bound.raw_fd())
    }

    pub(crate) fn close_listener(&mut self, listener: &Handle) {
        let Some((key, waiting)) = self.listeners.remove(listener.raw_fd()) else {
            return;
        };
        self.finished
            .extend(waiting.into_iter().map(|op| (op, Err(cancelled()))));
        // The armed accept holds the socket open: without this, newcomers would still connect.
        let _ = sockets::shutdown(listener.fd(), Shutdown::Both);
        self.meet(Need::Stop(key));
    }

    pub(crate) fn new_socket(&mut self, addr: SocketAddr) -> io::Result<Handle> {
        sockets::new_socket(addr).map(Handle::socket)
    }

    pub(crate) fn try_recv(&mut self, socket: &Handle, bytes: &mut [u8]) -> io::Result<usize> {
        sockets::try_recv(socket.fd(), bytes)
    }

    pub(crate) fn try_send(
        &mut self,
        socket: &Handle,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        sockets::try_send(socket.fd(), slices)
    }

    pub(crate) fn shutdown(&mut self, socket: &Handle) -> io::Result<()> {
        sockets::shutdown(socket.fd(), Shutdown::Both)
    }

    pub(crate) fn peer_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr> {
        sockets::peer_addr(socket.fd())
    }

    pub(crate) fn local_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr> {
        sockets::local_addr(socket.fd())
    }

    pub(super) fn listener_completed(&mut self, word: u64, entry: &cqueue::Entry) {
        let key = ListenerKey {
            place: word as u32 - SPECIAL,
            generation: (word >> 32) as u32,
        };
        let result = check(entry.result()).map(|fd| {
            // SAFETY: an accept's result is a new descriptor that nobody else owns.
            unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
        });
        let goes_on = cqueue::more(entry.flags());
        let (delivery, need) = self.listeners.completed(key, result, goes_on);
        self.deliver(delivery);
        self.meet(need);
    }

    /// Completes an accept with its connection.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Some((op, result)) = delivery else { return };
        let accepted = result.and_then(|fd| {
            sockets::tune(fd.as_fd());
            let socket = TcpStream::from(fd);
            let peer = socket.peer_addr()?;
            Ok(Outcome::Accepted(
                Handle::socket(OwnedFd::from(socket)),
                peer,
            ))
        });
        self.finished.push_back((op, accepted));
    }

    pub(super) fn meet(&mut self, need: Need) {
        match need {
            Need::Nothing => {}
            Need::Arm(key, fd) => self
                .ring
                .queue(self.accept_entry(fd).user_data(listener_word(key))),
            Need::Stop(key) => {
                let cancel = opcode::AsyncCancel::new(listener_word(key));
                self.ring.queue(cancel.build().user_data(IGNORED));
            }
        }
    }

    fn accept_entry(&self, fd: RawFd) -> Entry {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        if self.ring.features().multishot_accept {
            return opcode::AcceptMulti::new(Fd(fd)).flags(flags).build();
        }
        opcode::Accept::new(Fd(fd), ptr::null_mut(), ptr::null_mut())
            .flags(flags)
            .build()
    }
}

fn listener_word(key: ListenerKey) -> u64 {
    u64::from(key.generation) << 32 | u64::from(SPECIAL + key.place)
}
