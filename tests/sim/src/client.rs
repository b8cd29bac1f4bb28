//! A client: sends requests to one volume, one at a time, and tells the ledger what it was told.

use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{Buf, pool};
use reactor::sim::Prng;
use reactor::time::{sleep, timeout};
use volume::{
    BlockRange, Command, Completion, ErrorKind, Ranges, Request, Volume, VolumeError, VolumeInfo,
};

use crate::ledger::{Effect, End, Extent, Life, Shared};
use crate::plan::Habits;
use crate::stamp::{self, Place};

/// What errors a client must put up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The device reports errors now and then; a volume may stop because of it.
    pub device_errors: bool,
    /// Data on the device may be damaged: reads may fail.
    pub damage: bool,
}

/// A client of one volume.
pub struct Client {
    volume: Volume,
    name: Rc<str>,
    ledger: Shared,
    habits: Habits,
    weather: Weather,
    prng: Prng,
}

/// What the client does next.
#[derive(Clone, Copy)]
enum Job {
    Read,
    Write,
    Flush,
    Zeroes,
    Deallocate,
    Compare,
    CompareAndWrite,
    Verify,
}

const JOBS: [Job; 8] = [
    Job::Read,
    Job::Write,
    Job::Flush,
    Job::Zeroes,
    Job::Deallocate,
    Job::Compare,
    Job::CompareAndWrite,
    Job::Verify,
];

/// Blocks of a compare-and-write: it needs two buffers at once, which must not wait for each other.
const FUSED_BLOCKS_MAX: u64 = 4;
/// How long a client that goes away has waited, at most.
const PATIENCE: Duration = Duration::from_micros(300);
/// Ranges of one deallocation.
const RANGES_MAX: u64 = 6;

impl Client {
    /// A client whose behaviour follows from `prng`.
    pub fn new(
        volume: Volume,
        ledger: Shared,
        habits: Habits,
        weather: Weather,
        prng: Prng,
    ) -> Self {
        let name = Rc::from(&*volume.info().name);
        Self {
            volume,
            name,
            ledger,
            habits,
            weather,
            prng,
        }
    }

    /// Sends its requests. Ends early when something is wrong or the volume is gone.
    pub async fn run(mut self) {
        for _ in 0..self.habits.requests {
            if self.is_over() {
                return;
            }
            self.think().await;
            let mix = self.habits.mix;
            let weights = [
                mix.read,
                mix.write,
                mix.flush,
                mix.zeroes,
                mix.deallocate,
                mix.compare,
                mix.compare_and_write,
                mix.verify,
            ];
            match JOBS[self.prng.weighted(&weights)] {
                Job::Read => self.read().await,
                Job::Write => self.write().await,
                Job::Flush => drop(self.flush().await),
                Job::Zeroes => self.zeroes().await,
                Job::Deallocate => self.deallocate().await,
                Job::Compare => self.compare().await,
                Job::CompareAndWrite => self.compare_and_write().await,
                Job::Verify => self.verify().await,
            }
        }
    }

    fn info(&self) -> &VolumeInfo {
        self.volume.info()
    }

    fn is_over(&self) -> bool {
        let ledger = self.ledger.borrow();
        let is_live = ledger
            .volumes
            .get(&*self.name)
            .is_some_and(|v| v.life == Life::Live);
        ledger.violation.is_some() || !is_live
    }

    async fn think(&mut self) {
        let longest = self.habits.think_us;
        if longest > 0 {
            // Mostly short, so that requests meet each other.
            let cap = longest >> self.prng.below(10);
            let pause_us = self.prng.between(0, cap);
            sleep(Duration::from_micros(pause_us)).await;
        }
    }

