//! WRITE SAME, and what is repeated over a range: one block, without memory for all of them.
//!
//! Source: SBC-3 sections 5.43 to 5.45.

use std::rc::Rc;

use reactor::buf::Buf;
use volume::{Command, Request, Volume, VolumeError, VolumeInfo};
use wire::scsi::Sense;
use wire::scsi::cdb::Same;

use super::execute::IsAborted;
use super::plan::from_host;
use super::rw::check_range;
use super::status::{self, Access};
use super::{Nexus, Outcome, Transfer, limits};

/// Length of a piece, and its alignment: a cluster of the engine.
const PIECE_BYTES: u64 = 128 << 10;
/// The longest block.
const BLOCK_BYTES_MAX: usize = 4096;

/// How many blocks are meant: 0 is all up to the end.
fn block_count(info: &VolumeInfo, fields: &Same) -> u64 {
    match fields.blocks.block_count {
        0 => info.block_count.saturating_sub(fields.blocks.lba),
        count => count.into(),
    }
}

pub(super) fn plan(info: &VolumeInfo, fields: &Same) -> Result<Transfer, Sense> {
    let count = u64::from(fields.blocks.block_count);
    check_range(info, fields.blocks.lba, count)?;
    if block_count(info, fields) > limits::SAME_BLOCKS {
        return Err(Sense::invalid_cdb(10, None));
    }
    Ok(if fields.no_data {
        Transfer::None
    } else {
        from_host(info.block_bytes)
    })
}

pub(super) async fn execute(
    nexus: &Rc<Nexus>,
    fields: Same,
    data: Option<Buf>,
    is_aborted: IsAborted<'_>,
) -> Outcome {
    let unit = nexus.unit();
    let (lba, count) = (fields.blocks.lba, block_count(unit.info(), &fields));
    if count == 0 {
        return Outcome::good();
    }
    let fua = unit.mode.get().write_through;
    let block = match (data, fields.no_data) {
        (None, true) => Block::zeros(unit.info().block_bytes),
        (Some(data), false) => Block::new(&data),
        _ => return Outcome::internal(),
    };
    let volume = unit.volume();
    let written = if block.is_zero() {
        let command = Command::WriteZeroes {
            lba,
            block_count: count,
            deallocate: fields.unmap,
        };
        volume.execute(Request { command, fua }).await.map(|_| ())
    } else {
        block.write(volume, (lba, count), fua, is_aborted).await
    };
    match written {
        Ok(()) => Outcome::good(),
        Err(error) => status::of_error(&error, Access::Writes).into(),
    }
}

/// A block apart from the buffer it came in, so that nobody waits for memory while holding some.
pub(super) struct Block {
    bytes: [u8; BLOCK_BYTES_MAX],
    len: usize,
}

impl Block {
    /// A copy of `data`, cut to the longest block.
    pub fn new(data: &[u8]) -> Self {
        let len = data.len().min(BLOCK_BYTES_MAX);
        let mut bytes = [0; BLOCK_BYTES_MAX];
        bytes[..len].copy_from_slice(&data[..len]);
        Self { bytes, len }
    }

    /// A block of zeros.
    pub fn zeros(block_bytes: u32) -> Self {
        Self {
            bytes: [0; BLOCK_BYTES_MAX],
            len: (block_bytes as usize).min(BLOCK_BYTES_MAX),
        }
    }

    /// Fills it with copies of `pattern`.
    pub fn repeat(&mut self, pattern: &[u8]) {
        let bytes = pattern.iter().cycle();
        self.bytes[..self.len]
            .iter_mut()
            .zip(bytes)
            .for_each(|(slot, byte)| *slot = *byte);
    }

    /// Turns every bit around.
    pub fn invert(&mut self) {
        self.bytes[..self.len]
            .iter_mut()
            .for_each(|byte| *byte = !*byte);
    }

    pub fn is_zero(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Memory full of copies of the block, enough for a piece.
    async fn fill(&self, blocks: u64) -> Buf {
        let len = (blocks * self.len as u64).min(PIECE_BYTES) as usize;
        let mut buf = reactor::buf::alloc(len).await;
        for slot in buf.as_mut().chunks_exact_mut(self.len) {
            slot.copy_from_slice(self.bytes());
        }
        buf
    }

    /// Writes it to `count` blocks from `lba` on, piece by piece, until it is aborted.
    pub async fn write(
        &self,
        volume: &Volume,
        (lba, count): (u64, u64),
        fua: bool,
        is_aborted: IsAborted<'_>,
    ) -> Result<(), VolumeError> {
        let filled = self.fill(count).await;
        for piece in pieces(lba, count, self.len as u64).take_while(|_| !is_aborted()) {
            let data = filled.slice(..piece.block_count as usize * self.len);
            let lba = piece.lba;
            let command = Command::Write { lba, data };
            volume.execute(Request { command, fua }).await?;
        }
        Ok(())
    }

    /// Compares it with `count` blocks from `lba` on, until it is aborted.
    pub async fn compare(
        &self,
        volume: &Volume,
        (lba, count): (u64, u64),
        is_aborted: IsAborted<'_>,
    ) -> Result<(), VolumeError> {
        let filled = self.fill(count).await;
        for piece in pieces(lba, count, self.len as u64).take_while(|_| !is_aborted()) {
            let data = filled.slice(..piece.block_count as usize * self.len);
            let lba = piece.lba;
            volume
                .execute(Request::new(Command::Compare { lba, data }))
                .await?;
        }
        Ok(())
    }
}

/// A part of a range that one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub lba: u64,
    pub block_count: u32,
}

/// Cuts a range where the engine's clusters end.
pub(super) fn pieces(lba: u64, count: u64, block_bytes: u64) -> impl Iterator<Item = Piece> {
    let piece_blocks = PIECE_BYTES / block_bytes.max(1);
    let end = lba.saturating_add(count);
    let mut next = lba;
    std::iter::from_fn(move || {
        let lba = next;
        next = (lba / piece_blocks + 1)
            .saturating_mul(piece_blocks)
            .min(end);
        (lba < end).then(|| Piece {
            lba,
            block_count: (next - lba) as u32,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once_and_end_with_clusters() {
        for (lba, count) in [(0, 1), (0, 256), (0, 257), (255, 2), (3, 1000), (256, 0)] {
            let mut next = lba;
            for piece in pieces(lba, count, 512) {
                assert_eq!(piece.lba, next);
                assert!(piece.block_count > 0);
                next += u64::from(piece.block_count);
                assert!(next.is_multiple_of(256) || next == lba + count);
            }
            assert_eq!(next, lba + count);
        }
    }
}
