//! Runs in which the only copy of data is damaged: what is served is right, or it is an error.
//!
//! A pool is filled and shut down; then data is damaged, by chance under load or by hand while the
//! pool is closed; then everything is read. Damage by chance is kept to data and map clusters:
//! the newest batches of a journal cannot be told from a torn tail when they are damaged
//! (docs/format.md, "Recovery"), so a run that damages a journal that is in use could demand
//! nothing. For the same reason lives with damage by chance have no crashes.
//!
//! A third of the runs damage a pool that is in use, and crash it: only what was on the device when
//! the life began and has not been written since, so that a good system knows what it has to find
//! there. Then nothing that was promised before may silently turn into something older.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use block::{Device, OpenOptions};
use reactor::sim::{DiskFaults, DiskOptions, FaultAtlas, Image, World, WorldOptions};
use store::Pool;

use crate::checkers::format::check_image;
use crate::client::Weather;
use crate::ledger::Totals;
use crate::life::{DISK, Progress, Task};
use crate::plan::{Class, Habits, Plan};
use crate::run::{Failure, NODE, Outcome, Runner};

/// More than any of these lives takes.
const LIFE_LIMIT: Duration = Duration::from_secs(900);
/// Where the superblock says at which block the first cluster is (docs/format.md).
const FIRST_CLUSTER_FIELD: u64 = 64;
const BLOCK_BYTES: u64 = 4096;
/// Places damaged by hand in one run.
const WOUNDS_MAX: u64 = 12;
/// Intensity of damage by chance, in parts per million of the operations.
const CHANCE_PPM: u64 = 30_000;

/// Runs one seed.
pub fn run_corruption(seed: u64) -> Result<Outcome, Failure> {
    let mut plan = Plan::new(seed, Class::Corruption);
    plan.habits.operator_pause_us = 0;
    plan.habits.requests = plan.habits.requests.min(80);
    let mut runner = Runner::new(plan);
    runner.prepare()?;
    runner.live(Weather::default(), runner.plan.habits)?;
    let clean = match runner.prng.below(3) {
        0 => {
            runner.wound();
            true
        }
        1 => runner.live_with_damage()?,
        _ => {
            runner.crash_with_wounds()?;
            true
        }
    };
    // A pool that could not be shut down may have lost what it had not written: see above.
    if clean {
        runner.read_what_is_left()?;
    }
    Ok(Outcome {
        trace_hash: runner.world.trace_hash(),
        totals: runner.ledger.borrow().totals,
        crashes: runner.world.crashes(NODE),
    })
}

/// What is on the device for certain when a life begins.
struct Settled {
    /// A life earlier.
    older: Image,
    now: Image,
    /// Blocks in which the two differ: the log, direct data and the latest pages of the map.
    fresh: Vec<u64>,
}

impl Settled {
    fn new(older: Image, now: Image, len_bytes: u64) -> Self {
        let blocks = (0..len_bytes / BLOCK_BYTES).map(|block| block * BLOCK_BYTES);
        let fresh = blocks
            .filter(|offset| block_of(&older, *offset) != block_of(&now, *offset))
            .collect();
        Self { older, now, fresh }
    }
}

fn block_of(image: &Image, offset: u64) -> [u8; BLOCK_BYTES as usize] {
    let mut block = [0; BLOCK_BYTES as usize];
    image.read(offset, &mut block);
    block
}

impl Runner {
    /// One life with these clients, to its end.
    fn live(&mut self, weather: Weather, habits: Habits) -> Result<Rc<Progress>, Failure> {
        let task = Task {
            number: 0,
            read_back: true,
            habits,
            shut_down: true,
            weather,
        };
        let progress = self.begin_life(task);
        let ended = self.pass(LIFE_LIMIT);
        self.check()?;
        if !ended {
            return Err(self.failure(format!("the life does not end: {progress:?}")));
        }
        self.ended(None);
        Ok(progress)
    }

