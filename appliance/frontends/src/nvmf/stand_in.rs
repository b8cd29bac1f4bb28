//! What a controller has in place of a queue whose connection lives on another core.
//!
//! It carries out the commands that come from there, and passes on what happens to the queue from
//! outside. Commands in the volume are counted here, as those of a connection of this core are.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use reactor::buf::Buf;
use reactor::mailbox::{Full, Receiver, Sender};
use reactor::sync::{Notify, oneshot};
use reactor::{CoreId, Instant};
use volume::Volume;
use wire::nvme::{Sqe, Status};

use crate::nvmf::abort::AbortSignal;
use crate::nvmf::admin::{self, AdminResult, is_event_request};
use crate::nvmf::away::{ABORTS, About, FromHome, ToHome};
use crate::nvmf::controller::Controller;
use crate::nvmf::fabrics;
use crate::nvmf::io::fused::{self, PairStatus};
use crate::nvmf::io::{self, IoCommand};
use crate::nvmf::moves::Returning;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::port::{Aborted, CloseReason, QueuePort};
use crate::nvmf::target::Target;

/// Stands in for a connection that is away. Lives on the core of the controller.
pub(crate) struct StandIn {
    this: Weak<StandIn>,
    id: u64,
    target: Target,
    controller: Rc<Controller>,
    qid: u16,
    about: Arc<About>,
    to_away: Sender<FromHome>,
    from_away: RefCell<Receiver<ToHome>>,
    /// One for each slot of the queue.
    signals: Box<[Rc<AbortSignal>]>,
    /// Aborts that wait for an answer, by ticket.
    aborts: RefCell<[Option<oneshot::Sender<bool>>; ABORTS]>,
    executing: Cell<u32>,
    orphans: Cell<bool>,
    idle: Notify,
    is_closing: Cell<bool>,
    /// It is not asked to come home twice.
    is_called: Cell<bool>,
    asked_at: Cell<Option<Instant>>,
    drained_at: Cell<Option<Instant>>,
    /// The last message, when it came to somebody else than the serving task.
    last: RefCell<Option<ToHome>>,
    work: Cell<u64>,
    /// The core of the connection.
    core: CoreId,
    can_come_home: bool,
}

/// What a stand-in is made of.
pub(crate) struct Post {
    pub controller: Rc<Controller>,
    pub qid: u16,
    pub entries: u16,
    pub about: Arc<About>,
    pub to_away: Sender<FromHome>,
    pub from_away: Receiver<ToHome>,
    pub core: CoreId,
    /// False for a connection that stays where it is.
    pub can_come_home: bool,
}

