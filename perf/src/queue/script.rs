//! What the tests of both protocols have in common.

use std::io::{self, ErrorKind, Read, Write};

use super::{Io, Kind};

/// A socket whose peer said `incoming`, read and written in small pieces.
#[derive(Debug, Default)]
pub struct Script {
    incoming: Vec<u8>,
    piece: usize,
    /// What was written to it.
    pub sent: Vec<u8>,
    full: bool,
}

impl Script {
    /// Says `incoming`, and takes and gives `piece` bytes at a time.
    pub fn saying(incoming: Vec<u8>, piece: usize) -> Self {
        Self {
            incoming,
            piece,
            ..Self::default()
        }
    }
}

impl Read for Script {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.piece.min(self.incoming.len()).min(to.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        to[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.drain(..count);
        Ok(count)
    }
}

impl Write for Script {
    /// Takes `piece` bytes at a time, and nothing every other time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full = !self.full;
        if self.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.piece.min(bytes.len());
        self.sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A command.
pub fn io(kind: Kind) -> Io {
    Io {
        kind,
        unit: 3,
        fua: false,
        intended_ns: 10,
        issued_ns: 20,
    }
}

/// Content that differs from byte to byte.
pub fn data(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}
