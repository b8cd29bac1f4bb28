//! A queue whose connection lives on another core than its controller: what the two cores say
//! to each other, and the connection's side of it. The other side is [`StandIn`].
//!
//! The seam is one command. Socket, PDUs, digests, R2Ts, the table of commands and payload memory
//! stay with the connection; a command whose data is there goes home in one message, its outcome
//! comes back in one. Payload is never copied: a buffer may be used and freed on any core.
//!
//! Each such connection has a mailbox each way, so that its messages keep their order, and so that
//! the end of either side is seen as the end of a mailbox.
//!
//! [`StandIn`]: crate::nvmf::stand_in::StandIn

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reactor::buf::Buf;
use reactor::mailbox::{Full, Sender};
use reactor::{CoreId, Instant};
use volume::VolumeInfo;
use wire::nvme::{Sqe, Status};

use crate::nvmf::controller::Controller;
use crate::nvmf::io::IoCommand;
use crate::nvmf::io::fused::PairStatus;
use crate::nvmf::moves::Returning;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::port::CloseReason;

/// Aborts that one away connection may be asked for at the same time; more find nothing to abort.
pub(crate) const ABORTS: usize = 16;
/// Errors that may wait for room in the mailbox home: what the error log keeps. Of more, only the
/// number goes home.
const ERRORS: usize = super::error_log::ENTRIES;
/// What waits for room in the mailbox home looks again after this.
const RETRY: Duration = Duration::from_micros(100);

/// To the core of the controller.
pub(crate) enum ToHome {
    /// A command whose data is here.
    Command {
        index: u16,
        command: IoCommand,
        data: Option<Buf>,
    },
    /// An admin command, or a fabrics command that needs the controller.
    Admin {
        index: u16,
        sqe: Sqe,
        data: Option<Buf>,
    },
    /// A fused pair whose data is here.
    Pair {
        first: u16,
        second: u16,
        write: IoCommand,
        compare: Buf,
        data: Buf,
    },
    /// A failed command, for the error log, and how many before it could not be told.
    Failed { sqe: Sqe, status: Status, lost: u64 },
    /// An Abort ended where the connection is.
    Aborted { ticket: u8, aborted: bool },
    /// The command of an Abort was sent home before this.
    AbortAtHome { ticket: u8, index: u16 },
    /// Whether everything that the host had sent was read, and sent home before this.
    Drained(bool),
    /// It could not come home now.
    Stayed,
    /// It comes home.
    Returned(Box<dyn Returning>),
    /// It is over: no command follows.
    Finished,
}

/// To the core of the connection.
pub(crate) enum FromHome {
    /// A command ended.
    Done { index: u16, outcome: Outcome },
    /// A fused pair ended.
    PairDone {
        first: u16,
        second: u16,
        status: PairStatus,
    },
    /// An event request ended, at once or when it had waited.
    Posted { cid: u16, outcome: Outcome },
    /// An event request that waited is aborted.
    Cancelled { cid: u16 },
    /// Abort a command; the answer is `Aborted` or `AbortAtHome` with this ticket.
    Abort { ticket: u8, cid: u16 },
    /// Answer with `Drained`.
    AreYouDrained,
    /// Move home; the answer is `Returned`, `Stayed` or the end of the connection.
    ComeHome,
    /// End the connection.
    Close(CloseReason),
}

/// Messages that may wait for the home core: every command of the queue, errors, answers to
/// Aborts, and one of each other kind.
pub(crate) fn to_home_capacity(entries: u16) -> usize {
    usize::from(entries) + ERRORS + ABORTS + 4
}

/// Messages that may wait for the connection: an answer to every command of the queue, Aborts, and
/// one of each other kind. There is always room, since no more of them are under way.
pub(crate) fn from_home_capacity(entries: u16) -> usize {
    usize::from(entries) + ABORTS + 3
}

