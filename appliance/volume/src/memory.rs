//! A volume kept in memory: the same `Volume` type for the tests of the frontends.

use std::cell::RefCell;
use std::sync::Arc;

use reactor::buf::Buf;
use rustc_hash::FxHashMap;

use crate::compare::{check_pair, first_difference, or_into};
use crate::error::VolumeError;
use crate::metrics::Metrics;
use crate::request::{BlockStatus, Command, Completion, Request, Span, VolumeId, VolumeInfo};
use crate::status::Run;

/// Logical blocks by number; a block not there reads as zeros.
pub(crate) struct Memory {
    info: VolumeInfo,
    blocks: RefCell<FxHashMap<u64, Box<[u8]>>>,
    /// Blocks that may be written before the pool counts as full.
    room_blocks: u64,
    pub metrics: Metrics,
    pub reservations: RefCell<Vec<u8>>,
}

impl Memory {
    pub fn new(block_count: u64, block_bytes: u32) -> Self {
        Self::numbered(1, block_count, block_bytes, u64::MAX)
    }

    /// The volume `number` of its pool, which has room for `room_blocks` blocks of it.
    pub fn numbered(number: u8, block_count: u64, block_bytes: u32, room_blocks: u64) -> Self {
        let (mut nguid, mut serial) = (*b"bedplate-nguid\0\0", *b"MEMORY0000000001    ");
        nguid[0] += number - 1;
        serial[15] = b'0' + number;
        let name = match number {
            1 => Arc::from("memory"),
            _ => Arc::from(format!("memory-{number}")),
        };
        let info = VolumeInfo {
            id: VolumeId(number.into()),
            name,
            uuid: *b"bedplate-memory\0",
            nguid,
            serial,
            block_count,
            block_bytes,
            volatile_cache: true,
        };
        Self {
            info,
            blocks: RefCell::default(),
            room_blocks,
            metrics: Metrics::default(),
            reservations: RefCell::default(),
        }
    }

    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    /// Runs the request after one trip through the ready queue, as a real volume would.
    pub async fn execute(&self, request: Request) -> Completion {
        reactor::yield_now().await;
        let info = &self.info;
        match request.command {
            Command::Read { lba, block_count } => {
                let span = info.transfer(lba, block_count.into())?;
                let mut buf = reactor::buf::alloc(span.len_bytes as usize).await;
                self.load(span, buf.as_mut());
                Ok(Some(buf))
            }
            Command::Write { lba, data } | Command::WriteAtomic { lba, data } => {
                let span = info.payload(lba, &data)?;
                if self.blocks.borrow().len() as u64 >= self.room_blocks {
                    let pool = info.name.clone();
                    return Err(VolumeError::PoolFull { pool });
                }
                self.store(span, &data);
                Ok(None)
            }
            Command::Flush => Ok(None),
            Command::WriteZeroes {
                lba, block_count, ..
            } => {
                self.zero(info.span(lba, block_count)?);
                Ok(None)
            }
            Command::Deallocate { ranges } => {
                for range in ranges.iter().filter(|range| range.block_count > 0) {
                    info.span(range.lba, range.block_count.into())?;
                }
                for range in ranges.iter().filter(|range| range.block_count > 0) {
                    self.zero(info.span(range.lba, range.block_count.into())?);
                }
                Ok(None)
            }
            Command::Compare { lba, data } => self.compare(lba, &data),
            Command::CompareAndWrite {
                lba,
                compare,
                write,
            } => {
                check_pair(info, &compare, &write)?;
                let span = info.payload(lba, &write)?;
                self.compare(lba, &compare)?;
                self.store(span, &write);
                Ok(None)
            }
            Command::Or { lba, mut data } => {
                let span = info.payload(lba, &data)?;
                let mut current = vec![0; data.len()];
                self.load(span, &mut current);
                or_into(data.as_mut(), &current);
                self.store(span, &data);
                Ok(None)
            }
            Command::Verify { lba, block_count } => {
                info.span(lba, block_count.into())?;
                Ok(None)
            }
        }
    }

    /// As [`crate::Volume::block_status`]; a page is mapped when one of its blocks was written.
    pub fn block_status(&self, lba: u64) -> Result<BlockStatus, VolumeError> {
        self.info.span(lba, 1)?;
        let blocks = self.blocks.borrow();
        let page_blocks = u64::from(4096 / self.info.block_bytes);
        let is_mapped = |page: u64| {
            let mut lbas = page * page_blocks..(page + 1) * page_blocks;
            lbas.any(|lba| blocks.contains_key(&lba))
        };
        let mut run = Run::default();
        let end = self.info.block_count.div_ceil(page_blocks);
        let mut pages = lba / page_blocks..end;
        while pages.next().is_some_and(|page| run.add(is_mapped(page))) {}
        Ok(run.status(lba, &self.info))
    }

    fn block_len(&self) -> usize {
        self.info.block_bytes as usize
    }

    fn first_block(&self, span: Span) -> u64 {
        span.offset_bytes / u64::from(self.info.block_bytes)
    }

    fn load(&self, span: Span, into: &mut [u8]) {
        let blocks = self.blocks.borrow();
        for (lba, chunk) in (self.first_block(span)..).zip(into.chunks_mut(self.block_len())) {
            match blocks.get(&lba) {
                Some(block) => chunk.copy_from_slice(block),
                None => chunk.fill(0),
            }
        }
    }

    fn store(&self, span: Span, data: &[u8]) {
        let mut blocks = self.blocks.borrow_mut();
        for (lba, chunk) in (self.first_block(span)..).zip(data.chunks(self.block_len())) {
            blocks.insert(lba, chunk.into());
        }
    }

    fn zero(&self, span: Span) {
        let first = self.first_block(span);
        let end = first + span.len_bytes / u64::from(self.info.block_bytes);
        self.blocks
            .borrow_mut()
            .retain(|lba, _| *lba < first || *lba >= end);
    }

    fn compare(&self, lba: u64, data: &Buf) -> Completion {
        let span = self.info.payload(lba, data)?;
        let mut current = vec![0; data.len()];
        self.load(span, &mut current);
        match first_difference(&current, data, self.block_len()) {
            None => Ok(None),
            Some((block, byte)) => Err(VolumeError::CompareMismatch {
                lba: lba + block as u64,
                byte,
            }),
        }
    }
}
