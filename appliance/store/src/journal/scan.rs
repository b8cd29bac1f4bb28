//! Reading the log at open: batch after batch from the published tail to the first that fails.
//!
//! Nothing is written. Memory: one buffer of the engine's pool, whatever the length of the log.

use block::{BlockError, Device};
use reactor::buf::Buf;

use crate::journal::batch::{self, BatchError, BatchView, Identity, MAX_BATCH_BYTES, RecordKind};
use crate::journal::ring::Ring;
use crate::journal::verdict::{Failure, Verdict, decide};
use crate::mutation::{self, Mutation};
use crate::types::{BLOCK_BYTES, Cluster};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where the log begins, from the published volume record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanStart {
    /// Epoch of the life that published last.
    pub epoch: u64,
    /// Batches from this sequence on must carry `epoch` or a later one. All earlier ones were read,
    /// found good and made durable before the volume record was published.
    pub open_sequence: u64,
    /// The direct data of those earlier batches was there, too.
    pub settled: bool,
    /// Position of the first batch of the log.
    pub position: u64,
    /// Sequence of that batch.
    pub sequence: u64,
    /// LSN of its first record.
    pub first_lsn: u64,
}

/// Where the log ends, and what was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Position behind the last good batch.
    pub position: u64,
    /// Sequence the next batch gets.
    pub sequence: u64,
    /// LSN the next record gets.
    pub next_lsn: u64,
    /// The highest epoch seen, at least the published one.
    pub epoch: u64,
    /// Highest LSN that the log proves durable: a good batch states it, or the volume record does
    /// for settled batches; 0 when nothing does.
    pub durable_lsn: u64,
    /// Good batches.
    pub batches: u64,
    /// What is wrong with the batch that should come next.
    pub failure: Failure,
    /// Something was begun behind the end: a torn batch, not just free space.
    pub torn: bool,
    /// Blocks behind the end that could not be read while searching for later batches.
    pub unreadable_blocks: u64,
    /// What it means.
    pub verdict: Verdict,
}

/// Reads a volume's log. Use: `next` until it returns false, then `finish`.
pub struct Scanner<'a> {
    device: &'a Device,
    ring: &'a Ring,
    identity: Identity,
    start: ScanStart,
    expected: Expected,
    window: Window,
    /// Byte range of the current batch in the window.
    current: Option<(usize, usize)>,
    failure: Failure,
    torn: bool,
}

/// What the next batch must say.
#[derive(Clone, Copy, Debug)]
struct Expected {
    end: u64,
    sequence: u64,
    next_lsn: u64,
    epoch: u64,
    durable_lsn: u64,
    batches: u64,
}

/// A part of the ring in memory.
struct Window {
    buf: Option<Buf>,
    position: u64,
    len_bytes: u64,
}

/// What one place in the ring turned out to be.
enum Candidate {
    Good { at: usize, len: usize },
    Bad { failure: Failure, torn: bool },
}

