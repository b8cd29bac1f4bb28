//! What a run does, all drawn from its seed: world, pool, volumes, clients, crashes.

use std::fmt;
use std::time::Duration;

use reactor::sim::{CrashOptions, Prng, WorldOptions};

/// Smallest journal the pool makes.
pub const JOURNAL_MIN_BYTES: u64 = 4 << 20;
/// Length of the smallest pool.
const POOL_MIN_BYTES: u64 = 18 << 20;
/// The most volumes at a time.
pub const VOLUMES_MAX: usize = 4;

/// What kind of faults a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Crashes, and faults that lose nothing that was promised: no damage may be seen.
    Crash,
    /// Faults that destroy the only copy of data: it may be missing, it may not be wrong.
    Corruption,
}

/// What may happen to a device as a whole, besides the faults of single operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not there: everything fails.
    Gone,
    /// The space below it is used up: writes to places never written fail.
    Full,
    /// Every operation takes this much longer.
    Slow(Duration),
}

impl Trouble {
    /// Whether operations fail because of it.
    pub fn brings_errors(self) -> bool {
        !matches!(self, Self::Slow(_))
    }
}

/// One volume to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumePlan {
    /// 512 or 4096.
    pub block_bytes: u32,
    /// Capacity in bytes.
    pub len_bytes: u64,
    /// Journal ring.
    pub journal_bytes: u64,
}

/// How often clients do what: weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Read.
    pub read: u32,
    /// Write.
    pub write: u32,
    /// Flush.
    pub flush: u32,
    /// Write Zeroes.
    pub zeroes: u32,
    /// Deallocate.
    pub deallocate: u32,
    /// Compare.
    pub compare: u32,
    /// Compare-and-write.
    pub compare_and_write: u32,
    /// Verify.
    pub verify: u32,
}

/// How clients behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// What they do.
    pub mix: Mix,
    /// Clients of each volume.
    pub clients: u32,
    /// Requests of each client in one life.
    pub requests: u32,
    /// Share of writes with FUA, in percent.
    pub fua_percent: u32,
    /// Share of requests in the hot part of the volume, in percent.
    pub hot_percent: u32,
    /// Logical blocks of the hot part.
    pub hot_blocks: u64,
    /// Longest pause between two requests; most are far shorter.
    pub think_us: u64,
    /// Longest transfer.
    pub transfer_max_bytes: u64,
    /// Share of requests whose client goes away before they end, in parts per million.
    pub abandon_ppm: u32,
    /// How often an operator creates or deletes a volume: mean pause, 0 = never.
    pub operator_pause_us: u64,
}

/// Everything about a run. The same seed and class give the same plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all of it comes from.
    pub seed: u64,
    /// The faults.
    pub class: Class,
    /// The simulated world; crashes are up to the runner.
    pub world: WorldOptions,
    /// Share of crashes that take the power.
    pub power_loss_percent: u32,
    /// Share of lives in which the device as a whole gets into trouble.
    pub trouble_percent: u32,
    /// Length of the pool's device.
    pub pool_bytes: u64,
    /// The volumes to begin with.
    pub volumes: Vec<VolumePlan>,
    /// The clients.
    pub habits: Habits,
    /// Memory for payloads; None: the engine's default.
    pub payload_bytes: Option<usize>,
    /// Memory for map leaves.
    pub map_cache_bytes: usize,
    /// Many short lives of small equal writes, each cut off while batches are in flight: what is
    /// left of one life lies exactly where the next one appends.
    pub sprint: bool,
    /// Whole clusters are replaced and given back all the time in a pool that is nearly full, and
    /// the process dies while it publishes: what is freed is taken again at once.
    pub churn: bool,
    /// How often the process is started under faults.
    pub lives: u32,
    /// Longest life.
    pub life_max_us: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, class: Class) -> Self {
        let mut prng = Prng::new(seed).fork(0x91A7);
        let mut world = WorldOptions::swarm(seed);
        let power_loss_percent = world.crash.power_loss_percent;
        // The runner crashes the node itself, because it has to know when, and how.
        world.crash = CrashOptions::default();
        world.core.io_pool_bytes = 8 << prng.between(20, 22);
        world.core.engine_pool_bytes = 8 << prng.between(20, 21);
        world.turns_max = 20_000_000;
        world.verbose = std::env::var_os("SIM_VERBOSE").is_some();
        let mut pool_bytes = POOL_MIN_BYTES + (prng.below(10) << 22) + (prng.below(64) << 12);
        let mut volumes = draw_volumes(&mut prng, pool_bytes);
        let mut habits = Habits::draw(&mut prng);
        let sprint = class == Class::Crash && prng.chance_percent(15);
        if sprint {
            habits.sprint();
        }
        // Chance of its own: what the seeds drew before stays what it was.
        let mut late = Prng::new(seed).fork(0x7B0B);
        let trouble_percent = [0, 0, 25, 60][late.index(4)];
        let churn = class == Class::Crash && !sprint && late.chance_percent(10);
        if churn {
            habits.churn();
            pool_bytes = POOL_MIN_BYTES;
            fill(&mut volumes, pool_bytes);
        }
        world.disk.len_bytes = pool_bytes;
        let payload_bytes = [None, None, Some(64 << 10), Some(512 << 10)][prng.index(4)];
        let map_cache_bytes = [64 << 10, 1 << 20][prng.index(2)];
        let lives = if sprint {
            prng.between(4, 10)
        } else {
            prng.between(1, 4)
        } as u32;
        let mut life_max_us = 1 << prng.between(11, 22);
        if churn {
            life_max_us = 1 << 25;
        }
        Self {
            seed,
            class,
            world,
            power_loss_percent,
            trouble_percent,
            pool_bytes,
            volumes,
            habits,
            payload_bytes,
            map_cache_bytes,
            sprint,
            churn,
            lives,
            life_max_us,
        }
    }

    /// Whether a disk that is otherwise in order reports errors now and then.
    pub fn has_device_errors(&self) -> bool {
        let transient = &self.world.disk.faults.transient;
        transient.read_ppm + transient.write_ppm + transient.sync_ppm > 0
    }
}

