//! Crashes at every crash point, and after every single device operation, of everything that
//! changes a pool.

mod common;

use common::LIMIT;
use common::crash::{after_operations, run};
use reactor::sim::Crash;

const CRASHES: [Crash; 2] = [Crash::Kill, Crash::PowerLoss];

const PUBLISH_POINTS: [&str; 7] = [
    "publish::after_nodes",
    "publish::after_pages",
    "publish::after_root",
    "publish::after_flush",
    "publish::after_superblock",
    "publish::after_superblock_flush",
    "publish::after_mirror",
];

/// Crashes at every `stride`-th visit of a point until the workload passes it no more. Gives the
/// number of crashes.
fn every_visit(point: &'static str, crash: Crash, from_creation: bool, stride: usize) -> usize {
    for (crashes, visit) in (1..).step_by(stride).enumerate() {
        let cut_off = run(visit, true, from_creation, |world| {
            world.crash_at("target", point, visit, crash);
            world.run_until(LIMIT, |world| !world.is_up("target"));
            world.crashes("target") > 0
        });
        if !cut_off {
            return crashes;
        }
    }
    unreachable!("a workload is finite")
}

#[test]
fn at_every_point_of_a_publish() {
    for point in PUBLISH_POINTS {
        for crash in CRASHES {
            let crashes = every_visit(point, crash, false, 3);
            assert!(crashes >= 3, "{point}: {crashes} crashes");
        }
    }
}

#[test]
fn at_every_point_of_creating_and_deleting() {
    let points = [
        "create_volume::after_blank",
        "delete::after_begin",
        "delete::after_step",
    ];
    for point in points.into_iter().chain(["delete::after_forget"]) {
        for crash in CRASHES {
            assert!(
                every_visit(point, crash, false, 1) >= 1,
                "{point} is never passed"
            );
        }
    }
    for point in [
        "create::after_wipe",
        "create::after_root",
        "create::after_superblock",
    ] {
        for crash in CRASHES {
            assert!(
                every_visit(point, crash, true, 1) >= 1,
                "{point} is never passed"
            );
        }
    }
}

#[test]
fn at_every_point_of_keeping_reservations() {
    for point in ["reservations::after_write", "reservations::after_publish"] {
        for crash in CRASHES {
            let crashes = every_visit(point, crash, false, 1);
            assert!(crashes >= 3, "{point}: {crashes} crashes");
        }
    }
}

/// Crashes after every `stride`-th operation, each in a world of its own seed. Gives the number of
/// crashes.
fn every_operation(
    seed: u64,
    volatile_cache: bool,
    from_creation: bool,
    crash: Crash,
    stride: usize,
) -> usize {
    for (crashes, count) in (1..).step_by(stride).enumerate() {
        let cut_off = run(seed + count, volatile_cache, from_creation, |world| {
            after_operations(world, count, crash)
        });
        if !cut_off {
            return crashes;
        }
    }
    unreachable!("a workload is finite")
}

#[test]
fn now_and_then_in_a_workload_with_power_loss() {
    assert!(every_operation(1000, true, false, Crash::PowerLoss, 5) > 20);
}

#[test]
fn now_and_then_in_a_workload_with_kill() {
    assert!(every_operation(2000, true, false, Crash::Kill, 11) > 10);
}

#[test]
fn now_and_then_without_a_volatile_cache() {
    assert!(every_operation(3000, false, false, Crash::PowerLoss, 11) > 10);
}

#[test]
fn after_every_operation_from_the_creation_of_the_pool_on() {
    for crash in CRASHES {
        assert!(every_operation(4000, true, true, crash, 1) > 30);
    }
}

#[test]
#[ignore = "minutes: part of make test-long"]
fn after_every_operation_of_a_workload() {
    for seed in [10_000, 20_000, 30_000] {
        for crash in CRASHES {
            assert!(every_operation(seed, true, false, crash, 1) > 100);
        }
    }
}
