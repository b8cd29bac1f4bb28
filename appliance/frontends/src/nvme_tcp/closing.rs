//! The end of a connection: what still happens, in which order, and what is given back.

use std::rc::Rc;

use super::connection::Connection;
use crate::complaints::Complaint;
use crate::nvmf::away::ToHome;
use crate::nvmf::owner::Owner;
use crate::nvmf::port::CloseReason;
use crate::nvmf::table::Phase;

/// How a connection ends.
impl Connection {
    /// Asks for the end, see [`QueuePort::close`].
    pub(crate) fn close(&self, reason: CloseReason) {
        self.socket.end(reason);
    }

    pub(super) async fn finish(self: &Rc<Self>) {
        let reason = self.socket.ending().unwrap_or(CloseReason::PeerClosed);
        self.drop_unstarted();
        let linger = self.target.options().linger;
        if is_orderly(reason) {
            // What is in the volume finishes, and its answers leave.
            let _ = reactor::time::timeout(linger, self.settled()).await;
        }
        if reason == CloseReason::ProtocolError || is_orderly(reason) {
            let _ = reactor::time::timeout(linger, self.outbox.queue.flushed()).await;
        }
        if reason == CloseReason::ProtocolError {
            // Closing with unread input would reset the connection and lose the request.
            let _ = reactor::time::timeout(linger, self.socket.discard()).await;
        }
        self.socket.shutdown();
        self.outbox.queue.clear();
        self.outbox.queue.wake();
        self.leave_controller();
        self.settled().await;
        self.target.totals().closed(reason, self.counted_here());
        self.target.totals().waited(self.mailbox_waits());
        let line = || {
            tracing::info!(
                peer = %self.peer, cntlid = self.owner.cntlid(), qid = self.qid, ?reason,
                "connection closed"
            );
        };
        // Hosts that know how to leave are as few as their controllers; their lines are wanted.
        match reason {
            CloseReason::PeerClosed => line(),
            orderly if is_orderly(orderly) => line(),
            _ => self.target.complaints().about(Complaint::Closed, line),
        }
    }

    pub(super) async fn end_unentered(self: &Rc<Self>) {
        let queue = &self.outbox.queue;
        while !queue.is_empty() && queue.send_once(&self.socket) == Ok(true) {}
        self.socket.shutdown();
        self.target.leave(self.id());
    }

    /// From here on no command of this connection starts.
    fn drop_unstarted(&self) {
        self.queued.borrow_mut().clear();
        let mut table = self.table.borrow_mut();
        let unstarted: Vec<u16> = table
            .used()
            .filter(|(_, slot)| slot.phase != Phase::Executing)
            .map(|(index, _)| index)
            .collect();
        for index in unstarted {
            table.retire(index);
        }
    }

    fn leave_controller(&self) {
        self.orphans.set(true);
        match &self.owner {
            Owner::Here(controller) => {
                if let Some(subsystem) = controller.subsystem() {
                    subsystem.orphan(self.executing.get());
                }
                controller.remove_queue(self.qid);
            }
            // What is in the volume is counted there.
            Owner::Away(away) => away.send(ToHome::Finished),
        }
    }

    /// Returns when none of its commands is at work.
    async fn settled(&self) {
        while self.executing.get() != 0 {
            self.idle.notified().await;
        }
    }
}

/// Reasons that leave time for answers.
fn is_orderly(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Shutdown
            | CloseReason::Disconnected
            | CloseReason::Replaced
            | CloseReason::ControllerReset
            | CloseReason::AdminQueueGone
    )
}

/// Sends what waits, once a turn, until the connection is closed.
pub(super) async fn send_loop(connection: Rc<Connection>) {
    let queue = &connection.outbox.queue;
    loop {
        while !queue.is_empty() {
            match queue.send_once(&connection.socket) {
                Ok(true) => connection.pump(),
                Ok(false) => {
                    if connection.socket.writable().await.is_err() {
                        return connection.close(CloseReason::SocketError);
                    }
                }
                Err(closed) => return connection.close(closed.into()),
            }
        }
        if connection.orphans.get() || connection.wish.is_going() {
            return;
        }
        queue.filled().await;
        // What the others of this turn have to say leaves in the same call.
        reactor::turn_end().await;
    }
}
