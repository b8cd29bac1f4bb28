//! All options of a world, in one printable value: seed and options repeat a run exactly.

use std::fmt;
use std::time::Duration;

use super::disk::{DiskFaults, DiskOptions, FaultAtlas};
use super::net::NetOptions;
use super::prng::Prng;
use crate::cores::Spin;

/// Everything a world may be told besides its seed.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Disks that programs create (`create_len`), and what `add_disk(name, options.disk.clone())`
    /// in a test wants.
    pub disk: DiskOptions,
    /// The network.
    pub net: NetOptions,
    /// Crashes that the world decides on.
    pub crash: CrashOptions,
    /// Time and order of computation.
    pub cpu: CpuOptions,
    /// What each core is given.
    pub core: CoreOptions,
    /// Bytes that programs may create files for; beyond it ENOSPC.
    pub create_budget_bytes: u64,
    /// Loop turns in one run call before the world calls it a livelock and panics.
    pub turns_max: u64,
    /// Print events as they happen.
    pub verbose: bool,
}

/// Crashes by chance. None by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashOptions {
    /// How often a passed `crash_point` is taken, in parts per million.
    pub point_ppm: u32,
    /// Mean time between crashes at arbitrary moments, per node; 0 = never.
    pub interval_ns: u64,
    /// Share of crashes that take the power too, in percent; the others kill the process only.
    pub power_loss_percent: u32,
    /// Restart after a random time up to this; `None` leaves the node down.
    pub restart_ns: Option<u64>,
    /// Crashes of one world before it stops crashing by itself.
    pub crashes_max: u32,
}

/// How time passes for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Virtual time of a loop turn.
    pub turn_ns: u64,
    /// Uniform extra, 0 to this.
    pub turn_jitter_ns: u64,
    /// A parked core needs up to this long to wake.
    pub wake_ns: u64,
    /// How often the next ready task is drawn at random instead of in order, in percent.
    pub shuffle_percent: u32,
    /// How often a core stands still after a turn (a busy host, a debugger), in parts per million.
    pub pause_ppm: u32,
    /// For up to this long.
    pub pause_ns: u64,
}

/// What each simulated core is given; see `cores::CoreConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreOptions {
    /// As in production.
    pub spin: Spin,
    /// Pool for host I/O.
    pub io_pool_bytes: usize,
    /// Pool for the engine.
    pub engine_pool_bytes: usize,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            disk: DiskOptions::default(),
            net: NetOptions::default(),
            crash: CrashOptions::default(),
            cpu: CpuOptions::default(),
            core: CoreOptions::default(),
            create_budget_bytes: 1 << 40,
            turns_max: 100_000_000,
            verbose: false,
        }
    }
}

impl Default for CrashOptions {
    fn default() -> Self {
        Self {
            point_ppm: 0,
            interval_ns: 0,
            power_loss_percent: 50,
            restart_ns: None,
            crashes_max: 20,
        }
    }
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            turn_ns: 1_000,
            turn_jitter_ns: 500,
            wake_ns: 3_000,
            shuffle_percent: 50,
            pause_ppm: 0,
            pause_ns: 50_000_000,
        }
    }
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            spin: Spin::For(Duration::from_micros(20)),
            io_pool_bytes: 64 << 20,
            engine_pool_bytes: 32 << 20,
        }
    }
}

/// Parts per million drawn so that small and large intensities are equally likely.
fn intensity(prng: &mut Prng, max_ppm: u32) -> u32 {
    let bits = u64::from(32 - max_ppm.leading_zeros());
    let cap = 1u32
        .checked_shl(prng.between(1, bits) as u32)
        .unwrap_or(max_ppm)
        .min(max_ppm);
    prng.between(1, u64::from(cap)) as u32
}

/// A whole fault class is off (0) in half of the seeds.
fn class(prng: &mut Prng, max_ppm: u32) -> u32 {
    if prng.chance_percent(50) {
        intensity(prng, max_ppm)
    } else {
        0
    }
}

