//! The io_uring backend: one ring per core.
//!
//! Entries are queued while tasks run and submitted once per turn. Reads and writes of devices that
//! can be polled go through a second ring, and commands of NVMe through a third; see `polled.rs`
//! and `nvme.rs`.
//!
//! `user_data`: an [`OpKey`] word; words whose low half is [`SPECIAL`] or above are ours (eventfd,
//! answers to cancels, listeners). The table of operations is far smaller than that.
#![expect(
    unsafe_code,
    reason = "an accepted connection's descriptor is taken over"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode};

use super::arenas::Arenas;
use super::entries::Target;
use super::files::FileHandle;
use super::listeners::{Delivery, ListenerKey, Listeners, Need};
use super::nvme::{self, NvmePlace, NvmeRing};
use super::polled::{self, NotPolled, PolledPlace, PolledRing};
use super::ring::{Ring, tolerate};
use super::{Handle, Op, Outcome, entries, files, sockets};
use crate::buf::{BufList, BufPool};
use crate::fs::{FileInfo, OpenOptions};
use crate::op::{Completions, MAX_OPS, OpKey, Scratch};
use crate::probe::{build_command_ring, build_polled_ring, build_ring};
use crate::remote::Remote;
use crate::time::Instant;

/// Entries of the submission queue; the completion queue has [`COMPLETION_ENTRIES`].
const SUBMISSION_ENTRIES: u32 = 512;
const COMPLETION_ENTRIES: u32 = 4096;

/// Low half of `user_data` from which on a completion is not an operation's.
const SPECIAL: u32 = 0xFFFF_0000;
const EVENT: u64 = u64::MAX;
const IGNORED: u64 = u64::MAX - 1;

const _: () = assert!(MAX_OPS < SPECIAL as usize);

pub(crate) struct UringBackend {
    ring: Ring,
    // Made for the first device that can be polled.
    polled: Option<PolledRing>,
    // Made for the first namespace that takes commands.
    commands: Option<NvmeRing>,
    arenas: Rc<Arenas>,
    is_event_armed: bool,
    event_rang: bool,
    listeners: Listeners,
    finished: VecDeque<(OpKey, io::Result<Outcome>)>,
    random: File,
}