    /// A life in which data is damaged all the time; false when it was not shut down in order.
    fn live_with_damage(&mut self) -> Result<bool, Failure> {
        let ranges = match data_ranges(self.disk.snapshot(), self.plan.pool_bytes) {
            Ok(ranges) => ranges,
            Err(what) => return Err(self.failure(what)),
        };
        let mut faults = DiskFaults::default();
        let mut draw = |ppm: &mut u32| {
            if self.prng.chance_percent(50) {
                *ppm = self.prng.between(1, CHANCE_PPM) as u32;
            }
        };
        draw(&mut faults.bit_rot.read_ppm);
        draw(&mut faults.latent.read_ppm);
        draw(&mut faults.misdirect.read_ppm);
        draw(&mut faults.misdirect.write_ppm);
        draw(&mut faults.lost_write.ppm);
        self.disk.set_atlas(FaultAtlas::Ranges(ranges));
        self.disk.set_faults(faults);
        let weather = Weather {
            device_errors: true,
            damage: true,
        };
        let progress = self.live(weather, self.plan.habits)?;
        self.disk.heal();
        Ok(progress.shut_down.get())
    }

    /// Lives that are cut off, with damage done to the pool while it is used.
    fn crash_with_wounds(&mut self) -> Result<(), Failure> {
        let faults = self.plan.world.disk.faults.clone();
        self.disk.set_faults(faults);
        let mut older = self.disk.durable_snapshot();
        // Without damage first: crashes leave journals that are not empty.
        self.cut_off_life(None)?;
        for _ in 0..self.plan.lives {
            let settled = Settled::new(older, self.disk.durable_snapshot(), self.plan.pool_bytes);
            self.cut_off_life(Some(&settled))?;
            older = settled.now;
        }
        self.world.heal_all();
        Ok(())
    }

    /// One life ended by a crash; settled data, if any, is damaged at some moment of it.
    fn cut_off_life(&mut self, settled: Option<&Settled>) -> Result<(), Failure> {
        let limits = [self.draw_limit(), self.draw_limit()];
        let mut habits = self.plan.habits;
        if settled.is_some() && self.prng.chance_percent(50) {
            // What the last life left stays in the journal.
            habits.requests = self.prng.below(3) as u32;
        }
        let task = Task {
            number: 0,
            read_back: self.prng.chance_percent(30),
            habits,
            shut_down: false,
            weather: Weather {
                device_errors: true,
                damage: settled.is_some(),
            },
        };
        let progress = self.begin_life(task);
        // Before the pool is open nothing is known to have been there.
        self.world.try_run_until(LIFE_LIMIT, |world| {
            !world.is_up(NODE) || progress.opened.get()
        });
        let is_over = self.pass(limits[0]);
        if let Some(settled) = settled.filter(|_| !is_over && progress.opened.get()) {
            for _ in 0..self.prng.between(1, WOUNDS_MAX) {
                self.wound_settled(settled);
            }
            self.pass(limits[1]);
        }
        let crash = self.draw_crash();
        self.end_life(crash);
        self.check()
    }

    /// Damages one block that nobody has written in this life. A lost write leaves what was there
    /// a life earlier.
    fn wound_settled(&mut self, settled: &Settled) {
        let offset = if settled.fresh.is_empty() || self.prng.chance_percent(30) {
            self.prng.below(self.plan.pool_bytes / BLOCK_BYTES) * BLOCK_BYTES
        } else {
            settled.fresh[self.prng.index(settled.fresh.len())]
        };
        let range = offset..offset + BLOCK_BYTES;
        let then = block_of(&settled.now, offset);
        if self.disk.bytes(range.clone()) != then || self.disk.durable_bytes(range) != then {
            return;
        }
        if self.prng.chance_percent(40) {
            self.disk.corrupt(offset, &block_of(&settled.older, offset));
        } else {
            self.damage(offset);
        }
    }

    /// Damage by hand to a pool at rest, anywhere.
    fn wound(&mut self) {
        let blocks = self.plan.pool_bytes / BLOCK_BYTES;
        let first = u64::from_le_bytes(self.field(FIRST_CLUSTER_FIELD));
        for _ in 0..self.prng.between(1, WOUNDS_MAX) {
            // Mostly where the data is.
            let from = if self.prng.chance_percent(90) {
                first
            } else {
                0
            };
            let block = self.prng.between(from, blocks - 1);
            self.damage(block * BLOCK_BYTES);
        }
    }

