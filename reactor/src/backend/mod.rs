//! The seam under the executor: our code ends here and the kernel (or a simulated one) begins.
//!
//! [`Backend`] is an enum, not a type parameter, so that futures stay free of generics. Production
//! runs on [`uring`]; a simulated world implements [`SimBackend`].
//!
//! What a simulated backend must do
//! - `submit` takes note of an [`Op`] under its [`OpKey`]. The op stays in the executor's table,
//!   with its buffers, until the backend completes it exactly once, however long that takes and
//!   even when the future that asked for it is gone. A write's bytes never change in that time
//!   (buffers in flight are shared, and shared buffers refuse mutation).
//! - `reap` is called once per loop turn: for everything that is due now, fill read buffers
//!   through [`Completions::op_mut`] and then call [`Completions::complete`]. Short reads and
//!   writes are legal (`Outcome::Bytes(n)`, n less than what was asked): the callers continue with
//!   a larger `skip`. A read of 0 bytes is end of file.
//! - `cancel` asks for an early completion (with any result) of a `Readable`, `Writable`, `Accept`
//!   or `Connect` whose future is gone. It is only a hint: completing later is allowed.
//! - `now` is the virtual clock. The executor reads it at the start of a turn and before it
//!   fires timers; it never goes backwards.
//! - `pick_ready` chooses which of `count` ready tasks is polled next.
//! - The rest (files, sockets, random bytes, crash points) is synchronous and must not call back
//!   into the executor: the backend is borrowed while one of its methods runs.
//!
//! Driving: a world owns [`crate::executor::Executor`]s and calls `turn()` on one at a time, from
//! one thread. `turn()` never blocks; what it returns says whether anything is ready now and when
//! the next timer is due. `crash_point` may unwind (`std::panic::resume_unwind`): the world catches
//! it around `turn()` and drops the executor, which drops every task without polling it.

use std::any::Any;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::buf::BufList;
use crate::fs::{FileInfo, OpenOptions};
use crate::op::{Completions, OpKey, OpTable};
use crate::remote::Remote;
use crate::time::Instant;

mod arenas;
mod entries;
mod files;
mod fixed;
mod listeners;
mod nvme;
mod polled;
pub(crate) mod ring;
mod sockets;
pub(crate) mod uring;

use files::FileHandle;
use nvme::NvmePlace;
use polled::PolledPlace;
pub(crate) use uring::UringBackend;

/// One operation that completes later. It owns what the kernel may touch, so dropping the future
/// that asked for it frees nothing.
#[derive(Debug)]
pub enum Op {
    /// Read into `list`, starting `skip` bytes into it, from `offset + skip` of the file.
    Read {
        /// The file.
        file: Handle,
        /// Byte offset in the file of the first byte of `list`.
        offset: u64,
        /// Destination; every buffer is unshared.
        list: BufList,
        /// Bytes of `list` that earlier ops have done.
        skip: usize,
    },
    /// Write `list`, starting `skip` bytes into it, at `offset + skip` of the file.
    Write {
        /// The file.
        file: Handle,
        /// Byte offset in the file of the first byte of `list`.
        offset: u64,
        /// Source.
        list: BufList,
        /// Bytes of `list` that earlier ops have done.
        skip: usize,
    },
    /// Make every completed write of the file durable (data and what is needed to find it).
    Sync {
        /// The file.
        file: Handle,
    },
    /// Give the range back to the device or file system; it reads as zeroes or is refused.
    Discard {
        /// The file.
        file: Handle,
        /// First byte.
        offset: u64,
        /// Bytes.
        len_bytes: u64,
    },
    /// Complete when the socket has bytes, end of stream or an error to report.
    Readable {
        /// The connection.
        socket: Handle,
    },
    /// Complete when the socket takes bytes or has an error to report.
    Writable {
        /// The connection.
        socket: Handle,
    },
    /// Complete with the next connection of a listener.
    Accept {
        /// The listener.
        listener: Handle,
    },
    /// Connect a socket made by [`Backend::new_socket`].
    Connect {
        /// The unconnected socket.
        socket: Handle,
        /// The peer.
        addr: SocketAddr,
    },
}