impl UringBackend {
    /// A ring for this thread, with what the kernel has. `pools` are this core's.
    pub(crate) fn new(pools: Vec<BufPool>) -> io::Result<UringBackend> {
        let (uring, features) = build_ring(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
        let arenas = Rc::new(Arenas::new(pools));
        Ok(UringBackend {
            ring: Ring::new(uring, features, &arenas),
            polled: None,
            commands: None,
            arenas,
            is_event_armed: false,
            event_rang: false,
            listeners: Listeners::default(),
            finished: VecDeque::with_capacity(64),
            random: File::open("/dev/urandom")?,
        })
    }

    pub(crate) fn now(&mut self) -> Instant {
        crate::clock::now()
    }

    pub(crate) fn wall_clock_ms(&mut self) -> u64 {
        crate::clock::wall_clock_ms()
    }

    pub(crate) fn fill_random(&mut self, bytes: &mut [u8]) {
        self.random
            .read_exact(bytes)
            .expect("/dev/urandom always answers");
    }

    /// Queues the entry of an operation; it reaches the kernel at the end of this turn.
    pub(crate) fn submit(&mut self, key: OpKey, op: &mut Op, scratch: &mut Scratch) {
        if self.submit_command(key, op, scratch) {
            return;
        }
        let is_polled = self.polled.is_some() && is_polled(op);
        let entry = match op {
            Op::Read {
                file,
                offset,
                list,
                skip,
            } => entries::read(
                &self.transfer_target(file, is_polled),
                *offset + *skip as u64,
                list,
                *skip,
                scratch,
            ),
            Op::Write {
                file,
                offset,
                list,
                skip,
            } => entries::write(
                &self.transfer_target(file, is_polled),
                *offset + *skip as u64,
                list,
                *skip,
                scratch,
            ),
            Op::Sync { file } => entries::sync(&self.target(file)),
            Op::Discard {
                file,
                offset,
                len_bytes,
            } => entries::discard(&self.target(file), *offset, *len_bytes),
            Op::Readable { socket } => entries::poll(socket, libc::POLLIN | libc::POLLRDHUP),
            Op::Writable { socket } => entries::poll(socket, libc::POLLOUT),
            Op::Connect { socket, addr } => entries::connect(socket, *addr, scratch),
            Op::Accept { listener } => {
                let (delivery, need) = self.listeners.accept(listener.raw_fd(), key);
                self.deliver(delivery);
                return self.meet(need);
            }
        };
        let entry = entry.user_data(key.to_word());
        match &mut self.polled {
            Some(polled) if is_polled => polled.queue(entry),
            _ => self.ring.queue(entry),
        }
    }

    pub(crate) fn cancel(&mut self, key: OpKey) {
        if self.listeners.cancel(key) {
            self.finished.push_back((key, Err(cancelled())));
            return;
        }
        self.ring.queue(
            opcode::AsyncCancel::new(key.to_word())
                .build()
                .user_data(IGNORED),
        );
    }

    /// Queues a transfer as an NVMe command, if it is one. Returns whether it was.
    fn submit_command(&mut self, key: OpKey, op: &Op, scratch: &mut Scratch) -> bool {
        let (Some(commands), Some((file, offset, list, skip))) =
            (&mut self.commands, op.transfer())
        else {
            return false;
        };
        let Some(place) = file.nvme() else {
            return false;
        };
        let is_write = matches!(op, Op::Write { .. });
        match place.entry(is_write, offset, (list, skip), scratch) {
            Ok(Some(entry)) => commands.queue(entry.user_data(key.to_word())),
            // The end of the device.
            Ok(None) => self.finished.push_back((key, Ok(Outcome::Bytes(0)))),
            Err(error) => self.finished.push_back((key, Err(error))),
        }
        true
    }

    fn target(&self, file: &Handle) -> Target<'_> {
        self.ring.target(file, file.fixed_index())
    }

