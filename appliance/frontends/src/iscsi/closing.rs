//! The end of a connection: what still happens, in which order, and what is given back.

use std::rc::Rc;

use super::connection::Connection;
use super::reason::CloseReason;
use super::task::{Aborted, Phase};
use crate::complaints::Complaint;

impl Connection {
    pub(super) async fn finish(self: &Rc<Self>) {
        let reason = self.socket.ending().unwrap_or(CloseReason::PeerClosed);
        let session = Rc::clone(&self.session);
        let linger = session.options().linger;
        if reason == CloseReason::Shutdown {
            // What is in the volume finishes, and its answers leave.
            session.end_tasks(Aborted::Silently, |task| {
                task.is_of(self) && task.phase != Phase::Executing
            });
            let done = session.when(|| session.executing_of(self) == 0);
            let _ = reactor::time::timeout(linger, done).await;
        }
        session.end_tasks(Aborted::Silently, |task| task.is_of(self));
        session.when(|| session.executing_of(self) == 0).await;
        // From here on nothing of its commands can take effect.
        session.connection_ended(self, reason);
        if let Some(rest) = reason.last_words() {
            let _ = reactor::time::timeout(linger, self.outbox.queue.flushed()).await;
            let _ = reactor::time::timeout(rest, self.socket.discard()).await;
        }
        self.socket.shutdown();
        self.set_finished();
        self.outbox.queue.clear();
        self.outbox.queue.wake();
        let target = &session.target;
        target.totals().closed(reason, self.counters.snapshot());
        target.leave(self.id);
        let line = || {
            tracing::info!(
                peer = %self.peer, initiator = %session.identity.initiator, tsih = session.tsih,
                cid = self.cid, ?reason, "connection closed"
            );
        };
        match reason {
            CloseReason::LoggedOut | CloseReason::Shutdown => line(),
            _ => target.complaints().about(Complaint::Closed, line),
        }
    }
}

/// Sends what waits, once a turn, until the connection is over.
pub(super) async fn send_loop(connection: Rc<Connection>) {
    let queue = &connection.outbox.queue;
    loop {
        while !queue.is_empty() {
            match queue.send_once(&connection.socket) {
                Ok(true) => connection.session.pump(),
                Ok(false) => {
                    if connection.socket.writable().await.is_err() {
                        return connection.close(CloseReason::SocketError);
                    }
                }
                Err(closed) => return connection.close(closed.into()),
            }
        }
        if connection.is_finished() {
            return;
        }
        queue.filled().await;
        // What the others of this turn have to say leaves in the same call.
        reactor::turn_end().await;
    }
}