impl Op {
    /// The file of a read or write.
    fn transfer_file(&self) -> Option<&Handle> {
        self.transfer().map(|(file, ..)| file)
    }

    /// File, offset, list and bytes done before of a read or write.
    fn transfer(&self) -> Option<(&Handle, u64, &BufList, usize)> {
        let (Op::Read {
            file,
            offset,
            list,
            skip,
        }
        | Op::Write {
            file,
            offset,
            list,
            skip,
        }) = self
        else {
            return None;
        };
        Some((file, *offset, list, *skip))
    }

    /// Whether the op can wait for a peer for ever, so that its future's end must cancel it. Disk
    /// operations always complete by themselves.
    pub fn waits_for_peer(&self) -> bool {
        matches!(
            self,
            Op::Readable { .. } | Op::Writable { .. } | Op::Accept { .. } | Op::Connect { .. }
        )
    }

    /// A short name for snapshots and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Read { .. } => "read",
            Op::Write { .. } => "write",
            Op::Sync { .. } => "sync",
            Op::Discard { .. } => "discard",
            Op::Readable { .. } => "readable",
            Op::Writable { .. } => "writable",
            Op::Accept { .. } => "accept",
            Op::Connect { .. } => "connect",
        }
    }
}

/// How an [`Op`] that did not fail ended.
#[derive(Debug)]
pub enum Outcome {
    /// `Read`, `Write`: bytes moved, possibly fewer than asked for.
    Bytes(usize),
    /// Everything else.
    Done,
    /// `Accept`: the connection and its peer.
    Accepted(Handle, SocketAddr),
}

/// What a simulated world keeps behind a [`Handle`]. Dropping it closes the file or connection (an
/// exclusive lock goes with it); no op of that handle is in flight then, because ops own clones.
pub trait SimHandle {
    /// The world's own number for it.
    fn id(&self) -> u64;
}

/// An open file, connection or listener, shared by its user and by every op in flight on it, so
/// that it cannot be closed (and its number reused) under an op.
#[derive(Clone)]
pub struct Handle(Rc<HandleKind>);

enum HandleKind {
    Socket(OwnedFd),
    File(FileHandle),
    Sim(Box<dyn SimHandle>),
}

impl Handle {
    /// Wraps a simulated handle.
    pub fn sim(handle: Box<dyn SimHandle>) -> Handle {
        Handle(Rc::new(HandleKind::Sim(handle)))
    }

    /// The world's number of a simulated handle.
    ///
    /// Panics when the handle is the kernel's: an executor never mixes backends.
    pub fn sim_id(&self) -> u64 {
        match &*self.0 {
            HandleKind::Sim(handle) => handle.id(),
            _ => panic!("a kernel handle reached the simulated backend"),
        }
    }

    pub(crate) fn socket(fd: OwnedFd) -> Handle {
        Handle(Rc::new(HandleKind::Socket(fd)))
    }

    fn file(file: FileHandle) -> Handle {
        Handle(Rc::new(HandleKind::File(file)))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &*self.0 {
            HandleKind::Socket(fd) => fd.as_fd(),
            HandleKind::File(file) => file.as_fd(),
            HandleKind::Sim(_) => panic!("a simulated handle reached the kernel backend"),
        }
    }

    fn raw_fd(&self) -> RawFd {
        self.fd().as_raw_fd()
    }

    /// A file's place in the ring's table of registered files.
    fn fixed_index(&self) -> Option<u32> {
        match &*self.0 {
            HandleKind::File(file) => file.fixed_index(),
            HandleKind::Socket(_) | HandleKind::Sim(_) => None,
        }
    }

    /// A namespace that takes commands, while its reads and writes are such.
    fn nvme(&self) -> Option<&NvmePlace> {
        match &*self.0 {
            HandleKind::File(file) => file.nvme(),
            HandleKind::Socket(_) | HandleKind::Sim(_) => None,
        }
    }

