//! Write path 1/9 over RDMA: a connection. Next: `nvmf::queue`, `nvmf::io` (2).
//!
//! One task takes completions from the first to the last: capsules become commands, fetched data
//! goes to its command, answers that have left make room. Another rings the doorbell, once a turn.
//! The end: nothing new starts, what is in the volume finishes and its answers leave (when there is
//! reason to be so kind), the pair is disconnected, everything posted comes back, and only then is
//! the connection gone.

use std::rc::Rc;

use rdma::{Completion, Done, HEADER_BYTES, Lost, Received, WorkError};
use reactor::buf::Buf;
use reactor::mailbox;
use wire::nvme::{Sqe, Status};

use super::link::{RdmaLink, fetched_slot};
use crate::complaints::Complaint;
use crate::nvmf::away::FromHome;
use crate::nvmf::plan::{DataPlace, Transfer};
use crate::nvmf::port::CloseReason;
use crate::nvmf::queue::{self, Link, Queue};
use crate::nvmf::table::Refusal;
use crate::nvmf::target::Served;

/// Payload of the device's alignment.
const ALIGNMENT: usize = 4096;

pub(super) type Connection = Queue<RdmaLink>;

/// Serves a connection until it has ended. `from_home` comes with one whose controller is on another
/// core.
pub(super) async fn run(
    connection: Rc<Connection>,
    from_home: Option<mailbox::Receiver<FromHome>>,
) {
    let completions = reactor::spawn(take_completions(Rc::clone(&connection)));
    let doorbell = {
        let connection = Rc::clone(&connection);
        reactor::spawn(async move { connection.link.ring().await })
    };
    let listener =
        from_home.map(|mailbox| reactor::spawn(queue::listen(Rc::clone(&connection), mailbox)));
    drop(reactor::spawn(queue::watch(Rc::downgrade(&connection))));
    let reason = connection.link.ended().await;
    finish(&connection, reason).await;
    completions.await;
    doorbell.await;
    connection.settled().await;
    if let Some(listener) = listener {
        connection.hush(true);
        drop(listener.await);
    }
    connection.tell_end(reason);
    connection.target.leave(connection.id());
}

/// Ends a connection whose Connect was refused last of all.
pub(super) async fn run_unentered(connection: Rc<Connection>) {
    let completions = reactor::spawn(take_completions(Rc::clone(&connection)));
    connection.link.pair.kick();
    connection.link.end(CloseReason::Disconnected);
    let linger = connection.target.options().linger;
    let _ = reactor::time::timeout(linger, connection.link.flushed()).await;
    connection.link.pair.disconnect();
    completions.await;
    connection.target.leave(connection.id());
}

async fn finish(connection: &Rc<Connection>, reason: CloseReason) {
    connection.drop_unstarted();
    if reason.is_orderly() {
        let linger = connection.target.options().linger;
        let _ = reactor::time::timeout(linger, connection.settled()).await;
        let _ = reactor::time::timeout(linger, connection.link.flushed()).await;
    }
    connection.link.pair.disconnect();
    connection.leave_controller();
}

/// Takes completions until the pair is lost and everything has come back.
async fn take_completions(connection: Rc<Connection>) {
    let link = &connection.link;
    loop {
        let completion = match link.pair.try_next() {
            Some(next) => next,
            None => {
                link.set_drained(true);
                link.pair.next().await
            }
        };
        link.set_drained(false);
        match completion {
            Ok(completion) => handle(&connection, completion),
            Err(lost) => {
                link.end(reason_of(lost));
                return link.set_over();
            }
        }
    }
}