/// One volume with the smallest journal that can take more than the pool has.
fn fill(volumes: &mut Vec<VolumePlan>, pool_bytes: u64) {
    volumes.truncate(1);
    volumes[0].journal_bytes = JOURNAL_MIN_BYTES;
    volumes[0].len_bytes = pool_bytes - JOURNAL_MIN_BYTES;
}

fn draw_volumes(prng: &mut Prng, pool_bytes: u64) -> Vec<VolumePlan> {
    // Room for the journals and something behind them.
    let most = ((pool_bytes - (6 << 20)) / JOURNAL_MIN_BYTES).min(VOLUMES_MAX as u64);
    let count = prng.between(1, most.min(3));
    let spare_bytes = pool_bytes - (6 << 20) - count * JOURNAL_MIN_BYTES;
    (0..count)
        .map(|_| VolumePlan {
            block_bytes: if prng.chance_percent(50) { 512 } else { 4096 },
            len_bytes: (prng.between(1, 16) << 20) + (prng.below(64) << 12),
            journal_bytes: JOURNAL_MIN_BYTES + prng.below(spare_bytes / 4 + 1),
        })
        .collect()
}

impl Mix {
    fn draw(prng: &mut Prng) -> Self {
        let mut rare = |most: u64| {
            if prng.chance_percent(60) {
                prng.between(1, most) as u32
            } else {
                0
            }
        };
        let (flush, zeroes, deallocate) = (rare(15), rare(10), rare(10));
        let (compare, compare_and_write, verify) = (rare(5), rare(10), rare(5));
        Self {
            read: prng.between(5, 60) as u32,
            write: prng.between(30, 100) as u32,
            flush,
            zeroes,
            deallocate,
            compare,
            compare_and_write,
            verify,
        }
    }
}

impl Habits {
    fn draw(prng: &mut Prng) -> Self {
        let clients = prng.between(1, 6) as u32;
        Self {
            mix: Mix::draw(prng),
            clients,
            requests: (prng.between(20, 200) as u32) / clients.min(3),
            fua_percent: [0, 10, 50][prng.index(3)],
            hot_percent: [50, 80, 95][prng.index(3)],
            hot_blocks: 1 << prng.between(3, 9),
            think_us: [0, 100, 5_000, 100_000][prng.index(4)],
            transfer_max_bytes: [16 << 10, 128 << 10, 1 << 20][prng.index(3)],
            abandon_ppm: [0, 0, 20_000][prng.index(3)],
            operator_pause_us: [0, 0, 5_000, 100_000][prng.index(4)],
        }
    }

    /// Whole clusters, many at a time.
    fn churn(&mut self) {
        self.mix = Mix {
            read: 20,
            write: 60,
            zeroes: 10,
            deallocate: 20,
            ..Mix::default()
        };
        self.clients = 6;
        self.requests = 100;
        self.hot_percent = 0;
        self.transfer_max_bytes = 1 << 20;
        self.think_us = 0;
        self.operator_pause_us = 0;
    }

    /// A page at a time, nothing but reads and writes, all at once.
    fn sprint(&mut self) {
        self.mix = Mix {
            read: 20,
            write: 80,
            ..Mix::default()
        };
        self.clients = self.clients.max(3);
        self.transfer_max_bytes = 4096;
        self.think_us = self.think_us.min(100);
        self.operator_pause_us = 0;
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed={} class={:?} power_loss_percent={} trouble_percent={} pool_bytes={} payload_bytes={:?} \
             map_cache_bytes={} sprint={} churn={} lives={} life_max_us={}",
            self.seed,
            self.class,
            self.power_loss_percent,
            self.trouble_percent,
            self.pool_bytes,
            self.payload_bytes,
            self.map_cache_bytes,
            self.sprint,
            self.churn,
            self.lives,
            self.life_max_us
        )?;
        writeln!(f, "volumes: {:?}", self.volumes)?;
        writeln!(f, "{:?}", self.habits)?;
        write!(f, "{}", self.world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_repeats_and_seeds_differ() {
        let text = |seed| Plan::new(seed, Class::Crash).to_string();
        assert_eq!(text(5), text(5));
        assert_ne!(text(5), text(6));
    }

    #[test]
    fn plans_cover_what_they_should() {
        let plans: Vec<Plan> = (0..300).map(|seed| Plan::new(seed, Class::Crash)).collect();
        let covered: [fn(&Plan) -> bool; 11] = [
            |plan| plan.volumes.len() == 1,
            |plan| plan.volumes.len() == 3,
            |plan| plan.volumes.iter().any(|volume| volume.block_bytes == 512),
            |plan| plan.has_device_errors(),
            |plan| !plan.has_device_errors(),
            |plan| plan.habits.operator_pause_us > 0,
            |plan| plan.habits.mix.deallocate == 0,
            |plan| plan.world.disk.volatile_cache && plan.power_loss_percent == 100,
            |plan| plan.habits.transfer_max_bytes == 1 << 20,
            |plan| plan.trouble_percent > 0,
            |plan| plan.churn,
        ];
        for (index, covers) in covered.iter().enumerate() {
            let count = plans.iter().filter(|plan| covers(plan)).count();
            assert!(
                (10..300).contains(&count),
                "property {index} in {count} of 300 plans"
            );
        }
    }
}
