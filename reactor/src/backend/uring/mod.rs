//! The io_uring backend: one ring per core.
//!
//! Entries are queued while tasks run and submitted once per turn. Reads and writes of devices that
//! can be polled go through a second ring, and commands of NVMe through a third; see `polled.rs`
//! and `nvme.rs`.
//!
//! `user_data`: an [`OpKey`] word; words whose low half is [`SPECIAL`] or above are ours (eventfd,
//! answers to cancels, listeners). The table of operations is far smaller than that.

mod devices;
mod outcome;
mod tcp;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode};

use self::outcome::{command_outcome, outcome, polled_outcome};
use super::arenas::Arenas;
use super::entries::Target;
use super::listeners::Listeners;
use super::nvme::NvmeRing;
use super::polled::PolledRing;
use super::ring::{Ring, tolerate};
use super::{Handle, Op, Outcome, entries};
use crate::buf::BufPool;
use crate::op::{Completions, MAX_OPS, OpKey, Scratch};
use crate::probe::build_ring;
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
