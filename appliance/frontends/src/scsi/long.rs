//! Transfers that are a little longer than one request of the volume: done as two.
//!
//! A buffer holds two pages more than the volume takes at once, and hosts may use them.

use reactor::buf::{Buf, MAX_BUF_BYTES};
use volume::{Command, MAX_REQUEST_BYTES, Request, Volume, VolumeError};

/// What the second request reads.
const TAIL_BYTES: usize = MAX_BUF_BYTES - MAX_REQUEST_BYTES;

/// Whether a transfer is more than one request.
pub(super) fn is_long(volume: &Volume, block_count: u32) -> bool {
    let len_bytes = u64::from(block_count) * u64::from(volume.info().block_bytes);
    len_bytes > MAX_REQUEST_BYTES as u64
}

/// Executes `command` on each part of `data` that is one request, in order, and ends with the first
/// that fails.
pub(super) async fn each_part(
    volume: &Volume,
    lba: u64,
    data: Buf,
    fua: bool,
    command: impl Fn(u64, Buf) -> Command,
) -> Result<(), VolumeError> {
    let block_bytes = u64::from(volume.info().block_bytes);
    let mut done = 0;
    while done < data.len() {
        let end = data.len().min(done + MAX_REQUEST_BYTES);
        let command = command(lba + done as u64 / block_bytes, data.slice(done..end));
        volume.execute(Request { command, fua }).await?;
        done = end;
    }
    Ok(())
}

/// Reads a long range. `Ok(None)`: there is no memory for it now.
///
/// The end is read first and kept apart, so that memory is not waited for while some is held.
pub(super) async fn read(
    volume: &Volume,
    lba: u64,
    block_count: u32,
    fua: bool,
) -> Result<Option<Buf>, VolumeError> {
    let head_blocks = MAX_REQUEST_BYTES as u32 / volume.info().block_bytes;
    let part = |lba, block_count| {
        let command = Command::Read { lba, block_count };
        volume.execute(Request { command, fua })
    };
    let mut tail = [0; TAIL_BYTES];
    let tail_lba = lba + u64::from(head_blocks);
    let read = part(tail_lba, block_count.saturating_sub(head_blocks)).await?;
    let tail_len = read.as_deref().map_or(0, <[u8]>::len).min(TAIL_BYTES);
    tail[..tail_len].copy_from_slice(&read.as_deref().unwrap_or_default()[..tail_len]);
    drop(read);
    let head = part(lba, head_blocks).await?;
    Ok(head.and_then(|head| joined(head, &tail[..tail_len])))
}

/// Both in one buffer: the first one, when it has room and nobody else has it.
fn joined(mut head: Buf, tail: &[u8]) -> Option<Buf> {
    let (start, len) = (head.len(), head.len() + tail.len());
    if !head.is_unique() || head.capacity() < len {
        let mut copy = reactor::buf::try_alloc(len)?;
        copy.as_mut()[..start].copy_from_slice(&head);
        head = copy;
    }
    head.set_len(len);
    head.as_mut()[start..].copy_from_slice(tail);
    Some(head)
}
