//! What writes send, and what verified reads bring.

use super::Shape;

/// The data of a queue: a pattern that all writes take their data from, or a buffer for each slot
/// when data is kept.
#[derive(Debug)]
pub struct Payload {
    bytes: Vec<u8>,
    io_bytes: usize,
    keep: bool,
}

impl Payload {
    /// `pattern` is what writes send when no data is kept; it has the bytes of one write or more.
    pub fn new(shape: &Shape, pattern: Vec<u8>) -> Self {
        let io_bytes = shape.io_bytes as usize;
        let bytes = if shape.keep_data {
            vec![0; io_bytes * usize::from(shape.depth)]
        } else {
            pattern
        };
        debug_assert!(bytes.len() >= io_bytes);
        Self {
            bytes,
            io_bytes,
            keep: shape.keep_data,
        }
    }

    /// All of it, to send from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `len` bytes from `start` on.
    pub fn range(&self, start: usize, len: usize) -> &[u8] {
        self.bytes.get(start..start + len).unwrap_or_default()
    }

    /// The buffer of a slot; means nothing when no data is kept.
    pub fn buffer(&self, cid: u16) -> &[u8] {
        self.range(usize::from(cid) * self.io_bytes, self.io_bytes)
    }

    /// Where the data of a write lies. `fill` writes it when data is kept, else `choice` says where
    /// in the pattern it starts.
    pub fn place(&mut self, cid: u16, choice: u64, fill: impl FnOnce(&mut [u8])) -> usize {
        if self.keep {
            let start = usize::from(cid) * self.io_bytes;
            if let Some(buffer) = self.bytes.get_mut(start..start + self.io_bytes) {
                fill(buffer);
            }
            return start;
        }
        // Steps of 64 bytes: enough different places, and copies stay aligned to cache lines.
        let places = (self.bytes.len() - self.io_bytes) / 64 + 1;
        (choice % places as u64) as usize * 64
    }

    /// Keeps `bytes` of what slot `cid` reads, from its byte `offset` on, if data is kept.
    pub fn store(&mut self, cid: u16, offset: usize, bytes: &[u8]) {
        if !self.keep {
            return;
        }
        let at = usize::from(cid) * self.io_bytes + offset;
        if let Some(to) = self.bytes.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }
}
