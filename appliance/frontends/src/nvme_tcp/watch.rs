//! Watches a connection for a peer that takes or gives nothing for too long.

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::connection::Connection;
use crate::complaints::Complaint;
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;

/// Looks at the connection a few times per stall timeout, until it is gone.
pub(super) async fn watch(connection: Weak<Connection>) {
    while let Some(wait) = look(&connection) {
        reactor::time::sleep(wait).await;
    }
}

/// None when there is nothing to watch any more.
fn look(connection: &Weak<Connection>) -> Option<Duration> {
    let connection = connection.upgrade()?;
    if connection.socket.ending().is_some() {
        return None;
    }
    let timeout = connection.target.options().stall_timeout;
    if stalled_since(&connection).is_some_and(|since| since.elapsed() >= timeout) {
        connection
            .target
            .complaints()
            .about(Complaint::Stalled, || {
                connection.log("peer neither takes nor gives data: connection is closed");
            });
        connection.close(CloseReason::Stalled);
        return None;
    }
    Some(timeout / 4)
}

/// Since when the peer owes something: taking output, or sending data it was asked for.
fn stalled_since(connection: &Rc<Connection>) -> Option<reactor::Instant> {
    let table = connection.table.borrow();
    let owed = table
        .used()
        .filter(|(_, slot)| slot.phase == Phase::Receiving);
    let oldest_data = owed.map(|(_, slot)| slot.progress).min();
    [connection.outbox.queue.stalled_since(), oldest_data]
        .into_iter()
        .flatten()
        .min()
}
