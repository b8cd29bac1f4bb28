//! What is to be sent: headers, copied here, and payload, sent from where it lies.

use std::io::{self, ErrorKind, IoSlice, Write};

/// Most pieces in one send. A full queue of 128 writes of 4 KiB takes two sends.
const PIECES_MAX: usize = 128;

#[derive(Clone, Copy, Debug)]
enum Piece {
    Head { start: usize, end: usize },
    Payload { start: usize, end: usize },
}

impl Piece {
    fn len(&self) -> usize {
        let (Self::Head { start, end } | Self::Payload { start, end }) = self;
        end - start
    }
}

/// Pieces in the order in which they are sent.
#[derive(Debug, Default)]
pub struct Output {
    heads: Vec<u8>,
    pieces: Vec<Piece>,
    /// First piece not sent in full, and the bytes of it that were sent.
    next: usize,
    sent: usize,
}

impl Output {
    /// Nothing to send.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes queued and not yet sent, at most one piece too many.
    pub fn unsent_bytes(&self) -> usize {
        let pieces = self.pieces.get(self.next..).unwrap_or_default();
        pieces.iter().map(Piece::len).sum()
    }

    /// Queues a copy of `bytes`.
    pub fn head(&mut self, bytes: &[u8]) {
        let start = self.heads.len();
        self.heads.extend_from_slice(bytes);
        self.grow_head(start);
    }

    /// Queues `count` zero bytes.
    pub fn zeroes(&mut self, count: usize) {
        let start = self.heads.len();
        self.heads.resize(start + count, 0);
        self.grow_head(start);
    }

    /// Queues `len` bytes of the payload from `start` on.
    pub fn payload(&mut self, start: usize, len: usize) {
        let end = start + len;
        self.pieces.push(Piece::Payload { start, end });
    }

    /// Heads in a row are one piece: commands without data leave as one run of bytes.
    fn grow_head(&mut self, from: usize) {
        let now = self.heads.len();
        match self.pieces.last_mut() {
            Some(Piece::Head { end, .. }) if *end == from => *end = now,
            _ => self.pieces.push(Piece::Head {
                start: from,
                end: now,
            }),
        }
    }

    /// Sends until the socket takes no more; gives the number of calls.
    pub fn send(&mut self, socket: &mut impl Write, payload: &[u8]) -> io::Result<u32> {
        let mut calls = 0;
        while self.next < self.pieces.len() {
            calls += 1;
            match self.send_once(socket, payload) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(calls),
                Err(error) => return Err(error),
            }
        }
        self.heads.clear();
        self.pieces.clear();
        self.next = 0;
        Ok(calls)
    }

    fn send_once(&self, socket: &mut impl Write, payload: &[u8]) -> io::Result<usize> {
        let pieces = self.pieces.get(self.next..).unwrap_or_default();
        let bytes = |piece: &Piece| match *piece {
            Piece::Head { start, end } => self.heads.get(start..end).unwrap_or_default(),
            Piece::Payload { start, end } => payload.get(start..end).unwrap_or_default(),
        };
        let first = pieces.first().map_or(&[][..], bytes);
        let first = first.get(self.sent..).unwrap_or_default();
        if pieces.len() == 1 {
            return socket.write(first);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let count = pieces.len().min(PIECES_MAX);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(bytes(piece));
        }
        if let Some(slice) = slices.first_mut() {
            *slice = IoSlice::new(first);
        }
        socket.write_vectored(slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.get(self.next) {
            let left = piece.len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.next += 1;
        }
    }
}
