//! Watches a connection for a peer that takes or gives nothing for too long, or has fallen silent.

use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::Instant;

use super::connection::Connection;
use super::reason::CloseReason;
use crate::complaints::Complaint;

/// Looks at the connection a few times per timeout, until it is gone.
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
    let options = connection.session.options();
    if stalled_since(&connection).is_some_and(|since| since.elapsed() >= options.stall_timeout) {
        complain(
            &connection,
            "peer neither takes nor gives data: connection is closed",
        );
        connection.close(CloseReason::Stalled);
        return None;
    }
    match connection.pinged.get() {
        Some(since) if since.elapsed() >= options.nop_timeout => {
            complain(
                &connection,
                "initiator gives no sign of life: connection is closed",
            );
            connection.close(CloseReason::Silent);
            return None;
        }
        None if connection.heard.get().elapsed() >= options.nop_interval => connection.ping(),
        _ => {}
    }
    let shortest = options
        .stall_timeout
        .min(options.nop_interval)
        .min(options.nop_timeout);
    Some(shortest / 4)
}

fn complain(connection: &Connection, what: &str) {
    connection
        .session
        .target
        .complaints()
        .about(Complaint::Stalled, || connection.log(what));
}

/// Since when the peer owes something: taking output, sending data it was asked for, or a
/// command that others wait for.
fn stalled_since(connection: &Rc<Connection>) -> Option<Instant> {
    let table = connection.session.table.borrow();
    let owed = table
        .used()
        .filter(|(_, task)| task.is_owed() && task.is_of(connection));
    let oldest = owed.map(|(_, task)| task.progress).min();
    [connection.outbox.queue.stalled_since(), oldest]
        .into_iter()
        .flatten()
        .min()
}
