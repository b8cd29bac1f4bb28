//! The checking client: writes stamped blocks through one I/O queue and knows what must be there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use host::{Cid, Completion, HostError, IoQueue, Op};

use crate::Random;
use crate::model::{Model, Ticket};
use crate::stamp::{self, Content, SECTOR_BYTES};

/// Largest write and read in bytes.
const LARGEST_BYTES: usize = 512 << 10;
/// Reads in flight while a region is verified.
const VERIFY_DEPTH: usize = 8;

/// A part of a volume that one checker alone writes. Lives on over restarts of the server.
#[derive(Debug)]
pub struct Region {
    /// Number of the volume, part of every stamp.
    pub volume: u64,
    /// First logical block.
    pub first_lba: u64,
    block_bytes: usize,
    model: Model,
    version: u64,
    random: Random,
    /// Block ranges that a read or a compare in flight relies on.
    locks: Vec<(usize, usize)>,
    in_flight: BTreeMap<Cid, InFlight>,
}

/// What a checker did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Writes, zeroings and deallocations that were acknowledged.
    pub changes: u64,
    /// Of these, fused Compare and Write.
    pub compared: u64,
    /// Flushes that were acknowledged.
    pub flushes: u64,
    /// Blocks whose content was checked.
    pub checked: u64,
    /// Changes without an answer when the connection ended.
    pub unanswered: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.compared += other.compared;
        self.flushes += other.flushes;
        self.checked += other.checked;
        self.unanswered += other.unanswered;
    }
}

#[derive(Debug)]
enum InFlight {
    Change(Ticket),
    Compare(Ticket, (usize, usize)),
    Flush,
    Read(usize, usize),
}