/// What a connection has to know of its controller while that is elsewhere.
#[derive(Debug)]
pub(crate) struct About {
    pub host_nqn: String,
    pub subsystem_nqn: String,
    pub cntlid: u16,
    pub info: VolumeInfo,
    pub max_io_bytes: u32,
    /// Where the controller and its volume live.
    pub home: CoreId,
    /// Nanoseconds of the reactor's clock when the last command came: keep alive is watched at
    /// home. Written by the connection's core only.
    pub heard_ns: AtomicU64,
}

impl About {
    /// What there is to know of a controller of core `home`; none for discovery.
    pub fn of(controller: &Controller, home: CoreId) -> Option<Self> {
        let subsystem = controller.subsystem()?;
        Some(Self {
            host_nqn: controller.host.nqn.clone(),
            subsystem_nqn: subsystem.nqn.clone(),
            cntlid: controller.cntlid,
            info: subsystem.info.clone(),
            max_io_bytes: controller.limits.max_io_bytes,
            home,
            heard_ns: AtomicU64::new(0),
        })
    }
}

/// The way home, on the core of the connection.
pub(crate) struct Away {
    pub about: Arc<About>,
    to_home: Sender<ToHome>,
    /// What found no room, in order: commands of the queue, a few answers, and errors up to a limit.
    waiting: RefCell<VecDeque<ToHome>>,
    errors_waiting: Cell<usize>,
    errors_lost: Cell<u64>,
    retrying: Cell<bool>,
    is_lost: Cell<bool>,
    waits: Cell<u64>,
}

impl Away {
    pub fn new(about: Arc<About>, to_home: Sender<ToHome>) -> Rc<Self> {
        Rc::new(Self {
            about,
            to_home,
            waiting: RefCell::default(),
            errors_waiting: Cell::new(0),
            errors_lost: Cell::new(0),
            retrying: Cell::new(false),
            is_lost: Cell::new(false),
            waits: Cell::new(0),
        })
    }

    /// A command came.
    pub fn command_arrived(&self, now: Instant) {
        self.about.heard_ns.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Sends a message home, after all earlier ones. What finds no room waits here and goes with the
    /// next look, so that nothing is dropped and nothing blocks.
    pub fn send(self: &Rc<Self>, message: ToHome) {
        if !self.waiting.borrow().is_empty() {
            return self.wait(message);
        }
        match self.to_home.try_send(message) {
            // A home that is gone is seen where its answers come from.
            Ok(()) | Err(Full::Closed(_)) => {}
            Err(Full::NoRoom(message)) => self.wait(message),
        }
    }

    /// Sends a failed command home for the error log.
    pub fn record_error(self: &Rc<Self>, sqe: &Sqe, status: Status) {
        if self.errors_waiting.get() >= ERRORS {
            return self.errors_lost.set(self.errors_lost.get() + 1);
        }
        let lost = self.errors_lost.take();
        let (sqe, status) = (*sqe, status);
        self.send(ToHome::Failed { sqe, status, lost });
    }

    /// The home core has ended.
    pub fn lose(&self) {
        self.is_lost.set(true);
    }

    /// True when nothing is answered any more.
    pub fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// True when nothing waits for room any more.
    pub fn is_sent(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Times a message found no room.
    pub fn waits(&self) -> u64 {
        self.waits.get()
    }

    fn wait(self: &Rc<Self>, message: ToHome) {
        let is_error = matches!(message, ToHome::Failed { .. });
        self.errors_waiting
            .set(self.errors_waiting.get() + usize::from(is_error));
        self.waits.set(self.waits.get() + 1);
        self.waiting.borrow_mut().push_back(message);
        if self.retrying.replace(true) {
            return;
        }
        let away = Rc::clone(self);
        drop(reactor::spawn(async move {
            while !away.is_sent() {
                reactor::time::sleep(RETRY).await;
                away.send_waiting();
            }
            away.retrying.set(false);
        }));
    }

    fn send_waiting(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.pop_front() {
            let is_error = matches!(message, ToHome::Failed { .. });
            match self.to_home.try_send(message) {
                Err(Full::NoRoom(message)) => return waiting.push_front(message),
                _ => self
                    .errors_waiting
                    .set(self.errors_waiting.get() - usize::from(is_error)),
            }
        }
    }
}