    fn transfer_target(&self, file: &Handle, is_polled: bool) -> Target<'_> {
        match (&self.polled, file.polled()) {
            (Some(polled), Some(place)) if is_polled => polled.ring().target(file, place.index()),
            _ => self.target(file),
        }
    }

    /// Whether something is in flight whose completion does not end a [`UringBackend::park`].
    pub(crate) fn is_polling(&self) -> bool {
        self.polled.as_ref().is_some_and(PolledRing::is_busy)
            || self.commands.as_ref().is_some_and(PolledRing::is_busy)
    }

    /// Submits what is queued and delivers what has completed.
    pub(crate) fn reap(&mut self, completions: &mut Completions<'_>) {
        self.ring.unregister_stale();
        self.enter_if_needed();
        self.drain_completions(completions);
        self.reap_polled(completions);
        self.reap_commands(completions);
        while let Some((key, result)) = self.finished.pop_front() {
            completions.complete(key, result);
        }
    }

    fn enter_if_needed(&mut self) {
        loop {
            let all_queued = self.ring.flush_backlog();
            let submission = self.ring.uring.submission();
            let asks = submission.taskrun() || submission.cq_overflow();
            if submission.is_empty() && !asks {
                return;
            }
            drop(submission);
            let entered = self.ring.submit();
            entered.expect("io_uring_enter failed while submitting");
            // A full queue has more behind it; with a full completion queue the kernel refuses
            // entries until completions were taken, so the rest waits for the next turn.
            if all_queued || !self.ring.uring.submission().is_empty() {
                return;
            }
        }
    }

    fn reap_polled(&mut self, completions: &mut Completions<'_>) {
        let Some(polled) = &mut self.polled else {
            return;
        };
        let looked = polled.look();
        looked.expect("io_uring_enter failed while polling");
        for _ in 0..COMPLETION_ENTRIES {
            let Some(entry) = polled.next() else { return };
            let key = OpKey::from_word(entry.user_data());
            let result = polled_outcome(completions.op_mut(key), entry.result());
            completions.complete(key, result);
        }
    }

    fn reap_commands(&mut self, completions: &mut Completions<'_>) {
        let Some(commands) = &mut self.commands else {
            return;
        };
        let looked = commands.look();
        looked.expect("io_uring_enter failed while looking for commands");
        for _ in 0..COMPLETION_ENTRIES {
            let Some(entry) = commands.next() else { return };
            let key = OpKey::from_word(entry.user_data());
            let (op, scratch) = completions.op_and_scratch(key);
            let result = command_outcome(op, scratch, entry.result());
            completions.complete(key, result);
        }
    }

    fn drain_completions(&mut self, completions: &mut Completions<'_>) {
        // One batch per turn: completions of this batch cannot make the loop longer.
        for _ in 0..COMPLETION_ENTRIES {
            let Some(entry) = self.ring.uring.completion().next() else {
                return;
            };
            self.completed(&entry, completions);
        }
    }

    fn completed(&mut self, entry: &cqueue::Entry, completions: &mut Completions<'_>) {
        let word = entry.user_data();
        match word {
            IGNORED => {}
            EVENT => {
                self.is_event_armed = false;
                self.event_rang = true;
            }
            _ if word as u32 >= SPECIAL => self.listener_completed(word, entry),
            _ => {
                let key = OpKey::from_word(word);
                let result = outcome(completions.op_mut(key), entry.result());
                completions.complete(key, result);
            }
        }
    }

    fn listener_completed(&mut self, word: u64, entry: &cqueue::Entry) {
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
    fn deliver(&mut self, delivery: Delivery) {
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

    fn meet(&mut self, need: Need) {
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

    /// Sleeps until a completion, the core's eventfd (see `arm_event`) or the timeout.
    pub(crate) fn park(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.finished.is_empty() || self.is_polling() {
            return Ok(());
        }
        if !self.ring.flush_backlog() {
            // What is not submitted would never wake us.
            return self.ring.submit();
        }
        let mut args = SubmitArgs::new();
        let timespec = timeout.map(Timespec::from);
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        tolerate(self.ring.uring.submitter().submit_with_args(1, &args))
    }

    /// Silences the core's eventfd and polls it. While the core is announced as sleeping this would
    /// lose a wake: the ring of the bell that it silences may belong to a word not yet seen.
    pub(crate) fn arm_event(&mut self, remote: &Remote) {
        if std::mem::take(&mut self.event_rang) {
            remote.drain_event();
        }
        if !self.is_event_armed {
            let poll = opcode::PollAdd::new(Fd(remote.event_fd()), libc::POLLIN as u32);
            self.ring.queue(poll.build().user_data(EVENT));
            self.is_event_armed = true;
        }
    }

    pub(crate) fn open_file(
        &mut self,
        path: &Path,
        options: &OpenOptions,
    ) -> io::Result<(Handle, FileInfo)> {
        self.ring.unregister_stale();
        let sibling = nvme::block_sibling(path);
        let (path, generic) = match &sibling {
            Some(block) => (block.as_path(), Some(path)),
            None => (path, None),
        };
        let (file, mut info) = files::open(path, options, generic.is_some())?;
        let slot = self.ring.register(file.as_raw_fd());
        let nvme = generic.and_then(|generic| self.try_commands(generic, path, options, &info));
        let polled = match nvme {
            Some(_) => None,
            None => self.try_polling(path, &file, &info),
        };
        (info.is_polled, info.is_passthrough) = (polled.is_some(), nvme.is_some());
        let file = FileHandle::new(file, slot, polled, options).with_nvme(nvme);
        Ok((Handle::file(file), info))
    }

    /// A way for commands to a namespace, if a trial read passes.
    fn try_commands(
        &mut self,
        generic: &Path,
        block: &Path,
        options: &OpenOptions,
        info: &FileInfo,
    ) -> Option<NvmePlace> {
        let mut open = || {
            let mut place = nvme::open(generic, block, options, info)?;
            let buf = self.arenas.try_alloc(info.logical_block_bytes as usize);
            nvme::try_read(
                &place,
                BufList::from(buf.ok_or(io::ErrorKind::OutOfMemory)?),
            )?;
            let ring = match self.commands.take() {
                Some(ring) => ring,
                None => {
                    let made = build_command_ring(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
                    NvmeRing::new(made, &self.ring)
                }
            };
            let ring = self.commands.insert(ring);
            place.slot = ring.ring().register(place.raw_fd());
            Ok::<NvmePlace, io::Error>(place)
        };
        let opened = open();
        match &opened {
            Ok(_) => {
                tracing::info!(path = %generic.display(), "reads and writes are NVMe commands")
            }
            Err(error) => tracing::info!(
                path = %generic.display(),
                %error,
                "no NVMe commands: the block device is used"
            ),
        }
        opened.ok()
    }

    /// A place in the polled ring, which is made when there is none, for a device that it suits.
    fn try_polling(&mut self, path: &Path, file: &File, info: &FileInfo) -> Option<PolledPlace> {
        let trial = || {
            let buf = self.arenas.try_alloc(info.logical_block_bytes as usize);
            let buf = buf.ok_or(io::ErrorKind::OutOfMemory)?;
            polled::try_read(file.as_fd(), BufList::from(buf))
        };
        let io_poll = files::queue_setting(file, "io_poll");
        let verdict = polled::judge(info, io_poll.as_deref(), trial);
        let admitted = verdict.and_then(|()| {
            let limits = files::unsplit_limits(file).ok_or(NotPolled::NoLimits)?;
            let ring = match self.polled.take() {
                Some(ring) => ring,
                None => {
                    let made = build_polled_ring(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
                    PolledRing::new(made, &self.ring)
                }
            };
            Ok(self.polled.insert(ring).admit(file.as_fd(), limits))
        });
        if info.is_block_device {
            match &admitted {
                Ok(_) => tracing::info!(path = %path.display(), "this device is polled"),
                Err(why) => tracing::info!(path = %path.display(), %why, "not polled"),
            }
        }
        admitted.ok()
    }

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
}

/// Whether a transfer belongs in the polled ring.
fn is_polled(op: &Op) -> bool {
    op.transfer().is_some_and(|(file, offset, list, skip)| {
        file.polled()
            .is_some_and(|place| place.takes(offset, list, skip))
    })
}

fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

fn listener_word(key: ListenerKey) -> u64 {
    u64::from(key.generation) << 32 | u64::from(SPECIAL + key.place)
}

/// A completion's number as a result.
fn check(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

fn outcome(op: &Op, result: i32) -> io::Result<Outcome> {
    match (op, check(result)) {
        (Op::Read { .. } | Op::Write { .. }, Ok(count)) => Ok(Outcome::Bytes(count)),
        (Op::Discard { .. }, Err(error)) if is_unsupported(&error) => {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
        (_, Ok(_)) => Ok(Outcome::Done),
        (_, Err(error)) => Err(error),
    }
}

/// As [`outcome`]. A device that no longer takes polled I/O (its driver was loaded again without
/// queues for it), or not so much of it, is not polled any more, and its transfers continue in the
/// ordinary ring as after an interruption.
fn polled_outcome(op: &Op, result: i32) -> io::Result<Outcome> {
    if !matches!(-result, libc::EOPNOTSUPP | libc::EAGAIN) {
        return outcome(op, result);
    }
    let place = op.transfer_file().and_then(Handle::polled);
    if place.is_some_and(PolledPlace::stop) {
        tracing::warn!(
            error = -result,
            "a device stopped to take polled I/O: not polled any more"
        );
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// What a command did: everything that its vectors name, or nothing. A namespace that no longer
/// takes commands goes on through its block device.
fn command_outcome(op: &Op, scratch: &Scratch, result: i32) -> io::Result<Outcome> {
    if matches!(-result, libc::EOPNOTSUPP | libc::EAGAIN) {
        let place = op.transfer_file().and_then(Handle::nvme);
        if place.is_some_and(NvmePlace::stop) {
            tracing::warn!(
                error = -result,
                "a namespace stopped to take commands: not used any more"
            );
        }
        return Err(io::ErrorKind::Interrupted.into());
    }
    nvme::check(result)?;
    let lens = scratch.iovecs.iter().map(|iovec| iovec.iov_len);
    Ok(Outcome::Bytes(lens.sum()))
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}
