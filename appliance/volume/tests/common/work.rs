//! Seeded requests against a volume, each checked against the model.

use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{Buf, pool};
use volume::{BlockRange, Command, ErrorKind, Ranges, Request, Volume, VolumeError};

use super::Shared;
use super::model::{Model, fill, stamp_of};

/// A small generator: the same numbers for the same seed, everywhere.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// What kinds of requests, in parts of 100.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub small_writes: u64,
    pub large_writes: u64,
    pub zeroes: u64,
    pub compares: u64,
    pub flushes: u64,
    /// Pauses of up to 2 s, so that the flusher's own timer gets its turn.
    pub pauses: u64,
}

impl Mix {
    /// The rest are reads.
    pub const ALL: Mix = Mix {
        small_writes: 35,
        large_writes: 15,
        zeroes: 10,
        compares: 5,
        flushes: 5,
        pauses: 1,
    };

    /// A mix of its own for each seed: whole kinds are left out.
    pub fn swarm(random: &mut Random) -> Mix {
        let mut share = |most: u64| {
            if random.below(4) == 0 {
                0
            } else {
                random.below(most) + 1
            }
        };
        Mix {
            small_writes: share(40),
            large_writes: share(25),
            zeroes: share(12),
            compares: share(8),
            flushes: share(8),
            pauses: share(2),
        }
    }
}

/// A worker: executes `count` requests one after another.
pub struct Worker {
    pub volume: Volume,
    pub model: Shared<Model>,
    pub random: Random,
    pub mix: Mix,
}

impl Worker {
    /// Runs `workers` of them at the same time, to the end.
    pub async fn run_many(
        volume: &Volume,
        model: &Shared<Model>,
        seed: u64,
        mix: Mix,
        workers: u64,
        count: u64,
    ) {
        let tasks: Vec<_> = (0..workers)
            .map(|number| {
                let worker = Worker {
                    volume: volume.clone(),
                    model: model.clone(),
                    random: Random::new(seed.wrapping_mul(1000) + number),
                    mix,
                };
                reactor::spawn(worker.run(count))
            })
            .collect();
        for task in tasks {
            task.await;
        }
    }

