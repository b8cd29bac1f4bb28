//! The end of a connection: what still happens, in which order, and what is given back.

use std::rc::Rc;

use super::connection::Connection;
use crate::nvmf::port::CloseReason;
use crate::nvmf::target::Served;

/// How a connection ends.
impl Connection {
    pub(super) async fn finish(self: &Rc<Self>) {
        let (socket, queue) = (&self.link.socket, &self.link.outbox.queue);
        let reason = socket.ending().unwrap_or(CloseReason::PeerClosed);
        self.drop_unstarted();
        let linger = self.target.options().linger;
        if reason.is_orderly() {
            // What is in the volume finishes, and its answers leave.
            let _ = reactor::time::timeout(linger, self.settled()).await;
        }
        if reason == CloseReason::ProtocolError || reason.is_orderly() {
            let _ = reactor::time::timeout(linger, queue.flushed()).await;
        }
        if reason == CloseReason::ProtocolError {
            // Closing with unread input would reset the connection and lose the request.
            let _ = reactor::time::timeout(linger, socket.discard()).await;
        }
        socket.shutdown();
        queue.clear();
        queue.wake();
        self.leave_controller();
        self.settled().await;
        self.tell_end(reason);
    }

    pub(super) async fn end_unentered(self: &Rc<Self>) {
        let (socket, queue) = (&self.link.socket, &self.link.outbox.queue);
        while !queue.is_empty() && queue.send_once(socket) == Ok(true) {}
        socket.shutdown();
        self.target.leave(self.id());
    }
}

/// Sends what waits, once a turn, until the connection is closed.
pub(super) async fn send_loop(connection: Rc<Connection>) {
    let link = &connection.link;
    let queue = &link.outbox.queue;
    loop {
        while !queue.is_empty() {
            match queue.send_once(&link.socket) {
                Ok(true) => connection.pump(),
                Ok(false) => {
                    if link.socket.writable().await.is_err() {
                        return connection.close(CloseReason::SocketError);
                    }
                }
                Err(closed) => return connection.close(closed.into()),
            }
        }
        if connection.has_left() || link.wish.is_going() {
            return;
        }
        queue.filled().await;
        // What the others of this turn have to say leaves in the same call.
        reactor::turn_end().await;
    }
}
