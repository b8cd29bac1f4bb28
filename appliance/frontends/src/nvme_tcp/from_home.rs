//! What the home core of an away connection says to it.

use std::rc::{Rc, Weak};

use reactor::mailbox;

use super::connection::Connection;
use super::wish::Destination;
use crate::nvmf::away::{FromHome, ToHome};
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;

/// Hears what the home core says, until the connection is about to go there. Gives the mailbox back.
pub(super) async fn listen(
    connection: Rc<Connection>,
    mut mailbox: mailbox::Receiver<FromHome>,
) -> mailbox::Receiver<FromHome> {
    while !connection.wish.is_hushed() {
        match net::first(mailbox.recv(), connection.wish.changed.notified()).await {
            Some(Some(message)) => hear(&connection, message),
            Some(None) => {
                connection.lose_home();
                break;
            }
            None => {}
        }
    }
    mailbox
}

fn hear(connection: &Rc<Connection>, message: FromHome) {
    match message {
        FromHome::Done { index, outcome } => {
            connection.answer(index, outcome);
            connection.came_back();
        }
        FromHome::PairDone {
            first,
            second,
            status,
        } => {
            connection.answer_pair(first, second, status);
            connection.came_back();
        }
        FromHome::Abort { ticket, cid } => connection.abort_for_home(ticket, cid),
        FromHome::AreYouDrained => drop(reactor::spawn(tell_drained(Rc::downgrade(connection)))),
        FromHome::ComeHome => {
            if !connection.ask_move(Destination::Home) {
                connection.say_home(ToHome::Stayed);
            }
        }
        FromHome::Close(reason) => connection.close(reason),
    }
}

/// What home wants to know.
impl Connection {
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

    /// The home core has ended: its answers will not come.
    fn lose_home(&self) {
        if let Some(away) = self.owner.away() {
            away.lose();
        }
        self.close(CloseReason::Shutdown);
        self.executing.set(0);
        self.idle.notify_all();
    }
}

/// Says whether the connection has read what its host sent until now.
async fn tell_drained(connection: Weak<Connection>) {
    // What the kernel knows of closed sockets reaches their readers within these turns.
    reactor::next_turn().await;
    reactor::next_turn().await;
    if let Some(connection) = connection.upgrade() {
        connection.say_home(ToHome::Drained(connection.has_read_all()));
    }
}