impl Region {
    /// A region of `blocks` blocks that were never written.
    #[must_use]
    pub fn new(volume: u64, first_lba: u64, blocks: usize, block_bytes: usize, seed: u64) -> Self {
        Self {
            volume,
            first_lba,
            block_bytes,
            model: Model::new(blocks),
            version: 0,
            random: Random::new(seed),
            locks: Vec::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// Writes at random until the connection ends or `stop` is set, then waits for what is in
    /// flight. `depth` is the most commands in flight.
    ///
    /// Errors: a sentence about the promise that was broken. A connection that ends is one of them
    /// unless `killed` is set.
    pub fn load(
        &mut self,
        queue: &mut IoQueue,
        depth: usize,
        stop: &AtomicBool,
        killed: &AtomicBool,
    ) -> Result<Tally, String> {
        let mut tally = Tally::default();
        let result = self.drive(queue, depth, stop, &mut tally);
        let changes = |f: &&InFlight| matches!(f, InFlight::Change(_) | InFlight::Compare(..));
        tally.unanswered = self.in_flight.values().filter(changes).count() as u64;
        self.in_flight.clear();
        self.locks.clear();
        match result {
            Ok(()) => Ok(tally),
            Err(Stop::Host(error)) if error.is_disconnect() && killed.load(Ordering::SeqCst) => {
                Ok(tally)
            }
            Err(Stop::Host(error)) => Err(format!("{}: {error}", self.name())),
            Err(Stop::Broken(what)) => Err(format!("{}: {what}", self.name())),
        }
    }

    /// Reads every block and checks it; what it holds is settled from then on.
    pub fn verify(&mut self, queue: &mut IoQueue) -> Result<Tally, String> {
        let piece = LARGEST_BYTES / self.block_bytes;
        let mut tally = Tally::default();
        let mut next = 0;
        while next < self.model.len() || !self.in_flight.is_empty() {
            let result = if next < self.model.len() && self.in_flight.len() < VERIFY_DEPTH {
                let count = piece.min(self.model.len() - next);
                next += count;
                self.submit_read(queue, next - count, count)
            } else {
                self.take(queue, &mut tally)
            };
            result.map_err(|stop| format!("{}: {}", self.name(), stop.text()))?;
        }
        Ok(tally)
    }

    fn drive(
        &mut self,
        queue: &mut IoQueue,
        depth: usize,
        stop: &AtomicBool,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        while !stop.load(Ordering::SeqCst) {
            if self.in_flight.len() < depth {
                self.submit_any(queue)?;
            } else {
                self.take(queue, tally)?;
            }
        }
        while !self.in_flight.is_empty() {
            self.take(queue, tally)?;
        }
        Ok(())
    }

    fn submit_any(&mut self, queue: &mut IoQueue) -> Result<(), Stop> {
        match self.random.within(0..100) {
            0..65 => self.submit_write(queue),
            65..73 => self.submit_zeroes(queue),
            73..80 => self.submit_deallocate(queue),
            80..86 => {
                let cid = queue.submit(Op::Flush)?;
                self.in_flight.insert(cid, InFlight::Flush);
                Ok(())
            }
            86..93 => self.submit_compare(queue),
            _ => {
                let (first, count) = self.pick_range();
                if self.is_locked(first, count) || !self.model.is_quiet(first, count) {
                    return Ok(());
                }
                self.submit_read(queue, first, count)
            }
        }
    }

    fn submit_write(&mut self, queue: &mut IoQueue) -> Result<(), Stop> {
        let (first, count) = self.pick_range();
        if self.is_locked(first, count) {
            return Ok(());
        }
        let version = self.next_version();
        let data = self.stamped(first, count, version);
        let fua = self.random.chance(20);
        let ticket = self
            .model
            .start(first, vec![Content::Version(version); count]);
        let cid = queue.submit(Op::Write {
            lba: self.lba(first),
            data,
            fua,
        })?;
        self.in_flight.insert(cid, InFlight::Change(ticket));
        Ok(())
    }

    fn submit_zeroes(&mut self, queue: &mut IoQueue) -> Result<(), Stop> {
        let (first, count) = self.pick_range();
        if self.is_locked(first, count) {
            return Ok(());
        }
        let deallocate = self.random.chance(50);
        let ticket = self.model.start(first, vec![Content::Zero; count]);
        let zeroes = Op::WriteZeroes {
            lba: self.lba(first),
            count: count as u32,
            deallocate,
        };
        let cid = queue.submit(zeroes)?;
        self.in_flight.insert(cid, InFlight::Change(ticket));
        Ok(())
    }

    fn submit_deallocate(&mut self, queue: &mut IoQueue) -> Result<(), Stop> {
        let (first, count) = self.pick_range();
        if self.is_locked(first, count) {
            return Ok(());
        }
        let ticket = self.model.start(first, vec![Content::Zero; count]);
        // Two ranges that meet: what one command covers is what the model expects.
        let half = count / 2;
        let ranges: Vec<(u64, u32)> = [(first, half), (first + half, count - half)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(first, count)| (self.lba(first), count as u32))
            .collect();
        let cid = queue.submit(Op::Deallocate(ranges))?;
        self.in_flight.insert(cid, InFlight::Change(ticket));
        Ok(())
    }

    fn submit_compare(&mut self, queue: &mut IoQueue) -> Result<(), Stop> {
        let block = self.random.within(0..self.model.len() as u64) as usize;
        let Some(content) = self.model.settled(block) else {
            return Ok(());
        };
        if self.is_locked(block, 1) {
            return Ok(());
        }
        let compare = match content {
            Content::Zero => vec![0; self.block_bytes],
            Content::Version(version) => self.stamped(block, 1, version),
        };
        let version = self.next_version();
        let write = self.stamped(block, 1, version);
        let ticket = self.model.start(block, vec![Content::Version(version)]);
        let lba = self.lba(block);
        let cid = queue.submit(Op::CompareAndWrite {
            lba,
            compare,
            write,
        })?;
        self.locks.push((block, 1));
        self.in_flight
            .insert(cid, InFlight::Compare(ticket, (block, 1)));
        Ok(())
    }

    fn submit_read(&mut self, queue: &mut IoQueue, first: usize, count: usize) -> Result<(), Stop> {
        let cid = queue.submit(Op::Read {
            lba: self.lba(first),
            count: count as u32,
        })?;
        self.locks.push((first, count));
        self.in_flight.insert(cid, InFlight::Read(first, count));
        Ok(())
    }

    fn take(&mut self, queue: &mut IoQueue, tally: &mut Tally) -> Result<(), Stop> {
        let done = queue.next_completion()?;
        let Some(what) = self.in_flight.remove(&done.cid) else {
            return Err(Stop::Broken(format!(
                "completion for unknown command {}",
                done.cid
            )));
        };
        let status = done.status();
        if !status.is_success() {
            return Err(Stop::Broken(format!("{what:?} failed: {status:?}")));
        }
        match what {
            InFlight::Flush => tally.flushes += 1,
            InFlight::Change(ticket) => {
                self.model.acknowledge(&ticket);
                tally.changes += 1;
            }
            InFlight::Compare(ticket, range) => {
                self.model.acknowledge(&ticket);
                self.unlock(range);
                tally.changes += 1;
                tally.compared += 1;
            }
            InFlight::Read(first, count) => {
                self.unlock((first, count));
                self.check(first, count, done)?;
                tally.checked += count as u64;
            }
        }
        Ok(())
    }

    fn check(&mut self, first: usize, count: usize, done: Completion) -> Result<(), Stop> {
        let data = done.into_data("Read")?;
        for (index, bytes) in data.chunks_exact(self.block_bytes).enumerate().take(count) {
            let block = first + index;
            let found = stamp::inspect(bytes, self.volume, self.sector(block));
            let result = found.and_then(|content| self.model.observe(block, content));
            result.map_err(|what| Stop::Broken(format!("LBA {}: {what}", self.lba(block))))?;
        }
        Ok(())
    }

    /// A range whose length is spread evenly over the orders of magnitude; a third of them meet
    /// in a small part of the region, so that writes overlap in time and space.
    fn pick_range(&mut self) -> (usize, usize) {
        let smallest = (4096 / self.block_bytes).max(1);
        let sizes = (LARGEST_BYTES / 4096).ilog2() as u64 + 1;
        let order = smallest << self.random.within(0..sizes);
        let any = self.random.within(1..order as u64 + 1) as usize;
        let count = if self.random.chance(50) { order } else { any };
        let count = count.min(self.model.len());
        let room = if self.random.chance(33) {
            self.model.len() / 16
        } else {
            self.model.len()
        };
        let room = room.max(count) - count;
        let first = self.random.within(0..room as u64 + 1) as usize;
        // Half of them begin at a page: other paths are taken there than in the middle of one.
        let first = if self.random.chance(50) {
            first - first % smallest
        } else {
            first
        };
        (first, count)
    }

    fn is_locked(&self, first: usize, count: usize) -> bool {
        self.locks
            .iter()
            .any(|(other, len)| first < other + len && *other < first + count)
    }

    fn unlock(&mut self, range: (usize, usize)) {
        if let Some(at) = self.locks.iter().position(|lock| *lock == range) {
            self.locks.swap_remove(at);
        }
    }

    fn stamped(&self, first: usize, count: usize, version: u64) -> Vec<u8> {
        let mut data = vec![0; count * self.block_bytes];
        stamp::fill(&mut data, self.volume, self.sector(first), version);
        data
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn lba(&self, block: usize) -> u64 {
        self.first_lba + block as u64
    }

    fn sector(&self, block: usize) -> u64 {
        self.lba(block) * (self.block_bytes / SECTOR_BYTES) as u64
    }

    fn name(&self) -> String {
        let (first, last) = (self.first_lba, self.lba(self.model.len() - 1));
        format!(
            "volume {} ({} B blocks) LBA {first}..={last}",
            self.volume, self.block_bytes
        )
    }
}

enum Stop {
    Host(HostError),
    Broken(String),
}

impl Stop {
    fn text(self) -> String {
        match self {
            Self::Host(error) => error.to_string(),
            Self::Broken(what) => what,
        }
    }
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
