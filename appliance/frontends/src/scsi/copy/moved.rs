//! Copies one segment, piece by piece: while one is written, the next is read.
//!
//! A copy has no memory of its own, and never holds more than two pieces. Others of the volume go on
//! between its pieces.

use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use reactor::buf::Buf;
use wire::scsi::{Sense, SenseCode};

use super::aborted;
use super::checked::Move;
use super::results::Record;
use crate::reservation::Access as Wanted;
use crate::scsi::{IsAborted, Nexus};

/// Bytes that are copied at a time: with what is around them in their blocks less than a request
/// of the volume carries.
const PIECE_BYTES: u64 = 512 << 10;

/// Copies a segment, from its end when it moves upwards inside one unit: no byte is overwritten
/// before it was read.
///
/// Errors: COPY ABORTED; what was copied stays, INFORMATION says how many blocks of the
/// destination are missing when there was any. When it returns, no piece is under way any more.
pub(super) async fn copy(
    nexus: &Rc<Nexus>,
    one: &Move,
    record: &Record<'_>,
    is_aborted: IsAborted<'_>,
) -> Result<(), Sense> {
    let mut left_bytes = one.len_bytes;
    let note = |len_bytes| {
        left_bytes -= len_bytes;
        record.bytes_done(len_bytes);
    };
    let copied = copy_pieces(nexus, one, is_aborted, note).await;
    copied.map_err(|sense| match left_bytes {
        left if left == one.len_bytes => sense,
        left => sense.with_information(left / u64::from(one.destination.info().block_bytes)),
    })
}

/// All pieces in order; `note` is told the length of each that is done.
async fn copy_pieces(
    nexus: &Rc<Nexus>,
    one: &Move,
    is_aborted: IsAborted<'_>,
    mut note: impl FnMut(u64),
) -> Result<(), Sense> {
    let mut pieces = ordered_pieces(one).into_iter().peekable();
    if pieces.peek().is_some() {
        one.source.check(nexus, Wanted::Read).await?;
        one.destination.check(nexus, Wanted::Write).await?;
    }
    let mut ahead = None;
    while let Some(piece) = pieces.next() {
        let data = match ahead.take() {
            Some(fetched) => fetched?,
            None => fetch(nexus, one, &piece).await?,
        };
        if is_aborted() {
            // Nobody hears of it: the task is over.
            return Err(aborted(SenseCode::NONE));
        }
        let write = one.destination.write(nexus, piece.start, data);
        // A part of a block needs memory to be written: nobody waits for some while holding some.
        match pieces.peek().filter(|_| is_whole(one, &piece)) {
            Some(next) => {
                let (written, fetched) = both(write, fetch(nexus, one, next)).await;
                written?;
                ahead = Some(fetched);
            }
            None => write.await?,
        }
        note(piece.end - piece.start);
    }
    Ok(())
}

/// Whether a piece is whole blocks of the destination.
fn is_whole(one: &Move, piece: &Range<u64>) -> bool {
    let block_bytes = u64::from(one.destination.info().block_bytes);
    piece.start.is_multiple_of(block_bytes) && piece.end.is_multiple_of(block_bytes)
}

/// Reads what belongs to `piece` of the destination.
async fn fetch(nexus: &Rc<Nexus>, one: &Move, piece: &Range<u64>) -> Result<Buf, Sense> {
    let source_at = one.source_at + (piece.start - one.destination_at);
    let len_bytes = piece.end - piece.start;
    one.source.read(nexus, source_at, len_bytes).await
}

/// The outputs of both, which go on at the same time.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(cx)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            so_far => {
                (first, second) = so_far;
                Poll::Pending
            }
        }
    })
    .await
}

fn ordered_pieces(one: &Move) -> Vec<Range<u64>> {
    let block_bytes = u64::from(one.destination.info().block_bytes);
    let end = one.destination_at + one.len_bytes;
    let mut pieces: Vec<_> = pieces(one.destination_at..end, block_bytes).collect();
    if one.source.is(&one.destination) && one.destination_at > one.source_at {
        pieces.reverse();
    }
    pieces
}

/// Cuts a range of bytes into pieces that are whole blocks, but for a part of one at either end.
fn pieces(range: Range<u64>, block_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let mut next = range.start;
    std::iter::from_fn(move || {
        let start = next;
        let whole_end = range.end - range.end % block_bytes;
        next = if !start.is_multiple_of(block_bytes) {
            start.next_multiple_of(block_bytes).min(range.end)
        } else if start < whole_end {
            ((start / PIECE_BYTES + 1) * PIECE_BYTES).min(whole_end)
        } else {
            range.end
        };
        (start < range.end).then_some(start..next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once_and_cut_only_its_ends_inside_a_block() {
        let ranges = [
            0..0,
            0..1,
            0..512,
            3..5,
            511..513,
            1..1024,
            512..4 * PIECE_BYTES + 7,
        ];
        for range in ranges {
            let mut next = range.start;
            for piece in pieces(range.clone(), 512) {
                assert_eq!(piece.start, next);
                let len_bytes = piece.end - piece.start;
                assert!(len_bytes > 0 && len_bytes <= PIECE_BYTES);
                let is_whole = piece.start % 512 == 0 && piece.end % 512 == 0;
                assert!(
                    is_whole || piece.start / 512 == (piece.end - 1) / 512,
                    "{piece:?}"
                );
                next = piece.end;
            }
            assert_eq!(next, range.end);
        }
    }
}
