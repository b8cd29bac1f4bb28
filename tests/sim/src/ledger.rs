//! What the clients were told: every request from its beginning to its end, and what followed.
//!
//! The ledger belongs to the test, not to the simulated process, so it lives through crashes. It
//! stops at the first thing that is wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use reactor::sim::Crash;

use crate::checkers::durable::{Promise, after_kill, after_power_loss};
use crate::checkers::linear::{Block, Moment, NEVER, Value, Wrong};
use crate::stamp::{Place, Seen, read as read_stamp};

/// A block with more values than this is pruned when it gets another one.
const VALUES_BEFORE_PRUNE: usize = 6;

/// The ledger as everybody in a run holds it.
pub type Shared = Rc<RefCell<Ledger>>;

/// Logical blocks: first and count.
pub type Extent = (u64, u64);

/// What a request is, as far as judging goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads (also Compare and Verify).
    None,
    /// Blocks get this request's number as their version.
    Write(Extent),
    /// Blocks become zeros.
    Zero(Vec<Extent>),
    /// What was completed becomes durable.
    Flush,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done; for a write with FUA, durable.
    Done,
    /// Nothing happened.
    Refused,
    /// It happened, happens later, or never, until the process ends.
    Unknown,
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Asked for, not confirmed.
    Creating,
    /// There.
    Live,
    /// Its deletion was asked for, not confirmed.
    Deleting,
    /// Gone, for certain.
    Deleted,
}

#[derive(Clone, Debug)]
struct Running {
    began: Moment,
    effect: Effect,
    fua: bool,
}

/// One volume's history.
#[derive(Debug)]
pub struct VolumeLedger {
    /// Unique over the whole run.
    pub name: String,
    /// None until the creation was confirmed or seen after a crash.
    pub uuid: Option<[u8; 16]>,
    /// 512 or 4096.
    pub block_bytes: u32,
    /// Number of logical blocks.
    pub block_count: u64,
    /// Journal length asked for.
    pub journal_bytes: u64,
    /// Where it is in its life.
    pub life: Life,
    blocks: Vec<Block>,
    promise: Promise,
    running: BTreeMap<u64, Running>,
    starts: BTreeSet<Moment>,
}

/// Counters of a run, to see that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended well.
    pub done: u64,
    /// Requests that ended with an error.
    pub failed: u64,
    /// Requests cut off by crashes.
    pub cut_off: u64,
    /// Blocks whose content was judged.
    pub blocks_judged: u64,
    /// Reads that were refused because of damage.
    pub corrupt: u64,
    /// Writes that found the pool full.
    pub pool_full: u64,
    /// Lives of the process.
    pub lives: u64,
    /// Runs in which requests met a device that was gone.
    pub device_gone: u64,
    /// Runs in which writes met a device without room.
    pub device_full: u64,
}

/// Everything that was told and promised in one run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// All volumes that ever were, by name.
    pub volumes: BTreeMap<String, VolumeLedger>,
    /// The first thing that was wrong.
    pub violation: Option<String>,
    /// The server was asked to stop: it refuses what the operator asks for from now on.
    pub stopping: bool,
    /// Counters.
    pub totals: Totals,
    now: Moment,
    next_op: u64,
}

impl Ledger {
    /// An empty ledger to be shared.
    pub fn shared() -> Shared {
        Rc::default()
    }

