//! The receive buffer of a connection, and data on its way from the socket to its place.
//!
//! Headers and small payload come through the buffer, many in one call; large payload is received
//! straight into the memory that it is meant for. What the bytes mean is with the transports.

use net::{Closed, Socket};
use wire::tcp::digest::Crc32c;

/// Receive buffer of a connection: many small commands in one call.
const BUFFER_BYTES: usize = 64 << 10;
/// Step inside a large payload: larger ones delay acknowledgements of the peer's data.
const STEP_BYTES: usize = 32 << 10;
/// Payload below this goes through the buffer, together with what follows it.
const DIRECT_BYTES: usize = 8 << 10;
/// Room for a receive below which the buffer is compacted first.
const MIN_RECV_BYTES: usize = 4 << 10;
/// Work done in one turn before other connections get theirs.
const TURN_BYTES: usize = 512 << 10;

/// Where the data of a PDU goes.
pub(crate) enum Sink<'a> {
    /// Nowhere.
    Discard,
    /// Into memory; what does not fit is discarded.
    Memory {
        /// Bytes of the data that come before the wanted ones.
        skip: usize,
        /// The place.
        bytes: &'a mut [u8],
    },
}

/// Bytes received and not consumed.
pub(crate) struct ReceiveBuffer {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    turn_left: usize,
}

impl ReceiveBuffer {
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            turn_left: TURN_BYTES,
        }
    }

    /// Continues where another core stopped reading.
    pub fn resume(unread: &[u8]) -> Self {
        let mut intake = Self::new();
        let len = unread.len().min(BUFFER_BYTES);
        intake.buffer[..len].copy_from_slice(&unread[..len]);
        intake.end = len;
        intake
    }

    /// Received and not consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Forgets the first `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Receives until `need` bytes (at most a header) are in the buffer.
    pub async fn fill<E: Copy>(
        &mut self,
        socket: &Socket<E>,
        need: usize,
    ) -> Result<(), Closed<E>> {
        while self.end - self.start < need {
            if BUFFER_BYTES - self.start < need || BUFFER_BYTES - self.end < MIN_RECV_BYTES {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let len = socket.recv(&mut self.buffer[self.end..]).await?;
            self.end += len;
        }
        Ok(())
    }

    /// Consumes `total` bytes of data; `crc` sums them when there is one.
    pub async fn take<E: Copy>(
        &mut self,
        socket: &Socket<E>,
        total: usize,
        sink: &mut Sink<'_>,
        crc: &mut Option<Crc32c>,
    ) -> Result<(), Closed<E>> {
        let mut done = 0;
        while done < total {
            done += self.take_piece(socket, sink, done, total, crc).await?;
        }
        Ok(())
    }

    /// Moves the next piece of data, at least one byte, and gives its length.
    async fn take_piece<E: Copy>(
        &mut self,
        socket: &Socket<E>,
        sink: &mut Sink<'_>,
        done: usize,
        total: usize,
        crc: &mut Option<Crc32c>,
    ) -> Result<usize, Closed<E>> {
        let left = total - done;
        if self.bytes().is_empty() {
            if let Some(place) = sink.direct(done, left) {
                let step = place.len().min(STEP_BYTES);
                let len = socket.recv(&mut place[..step]).await?;
                if let Some(crc) = crc {
                    crc.update(&place[..len]);
                }
                self.breathe(len).await;
                return Ok(len);
            }
            self.fill(socket, 1).await?;
        }
        let len = left.min(self.end - self.start);
        let piece = &self.buffer[self.start..self.start + len];
        if let Some(crc) = crc {
            crc.update(piece);
        }
        sink.copy(done, piece);
        self.consume(len);
        self.breathe(len).await;
        Ok(len)
    }

    /// Throws away `len` bytes.
    pub async fn skip<E: Copy>(
        &mut self,
        socket: &Socket<E>,
        mut len: usize,
    ) -> Result<(), Closed<E>> {
        while len > 0 {
            self.fill(socket, 1).await?;
            let part = len.min(self.end - self.start);
            self.consume(part);
            len -= part;
        }
        Ok(())
    }

    /// Lets other tasks run when this connection has done its share of the turn.
    pub async fn breathe(&mut self, cost: usize) {
        match self.turn_left.checked_sub(cost) {
            Some(left) => self.turn_left = left,
            None => {
                self.turn_left = TURN_BYTES;
                reactor::next_turn().await;
            }
        }
    }
}

impl Sink<'_> {
    /// Memory for the rest of the data, when it is worth a call of its own.
    fn direct(&mut self, done: usize, left: usize) -> Option<&mut [u8]> {
        match self {
            Self::Memory { skip: 0, bytes } if left >= DIRECT_BYTES => {
                let end = bytes.len().min(done + left);
                let place = bytes.get_mut(done..end)?;
                (place.len() >= DIRECT_BYTES).then_some(place)
            }
            _ => None,
        }
    }

    /// Copies the piece that starts `done` bytes into the data.
    fn copy(&mut self, done: usize, piece: &[u8]) {
        let Self::Memory { skip, bytes } = self else {
            return;
        };
        let (from, to) = match done.checked_sub(*skip) {
            Some(to) => (0, to),
            None => (*skip - done, 0),
        };
        let Some(wanted) = piece.get(from..) else {
            return;
        };
        let Some(place) = bytes.get_mut(to..) else {
            return;
        };
        let len = wanted.len().min(place.len());
        place[..len].copy_from_slice(&wanted[..len]);
    }
}