impl<'a> Scanner<'a> {
    /// A scan of the ring from `start`. Waits for one buffer of 1 MiB of the engine's pool.
    pub async fn new(
        device: &'a Device,
        ring: &'a Ring,
        identity: Identity,
        start: ScanStart,
    ) -> Scanner<'a> {
        let buf = reactor::buf::engine_alloc(MAX_BATCH_BYTES as usize).await;
        let expected = Expected {
            end: start.position,
            sequence: start.sequence,
            next_lsn: start.first_lsn,
            epoch: 0,
            durable_lsn: 0,
            batches: 0,
        };
        let window = Window {
            buf: Some(buf),
            position: 0,
            len_bytes: 0,
        };
        let failure = Failure::Header;
        let torn = false;
        Scanner {
            device,
            ring,
            identity,
            start,
            expected,
            window,
            current: None,
            failure,
            torn,
        }
    }

    /// Reads the next batch; false when the log has ended. Cost: one device read per MiB.
    pub async fn next(&mut self) -> bool {
        self.current = None;
        let lap_left = self.start.position + self.ring.len_bytes() - self.expected.end;
        let end = self.expected.end;
        let places = [Some(end), self.ring.skip_from(end)];
        let mut worst = None;
        for position in places.into_iter().flatten() {
            if position - end >= lap_left {
                continue;
            }
            match self.candidate(position).await {
                Candidate::Good { at, len } => {
                    self.accept(at, len);
                    return true;
                }
                Candidate::Bad { failure, torn } => {
                    self.torn |= torn;
                    worst = worst.max(Some(failure));
                }
            }
        }
        self.failure = worst.unwrap_or(Failure::Header);
        false
    }

    /// The batch that `next` found; its payload is checked.
    pub fn batch(&self) -> Option<BatchView<'_>> {
        let (at, len) = self.current?;
        let bytes = self.window.bytes().get(at..at + len)?;
        batch::decode(bytes, &self.identity).ok()
    }

    /// Looks for proof that the log once went on behind its end, and gives the verdict: the volume
    /// record knows of more batches, or a later batch states that they were durable.
    ///
    /// Cost: reads the rest of the ring once. A full log (a whole lap) has no rest.
    pub async fn finish(&mut self) -> LogEnd {
        let expected = self.expected;
        let to = self.start.position + self.ring.len_bytes();
        let start = self.start;
        let mut covered = expected.sequence < start.open_sequence;
        let epoch = expected.epoch;
        let identity = self.identity;
        let unreadable_blocks = search(
            self.device,
            self.ring,
            &mut self.window,
            (expected.end, to),
            |position, bytes| {
                let Ok(view) = batch::decode(bytes, &identity) else {
                    return;
                };
                let header = view.header;
                covered |= header.position == position
                    && header.sequence > expected.sequence
                    && header.durable_lsn >= expected.next_lsn
                    && is_of_this_life(&start, epoch, header.epoch, header.sequence);
            },
        )
        .await;
        LogEnd {
            position: expected.end,
            sequence: expected.sequence,
            next_lsn: expected.next_lsn,
            epoch: expected.epoch.max(start.epoch),
            durable_lsn: expected.durable_lsn,
            batches: expected.batches,
            failure: self.failure,
            torn: self.torn,
            unreadable_blocks,
            verdict: decide(self.failure, covered),
        }
    }

    fn accept(&mut self, at: usize, len: usize) {
        self.current = Some((at, len));
        let Some(view) = self.batch() else {
            self.current = None;
            return;
        };
        let old = self.expected;
        let is_settled = self.start.settled && old.sequence < self.start.open_sequence;
        let settled_lsn = if is_settled { view.last_lsn() } else { 0 };
        self.expected = Expected {
            end: view.end(),
            sequence: old.sequence + 1,
            next_lsn: view.last_lsn() + 1,
            epoch: view.header.epoch,
            durable_lsn: old
                .durable_lsn
                .max(view.header.durable_lsn)
                .max(settled_lsn),
            batches: old.batches + 1,
        };
    }

    async fn candidate(&mut self, position: u64) -> Candidate {
        let bad = |failure, torn| Candidate::Bad { failure, torn };
        let mut needed = BLOCK;
        let (at, len, header_blocks) = loop {
            if self.load(position, needed).await.is_err() {
                return bad(Failure::Read, false);
            }
            let bytes = self.window.from(position);
            match batch::decode(bytes, &self.identity) {
                Ok(view) if !self.fits(position, &view) => return bad(Failure::Header, false),
                Ok(view) if view.len_bytes() > bytes.len() as u64 => needed = view.len_bytes(),
                Ok(view) => {
                    let at = (position - self.window.position) as usize;
                    break (at, view.len_bytes() as usize, view.header_blocks);
                }
                Err(BatchError::Short {
                    needed_blocks,
                    given_blocks,
                }) if needed_blocks > given_blocks
                    && self.ring.locate(position).left_in_run >= needed_blocks as u64 * BLOCK =>
                {
                    needed = needed_blocks as u64 * BLOCK;
                }
                Err(error) => return bad(Failure::Header, is_begun(&error)),
            }
        };
        let bytes = &self.window.bytes()[at..at + len];
        let payload = &bytes[header_blocks * BLOCK_BYTES..];
        let checked =
            batch::decode(bytes, &self.identity).and_then(|view| view.check_payload(payload));
        match checked {
            Ok(()) => Candidate::Good { at, len },
            Err(_) => bad(Failure::Payload, true),
        }
    }

    /// Whether a good header is the one that comes next.
    fn fits(&self, position: u64, view: &BatchView<'_>) -> bool {
        let (header, expected) = (&view.header, &self.expected);
        let lap_end = self.start.position + self.ring.len_bytes();
        header.position == position
            && header.previous_end == expected.end
            && header.sequence == expected.sequence
            && header.first_lsn == expected.next_lsn
            && view.end() <= lap_end
            && view.len_bytes() <= self.ring.locate(position).left_in_run
            && is_of_this_life(&self.start, expected.epoch, header.epoch, header.sequence)
    }

    /// Makes at least `needed` bytes from `position` available, more when the device can.
    async fn load(&mut self, position: u64, needed: u64) -> Result<(), BlockError> {
        if self.window.from(position).len() as u64 >= needed {
            return Ok(());
        }
        let ahead = self.ring.locate(position).left_in_run.min(MAX_BATCH_BYTES);
        match self
            .window
            .read(self.device, self.ring, position, ahead)
            .await
        {
            // An unreadable block further on must not hide a batch in front of it.
            Err(_) if needed < ahead => {
                self.window
                    .read(self.device, self.ring, position, needed)
                    .await
            }
            result => result,
        }
    }
}

