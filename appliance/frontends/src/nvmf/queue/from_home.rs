//! What the home core of an away connection says to it.

use std::rc::{Rc, Weak};

use reactor::mailbox;
use wire::nvme::Status;

use super::{Link, Queue};
use crate::nvmf::away::{FromHome, ToHome};
use crate::nvmf::moves::Destination;
use crate::nvmf::outcome::Outcome;
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;

/// Hears what the home core says, until [`Queue::hush`]. Gives the mailbox back.
pub(crate) async fn listen<L: Link>(
    queue: Rc<Queue<L>>,
    mut mailbox: mailbox::Receiver<FromHome>,
) -> mailbox::Receiver<FromHome> {
    while !queue.is_hushed.get() {
        match net::first(mailbox.recv(), queue.hushed.notified()).await {
            Some(Some(message)) => queue.hear(message),
            Some(None) => {
                queue.lose_home();
                break;
            }
            None => {}
        }
    }
    mailbox
}

/// What home says, and what it wants to know.
impl<L: Link> Queue<L> {
    /// From here on what home says waits in its mailbox, or is listened to again.
    pub fn hush(&self, hushed: bool) {
        self.is_hushed.set(hushed);
        self.hushed.notify_all();
    }

    fn hear(self: &Rc<Self>, message: FromHome) {
        match message {
            FromHome::Done { index, outcome } => {
                self.answer(index, outcome);
                self.came_back();
            }
            FromHome::PairDone {
                first,
                second,
                status,
            } => {
                self.answer_pair(first, second, status);
                self.came_back();
            }
            FromHome::Posted { cid, outcome } => self.posted(cid, outcome),
            FromHome::Cancelled { cid } => self.cancelled(cid),
            FromHome::Abort { ticket, cid } => self.abort_for_home(ticket, cid),
            FromHome::AreYouDrained => drop(reactor::spawn(tell_drained(Rc::downgrade(self)))),
            FromHome::ComeHome => {
                if !L::ask_move(self, Destination::Home) {
                    self.say_home(ToHome::Stayed);
                }
            }
            FromHome::Close(reason) => self.link.end(reason),
        }
    }

    fn say_home(&self, message: ToHome) {
        if let Some(away) = self.owner.away() {
            away.send(message);
        }
    }

    fn abort_for_home(&self, ticket: u8, cid: u16) {
        let at_home = {
            let table = self.table.borrow();
            let found = table.find(cid);
            found.filter(|index| table.slot(*index).phase == Phase::Executing)
        };
        self.say_home(match at_home {
            Some(index) => ToHome::AbortAtHome { ticket, index },
            None => ToHome::Aborted {
                ticket,
                aborted: self.abort_command(cid),
            },
        });
    }

    /// An event request of this queue ended where its controller is.
    fn posted(self: &Rc<Self>, cid: u16, outcome: Outcome) {
        let found = self.table.borrow().find(cid);
        if let Some(index) = found {
            self.answer(index, outcome);
        }
    }

    /// An event request of this queue was aborted where its controller is.
    fn cancelled(&self, cid: u16) {
        let found = self.table.borrow().find(cid);
        if let Some(index) = found {
            self.fail(index, Status::ABORTED_BY_REQUEST);
        }
    }

    /// The home core has ended: its answers will not come.
    fn lose_home(&self) {
        if let Some(away) = self.owner.away() {
            away.lose();
        }
        self.link.end(CloseReason::Shutdown);
        self.executing.set(0);
        self.idle.notify_all();
    }
}

/// Says whether the connection has read what its host sent until now.
async fn tell_drained<L: Link>(queue: Weak<Queue<L>>) {
    // What the kernel knows of closed sockets reaches their readers within these turns.
    reactor::next_turn().await;
    reactor::next_turn().await;
    if let Some(queue) = queue.upgrade() {
        queue.say_home(ToHome::Drained(queue.has_read_all()));
    }
}
