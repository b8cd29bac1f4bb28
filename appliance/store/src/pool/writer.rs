//! Writes metadata blocks: adjacent ones as one write, a bounded number of writes at a time.

use std::collections::VecDeque;

use block::{BlockError, Device};
use reactor::JoinHandle;
use reactor::buf::{Buf, BufList, engine_alloc};

use crate::format::Block;
use crate::types::BLOCK_BYTES;

/// Blocks of one write at most: with `IN_FLIGHT_MAX` this bounds the memory of a publish.
const WRITE_BLOCKS_MAX: usize = 16;
const IN_FLIGHT_MAX: usize = 8;

/// Collects blocks in the order they come. Nothing is written for certain before `finish`.
pub(crate) struct BlockWriter {
    device: Device,
    open: Option<OpenWrite>,
    in_flight: VecDeque<JoinHandle<Result<(), BlockError>>>,
}

struct OpenWrite {
    first_block: u64,
    blocks: usize,
    buf: Buf,
}

impl BlockWriter {
    pub(crate) fn new(device: &Device) -> BlockWriter {
        BlockWriter {
            device: device.clone(),
            open: None,
            in_flight: VecDeque::new(),
        }
    }

    /// Adds a block whose bytes `fill` makes out of zeros, and gives what `fill` gave.
    ///
    /// Errors: of any write so far. Cost: waits for a buffer or an earlier write when there are
    /// too many.
    pub(crate) async fn put<T>(
        &mut self,
        block: u64,
        fill: impl FnOnce(&mut Block) -> T,
    ) -> Result<T, BlockError> {
        let adjacent = |open: &OpenWrite| {
            open.first_block + open.blocks as u64 == block && open.blocks < WRITE_BLOCKS_MAX
        };
        if !self.open.as_ref().is_some_and(adjacent) {
            self.submit().await?;
            let buf = engine_alloc(WRITE_BLOCKS_MAX * BLOCK_BYTES).await;
            self.open = Some(OpenWrite {
                first_block: block,
                blocks: 0,
                buf,
            });
        }
        let open = self.open.as_mut().expect("opened above");
        let at = open.blocks * BLOCK_BYTES;
        open.blocks += 1;
        let bytes = &mut open.buf.as_mut()[at..at + BLOCK_BYTES];
        bytes.fill(0);
        Ok(fill(bytes.try_into().expect("one block")))
    }

    /// Adds a run of bytes, padded with zeros to whole blocks.
    pub(crate) async fn put_bytes(&mut self, block: u64, bytes: &[u8]) -> Result<(), BlockError> {
        for (block, chunk) in (block..).zip(bytes.chunks(BLOCK_BYTES)) {
            self.put(block, |target| target[..chunk.len()].copy_from_slice(chunk))
                .await?;
        }
        Ok(())
    }

    async fn submit(&mut self) -> Result<(), BlockError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            self.reap().await?;
        }
        let device = self.device.clone();
        self.in_flight.push_back(reactor::spawn(async move {
            let mut list = BufList::new();
            list.push(open.buf.slice(0..open.blocks * BLOCK_BYTES));
            device
                .write(open.first_block * BLOCK_BYTES as u64, list)
                .await
                .0
        }));
        Ok(())
    }

    async fn reap(&mut self) -> Result<(), BlockError> {
        match self.in_flight.pop_front() {
            Some(write) => write.await,
            None => Ok(()),
        }
    }

    /// Waits until every block is written. They are durable after the next flush.
    pub(crate) async fn finish(&mut self) -> Result<(), BlockError> {
        self.submit().await?;
        while !self.in_flight.is_empty() {
            self.reap().await?;
        }
        Ok(())
    }
}

/// Writes one block by itself.
pub(crate) async fn write_block(
    device: &Device,
    block: u64,
    bytes: &Block,
) -> Result<(), BlockError> {
    let mut buf = engine_alloc(BLOCK_BYTES).await;
    buf.as_mut()[..BLOCK_BYTES].copy_from_slice(bytes);
    let mut list = BufList::new();
    list.push(buf);
    device.write(block * BLOCK_BYTES as u64, list).await.0
}
