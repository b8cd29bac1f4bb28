//! Steps of the data path, each as a function that repeats it: one thread, the same instructions
//! every time, in a simulated world whose devices are memory.
//!
//! `tests/budget.rs` counts them with callgrind. It counts only what runs inside the executor's
//! turn, and not what stands in for the kernel there: see `perf/budget.md`.
#![forbid(unsafe_code)]

mod host;
mod pieces;
mod target;
mod volumes;

use std::future::Future;
use std::time::Duration;

use reactor::sim::{NetOptions, World, WorldOptions};

/// Requests at the same time, where a step says depth 32.
const DEPTH: u64 = 32;
/// Virtual time that no step needs.
const LIMIT: Duration = Duration::from_secs(1 << 20);

/// One step of the data path.
#[derive(Debug)]
pub struct Step {
    /// Name in `budget.toml`.
    pub name: &'static str,
    /// Two numbers of repetitions. What both runs have in common (start, warm-up) cancels out in
    /// the difference.
    pub counts: [u64; 2],
    /// Runs the step this many times.
    pub run: fn(u64),
}

const fn step_of(name: &'static str, counts: [u64; 2], run: fn(u64)) -> Step {
    Step { name, counts, run }
}

/// Every step, from the smallest piece to the whole target.
pub const STEPS: &[Step] = &[
    step_of("crc32c_4k", [100, 1100], pieces::crc32c),
    step_of("buffer", [100, 2100], pieces::buffer),
    step_of("buffer_clone", [100, 2100], pieces::buffer_clone),
    step_of("turn", [100, 1100], pieces::turn),
    step_of("task", [128, 1152], pieces::task),
    step_of("mailbox_hop", [100, 1100], pieces::mailbox_hop),
    step_of("wire", [100, 1100], pieces::wire),
    step_of("read_4k_map", [64, 576], volumes::read_4k_map),
    step_of("read_4k_dirty", [64, 576], volumes::read_4k_dirty),
    step_of("read_128k_map", [16, 80], volumes::read_128k_map),
    step_of("write_4k_qd1", [64, 576], volumes::write_4k_qd1),
    step_of("write_4k_qd32", [64, 1088], volumes::write_4k_qd32),
    step_of("write_128k", [16, 80], volumes::write_128k),
    step_of("flush_page", [0, 1024], volumes::flush_page),
    step_of("nvme_tcp_read_4k", [64, 1088], target::read_4k),
    step_of("nvme_tcp_write_4k", [64, 1088], target::write_4k),
];

/// The step of this name.
pub fn step(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

/// A world without chance, whose network is so fast that nobody polls it in vain: a burst arrives
/// whole.
fn calm_world() -> World {
    let mut options = WorldOptions::default();
    options.cpu.turn_jitter_ns = 0;
    options.cpu.shuffle_percent = 0;
    options.net = NetOptions {
        latency_ns: 1_000,
        jitter_ns: 0,
        bytes_per_us: 1_000_000,
        partial_send_ppm: 0,
        partial_recv_ppm: 0,
        spike_ppm: 0,
        ..NetOptions::default()
    };
    World::new(1, options)
}

/// Runs `main` to its end on the only core of a calm world.
fn in_world<F: Future<Output = ()> + 'static>(main: impl Fn() -> F + 'static) {
    let ended = calm_world().run_once("target", LIMIT, main);
    assert!(ended.is_some(), "nothing crashes in a calm world");
}