    /// A file's place in the polled ring, while its reads and writes go there.
    fn polled(&self) -> Option<&PolledPlace> {
        match &*self.0 {
            HandleKind::File(file) => file.polled(),
            HandleKind::Socket(_) | HandleKind::Sim(_) => None,
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            HandleKind::Sim(handle) => write!(f, "sim {}", handle.id()),
            _ => write!(f, "fd {}", self.raw_fd()),
        }
    }
}

/// A connection on its way to another core.
pub(crate) enum DetachedHandle {
    Fd(OwnedFd),
    Sim(Box<dyn Any + Send>),
}

/// What a simulated world implements; see the module documentation for the rules.
pub trait SimBackend {
    /// The virtual time.
    fn now(&mut self) -> Instant;
    /// The virtual wall clock, in milliseconds since 1970.
    fn wall_clock_ms(&mut self) -> u64;
    /// Fills `bytes` from the world's generator.
    fn fill_random(&mut self, bytes: &mut [u8]);
    /// Chooses one of `count >= 1` ready tasks; the answer is below `count`.
    fn pick_ready(&mut self, count: usize) -> usize;
    /// The code reached a named point where a crash is interesting. May unwind.
    fn crash_point(&mut self, name: &'static str);

    /// Takes note of an operation.
    fn submit(&mut self, key: OpKey, op: &mut Op);
    /// The future behind `key` is gone; complete it soon if it waits for a peer.
    fn cancel(&mut self, key: OpKey);
    /// Completes what is due now.
    fn reap(&mut self, completions: &mut Completions<'_>);

    /// As [`crate::fs::File::open`]: `NotFound`, `AlreadyExists`, `WouldBlock` for a held lock.
    fn open_file(&mut self, path: &Path, options: &OpenOptions) -> io::Result<(Handle, FileInfo)>;

    /// Takes an address; port 0 picks a free one. Returns the bound address.
    fn bind(&mut self, addr: SocketAddr) -> io::Result<(Handle, SocketAddr)>;
    /// Lets hosts connect to a bound socket.
    fn listen(&mut self, bound: &Handle) -> io::Result<()>;
    /// The listener's user is gone: refuse new connections, end a pending `Accept`.
    fn close_listener(&mut self, listener: &Handle);
    /// A fresh unconnected socket for `Op::Connect`.
    fn new_socket(&mut self, addr: SocketAddr) -> io::Result<Handle>;
    /// Non-blocking receive: `WouldBlock` when nothing is there, `Ok(0)` at end of stream.
    fn try_recv(&mut self, socket: &Handle, bytes: &mut [u8]) -> io::Result<usize>;
    /// Non-blocking send: may take fewer bytes; `WouldBlock` when full, `BrokenPipe` when closed.
    fn try_send(&mut self, socket: &Handle, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Closes both directions now; the peer reads end of stream. Pending polls complete.
    fn shutdown(&mut self, socket: &Handle) -> io::Result<()>;
    /// The other end of a connection.
    fn peer_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr>;
    /// Our end of a connection.
    fn local_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr>;
    /// Takes a connection off this core: from now on dropping `socket` (an operation may still
    /// hold it) closes nothing, and dropping the token unattached closes the connection.
    fn detach(&mut self, socket: &Handle) -> io::Result<Box<dyn Any + Send>>;
    /// Puts a detached connection on this core.
    fn attach(&mut self, token: Box<dyn Any + Send>) -> io::Result<Handle>;
}

/// The kernel or a simulated world. The methods mirror [`SimBackend`].
pub(crate) enum Backend {
    Uring(Box<UringBackend>),
    Sim(Box<dyn SimBackend>),
}

macro_rules! forward {
    ($($name:ident(&mut self $(, $arg:ident: $kind:ty)*) $(-> $out:ty)?;)*) => {$(
        pub(crate) fn $name(&mut self $(, $arg: $kind)*) $(-> $out)? {
            match self {
                Backend::Uring(backend) => backend.$name($($arg),*),
                Backend::Sim(backend) => backend.$name($($arg),*),
            }
        }
    )*};
}

impl Backend {
    forward! {
        now(&mut self) -> Instant;
        wall_clock_ms(&mut self) -> u64;
        fill_random(&mut self, bytes: &mut [u8]);
        cancel(&mut self, key: OpKey);
        reap(&mut self, completions: &mut Completions<'_>);
        open_file(&mut self, path: &Path, options: &OpenOptions) -> io::Result<(Handle, FileInfo)>;
        bind(&mut self, addr: SocketAddr) -> io::Result<(Handle, SocketAddr)>;
        listen(&mut self, bound: &Handle) -> io::Result<()>;
        close_listener(&mut self, listener: &Handle);
        new_socket(&mut self, addr: SocketAddr) -> io::Result<Handle>;
        try_recv(&mut self, socket: &Handle, bytes: &mut [u8]) -> io::Result<usize>;
        try_send(&mut self, socket: &Handle, slices: &[IoSlice<'_>]) -> io::Result<usize>;
        shutdown(&mut self, socket: &Handle) -> io::Result<()>;
        peer_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr>;
        local_addr(&mut self, socket: &Handle) -> io::Result<SocketAddr>;
    }

    pub(crate) fn is_sim(&self) -> bool {
        matches!(self, Backend::Sim(_))
    }

    /// Whether completions come only if the core goes on looking for them.
    pub(crate) fn is_polling(&self) -> bool {
        match self {
            Backend::Uring(backend) => backend.is_polling(),
            Backend::Sim(_) => false,
        }
    }

    /// Takes note of the op that the table holds under `key`.
    pub(crate) fn submit(&mut self, key: OpKey, ops: &mut OpTable) {
        let Some((op, scratch)) = ops.op_and_scratch(key) else {
            return;
        };
        match self {
            Backend::Uring(backend) => backend.submit(key, op, scratch),
            Backend::Sim(backend) => backend.submit(key, op),
        }
    }

    /// Silences the core's bell and listens to it. Comes before the core announces that it sleeps.
    pub(crate) fn prepare_park(&mut self, remote: &Remote) {
        match self {
            Backend::Uring(backend) => backend.arm_event(remote),
            Backend::Sim(_) => panic!("a simulated core never sleeps: its world jumps in time"),
        }
    }

    /// Sleeps until something completes, someone rings the core's bell, or the time is over.
    pub(crate) fn park(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Backend::Uring(backend) => backend.park(timeout),
            Backend::Sim(_) => panic!("a simulated core never sleeps: its world jumps in time"),
        }
    }

    pub(crate) fn pick_ready(&mut self, count: usize) -> usize {
        match self {
            Backend::Uring(_) => 0,
            Backend::Sim(backend) => backend.pick_ready(count),
        }
    }

    pub(crate) fn crash_point(&mut self, name: &'static str) {
        if let Backend::Sim(backend) = self {
            backend.crash_point(name);
        }
    }

    /// Takes a connection off this core. An operation still in flight keeps the kernel's object
    /// alive through its own descriptor.
    pub(crate) fn detach(&mut self, socket: &Handle) -> io::Result<DetachedHandle> {
        match self {
            Backend::Uring(_) => Ok(DetachedHandle::Fd(socket.fd().try_clone_to_owned()?)),
            Backend::Sim(backend) => Ok(DetachedHandle::Sim(backend.detach(socket)?)),
        }
    }

    pub(crate) fn attach(&mut self, detached: DetachedHandle) -> io::Result<Handle> {
        match (self, detached) {
            (Backend::Uring(_), DetachedHandle::Fd(fd)) => Ok(Handle::socket(fd)),
            (Backend::Sim(backend), DetachedHandle::Sim(token)) => backend.attach(token),
            _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }
}