    pub async fn run(mut self, count: u64) {
        for _ in 0..count {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let mut dice = self.random.below(100);
        let mut is = |share: u64| {
            let hit = dice < share;
            dice = dice.saturating_sub(share);
            hit
        };
        let mix = self.mix;
        if is(mix.small_writes) {
            let count = 1 + self.random.below(16);
            self.write(count).await;
        } else if is(mix.large_writes) {
            let most = (1 << 20) / u64::from(self.volume.info().block_bytes);
            let count = most / 16 * (1 + self.random.below(16));
            self.write(count).await;
        } else if is(mix.zeroes) {
            self.zero().await;
        } else if is(mix.compares) {
            self.compare().await;
        } else if is(mix.flushes) {
            self.flush().await;
        } else if is(mix.pauses) {
            let ms = self.random.below(2000);
            reactor::time::sleep(Duration::from_millis(ms)).await;
        } else {
            self.read().await;
        }
    }

    /// A range of up to `count` blocks; often at a boundary, so that large writes can go direct.
    fn range(&mut self, count: u64) -> (u64, u64) {
        let total = self.volume.info().block_count;
        let mut lba = self.random.below(total);
        if self.random.below(3) > 0 {
            let cluster = store::CLUSTER_BYTES / u64::from(self.volume.info().block_bytes);
            let unit = if self.random.below(2) == 0 {
                cluster
            } else {
                cluster / 4
            };
            lba = lba / unit * unit;
        }
        (lba, count.min(total - lba))
    }

    async fn data(&self, lba: u64, count: u64, stamp: u64) -> Buf {
        let block_bytes = self.volume.info().block_bytes as usize;
        let mut buf = pool().alloc(count as usize * block_bytes).await;
        fill(buf.as_mut(), block_bytes, lba, stamp);
        buf
    }

    /// Takes the range for writing in the model, when no other write is there.
    fn begin(&mut self, lba: u64, count: u64, is_zero: bool) -> Option<u64> {
        let mut model = self.model.borrow_mut();
        if model.is_busy(lba, count) {
            return None;
        }
        let stamp = if is_zero { 0 } else { model.fresh_stamp() };
        model.begin_write(lba, count, stamp);
        Some(stamp)
    }

    async fn write(&mut self, count: u64) {
        let (lba, count) = self.range(count);
        let fua = self.random.below(8) == 0;
        let data = self.data(lba, count, 0).await;
        let Some(stamp) = self.begin(lba, count, false) else {
            return;
        };
        let block_bytes = self.volume.info().block_bytes as usize;
        let mut data = data;
        fill(data.as_mut(), block_bytes, lba, stamp);
        let result = self
            .volume
            .execute(Request {
                command: Command::Write { lba, data },
                fua,
            })
            .await;
        self.ended(lba, count, stamp, fua, result.map(|_| ()));
    }

    fn ended(&self, lba: u64, count: u64, stamp: u64, fua: bool, result: Result<(), VolumeError>) {
        let mut model = self.model.borrow_mut();
        match result {
            Ok(()) => model.end_write(lba, count, stamp, fua),
            Err(error) if error.kind() == ErrorKind::PoolFull => {
                model.cancel_write(lba, count, stamp);
            }
            Err(error) => panic!("write of {lba}+{count}: {error}"),
        }
    }

    async fn zero(&mut self) {
        let most = if self.random.below(4) == 0 {
            self.volume.info().block_count
        } else {
            300
        };
        let count = 1 + self.random.below(most);
        let (lba, count) = self.range(count);
        if self.begin(lba, count, true).is_none() {
            return;
        }
        let fua = self.random.below(8) == 0;
        let command = if fua || self.random.below(2) == 0 {
            Command::WriteZeroes {
                lba,
                block_count: count,
                deallocate: true,
            }
        } else {
            let mut ranges = Ranges::new(pool().alloc(Ranges::STORAGE_BYTES).await);
            assert!(ranges.push(BlockRange {
                lba,
                block_count: count as u32
            }));
            Command::Deallocate { ranges }
        };
        let result = self.volume.execute(Request { command, fua }).await;
        self.ended(lba, count, 0, fua, result.map(|_| ()));
    }

    async fn compare(&mut self) {
        let (lba, count) = self.range(1);
        let Some(current) = self.model.borrow().certain(lba) else {
            return;
        };
        let is_right = self.random.below(3) > 0;
        let compare = self
            .data(lba, count, if is_right { current } else { u64::MAX >> 20 })
            .await;
        let write = self.data(lba, count, 0).await;
        if self.model.borrow().certain(lba) != Some(current) {
            return;
        }
        let Some(stamp) = self.begin(lba, count, false) else {
            return;
        };
        let mut write = write;
        let block_bytes = self.volume.info().block_bytes as usize;
        fill(write.as_mut(), block_bytes, lba, stamp);
        let command = Command::CompareAndWrite {
            lba,
            compare,
            write,
        };
        match self.volume.execute(Request::new(command)).await {
            Err(VolumeError::CompareMismatch { lba: at, .. }) => {
                assert!(
                    !is_right && at == lba,
                    "block {lba}: compare differs at {at}"
                );
                self.model.borrow_mut().cancel_write(lba, count, stamp);
            }
            result => {
                assert!(
                    is_right || result.is_err(),
                    "block {lba}: compared equal to other data"
                );
                self.ended(lba, count, stamp, false, result.map(|_| ()));
            }
        }
    }

    async fn flush(&mut self) {
        let order = self.model.borrow().begin_flush();
        self.volume
            .execute(Request::new(Command::Flush))
            .await
            .expect("flush");
        self.model.borrow_mut().end_flush(order);
    }

    async fn read(&mut self) {
        let most = (1 << 20) / u64::from(self.volume.info().block_bytes);
        let most = if self.random.below(4) == 0 { most } else { 20 };
        let count = 1 + self.random.below(most);
        let (lba, count) = self.range(count);
        let start = self.model.borrow().begin_read();
        let command = Command::Read {
            lba,
            block_count: count as u32,
        };
        let data = self
            .volume
            .execute(Request::new(command))
            .await
            .expect("read");
        let data = data.expect("a read gives data");
        let block_bytes = self.volume.info().block_bytes as usize;
        assert_eq!(data.len(), count as usize * block_bytes);
        let model = self.model.borrow();
        for (block, lba) in data.chunks(block_bytes).zip(lba..) {
            model.check_read(start, lba, stamp_of(block, lba));
        }
    }
}

/// Reads the whole volume after a crash and takes what is there as the new state.
pub async fn recover(volume: &Volume, model: &Shared<Model>, power_loss: bool) {
    let total = volume.info().block_count;
    let block_bytes = volume.info().block_bytes as usize;
    let step = store::CLUSTER_BYTES / block_bytes as u64;
    let mut lba = 0;
    while lba < total {
        let count = step.min(total - lba);
        let command = Command::Read {
            lba,
            block_count: count as u32,
        };
        let data = volume
            .execute(Request::new(command))
            .await
            .expect("read after a crash");
        let data = data.expect("a read gives data");
        let mut model = model.borrow_mut();
        for (block, lba) in data.chunks(block_bytes).zip(lba..) {
            model.recover(lba, stamp_of(block, lba), power_loss);
        }
        lba += count;
    }
}

/// The whole volume must be exactly what was acknowledged.
pub async fn check_all(volume: &Volume, model: &Shared<Model>) {
    recover(volume, model, false).await;
}

pub fn shared(model: Model) -> Shared<Model> {
    Rc::new(std::cell::RefCell::new(model))
}