    /// A place for a request of up to `most` blocks.
    fn extent(&mut self, most: u64) -> Extent {
        let (block_count, block_bytes) = (self.info().block_count, self.info().block_bytes);
        let per_page = u64::from(4096 / block_bytes);
        let most = most.min(block_count).max(1);
        let cap = 1 << self.prng.between(0, u64::from(most.ilog2()));
        let mut count = self.prng.between(1, cap);
        if self.prng.chance_percent(10) {
            count = most;
        }
        let is_hot = self.prng.chance_percent(self.habits.hot_percent);
        let end = if is_hot {
            self.habits.hot_blocks.min(block_count)
        } else {
            block_count
        };
        let mut lba = self.prng.below(end);
        // Half of the requests are aligned: to pages, or to clusters.
        let align = [1, 1, per_page, per_page * store::CLUSTER_BLOCKS as u64][self.prng.index(4)];
        if align > 1 {
            lba -= lba % align;
            count = count.next_multiple_of(align).min(most);
        }
        (lba, count.min(block_count - lba))
    }

    fn transfer(&mut self) -> Extent {
        let block_bytes = u64::from(self.info().block_bytes);
        self.extent(self.habits.transfer_max_bytes / block_bytes)
    }

    fn draws_fua(&mut self) -> bool {
        self.prng.chance_percent(self.habits.fua_percent)
    }

    /// Executes a request; None when the client went away before it was done.
    async fn execute(&mut self, command: Command, fua: bool) -> Option<Completion> {
        let request = Request { command, fua };
        if !self.prng.chance_ppm(self.habits.abandon_ppm) {
            return Some(self.volume.execute(request).await);
        }
        let patience_ns = self.prng.below(PATIENCE.as_nanos() as u64);
        timeout(
            Duration::from_nanos(patience_ns),
            self.volume.execute(request),
        )
        .await
        .ok()
    }

    fn begin(&self, effect: Effect, fua: bool) -> u64 {
        self.ledger.borrow_mut().begin(&self.name, effect, fua)
    }

    /// Tells the ledger how a request ended, judging its error if there is one.
    fn end(&self, op: u64, extent: Extent, result: Option<&Completion>) {
        let end = match result {
            None => End::Unknown,
            Some(Ok(_)) => End::Done,
            Some(Err(error)) => self.judge(op, extent, error),
        };
        self.ledger.borrow_mut().end(&self.name, op, end);
    }

    /// What an error means for the request, and whether it was right to fail.
    fn judge(&self, op: u64, (lba, count): Extent, error: &VolumeError) -> End {
        let mut ledger = self.ledger.borrow_mut();
        let end = match error.kind() {
            ErrorKind::PoolFull => {
                ledger.totals.pool_full += 1;
                return End::Refused;
            }
            ErrorKind::CompareMismatch | ErrorKind::Closed => return End::Refused,
            ErrorKind::Corrupt if self.weather.damage => {
                ledger.totals.corrupt += 1;
                if self.names_a_place(error, (lba, count)) {
                    return End::Refused;
                }
                End::Refused
            }
            ErrorKind::Device | ErrorKind::Failed
                if self.weather.device_errors || self.weather.damage =>
            {
                return End::Unknown;
            }
            _ => End::Unknown,
        };
        let name = &self.name;
        ledger.violated(format!(
            "volume {name}: request {op} for blocks {lba}+{count} failed without a reason: {error}"
        ));
        end
    }

    /// Whether a checksum error names a page that the request touches.
    fn names_a_place(&self, error: &VolumeError, (lba, count): Extent) -> bool {
        let VolumeError::Corrupt { corruption, .. } = error else {
            return false;
        };
        let per_page = u64::from(4096 / self.info().block_bytes);
        (lba - lba % per_page..lba + count).contains(&corruption.lba)
    }

    /// A buffer for the data of a write.
    async fn buffer_for(&self, (_, count): Extent) -> Buf {
        pool()
            .alloc(count as usize * self.info().block_bytes as usize)
            .await
    }

    fn stamp(&self, buf: &mut Buf, lba: u64, version: u64) {
        let (uuid, block_bytes) = (self.info().uuid, self.info().block_bytes as usize);
        for (lba, block) in (lba..).zip(buf.as_mut().chunks_exact_mut(block_bytes)) {
            stamp::write(block, Place { uuid, lba }, version);
        }
    }

    async fn read(&mut self) {
        let extent = self.transfer();
        let fua = self.draws_fua();
        drop(self.read_extent(extent, fua).await);
    }