impl StandIn {
    /// Takes the place of a queue and serves it until its connection ends or comes home.
    pub fn begin(target: &Target, post: Post) -> Rc<Self> {
        let stand_in = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            id: target.next_connection_id(),
            target: target.clone(),
            controller: post.controller,
            qid: post.qid,
            about: post.about,
            to_away: post.to_away,
            from_away: RefCell::new(post.from_away),
            signals: (0..post.entries).map(|_| Rc::default()).collect(),
            aborts: RefCell::default(),
            executing: Cell::new(0),
            orphans: Cell::new(false),
            idle: Notify::new(),
            is_closing: Cell::new(false),
            is_called: Cell::new(false),
            asked_at: Cell::new(None),
            drained_at: Cell::new(None),
            last: RefCell::default(),
            work: Cell::new(0),
            core: post.core,
            can_come_home: post.can_come_home,
        });
        let port: Rc<dyn QueuePort> = Rc::clone(&stand_in) as Rc<dyn QueuePort>;
        let port = Rc::downgrade(&port);
        stand_in.controller.replace_queue(stand_in.qid, port);
        target.enter_stand_in(Rc::clone(&stand_in));
        drop(reactor::spawn(Rc::clone(&stand_in).serve()));
        stand_in
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// The core of the connection.
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// Work done for it, see [`work_of`].
    pub fn work(&self) -> u64 {
        self.work.get()
    }

    /// Whether the connection may be asked to come home: it can, it ends not, and was not asked yet.
    pub fn can_be_called(&self) -> bool {
        self.can_come_home && !self.is_closing.get() && !self.is_called.get()
    }

    /// Asks the connection to come home, unless it was asked already.
    pub fn call_home(&self) -> bool {
        if !self.can_be_called() {
            return false;
        }
        self.is_called.set(true);
        self.tell(FromHome::ComeHome);
        true
    }

    async fn serve(self: Rc<Self>) {
        while let Some(message) = self.next().await {
            match message {
                ToHome::Finished => break,
                ToHome::Returned(connection) => return self.welcome(connection),
                message => self.handle(message),
            }
        }
        // Without a last word the other core gave up the socket on the way: nothing comes any more.
        self.leave_controller();
        while self.executing.get() != 0 {
            self.idle.notified().await;
        }
        self.target.leave_stand_in(self.id);
    }

    /// The next message. The mailbox is borrowed only while it is looked at, for `catch_up`.
    async fn next(&self) -> Option<ToHome> {
        poll_fn(|cx| {
            if let Some(last) = self.last.take() {
                return Poll::Ready(Some(last));
            }
            let mut mailbox = self.from_away.borrow_mut();
            let next = pin!(mailbox.recv());
            next.poll(cx)
        })
        .await
    }

    fn handle(&self, message: ToHome) {
        match message {
            ToHome::Command {
                index,
                command,
                data,
            } => self.start(index, command, data),
            ToHome::Pair {
                first,
                second,
                write,
                compare,
                data,
            } => self.start_pair((first, second), write, compare, data),
            ToHome::Admin { index, sqe, data } => self.start_admin(index, sqe, data),
            ToHome::Failed { sqe, status, lost } => {
                self.controller.skip_errors(lost);
                self.controller.record_error(self.qid, &sqe, status);
            }
            ToHome::Aborted { ticket, aborted } => self.answer_abort(ticket, aborted),
            ToHome::AbortAtHome { ticket, index } => {
                let signal = self.signals.get(usize::from(index));
                let aborted = signal.is_some_and(|signal| signal.raise());
                self.answer_abort(ticket, aborted);
            }
            ToHome::Drained(is_drained) => {
                let asked_at = self.asked_at.take();
                if is_drained {
                    self.drained_at.set(asked_at);
                }
            }
            ToHome::Stayed => {
                self.is_called.set(false);
                self.target.balance().stayed(self.id);
            }
            // For the serving task, which this message has woken.
            last @ (ToHome::Returned(_) | ToHome::Finished) => _ = self.last.replace(Some(last)),
        }
    }

    fn start(&self, index: u16, command: IoCommand, data: Option<Buf>) {
        let volume = match self.volume() {
            Ok(volume) => volume,
            Err(status) => {
                let outcome = Outcome::failure(status);
                return self.tell(FromHome::Done { index, outcome });
            }
        };
        let Some((running, signal)) = self.begin_command(index) else {
            return;
        };
        self.work.set(self.work.get() + work_of(bytes_of(&data)));
        drop(reactor::spawn(async move {
            let controller = &running.0.controller;
            let mut work = pin!(io::execute(command, data, &volume, controller));
            let outcome = poll_fn(|cx| signal.poll(work.as_mut(), cx)).await;
            let aborted = || Status::ABORTED_BY_REQUEST.into();
            let outcome = outcome.unwrap_or_else(aborted);
            let read = bytes_of(&outcome.data) as u64 / WORK_BYTES;
            running.0.work.set(running.0.work.get() + read);
            running.0.tell(FromHome::Done { index, outcome });
        }));
    }

    fn begin_command(&self, index: u16) -> Option<(Running, Rc<AbortSignal>)> {
        let signal = self.signals.get(usize::from(index))?.clone();
        signal.arm();
        Some((Running::new(self.this.upgrade()?), signal))
    }

    fn start_pair(&self, (first, second): (u16, u16), write: IoCommand, compare: Buf, data: Buf) {
        let done = move |status| FromHome::PairDone {
            first,
            second,
            status,
        };
        let volume = match self.volume() {
            Ok(volume) => volume,
            Err(status) => {
                return self.tell(done(PairStatus {
                    first: status,
                    second: Status::ABORTED_FAILED_FUSED.with_dnr(),
                }));
            }
        };
        let Some(this) = self.this.upgrade() else {
            return;
        };
        self.work
            .set(self.work.get() + work_of(compare.len() + data.len()));
        let running = Running::new(this);
        drop(reactor::spawn(async move {
            let controller = &running.0.controller;
            let status = fused::execute(write, (compare, data), &volume, controller).await;
            running.0.tell(done(status));
        }));
    }

    fn start_admin(&self, index: u16, sqe: Sqe, data: Option<Buf>) {
        if sqe.is_fabrics() {
            let outcome = fabrics::property(&self.controller, &sqe);
            return self.tell(FromHome::Done { index, outcome });
        }
        if !self.controller.registers.get().ready() {
            let status = Status::COMMAND_SEQUENCE_ERROR.with_dnr();
            return self.end_admin(index, &sqe, Outcome::failure(status));
        }
        let Some(this) = self.this.upgrade() else {
            return;
        };
        let running = Running::new(this);
        drop(reactor::spawn(async move {
            let stand_in = &running.0;
            match admin::execute(&stand_in.controller, &sqe, data).await {
                AdminResult::Done(outcome) => stand_in.end_admin(index, &sqe, outcome),
                AdminResult::Waits => {}
            }
        }));
    }

    /// The connection does not count event requests among what it waits for.
    fn end_admin(&self, index: u16, sqe: &Sqe, outcome: Outcome) {
        match is_event_request(sqe) {
            true => self.post(sqe.cid.get(), outcome),
            false => self.tell(FromHome::Done { index, outcome }),
        }
    }

    /// The volume, if commands may go there now.
    fn volume(&self) -> Result<Volume, Status> {
        if !self.controller.registers.get().ready() {
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        let subsystem = self.controller.subsystem();
        let volume = subsystem.and_then(|subsystem| subsystem.volume());
        volume.ok_or(Status::INVALID_NAMESPACE.with_dnr())
    }

    fn answer_abort(&self, ticket: u8, aborted: bool) {
        let waiting = self.aborts.borrow_mut()[usize::from(ticket) % ABORTS].take();
        if let Some(waiting) = waiting {
            // The admin queue may be gone.
            let _ = waiting.send(aborted);
        }
    }

    /// Says something to the connection. A connection that is gone needs nothing.
    fn tell(&self, message: FromHome) {
        if let Err(Full::NoRoom(_)) = self.to_away.try_send(message) {
            panic!(
                "queue {} of controller {} has more answers under way than commands",
                self.qid, self.controller.cntlid
            );
        }
    }

    /// The connection is here again, and everything it had been sent and not read with it.
    fn welcome(&self, returning: Box<dyn Returning>) {
        self.target.leave_stand_in(self.id);
        self.controller.heard(self.heard());
        returning.come_home(&self.target, &self.controller, &|ticket, aborted| {
            self.answer_abort(ticket, aborted)
        });
    }

    fn heard(&self) -> Instant {
        Instant::from_nanos(self.about.heard_ns.load(Ordering::Relaxed))
    }

    fn leave_controller(&self) {
        self.orphans.set(true);
        self.controller.heard(self.heard());
        if let Some(subsystem) = self.controller.subsystem() {
            subsystem.orphan(self.executing.get());
        }
        for ticket in 0..ABORTS as u8 {
            self.answer_abort(ticket, false);
        }
        self.controller.remove_queue(self.qid);
    }
}