    /// The next moment.
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// Notes that something is wrong, unless something was before.
    pub fn violated(&mut self, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(what.into());
        }
    }

    /// A volume is about to be created.
    pub fn creating(&mut self, name: &str, block_bytes: u32, block_count: u64, journal: u64) {
        let promise = Promise {
            always: false,
            flushed: 0,
        };
        let volume = VolumeLedger {
            name: name.into(),
            uuid: None,
            block_bytes,
            block_count,
            journal_bytes: journal,
            life: Life::Creating,
            blocks: vec![Block::default(); block_count as usize],
            promise,
            running: BTreeMap::new(),
            starts: BTreeSet::new(),
        };
        self.volumes.insert(name.into(), volume);
    }

    /// One volume. Panics when it was never begun.
    pub fn volume(&mut self, name: &str) -> &mut VolumeLedger {
        self.volumes
            .get_mut(name)
            .unwrap_or_else(|| panic!("no volume {name} in the ledger"))
    }

    /// A volume was found or confirmed: it has this identity, now and for ever.
    pub fn found(&mut self, info: &volume::VolumeInfo) {
        let volume = self.volume(&info.name);
        volume.promise.always = !info.volatile_cache;
        volume.life = Life::Live;
        let identity = *volume.uuid.get_or_insert(info.uuid);
        let size = (volume.block_bytes, volume.block_count);
        if identity != info.uuid || size != (info.block_bytes, info.block_count) {
            self.violated(format!(
                "volume {} came back as another one: {info:?}",
                info.name
            ));
        }
    }

    /// A request begins; gives its number, which is also the version of what it writes.
    pub fn begin(&mut self, name: &str, effect: Effect, fua: bool) -> u64 {
        self.next_op += 1;
        let (op, now) = (self.next_op, self.tick());
        let volume = self.volume(name);
        match &effect {
            Effect::Write(extent) => volume.begin(*extent, Seen::Version(op), op, now),
            Effect::Zero(extents) => {
                for extent in extents.clone() {
                    volume.begin(extent, Seen::Zeros, op, now);
                }
            }
            Effect::None | Effect::Flush => {}
        }
        volume.running.insert(
            op,
            Running {
                began: now,
                effect,
                fua,
            },
        );
        volume.starts.insert(now);
        op
    }

    /// A request ends.
    pub fn end(&mut self, name: &str, op: u64, end: End) {
        let now = self.tick();
        match end {
            End::Done => self.totals.done += 1,
            End::Refused | End::Unknown => self.totals.failed += 1,
        }
        let volume = self.volume(name);
        let Some(running) = volume.running.remove(&op) else {
            return;
        };
        volume.starts.remove(&running.began);
        let result = volume.finish(op, &running, end, now);
        if let Err((lba, wrong)) = result {
            self.violated(format!(
                "volume {name}, lba {lba}: request {op} was refused: {wrong:?}"
            ));
        }
    }

    /// Request `op`, which is running, saw these bytes from `lba` on. `forced`: they are durable.
    pub fn saw(&mut self, name: &str, op: u64, lba: u64, data: &[u8], forced: bool) {
        let block_bytes = self.volume(name).block_bytes as usize;
        for (lba, block) in (lba..).zip(data.chunks_exact(block_bytes)) {
            let uuid = self.volume(name).uuid.unwrap_or_default();
            match read_stamp(block, Place { uuid, lba }) {
                Ok(seen) => self.saw_block(name, op, lba, seen, forced),
                Err(what) => {
                    let history = self.history(name, lba);
                    self.violated(format!(
                        "volume {name}, lba {lba}: request {op} read {what}\n{history}"
                    ));
                }
            }
        }
    }

    /// Request `op` saw one block.
    pub fn saw_block(&mut self, name: &str, op: u64, lba: u64, seen: Seen, forced: bool) {
        let now = self.tick();
        self.totals.blocks_judged += 1;
        let volume = self.volume(name);
        let began = volume.began(op);
        let before = volume.history(lba);
        if let Err(wrong) = volume.blocks[lba as usize].observe(seen, began, now, forced) {
            self.violated(format!(
                "volume {name}, lba {lba}: request {op} (begun at {began}, now {now}) saw \
                 {seen:?}: {wrong:?}\n{before}"
            ));
        }
    }

    /// Request `op` was told that a block is not `seen`.
    pub fn saw_other(&mut self, name: &str, op: u64, lba: u64, seen: Seen) {
        let volume = self.volume(name);
        let began = volume.began(op);
        let result = volume
            .blocks
            .get(lba as usize)
            .map(|b| b.observe_other(seen, began));
        if result != Some(Ok(())) {
            let history = self.history(name, lba);
            self.violated(format!(
                "volume {name}, lba {lba}: request {op} was told that it is not {seen:?}\n{history}"
            ));
        }
    }

    /// Request `op` replaced what it had compared.
    pub fn replaced(&mut self, name: &str, op: u64, lba: u64, seen: Seen) {
        if let Err(wrong) = self.volume(name).blocks[lba as usize].consume(seen) {
            self.violated(format!(
                "volume {name}, lba {lba}: compare-and-write {op} replaced {seen:?}, which another \
                 one had replaced: {wrong:?}"
            ));
        }
    }

    /// The process ended by itself, or died, or the power failed.
    pub fn process_ended(&mut self, crash: Option<Crash>) {
        let now = self.tick();
        for volume in self.volumes.values_mut() {
            self.totals.cut_off += volume.running.len() as u64;
            volume.running.clear();
            volume.starts.clear();
            let promise = volume.promise;
            for block in &mut volume.blocks {
                match crash {
                    Some(Crash::PowerLoss) => after_power_loss(block, &promise, now),
                    Some(Crash::Kill) | None => after_kill(block, now),
                }
            }
        }
    }

    /// The volumes that are there for certain.
    pub fn live(&self) -> Vec<String> {
        let live = self
            .volumes
            .values()
            .filter(|volume| volume.life == Life::Live);
        live.map(|volume| volume.name.clone()).collect()
    }

    /// The requests that are running, one a line, for people.
    pub fn running(&self) -> String {
        let lines = self.volumes.values().flat_map(|volume| {
            let of = |(op, running): (&u64, &Running)| {
                let Running { began, effect, fua } = running;
                format!(
                    "  {}: request {op}, begun at {began}: {effect:?} fua={fua}",
                    volume.name
                )
            };
            volume.running.iter().map(of)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn history(&self, name: &str, lba: u64) -> String {
        self.volumes
            .get(name)
            .map(|volume| volume.history(lba))
            .unwrap_or_default()
    }
}

impl VolumeLedger {
    fn begin(&mut self, (lba, count): Extent, seen: Seen, op: u64, now: Moment) {
        let watermark = self.starts.first().copied().unwrap_or(now);
        let promise = self.promise;
        for block in &mut self.blocks[lba as usize..(lba + count) as usize] {
            if block.values().len() > VALUES_BEFORE_PRUNE {
                block.prune(watermark, |value| promise.covers(value));
            }
            block.begin(Value::begun(seen, op, now));
        }
    }

    fn began(&self, op: u64) -> Moment {
        self.running.get(&op).map_or(NEVER, |running| running.began)
    }

    fn finish(
        &mut self,
        op: u64,
        running: &Running,
        end: End,
        now: Moment,
    ) -> Result<(), (u64, Wrong)> {
        let extents: &[Extent] = match &running.effect {
            Effect::Write(extent) => std::slice::from_ref(extent),
            Effect::Zero(extents) => extents,
            Effect::Flush => {
                if end == End::Done {
                    self.promise.flushed = self.promise.flushed.max(running.began);
                }
                return Ok(());
            }
            Effect::None => return Ok(()),
        };
        for lba in extents.iter().flat_map(|(lba, count)| *lba..lba + count) {
            let block = &mut self.blocks[lba as usize];
            match end {
                End::Done => block.acknowledge(op, now, running.fua),
                End::Refused => block.refuse(op).map_err(|wrong| (lba, wrong))?,
                End::Unknown => {}
            }
        }
        Ok(())
    }

    /// What may be in one block, for people.
    pub fn history(&self, lba: u64) -> String {
        let Some(block) = self.blocks.get(lba as usize) else {
            return String::new();
        };
        let lines: Vec<String> = block
            .values()
            .iter()
            .map(|value| format!("  may be: {value:?}"))
            .collect();
        format!(
            "  last flush began at {}\n{}",
            self.promise.flushed,
            lines.join("\n")
        )
    }

    /// The extents, of at most `limit` blocks each, that anything was ever done to.
    pub fn touched(&self, limit: u64) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for (lba, block) in (0..).zip(&self.blocks) {
            if block.is_untouched() {
                continue;
            }
            match extents.last_mut() {
                Some((first, count)) if *first + *count == lba && *count < limit => *count += 1,
                _ => extents.push((lba, 1)),
            }
        }
        extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp;

    const UUID: [u8; 16] = [3; 16];

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.creating("v", 512, 64, 4 << 20);
        let volume = ledger.volume("v");
        (volume.uuid, volume.life) = (Some(UUID), Life::Live);
        ledger
    }

    fn write(ledger: &mut Ledger, extent: Extent, fua: bool) -> u64 {
        let op = ledger.begin("v", Effect::Write(extent), fua);
        ledger.end("v", op, End::Done);
        op
    }

    fn flush(ledger: &mut Ledger) {
        let op = ledger.begin("v", Effect::Flush, false);
        ledger.end("v", op, End::Done);
    }

    /// Reads one block that holds `version`.
    fn read(ledger: &mut Ledger, lba: u64, version: u64) -> bool {
        let mut block = vec![0; 512];
        if version > 0 {
            stamp::write(&mut block, Place { uuid: UUID, lba }, version);
        }
        let op = ledger.begin("v", Effect::None, false);
        ledger.saw("v", op, lba, &block, false);
        ledger.end("v", op, End::Done);
        ledger.violation.take().is_none()
    }

    #[test]
    fn an_acknowledged_write_lost_by_a_kill_is_caught() {
        let mut ledger = ledger();
        let version = write(&mut ledger, (3, 4), false);
        ledger.process_ended(Some(Crash::Kill));
        assert!(!read(&mut ledger, 5, 0));
        assert!(read(&mut ledger, 5, version));
        assert!(read(&mut ledger, 7, 0));
    }

    #[test]
    fn a_flushed_write_lost_by_power_loss_is_caught() {
        let mut ledger = ledger();
        let first = write(&mut ledger, (0, 8), false);
        flush(&mut ledger);
        let second = write(&mut ledger, (0, 1), false);
        ledger.process_ended(Some(Crash::PowerLoss));
        assert!(!read(&mut ledger, 1, 0));
        assert!(read(&mut ledger, 1, first));
        assert!(read(&mut ledger, 0, first));
        assert!(
            !read(&mut ledger, 0, second),
            "the older one was seen after the crash"
        );
    }

    #[test]
    fn a_write_cut_off_by_a_crash_may_be_there() {
        let mut ledger = ledger();
        let version = ledger.begin("v", Effect::Write((0, 2)), false);
        ledger.process_ended(Some(Crash::Kill));
        assert!(read(&mut ledger, 0, version));
        assert!(read(&mut ledger, 1, 0));
        assert!(!read(&mut ledger, 0, 0));
    }

    #[test]
    fn data_of_another_block_or_volume_is_caught() {
        let mut ledger = ledger();
        let version = write(&mut ledger, (0, 2), false);
        let mut block = vec![0; 512];
        stamp::write(&mut block, Place { uuid: UUID, lba: 1 }, version);
        let op = ledger.begin("v", Effect::None, false);
        ledger.saw("v", op, 0, &block, false);
        assert!(ledger.violation.take().is_some());
        stamp::write(
            &mut block,
            Place {
                uuid: [4; 16],
                lba: 0,
            },
            version,
        );
        ledger.saw("v", op, 0, &block, false);
        assert!(ledger.violation.take().is_some());
    }

    #[test]
    fn data_that_comes_back_after_deallocate_is_caught() {
        let mut ledger = ledger();
        let version = write(&mut ledger, (0, 2), false);
        let op = ledger.begin("v", Effect::Zero(vec![(0, 1), (1, 1)]), false);
        ledger.end("v", op, End::Done);
        assert!(!read(&mut ledger, 1, version));
        assert!(read(&mut ledger, 0, 0));
    }

    #[test]
    fn touched_extents_are_bounded() {
        let mut ledger = ledger();
        write(&mut ledger, (0, 10), false);
        write(&mut ledger, (20, 1), false);
        assert_eq!(ledger.volume("v").touched(8), [(0, 8), (8, 2), (20, 1)]);
    }
}
