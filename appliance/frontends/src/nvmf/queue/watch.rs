//! Watches a connection for a peer that takes or gives nothing for too long.

use std::rc::Weak;
use std::time::Duration;

use super::{Link, Queue};
use crate::complaints::Complaint;
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;

/// Looks at the connection a few times per stall timeout, until it is gone.
pub(crate) async fn watch<L: Link>(queue: Weak<Queue<L>>) {
    while let Some(wait) = look(&queue) {
        reactor::time::sleep(wait).await;
    }
}

/// None when there is nothing to watch any more.
fn look<L: Link>(queue: &Weak<Queue<L>>) -> Option<Duration> {
    let queue = queue.upgrade()?;
    if queue.link.ending().is_some() {
        return None;
    }
    let timeout = queue.target.options().stall_timeout;
    if stalled_since(&queue).is_some_and(|since| since.elapsed() >= timeout) {
        queue.target.complaints().about(Complaint::Stalled, || {
            queue.log("peer neither takes nor gives data: connection is closed");
        });
        queue.link.end(CloseReason::Stalled);
        return None;
    }
    Some(timeout / 4)
}

/// Since when the peer owes something: taking output, or sending data it was asked for.
fn stalled_since<L: Link>(queue: &Queue<L>) -> Option<reactor::Instant> {
    let table = queue.table.borrow();
    let owed = table
        .used()
        .filter(|(_, slot)| slot.phase == Phase::Receiving);
    let oldest_data = owed.map(|(_, slot)| slot.progress).min();
    [queue.link.stalled_since(), oldest_data]
        .into_iter()
        .flatten()
        .min()
}
