//! A queue pair: posting, completions, and its end.
//!
//! The end, whoever wants it: the connection is disconnected, which puts the queue pair in its error
//! state; the card gives back all that was posted; then the inbox says that the pair is lost. When
//! the user has dropped it too, the last receive is waited for, and the queue pair is destroyed.
#![expect(
    unsafe_code,
    reason = "hands work to the card, whose handles it keeps alive"
)]

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::sync::Notify;
use reactor::time::timeout;

use super::manager::Managed;
use super::queues::Queues;
use super::send_queue::{Refused, SendQueue};
use crate::card::PairBackend;
use crate::error::PostError;
use crate::inbox::Inbox;
use crate::{Completion, Lost, PairOptions, Work, WorkError};

/// How long the card may take to say that an ending pair has taken its last receive. A queue pair
/// that is destroyed earlier may take a receive with it, on cards that clean up what was not polled.
/// Soft RoCE before Linux 6.6 never says it.
const LAST_RECEIVE_GRACE: Duration = Duration::from_millis(100);
/// Messages that may wait in an inbox before it grows.
const MESSAGES: usize = 128;

/// One queue pair, until it is destroyed.
pub struct Pair {
    // In the order in which they have to go.
    managed: Managed,
    sends: RefCell<SendQueue>,
    queues: Rc<Queues>,
    number: u32,
    entries: u32,
    flush_timeout: Duration,
    inbox: Inbox,
    ending: Cell<Option<Lost>>,
    is_flushed: Cell<bool>,
    flushed: Notify,
    is_released: Cell<bool>,
    released: Notify,
    has_taken_last_receive: Cell<bool>,
    last_receive: Notify,
    me: Weak<Pair>,
}

impl Pair {
    /// Makes the queue pair of a connection that is being set up. Errors: what the system says;
    /// `QuotaExceeded` when the completion queue has no room for another.
    pub fn new(
        managed: Managed,
        queues: &Rc<Queues>,
        options: PairOptions,
        flush_timeout: Duration,
    ) -> io::Result<PairHandle> {
        let entries = options.send_entries.max(1);
        if entries > queues.device().limits().send_entries {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        if !queues.reserve(entries) {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
        }
        let parts = queues.parts(entries);
        // SAFETY: the queues are of the device of this connection (the caller looked them up by it),
        // and the pair holds them.
        let made = unsafe { managed.id().make_pair(&parts) };
        let made = made.and_then(|(number, inline_bytes)| {
            Ok((
                number,
                SendQueue::new(entries, inline_bytes, |buf| queues.keys().find(buf))?,
            ))
        });
        let (number, sends) = made.inspect_err(|_| queues.give_back(entries))?;
        let pair = Rc::new_cyclic(|me| Pair {
            managed,
            sends: RefCell::new(sends),
            queues: queues.clone(),
            number,
            entries,
            flush_timeout,
            inbox: Inbox::new(entries as usize + MESSAGES, queues.receives().clone()),
            ending: Cell::new(None),
            is_flushed: Cell::new(false),
            flushed: Notify::new(),
            is_released: Cell::new(false),
            released: Notify::new(),
            has_taken_last_receive: Cell::new(false),
            last_receive: Notify::new(),
            me: me.clone(),
        });
        queues.add(number, pair.me.clone());
        pair.managed.entry().set_pair(pair.me.clone());
        Ok(PairHandle(pair))
    }

    /// The connection.
    pub fn managed(&self) -> &Managed {
        &self.managed
    }

    /// Work of the send queue has come back.
    pub fn completed(&self, slot: u64, status: u32) {
        let give = |completion| self.inbox.push(completion);
        let is_known = self.sends.borrow_mut().complete(slot, status, give);
        if !is_known {
            tracing::error!(
                pair = self.number,
                slot,
                "work has completed that was not posted"
            );
        }
        if let Some(error) = super::status::work_error(status) {
            self.end(Lost::Failed(error));
        }
        self.settle();
    }

    /// Something for the user.
    pub fn deliver(&self, completion: Completion) {
        self.inbox.push(completion);
    }

    /// The card has said that the pair, in its error state, has taken its last receive.
    pub fn has_taken_last_receive(&self) {
        self.has_taken_last_receive.set(true);
        self.last_receive.notify_all();
        // Some cards say this as the only word about a failure.
        self.end(Lost::Failed(WorkError::Flushed));
    }

    /// The peer talks before the connection manager has said that the connection stands.
    pub fn talks(&self) {
        self.managed.id().notify_talks();
    }

    /// Ends it; the first reason stays.
    pub fn end(&self, why: Lost) {
        if self.ending.get().is_some() {
            return;
        }
        self.ending.set(Some(why));
        self.managed.id().disconnect();
        self.settle();
        // Outside of an executor nobody waits for anything: the drop destroys it.
        if let Some(me) = self.me.upgrade().filter(|_| reactor::is_running()) {
            reactor::spawn(finish(me));
        }
    }

    /// Says that the pair is lost, once it is to end and the card has nothing of it.
    fn settle(&self) {
        let Some(why) = self.ending.get() else { return };
        let mut sends = self.sends.borrow_mut();
        if !sends.is_with_card() {
            sends.fail_waiting(|completion| self.inbox.push(completion));
            self.inbox.lose(why);
            self.is_flushed.set(true);
            self.flushed.notify_all();
        }
    }

    /// The card does not give back what was posted.
    fn abandon(&self) {
        let destroyed = self.managed.id().destroy_pair();
        self.queues.drain();
        let give = |completion| self.inbox.push(completion);
        let leaked = self.sends.borrow_mut().abandon(give);
        tracing::error!(
            pair = self.number,
            leaked,
            ?destroyed,
            "the card has not given back the work of a queue pair: its buffers are leaked"
        );
        self.settle();
    }
}

/// Waits for `bell` until `is_over`.
async fn until(bell: &Notify, is_over: impl Fn() -> bool) {
    while !is_over() {
        bell.notified().await;
    }
}

/// Sees an ending pair through.
async fn finish(pair: Rc<Pair>) {
    let flushed = until(&pair.flushed, || pair.is_flushed.get());
    if timeout(pair.flush_timeout, flushed).await.is_err() {
        pair.abandon();
    }
    until(&pair.released, || pair.is_released.get()).await;
    let last = until(&pair.last_receive, || pair.has_taken_last_receive.get());
    if timeout(LAST_RECEIVE_GRACE, last).await.is_err() {
        tracing::debug!(
            pair = pair.number,
            "the card does not tell of the last receive"
        );
    }
    // What it took is here now: nothing of it is lost with the queue pair.
    pair.queues.drain();
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(error) = self.managed.id().destroy_pair() {
            let leaked = self.sends.get_mut().abandon(drop);
            let pair = self.number;
            tracing::error!(pair, %error, leaked, "a queue pair stays: its buffers are leaked");
            // It may still complete something, into queues that have to be there.
            std::mem::forget(self.queues.clone());
        }
        self.queues.remove(self.number);
        self.queues.give_back(self.entries);
    }
}