/// Whether a batch can belong to the life that the log is of: epochs never go down, and behind
/// the point where an earlier life was cut off only the later one counts.
fn is_of_this_life(start: &ScanStart, epoch_before: u64, epoch: u64, sequence: u64) -> bool {
    if mutation::enabled(Mutation::IgnoreEpochInScan) {
        return true;
    }
    epoch >= epoch_before && (sequence < start.open_sequence || epoch >= start.epoch)
}

/// Whether these bytes are the beginning of a batch that was cut short.
fn is_begun(error: &BatchError) -> bool {
    matches!(
        error,
        BatchError::HeaderCrc { .. } | BatchError::Limit { .. } | BatchError::Short { .. }
    )
}

/// Calls `found` for every cluster that a direct record anywhere in the ring names, of whatever
/// life: a superset of what a damaged journal may still refer to. A header with a wrong checksum
/// counts, too. Returns the number of blocks that could not be read: what was only named there is
/// not found. Cost: reads the whole ring.
pub async fn for_each_named_cluster(
    device: &Device,
    ring: &Ring,
    identity: Identity,
    mut found: impl FnMut(Cluster),
) -> u64 {
    let buf = reactor::buf::engine_alloc(MAX_BATCH_BYTES as usize).await;
    let mut window = Window {
        buf: Some(buf),
        position: 0,
        len_bytes: 0,
    };
    search(
        device,
        ring,
        &mut window,
        (0, ring.len_bytes()),
        |_, bytes| match batch::decode(bytes, &identity) {
            Ok(view) => view
                .records()
                .filter(|view| view.record.kind == RecordKind::Direct)
                .for_each(|view| found(view.record.cluster)),
            Err(_) => batch::guess_clusters(bytes, &identity).for_each(&mut found),
        },
    )
    .await
}

/// Calls `visit` with each block position of `range` and the bytes there (a header's length of
/// them where the run has that many). Returns the number of unreadable blocks.
async fn search(
    device: &Device,
    ring: &Ring,
    window: &mut Window,
    (from, to): (u64, u64),
    mut visit: impl FnMut(u64, &[u8]),
) -> u64 {
    const HEADER: u64 = (batch::MAX_HEADER_BLOCKS * BLOCK_BYTES) as u64;
    let mut unreadable = 0;
    let mut position = from;
    while position < to {
        let left = ring.locate(position).left_in_run;
        let ahead = left.min(MAX_BATCH_BYTES);
        let mut step = (if ahead == left { left } else { ahead - HEADER }).min(to - position);
        if window.read(device, ring, position, ahead).await.is_err() {
            step = BLOCK;
            if window.read(device, ring, position, BLOCK).await.is_err() {
                unreadable += 1;
            }
        }
        for at in (position..position + step).step_by(BLOCK_BYTES) {
            visit(at, window.from(at));
        }
        position += step;
    }
    unreadable
}

impl Window {
    fn bytes(&self) -> &[u8] {
        self.buf
            .as_deref()
            .map_or(&[], |buf| &buf[..self.len_bytes as usize])
    }

    /// The bytes at hand from `position` on.
    fn from(&self, position: u64) -> &[u8] {
        match position.checked_sub(self.position) {
            Some(at) if at < self.len_bytes => &self.bytes()[at as usize..],
            _ => &[],
        }
    }

    async fn read(
        &mut self,
        device: &Device,
        ring: &Ring,
        position: u64,
        len_bytes: u64,
    ) -> Result<(), BlockError> {
        self.len_bytes = 0;
        self.position = position;
        let mut buf = match self.buf.take() {
            Some(buf) => buf,
            // A cancelled read took the buffer with it.
            None => reactor::buf::engine_alloc(MAX_BATCH_BYTES as usize).await,
        };
        buf.set_len(len_bytes as usize);
        let (result, buf) = device.read(ring.locate(position).device_offset, buf).await;
        self.buf = Some(buf);
        result.map(|()| self.len_bytes = len_bytes)
    }
}