fn handle(connection: &Rc<Connection>, completion: Completion) {
    match completion {
        Completion::Received(received) => {
            if connection.link.is_open() {
                capsule(connection, received);
            }
        }
        Completion::Done {
            tag,
            done: Done::Read(buf),
        } => fetched(connection, tag, Some(buf)),
        Completion::Done {
            done: Done::Sent, ..
        } => {
            if connection.link.answer_left() && connection.link.is_open() {
                connection.pump();
            }
        }
        Completion::Failed { tag, error } => {
            if error != WorkError::Flushed {
                connection
                    .target
                    .complaints()
                    .about(Complaint::Protocol, || {
                        tracing::warn!(
                            peer = %connection.peer, qid = connection.qid, %error,
                            "RDMA work failed: the connection ends"
                        );
                    });
            }
            fetched(connection, tag, None);
        }
    }
}

/// The data of a command was read from the host, or could not be.
fn fetched(connection: &Rc<Connection>, tag: u64, buf: Option<Buf>) {
    let Some((index, serial)) = fetched_slot(tag) else {
        return;
    };
    let is_good = buf.is_some();
    connection.fetched(index, serial, buf, is_good);
}

/// A command came.
fn capsule(connection: &Rc<Connection>, received: Received) {
    let len_bytes = received.len_bytes as usize;
    let Ok(sqe) = Sqe::decode(&received.header) else {
        return protocol_error(connection, "a capsule that is no command");
    };
    if len_bytes < HEADER_BYTES {
        return protocol_error(connection, "a capsule shorter than a command");
    }
    let sqe = *sqe;
    let index = match connection.admit(&sqe) {
        Ok(index) => index,
        Err(Refusal::DuplicateCid) => {
            let status = Status::COMMAND_ID_CONFLICT.with_dnr();
            return connection.answer_unentered(&sqe, status);
        }
        Err(Refusal::Full) => {
            return protocol_error(connection, "more commands than the queue has entries");
        }
    };
    // Admin queues have no in-capsule data: section 3.3.1.
    let capsule_bytes = match connection.qid {
        0 => 0,
        _ => (len_bytes - HEADER_BYTES) as u32,
    };
    match connection.check(index, &sqe, capsule_bytes) {
        Ok(Transfer::FromHost {
            len_bytes,
            place: DataPlace::Capsule { offset },
        }) => in_capsule(connection, index, received.data, (offset, len_bytes)),
        Ok(transfer) => connection.enqueue(index, transfer),
        Err(status) => connection.answer(index, status.into()),
    }
}

/// The data came with the command, in a buffer of its own.
fn in_capsule(
    connection: &Rc<Connection>,
    index: u16,
    data: Option<Buf>,
    (offset, len_bytes): (u32, u32),
) {
    let (offset, len) = (offset as usize, len_bytes as usize);
    if !connection.begin_receiving(index, len) {
        return;
    }
    let whole = data.filter(|data| offset + len <= data.len());
    let placed = whole.and_then(|data| place(data, offset, len));
    let is_good = placed.is_some();
    connection.received(index, placed, is_good);
}

/// The part of in-capsule data that is the command's, as the volume wants it: aligned. Hosts put it at
/// the start; anything else costs a copy.
fn place(mut data: Buf, offset: usize, len: usize) -> Option<Buf> {
    if offset == 0 {
        data.truncate(len);
        return Some(data);
    }
    if offset.is_multiple_of(ALIGNMENT) {
        return Some(data.slice(offset..offset + len));
    }
    let mut copy = reactor::buf::try_alloc(len)?;
    copy.as_mut().copy_from_slice(&data[offset..offset + len]);
    Some(copy)
}

fn protocol_error(connection: &Rc<Connection>, what: &'static str) {
    connection
        .target
        .complaints()
        .about(Complaint::Protocol, || {
            tracing::warn!(
                peer = %connection.peer, qid = connection.qid, what,
                "protocol error: the connection ends"
            );
        });
    let errors = &connection.counters.protocol_errors;
    errors.set(errors.get() + 1);
    connection.link.end(CloseReason::ProtocolError);
}

/// The reason behind the loss of a pair.
pub(super) fn reason_of(lost: Lost) -> CloseReason {
    match lost {
        Lost::ByPeer => CloseReason::PeerClosed,
        Lost::Here => CloseReason::Shutdown,
        Lost::Failed(_) => CloseReason::SocketError,
    }
}
