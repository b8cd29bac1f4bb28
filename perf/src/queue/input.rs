//! What was received and not yet understood.

use std::io::{self, ErrorKind, Read};

use crate::error::PerfError;

/// Most bytes that one receive asks for. Large enough for 60 reads of 4 KiB at once, small enough
/// to stay in a second-level cache, where dropped data costs least; a MiB gained nothing.
const RECEIVE_BYTES: usize = 256 << 10;
/// The same when commands are large: smaller steps acknowledge sooner, which keeps the sender
/// going. 128 KiB reads at depth 32, six alternating rounds against 256 KiB steps: IOPS 1.16
/// [1.11 - 1.27], median latency 0.66 [0.55 - 0.85]; 4 KiB reads would wait 10 % [8 - 13 %] longer.
const RECEIVE_LARGE_BYTES: usize = 32 << 10;
/// Commands of this size and above are large.
const LARGE_BYTES: u32 = 64 << 10;
/// Longest rest of a PDU that stays in front of a receive: a termination request with its data.
const REST_BYTES: usize = 256;

/// Received bytes. After [`Input::compact`] at most a part of one header is left.
#[derive(Debug)]
pub struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    /// Nothing received, on a connection whose commands move `io_bytes` each.
    pub fn new(io_bytes: u32) -> Self {
        let step = if io_bytes < LARGE_BYTES {
            RECEIVE_BYTES
        } else {
            RECEIVE_LARGE_BYTES
        };
        Self {
            bytes: vec![0; step + REST_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// One receive; gives the bytes that came, 0 when none are there now.
    ///
    /// Errors: `Closed` at the end of the stream, `Socket` for anything else.
    pub fn receive(&mut self, socket: &mut impl Read) -> Result<usize, PerfError> {
        let doing = "receiving";
        let space = self.bytes.get_mut(self.end..).unwrap_or_default();
        match socket.read(space) {
            Ok(0) => Err(PerfError::Closed { doing }),
            Ok(count) => {
                self.end += count;
                Ok(count)
            }
            Err(source) if is_transient(&source) => Ok(0),
            Err(source) => Err(PerfError::Socket { doing, source }),
        }
    }

    /// The bytes not yet taken.
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes up to `count` bytes; gives how many.
    pub fn take(&mut self, count: usize) -> usize {
        let taken = count.min(self.end - self.start);
        self.start += taken;
        taken
    }

    /// Moves the rest to the front, so that the next receive has the whole buffer.
    pub fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

/// True for errors after which the same call may be made again.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