/// The user's hold on a pair.
pub struct PairHandle(Rc<Pair>);

impl PairHandle {
    /// The pair.
    pub fn pair(&self) -> &Rc<Pair> {
        &self.0
    }
}

impl Drop for PairHandle {
    fn drop(&mut self) {
        self.0.is_released.set(true);
        self.0.released.notify_all();
        self.0.end(Lost::Here);
    }
}

impl PairBackend for PairHandle {
    fn post(&self, tag: u64, work: Work) -> Result<(), PostError> {
        let pair = &self.0;
        if pair.ending.get().is_some() {
            return Err(PostError::Lost(work));
        }
        let keys = |buf: &_| pair.queues.keys().find(buf);
        let pushed = pair.sends.borrow_mut().push(tag, work, keys);
        match pushed {
            Ok(()) => Ok(()),
            Err(Refused::Full(work)) => Err(PostError::Full(work)),
            Err(Refused::Wrong(work)) => {
                tracing::error!(pair = pair.number, ?work, "memory that may not be used so");
                let error = WorkError::Local;
                pair.inbox.push(Completion::Failed { tag, error });
                pair.end(Lost::Failed(error));
                Ok(())
            }
        }
    }

    fn kick(&self) {
        let pair = &self.0;
        if pair.ending.get().is_some() {
            return;
        }
        // SAFETY: the queue pair is destroyed by `abandon`, after the end began, and by the drop.
        // The regions belong to the device, which the queues hold.
        let kicked = unsafe { pair.sends.borrow_mut().kick(pair.managed.id().pair()) };
        if let Err(error) = kicked {
            tracing::error!(pair = pair.number, %error, "the card does not take work");
            pair.end(Lost::Failed(WorkError::Local));
        }
    }

    fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    fn room(&self) -> u32 {
        self.0.sends.borrow().room()
    }

    fn disconnect(&self) {
        self.0.end(Lost::Here);
    }

    fn number(&self) -> u32 {
        self.0.number
    }
}