    /// Damages one block.
    fn damage(&mut self, offset: u64) {
        let blocks = self.plan.pool_bytes / BLOCK_BYTES;
        let first = u64::from_le_bytes(self.field(FIRST_CLUSTER_FIELD));
        match self.prng.below(4) {
            0 => self.disk.flip_bit(offset + self.prng.below(BLOCK_BYTES)),
            1 => self.disk.corrupt(offset, &[0xA5; 512]),
            2 => self.disk.latent_error(offset..offset + BLOCK_BYTES),
            _ => {
                // What a misdirected write leaves: a good block at the wrong place.
                let other = self.prng.between(first, blocks - 1) * BLOCK_BYTES;
                let bytes = self.disk.bytes(other..other + BLOCK_BYTES);
                self.disk.corrupt(offset, &bytes);
            }
        }
    }

    fn field(&self, offset: u64) -> [u8; 8] {
        let bytes = self.disk.bytes(offset..offset + 8);
        bytes.try_into().unwrap_or_default()
    }

    /// Reads everything, without writing: each block is right or refused, and what is refused for
    /// its checksum is found by the offline check.
    fn read_what_is_left(&mut self) -> Result<(), Failure> {
        let image = self.disk.snapshot();
        let before: Totals = self.ledger.borrow().totals;
        let weather = Weather {
            device_errors: true,
            damage: true,
        };
        let progress = self.live(
            weather,
            Habits {
                requests: 0,
                ..self.plan.habits
            },
        )?;
        let refused = self.ledger.borrow().totals.corrupt - before.corrupt;
        let block = self.plan.world.disk.logical_block;
        let report = check_image(image, self.plan.pool_bytes, block);
        let is_found = report.as_ref().map_or(true, |report| report.is_damaged);
        if refused > 0 && !is_found {
            let what = format!("{refused} reads were refused, and fsck found nothing: {report:?}");
            return Err(self.failure(what));
        }
        let opened = progress.opened.get();
        if !opened && progress.open_failed.borrow().is_none() {
            return Err(self.failure("the pool was refused without a reason".into()));
        }
        Ok(())
    }
}

/// The parts of a pool that hold data and map nodes: its clusters without the journals.
fn data_ranges(image: Image, len_bytes: u64) -> Result<Vec<Range<u64>>, String> {
    let mut first = [0; 8];
    image.read(FIRST_CLUSTER_FIELD, &mut first);
    let mut at = u64::from_le_bytes(first) * BLOCK_BYTES;
    let mut ranges = Vec::new();
    for journal in journal_ranges(image, len_bytes)? {
        if at < journal.start {
            ranges.push(at..journal.start);
        }
        at = journal.end;
    }
    ranges.push(at..len_bytes);
    Ok(ranges)
}

/// Where the journals are, in order.
fn journal_ranges(image: Image, len_bytes: u64) -> Result<Vec<Range<u64>>, String> {
    let mut world = World::new(0, WorldOptions::default());
    world
        .add_disk(
            DISK,
            DiskOptions {
                len_bytes,
                ..DiskOptions::default()
            },
        )
        .restore(image);
    let found = world.run_once("reader", LIFE_LIMIT, || async {
        let device = Device::open(Path::new(DISK), OpenOptions { read_only: true });
        let device = device.map_err(|error| error.to_string())?;
        let pool = Pool::open(device, store::OpenOptions::default()).await;
        let pool = pool.map_err(|error| error.to_string())?;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for run in pool
            .records()
            .iter()
            .flat_map(|record| record.journal_runs.clone())
        {
            let start = run.first.byte_offset();
            runs.push(start..start + run.len_bytes());
        }
        runs.sort_by_key(|run| run.start);
        Ok(runs)
    });
    found.unwrap_or_else(|| Err("the reader crashed".into()))
}
