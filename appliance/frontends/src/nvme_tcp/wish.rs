//! That a connection shall move: asking for it, falling quiet for it, and giving it up.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use reactor::Instant;

use super::connection::Connection;
use crate::nvmf::away::ToHome;
use crate::nvmf::moves::Destination;
use crate::nvmf::owner::Owner;
use crate::nvmf::target::Served;

/// How long a connection may take to fall quiet: its host waits for it.
const MOVE_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked whether messages found room.
const PAUSE: Duration = Duration::from_micros(100);

/// How far a move has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// There is none.
    #[default]
    None,
    /// It begins at the next PDU boundary.
    Asked,
    /// Reading has stopped; what is under way finishes.
    Held,
    /// What home says waits in its mailbox until the connection is there.
    Hushed,
    /// There is no way back.
    Going,
}

/// The move that was asked for.
#[derive(Default)]
pub(super) struct Wish {
    stage: Cell<Stage>,
    pub(super) to: RefCell<Option<Destination>>,
    since: Cell<Option<Instant>>,
    /// Who reads the socket, once it had to wait.
    receiver: RefCell<Option<Waker>>,
}

impl Wish {
    /// True when reading shall stop.
    #[inline]
    pub fn is_made(&self) -> bool {
        self.stage.get() != Stage::None
    }

    /// Polls what the receiver waits for; ready with None when a move shall begin instead.
    /// Cost: a few instructions, since each command comes by here.
    #[inline]
    pub fn poll_or_made<F: Future>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        if self.is_made() {
            return Poll::Ready(None);
        }
        let mut receiver = self.receiver.borrow_mut();
        if !receiver.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *receiver = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// True while nothing is read and nothing starts.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.stage.get() >= Stage::Held
    }

    /// True when the tasks of this core end.
    pub fn is_going(&self) -> bool {
        self.stage.get() == Stage::Going
    }

    pub fn set(&self, stage: Stage) {
        self.stage.set(stage);
        if let Some(receiver) = &*self.receiver.borrow() {
            receiver.wake_by_ref();
        }
    }
}

/// Asking for a move, and falling quiet for it.
impl Connection {
    /// Asks for a move at the next PDU boundary. False when it cannot move there, or is about to move
    /// or to end. Admin queues stay with their controller.
    pub(super) fn wish_for(&self, to: Destination) -> bool {
        let fits = match (&self.owner, &to) {
            (Owner::Here(_), Destination::Core(core)) => core.home != self.target.home(),
            (Owner::Away(_), Destination::Home) => true,
            _ => false,
        };
        let is_free = !self.link.wish.is_made() && self.link.socket.ending().is_none();
        if self.qid == 0 || !fits || !is_free {
            return false;
        }
        self.link.wish.to.replace(Some(to));
        self.link.wish.since.set(Some(reactor::now()));
        self.link.wish.set(Stage::Asked);
        true
    }

    /// Waits until nothing is under way. False when that takes too long, or the connection ends.
    pub(super) async fn fall_quiet(&self) -> bool {
        let since = self.link.wish.since.get();
        let passed = since.map_or(MOVE_LIMIT, |since| since.elapsed());
        let left = MOVE_LIMIT.saturating_sub(passed);
        let quiet = reactor::time::timeout(left, self.quiet());
        matches!(self.link.socket.or_ended(quiet).await, Ok(Ok(())))
    }

    async fn quiet(&self) {
        loop {
            if !self.is_settled() {
                self.settled().await;
            } else if !self.link.outbox.queue.is_empty() {
                self.link.outbox.queue.flushed().await;
            } else if self.owner.away().is_some_and(|away| !away.is_sent()) {
                reactor::time::sleep(PAUSE).await;
            } else {
                return;
            }
        }
    }

    /// The move is given up: goes on where it is.
    pub(super) fn stay(self: &Rc<Self>) {
        self.link.wish.to.take();
        self.link.wish.set(Stage::None);
        self.hush(false);
        if self.link.socket.ending().is_some() {
            return;
        }
        self.target.totals().stayed();
        match &self.owner {
            Owner::Here(_) => self.target.balance().stayed(self.id()),
            Owner::Away(away) => away.send(ToHome::Stayed),
        }
        self.pump();
    }
}
