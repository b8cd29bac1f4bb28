//! The engine in a simulated world: killed and unplugged at any moment, again and again. What was
//! acknowledged is there after a kill, what was flushed also after power loss, and no read ever
//! gives anything that was not written, or was replaced.

mod common;

use common::story::{NODE, Story, lives};
use reactor::sim::Crash;

/// Requests of a worker in a life: keeps a story to seconds in a build without optimisation.
const REQUESTS: u64 = 80;

#[test]
fn crashes_at_any_moment() {
    for seed in seeds(0, 6) {
        lives(seed, REQUESTS);
    }
}

/// The seeds of a test: all of `first..first + count`, or the one in `VOLUME_SEED`.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let one = std::env::var("VOLUME_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("VOLUME_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(count);
    let range = one.map_or(first..first + count, |seed| seed..seed + 1);
    range.inspect(|seed| println!("seed {seed}; repeat with VOLUME_SEED={seed}"))
}

const POINTS: [&str; 10] = [
    "journal::write",
    "journal::written",
    "journal::flush",
    "direct::write",
    "flush::after_cut",
    "flush::write",
    "flush::after_data",
    "flush::after_publish",
    "publish::after_flush",
    "publish::after_superblock",
];

/// Crashes at a named point, at several of its visits.
fn at_point(point: &'static str, seed: u64) {
    let mut story = Story::new(seed, REQUESTS);
    for crash in [Crash::Kill, Crash::PowerLoss, Crash::Kill, Crash::PowerLoss] {
        let visit = 1 + story.random.below(20);
        story.world.crash_at(NODE, point, visit, crash);
        story.start(4);
        let limit = std::time::Duration::from_secs(60);
        if !story.world.try_run_until(limit, |world| !world.is_up(NODE)) {
            // This mix of requests does not come to the point: crash it anyway.
            story.crash(crash);
        }
        story.crashed();
    }
    story.end();
}

#[test]
fn crashes_at_every_point() {
    for point in POINTS {
        for seed in seeds(100, 1) {
            at_point(point, seed);
        }
    }
}