impl QueuePort for StandIn {
    fn abort(&self, cid: u16) -> Aborted {
        if self.qid == 0 && self.controller.events.borrow_mut().cancel(cid) {
            self.tell(FromHome::Cancelled { cid });
            return Aborted::Known(true);
        }
        let mut aborts = self.aborts.borrow_mut();
        let free = aborts.iter().position(Option::is_none);
        let Some(free) = free.filter(|_| !self.orphans.get()) else {
            return Aborted::Known(false);
        };
        let (sender, answer) = oneshot::channel();
        aborts[free] = Some(sender);
        let ticket = free as u8;
        drop(aborts);
        self.tell(FromHome::Abort { ticket, cid });
        Aborted::Asked(answer)
    }

    fn post(&self, cid: u16, outcome: Outcome) {
        self.tell(FromHome::Posted { cid, outcome });
    }

    fn is_drained(&self, since: Instant) -> bool {
        if self.drained_at.get().is_some_and(|at| at >= since) {
            return true;
        }
        if self.asked_at.get().is_none() {
            self.asked_at.set(Some(reactor::now()));
            self.tell(FromHome::AreYouDrained);
        }
        false
    }

    fn close(&self, reason: CloseReason) {
        if !self.is_closing.replace(true) {
            self.tell(FromHome::Close(reason));
        }
    }

    fn last_command(&self) -> Option<Instant> {
        Some(self.heard())
    }

    fn catch_up(&self) {
        loop {
            let message = self.from_away.borrow_mut().try_recv();
            let Some(message) = message else { return };
            self.handle(message);
        }
    }
}

/// Bytes of payload that count as much as a command does.
pub(crate) const WORK_BYTES: u64 = 16 << 10;

/// What a command costs whoever reads and answers it, about: itself and its payload.
pub(crate) fn work_of(len_bytes: usize) -> u64 {
    1 + len_bytes as u64 / WORK_BYTES
}

fn bytes_of(data: &Option<Buf>) -> usize {
    data.as_ref().map_or(0, |data| data.len())
}

/// A command at work, counted as long as this lives.
struct Running(Rc<StandIn>);

impl Running {
    fn new(stand_in: Rc<StandIn>) -> Self {
        stand_in.executing.set(stand_in.executing.get() + 1);
        if let Some(subsystem) = stand_in.controller.subsystem() {
            subsystem.begin();
        }
        Self(stand_in)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let stand_in = &self.0;
        stand_in.executing.set(stand_in.executing.get() - 1);
        if let Some(subsystem) = stand_in.controller.subsystem() {
            subsystem.end(stand_in.orphans.get());
        }
        if stand_in.executing.get() == 0 {
            stand_in.idle.notify_all();
        }
    }
}