impl WorldOptions {
    /// Swarm testing: each fault class is switched on or off by the seed, and those that are on
    /// get a random intensity. Rare combinations, and long runs with few faults, both come up.
    ///
    /// Silent damage (bit rot, misdirected and lost writes, latent errors) gets intensities too,
    /// but stays without effect until the test opens `disk.atlas`.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut prng = Prng::new(seed).fork(0x5A);
        let mut options = Self::default();
        options.swarm_disk(&mut prng);
        options.swarm_net(&mut prng);
        options.swarm_crash_and_cpu(&mut prng);
        options
    }

    fn swarm_disk(&mut self, prng: &mut Prng) {
        let disk = &mut self.disk;
        disk.volatile_cache = prng.chance_percent(70);
        disk.logical_block = if prng.chance_percent(70) { 4096 } else { 512 };
        disk.block_device = prng.chance_percent(50);
        disk.supports_discard = prng.chance_percent(80);
        let faults = &mut disk.faults;
        faults.latency.jitter_ns = prng.between(0, 200_000);
        faults.latency.spike_ppm = class(prng, 20_000);
        for weights in [
            &mut faults.unsynced.kept_weight,
            &mut faults.unsynced.lost_weight,
        ] {
            *weights = prng.between(0, 4) as u32;
        }
        faults.unsynced.torn_weight = prng.between(1, 4) as u32;
        faults.in_flight.applied_weight = prng.between(0, 4) as u32;
        faults.in_flight.lost_weight = prng.between(0, 4) as u32;
        faults.in_flight.torn_weight = prng.between(1, 4) as u32;
        faults.early_visible.ppm = class(prng, 500_000);
        faults.transient.read_ppm = class(prng, 5_000);
        faults.transient.write_ppm = class(prng, 5_000);
        faults.transient.sync_ppm = class(prng, 5_000);
        faults.sync_failure.drop_percent = if prng.chance_percent(50) { 50 } else { 0 };
        faults.latent.read_ppm = class(prng, 5_000);
        faults.bit_rot.read_ppm = class(prng, 5_000);
        faults.misdirect.read_ppm = class(prng, 2_000);
        faults.misdirect.write_ppm = class(prng, 2_000);
        faults.lost_write.ppm = class(prng, 2_000);
        faults.stall.ppm = class(prng, 200);
        faults.short_io.read_ppm = class(prng, 100_000);
        faults.short_io.write_ppm = class(prng, 100_000);
    }

    fn swarm_net(&mut self, prng: &mut Prng) {
        let net = &mut self.net;
        net.latency_ns = prng.between(2_000, 500_000);
        net.jitter_ns = prng.between(0, 200_000);
        net.buffer_bytes = 1usize << prng.between(12, 20);
        net.partial_send_ppm = class(prng, 1_000_000);
        net.partial_recv_ppm = class(prng, 1_000_000);
        net.spike_ppm = class(prng, 5_000);
        net.reset_ppm = class(prng, 300);
        net.refuse_ppm = class(prng, 50_000);
        net.connect_timeout_ppm = class(prng, 20_000);
    }

    fn swarm_crash_and_cpu(&mut self, prng: &mut Prng) {
        self.crash.point_ppm = class(prng, 20_000);
        if prng.chance_percent(50) {
            self.crash.interval_ns = prng.between(20_000_000, 2_000_000_000);
        }
        self.crash.power_loss_percent = [0, 50, 100][prng.index(3)];
        self.crash.restart_ns = Some(prng.between(1_000_000, 3_000_000_000));
        self.cpu.turn_jitter_ns = prng.between(0, 3_000);
        self.cpu.wake_ns = prng.between(500, 50_000);
        self.cpu.shuffle_percent = [0, 50, 100][prng.index(3)];
        self.cpu.pause_ppm = class(prng, 100);
        let spin_us = [0, 5, 50][prng.index(3)];
        self.core.spin = Spin::For(Duration::from_micros(spin_us));
    }

    /// The same world without faults by chance: what is left once a test heals everything.
    #[must_use]
    pub fn healed(&self) -> Self {
        let mut options = self.clone();
        options.disk.faults = DiskFaults::default();
        options.disk.atlas = FaultAtlas::Nowhere;
        options.net = NetOptions {
            buffer_bytes: self.net.buffer_bytes,
            ..NetOptions::default()
        };
        options.crash = CrashOptions::default();
        options.cpu.pause_ppm = 0;
        options
    }
}

impl fmt::Display for WorldOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = &self.disk;
        writeln!(
            f,
            "disk: len_bytes={} logical_block={} volatile_cache={} cache_bytes={} \
             block_device={} supports_discard={} atlas={:?}",
            disk.len_bytes,
            disk.logical_block,
            disk.volatile_cache,
            disk.cache_bytes,
            disk.block_device,
            disk.supports_discard,
            disk.atlas
        )?;
        writeln!(f, "{}", disk.faults)?;
        writeln!(
            f,
            "{:?}\n{:?}\n{:?}\n{:?}",
            self.net, self.crash, self.cpu, self.core
        )?;
        write!(
            f,
            "create_budget_bytes={} turns_max={}",
            self.create_budget_bytes, self.turns_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swarm_repeats_and_switches_every_class_both_ways() {
        assert_eq!(
            WorldOptions::swarm(5).to_string(),
            WorldOptions::swarm(5).to_string()
        );
        assert_ne!(
            WorldOptions::swarm(5).to_string(),
            WorldOptions::swarm(6).to_string()
        );
        let all: Vec<_> = (0..200).map(WorldOptions::swarm).collect();
        let classes: [fn(&WorldOptions) -> u64; 10] = [
            |o| o.disk.faults.transient.write_ppm.into(),
            |o| o.disk.faults.latent.read_ppm.into(),
            |o| o.disk.faults.bit_rot.read_ppm.into(),
            |o| o.disk.faults.misdirect.write_ppm.into(),
            |o| o.disk.faults.lost_write.ppm.into(),
            |o| o.disk.faults.stall.ppm.into(),
            |o| o.net.reset_ppm.into(),
            |o| o.crash.point_ppm.into(),
            |o| o.crash.interval_ns,
            |o| o.disk.volatile_cache.into(),
        ];
        for (index, class) in classes.iter().enumerate() {
            let on = all.iter().filter(|o| class(o) > 0).count();
            assert!(
                (40..180).contains(&on),
                "class {index} is on in {on} of 200 seeds"
            );
        }
        let intensities: Vec<_> = all
            .iter()
            .map(|o| o.disk.faults.short_io.read_ppm)
            .collect();
        assert!(intensities.iter().any(|p| *p > 30_000));
        assert!(intensities.iter().any(|p| (1..100).contains(p)));
    }

    #[test]
    fn display_names_every_fault() {
        let text = WorldOptions::default().to_string();
        for name in [
            "Misdirect",
            "BitRot",
            "unsynced",
            "CrashOptions",
            "NetOptions",
            "turn_ns",
        ] {
            assert!(
                text.to_lowercase().contains(&name.to_lowercase()),
                "{name} missing:\n{text}"
            );
        }
    }
}
