//! What a volume may contain: for every block, the values a read may give.
//!
//! A value is a stamp; 0 is zeros. A block's bytes say stamp and block number in every 8 bytes, so
//! a torn block, a block of another place and a stale block are all told apart.

/// Stamps of one block, in the order in which writes of it were acknowledged.
#[derive(Clone, Debug, Default)]
struct Block {
    /// (order of acknowledgement, stamp); starts with what was there at open.
    acked: Vec<(u64, u64)>,
    /// Index in `acked` of the newest that survives power loss.
    durable: usize,
    /// Started, not acknowledged: may or may not be there.
    pending: Vec<u64>,
}

/// The model of a volume.
#[derive(Clone, Debug)]
pub struct Model {
    blocks: Vec<Block>,
    order: u64,
    next_stamp: u64,
}

/// What a read may return for one block: snapshot at the start of the read.
#[derive(Clone, Copy, Debug)]
pub struct ReadStart {
    order: u64,
}

impl Model {
    pub fn new(block_count: u64) -> Self {
        let block = Block {
            acked: vec![(0, 0)],
            ..Block::default()
        };
        Self {
            blocks: vec![block; block_count as usize],
            order: 0,
            next_stamp: 1,
        }
    }

    pub fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// A value that was never used.
    pub fn fresh_stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// Whether a write is under way anywhere in the range.
    pub fn is_busy(&self, lba: u64, count: u64) -> bool {
        self.blocks[lba as usize..(lba + count) as usize]
            .iter()
            .any(|block| !block.pending.is_empty())
    }

    pub fn begin_write(&mut self, lba: u64, count: u64, stamp: u64) {
        for block in &mut self.blocks[lba as usize..(lba + count) as usize] {
            block.pending.push(stamp);
        }
    }

    /// The write is acknowledged; with `durable` it survives power loss.
    pub fn end_write(&mut self, lba: u64, count: u64, stamp: u64, durable: bool) {
        self.order += 1;
        for block in &mut self.blocks[lba as usize..(lba + count) as usize] {
            block.pending.retain(|pending| *pending != stamp);
            block.acked.push((self.order, stamp));
            if durable {
                block.durable = block.acked.len() - 1;
            }
        }
    }

    /// The write was refused and surely has no effect.
    pub fn cancel_write(&mut self, lba: u64, count: u64, stamp: u64) {
        for block in &mut self.blocks[lba as usize..(lba + count) as usize] {
            block.pending.retain(|pending| *pending != stamp);
        }
    }

    pub fn begin_flush(&self) -> u64 {
        self.order
    }

    pub fn end_flush(&mut self, order: u64) {
        for block in &mut self.blocks {
            let newest = block.acked.iter().rposition(|(acked, _)| *acked <= order);
            block.durable = block.durable.max(newest.unwrap_or(0));
        }
    }

    pub fn begin_read(&self) -> ReadStart {
        ReadStart { order: self.order }
    }

    /// Panics unless `stamp` may be read now by a read that began at `start`.
    pub fn check_read(&self, start: ReadStart, lba: u64, stamp: u64) {
        let block = &self.blocks[lba as usize];
        let newest = block
            .acked
            .iter()
            .rposition(|(order, _)| *order <= start.order);
        let allowed = &block.acked[newest.unwrap_or(0)..];
        let found =
            allowed.iter().any(|(_, acked)| *acked == stamp) || block.pending.contains(&stamp);
        assert!(
            found,
            "block {lba} reads {stamp}; allowed: {allowed:?} {:?}",
            block.pending
        );
    }

    /// The only value that a read may give now, when there is just one.
    pub fn certain(&self, lba: u64) -> Option<u64> {
        let block = &self.blocks[lba as usize];
        block
            .pending
            .is_empty()
            .then(|| block.acked.last().expect("never empty").1)
    }

    /// After a crash: `stamp` was found. Panics when that loses or revives something.
    pub fn recover(&mut self, lba: u64, stamp: u64, power_loss: bool) {
        let block = &mut self.blocks[lba as usize];
        let from = if power_loss {
            block.durable
        } else {
            block.acked.len() - 1
        };
        let allowed = &block.acked[from..];
        let found =
            allowed.iter().any(|(_, acked)| *acked == stamp) || block.pending.contains(&stamp);
        assert!(
            found,
            "block {lba} is {stamp} after a crash (power loss: {power_loss}); allowed: {allowed:?}, \
             unacknowledged: {:?}",
            block.pending
        );
        *block = Block {
            acked: vec![(self.order, stamp)],
            ..Block::default()
        };
    }
}

/// Fills blocks with a stamp.
pub fn fill(bytes: &mut [u8], block_bytes: usize, lba: u64, stamp: u64) {
    for (block, lba) in bytes.chunks_mut(block_bytes).zip(lba..) {
        if stamp == 0 {
            block.fill(0);
            continue;
        }
        for (word, at) in block.chunks_exact_mut(8).zip(0u64..) {
            word.copy_from_slice(&word_of(lba, stamp, at).to_le_bytes());
        }
    }
}

/// The stamp of a block; panics when the block is not of one piece.
pub fn stamp_of(block: &[u8], lba: u64) -> u64 {
    if block.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let words = || {
        block
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("8")))
    };
    let first = words().next().expect("a block has words");
    let stamp = first ^ word_of(lba, 0, 0);
    for (word, at) in words().zip(0..) {
        assert_eq!(
            word,
            word_of(lba, stamp, at),
            "block {lba} is torn or misplaced at word {at}"
        );
    }
    stamp
}

fn word_of(lba: u64, stamp: u64, at: u64) -> u64 {
    stamp ^ (lba + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at << 48)
}