    /// Reads and has the ledger judge; gives the data.
    pub async fn read_extent(&mut self, (lba, count): Extent, fua: bool) -> Option<Buf> {
        let op = self.begin(Effect::None, fua);
        let command = Command::Read {
            lba,
            block_count: count as u32,
        };
        let result = self.execute(command, fua).await;
        let mut data = None;
        if let Some(Ok(Some(buf))) = &result {
            let wanted = count as usize * self.info().block_bytes as usize;
            let mut ledger = self.ledger.borrow_mut();
            if buf.len() != wanted {
                ledger.violated(format!("{} of {wanted} bytes were read", buf.len()));
            }
            ledger.saw(&self.name, op, lba, buf, fua);
            data = Some(buf.clone());
        }
        self.end(op, (lba, count), result.as_ref());
        data
    }

    async fn write(&mut self) {
        let extent = self.transfer();
        let fua = self.draws_fua();
        self.write_extent(extent, fua).await;
    }

    /// Writes; false when the request failed.
    pub async fn write_extent(&mut self, extent: Extent, fua: bool) -> bool {
        let mut data = self.buffer_for(extent).await;
        let op = self.begin(Effect::Write(extent), fua);
        self.stamp(&mut data, extent.0, op);
        let result = self
            .execute(
                Command::Write {
                    lba: extent.0,
                    data,
                },
                fua,
            )
            .await;
        self.end(op, extent, result.as_ref());
        matches!(result, Some(Ok(_)))
    }

    /// Everything completed so far becomes durable; false when the request failed.
    pub async fn flush(&mut self) -> bool {
        let op = self.begin(Effect::Flush, false);
        let result = self.execute(Command::Flush, false).await;
        self.end(op, (0, 0), result.as_ref());
        matches!(result, Some(Ok(_)))
    }

    /// A range to make zeros of; now and then a very long one.
    fn long_extent(&mut self) -> Extent {
        let block_bytes = u64::from(self.info().block_bytes);
        match self.prng.below(20) {
            0 => (0, self.info().block_count),
            1..5 => self.extent((4 << 20) / block_bytes),
            _ => self.transfer(),
        }
    }

    async fn zeroes(&mut self) {
        let (lba, block_count) = self.long_extent();
        let deallocate = self.prng.chance_percent(50);
        let fua = self.draws_fua();
        let op = self.begin(Effect::Zero(vec![(lba, block_count)]), fua);
        let command = Command::WriteZeroes {
            lba,
            block_count,
            deallocate,
        };
        let result = self.execute(command, fua).await;
        self.end_zero(op, (lba, block_count), result.as_ref());
    }

    /// A long range goes in pieces: when it fails, some of it may have happened.
    fn end_zero(&self, op: u64, extent: Extent, result: Option<&Completion>) {
        let mut end = match result {
            None => End::Unknown,
            Some(Ok(_)) => End::Done,
            Some(Err(error)) => self.judge(op, extent, error),
        };
        if end == End::Refused {
            end = End::Unknown;
        }
        self.ledger.borrow_mut().end(&self.name, op, end);
    }

    async fn deallocate(&mut self) {
        let mut extents: Vec<Extent> = Vec::new();
        for _ in 0..self.prng.between(1, RANGES_MAX) {
            let (lba, count) = self.long_extent();
            let overlaps = |(first, len): &Extent| lba < first + len && *first < lba + count;
            if !extents.iter().any(overlaps) {
                extents.push((lba, count));
            }
        }
        self.deallocate_extents(extents).await;
    }

    /// Deallocates; false when the request failed.
    pub async fn deallocate_extents(&mut self, extents: Vec<Extent>) -> bool {
        let mut ranges = Ranges::new(pool().alloc(Ranges::STORAGE_BYTES).await);
        for (lba, count) in &extents {
            ranges.push(BlockRange {
                lba: *lba,
                block_count: *count as u32,
            });
        }
        let whole = (0, self.info().block_count);
        let op = self.begin(Effect::Zero(extents), false);
        let result = self.execute(Command::Deallocate { ranges }, false).await;
        self.end_zero(op, whole, result.as_ref());
        matches!(result, Some(Ok(_)))
    }

