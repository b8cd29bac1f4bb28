//! What a connection has to say, gathered into one send per turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use reactor::buf::Buf;
use reactor::sync::Notify;

use crate::Stream;

/// Slices per send.
const BATCH_SLICES: usize = 64;

/// Bytes of a piece that is copied into the queue instead of shared.
const INLINE_BYTES: usize = 128;

/// Pieces in one queue.
const MAX_PIECES: usize = 4096;

/// Why bytes were not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer does not read: wait with [`SendQueue::room`] before making more output.
    #[error(
        "the output queue holds {queued_bytes} bytes and takes no more: the peer does not read"
    )]
    Full {
        /// What waits to be sent.
        queued_bytes: usize,
    },
    /// The queue was closed, or sending failed: end the connection.
    #[error("the connection is closed for output")]
    Closed,
}

enum Piece {
    Inline { bytes: [u8; INLINE_BYTES], len: u8 },
    Shared(Buf),
}

impl Piece {
    fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Inline { bytes, len } => &bytes[..*len as usize],
            Piece::Shared(buf) => buf,
        }
    }
}

#[derive(Default)]
struct Pieces {
    queue: VecDeque<Piece>,
    // Bytes of the first piece that were sent.
    sent: usize,
}

/// The output of one connection. Any task of its core puts pieces in; one task runs
/// [`SendQueue::run`], which sends them in order.
///
/// Bounds: [`SendQueue::room`] waits while `limit_bytes` are queued, and pushing is refused at twice
/// that (or at 4096 pieces). So who found room may queue a message of several pieces, up to
/// `limit_bytes` and 2048 pieces in all, and none of them is refused half way.
pub struct SendQueue {
    pieces: RefCell<Pieces>,
    queued_bytes: Cell<usize>,
    limit_bytes: usize,
    is_closed: Cell<bool>,
    filled: Notify,
    drained: Notify,
}

impl SendQueue {
    /// An empty queue that takes about `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Rc<SendQueue> {
        Rc::new(SendQueue {
            pieces: RefCell::new(Pieces {
                queue: VecDeque::with_capacity(64),
                sent: 0,
            }),
            queued_bytes: Cell::new(0),
            limit_bytes: limit_bytes.clamp(1, usize::MAX / 4),
            is_closed: Cell::new(false),
            filled: Notify::new(),
            drained: Notify::new(),
        })
    }

    /// Queues a copy of a few bytes: a header, a completion. All of them or none.
    pub fn push_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.check(bytes.len().div_ceil(INLINE_BYTES))?;
        for chunk in bytes.chunks(INLINE_BYTES) {
            let mut piece = [0; INLINE_BYTES];
            piece[..chunk.len()].copy_from_slice(chunk);
            self.add(Piece::Inline {
                bytes: piece,
                len: chunk.len() as u8,
            });
        }
        Ok(())
    }

    /// Queues a buffer, which goes back to its pool once the kernel has copied it.
    pub fn push_buf(&self, buf: Buf) -> Result<(), SendError> {
        self.check(1)?;
        if !buf.is_empty() {
            self.add(Piece::Shared(buf));
        }
        Ok(())
    }

    fn check(&self, pieces: usize) -> Result<(), SendError> {
        if self.is_closed.get() {
            return Err(SendError::Closed);
        }
        let is_full = self.queued_bytes.get() >= 2 * self.limit_bytes;
        if is_full || self.pieces.borrow().queue.len() + pieces > MAX_PIECES {
            return Err(SendError::Full {
                queued_bytes: self.queued_bytes.get(),
            });
        }
        Ok(())
    }

    fn add(&self, piece: Piece) {
        self.queued_bytes
            .set(self.queued_bytes.get() + piece.as_slice().len());
        let mut pieces = self.pieces.borrow_mut();
        let was_empty = pieces.queue.is_empty();
        pieces.queue.push_back(piece);
        drop(pieces);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.get()
    }

    fn has_room(&self) -> bool {
        self.queued_bytes.get() < self.limit_bytes
            && self.pieces.borrow().queue.len() < MAX_PIECES / 2
    }

    /// Waits until the queue takes more, or is closed.
    pub async fn room(&self) {
        while !self.has_room() && !self.is_closed.get() {
            self.drained.notified().await;
        }
    }

    /// Waits until everything was handed to the kernel, or sending failed.
    pub async fn flushed(&self) {
        while self.queued_bytes.get() > 0 {
            self.drained.notified().await;
        }
    }

    /// Takes nothing more. What is queued is still sent, then [`SendQueue::run`] ends.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.filled.notify_one();
        self.drained.notify_all();
    }

    /// Sends until the queue is closed and empty, or the connection fails. On failure what is
    /// queued is dropped. Dropping the future between two sends loses the rest in the same way.
    pub async fn run(&self, stream: &Stream) -> io::Result<()> {
        let _abandon = Abandon(self);
        loop {
            while self.queued_bytes.get() > 0 {
                self.send_batch(stream).await?;
            }
            if self.is_closed.get() {
                return Ok(());
            }
            self.filled.notified().await;
        }
    }

    /// One send of what is there.
    async fn send_batch(&self, stream: &Stream) -> io::Result<()> {
        let sent = self.try_send(stream);
        match sent {
            Ok(sent) => self.consume(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return stream.writable().await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // At most one send per turn: what others queue meanwhile goes out together.
        if self.queued_bytes.get() > 0 {
            reactor::next_turn().await;
        }
        Ok(())
    }

    fn try_send(&self, stream: &Stream) -> io::Result<usize> {
        let pieces = self.pieces.borrow();
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&pieces.queue) {
            let skip = if count == 0 { pieces.sent } else { 0 };
            *slice = IoSlice::new(&piece.as_slice()[skip..]);
            count += 1;
        }
        stream.try_send(&slices[..count])
    }

    fn consume(&self, sent: usize) {
        self.queued_bytes.set(self.queued_bytes.get() - sent);
        let mut left = self.pieces.borrow().sent + sent;
        loop {
            let mut pieces = self.pieces.borrow_mut();
            let len = pieces.queue.front().map(|piece| piece.as_slice().len());
            let Some(len) = len.filter(|&len| len <= left) else {
                pieces.sent = left;
                break;
            };
            left -= len;
            let piece = pieces.queue.pop_front();
            // A buffer that goes back to its pool wakes whoever waits for one.
            drop(pieces);
            drop(piece);
        }
        if self.has_room() {
            self.drained.notify_all();
        }
    }
}

/// Closes and empties a queue that nobody sends from any more.
struct Abandon<'a>(&'a SendQueue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.0.pieces.borrow_mut());
        drop(left);
        self.0.queued_bytes.set(0);
        self.0.close();
    }
}