    /// Reads some blocks to compare with; sometimes changes a byte of them.
    async fn expectation(&mut self, most: u64) -> Option<(u64, Vec<u8>)> {
        let extent = self.extent(most);
        let data = self.read_extent(extent, false).await?;
        let mut expected = data.to_vec();
        if self.prng.chance_percent(10) {
            let at = self.prng.index(expected.len());
            expected[at] ^= 1;
        }
        Some((extent.0, expected))
    }

    async fn buffer_of(&self, bytes: &[u8]) -> Buf {
        let mut buf = pool().alloc(bytes.len()).await;
        buf.as_mut().copy_from_slice(bytes);
        buf
    }

    /// What a comparison with `expected` told about the blocks.
    fn compared(&self, op: u64, lba: u64, expected: &[u8], result: Option<&Completion>) {
        let block_bytes = self.info().block_bytes as usize;
        let mut ledger = self.ledger.borrow_mut();
        match result {
            Some(Ok(_)) => ledger.saw(&self.name, op, lba, expected, false),
            Some(Err(VolumeError::CompareMismatch { lba: differs, .. })) => {
                let at = differs.wrapping_sub(lba) as usize;
                let Some(block) = expected.chunks_exact(block_bytes).nth(at) else {
                    ledger.violated(format!("request {op} at {lba} differs at {differs}"));
                    return;
                };
                let place = Place {
                    uuid: self.info().uuid,
                    lba: *differs,
                };
                if let Ok(seen) = stamp::read(block, place) {
                    ledger.saw_other(&self.name, op, *differs, seen);
                }
            }
            Some(Err(_)) | None => {}
        }
    }

    async fn compare(&mut self) {
        let most = self.habits.transfer_max_bytes / u64::from(self.info().block_bytes);
        let Some((lba, expected)) = self.expectation(most).await else {
            return;
        };
        let data = self.buffer_of(&expected).await;
        let extent = (
            lba,
            expected.len() as u64 / u64::from(self.info().block_bytes),
        );
        let op = self.begin(Effect::None, false);
        let result = self.execute(Command::Compare { lba, data }, false).await;
        self.compared(op, lba, &expected, result.as_ref());
        self.end(op, extent, result.as_ref());
    }

    async fn compare_and_write(&mut self) {
        let Some((lba, expected)) = self.expectation(FUSED_BLOCKS_MAX).await else {
            return;
        };
        let compare = self.buffer_of(&expected).await;
        let mut write = pool().alloc(expected.len()).await;
        let block_bytes = self.info().block_bytes as usize;
        let extent = (lba, (expected.len() / block_bytes) as u64);
        let op = self.begin(Effect::Write(extent), false);
        self.stamp(&mut write, lba, op);
        let result = self
            .execute(
                Command::CompareAndWrite {
                    lba,
                    compare,
                    write,
                },
                false,
            )
            .await;
        self.compared(op, lba, &expected, result.as_ref());
        if let Some(Ok(_)) = &result {
            let mut ledger = self.ledger.borrow_mut();
            for (lba, block) in (lba..).zip(expected.chunks_exact(block_bytes)) {
                let place = Place {
                    uuid: self.info().uuid,
                    lba,
                };
                if let Ok(seen) = stamp::read(block, place) {
                    ledger.replaced(&self.name, op, lba, seen);
                }
            }
        }
        self.end(op, extent, result.as_ref());
    }

    async fn verify(&mut self) {
        let (lba, count) = self.transfer();
        let op = self.begin(Effect::None, false);
        let result = self
            .execute(
                Command::Verify {
                    lba,
                    block_count: count as u32,
                },
                false,
            )
            .await;
        self.end(op, (lba, count), result.as_ref());
    }

    /// Reads everything that was ever touched.
    pub async fn read_back(&mut self) {
        let limit = (256 << 10) / u64::from(self.info().block_bytes);
        self.habits.abandon_ppm = 0;
        let touched = self.ledger.borrow_mut().volume(&self.name).touched(limit);
        for extent in touched {
            if self.is_over() {
                return;
            }
            drop(self.read_extent(extent, false).await);
        }
    }
}
