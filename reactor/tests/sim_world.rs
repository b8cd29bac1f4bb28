//! The world as a whole: time, order, determinism, crashes, restarts.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{BufList, pool};
use reactor::fs::{File, OpenOptions};
use reactor::sim::{Crash, DiskOptions, FaultKind, World, WorldOptions, is_tearing_down};
use reactor::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn open(name: &str) -> File {
    File::open(Path::new(name), &OpenOptions::default()).expect("open")
}

async fn write(file: &File, offset: u64, byte: u8, len: usize) -> std::io::Result<()> {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().fill(byte);
    file.write_at(offset, BufList::from(buf)).await.0
}

async fn read(file: &File, offset: u64) -> std::io::Result<u8> {
    let buf = pool().alloc(4096).await;
    let (result, buf) = file.read_at(offset, buf).await;
    result.map(|()| buf[0])
}

#[test]
fn time_jumps_over_what_nobody_waits_for() {
    let mut world = World::new(1, WorldOptions::default());
    let passed = world.run_once("node", 2 * 86_400 * SECOND, || async {
        let before = reactor::now();
        sleep(86_400 * SECOND).await;
        reactor::now().duration_since(before)
    });
    let passed = passed.expect("no crash");
    assert!(
        passed >= 86_400 * SECOND && passed < 86_401 * SECOND,
        "{passed:?}"
    );
}

#[test]
fn polling_makes_time_pass() {
    let mut world = World::new(1, WorldOptions::default());
    let turns = world.run_once("node", SECOND, || async {
        let (before, mut turns) = (reactor::now(), 0);
        while reactor::now().duration_since(before) < Duration::from_millis(1) {
            reactor::next_turn().await;
            turns += 1;
        }
        turns
    });
    assert!(
        (500..=1_000).contains(&turns.unwrap()),
        "{turns:?} turns of 1 to 1.5 us"
    );
}

#[test]
fn a_write_is_read_back_and_survives_a_clean_exit() {
    let mut world = World::new(2, WorldOptions::default());
    world.add_disk("disk", DiskOptions::default());
    world.run_once("node", SECOND, || async {
        let file = open("disk");
        write(&file, 8192, 7, 16_384).await.unwrap();
        assert_eq!(read(&file, 12_288).await.unwrap(), 7);
        file.sync().await.unwrap();
    });
    let again = world.run_once("node", SECOND, || async {
        read(&open("disk"), 8192).await.unwrap()
    });
    assert_eq!(again, Some(7));
    assert_eq!(world.disk("disk").durable_bytes(8192..8193), [7]);
    assert!(world.fault_log().is_empty());
}

/// Reads in bursts, so that several completions meet in one turn; what it does next depends on
/// their order.
async fn reader(file: File, task: u8) {
    for _ in 0..20 {
        let page = (reactor::random_u64() + u64::from(task)) % 200;
        let _ = read(&file, page * 4096).await;
        let burst = Duration::from_micros(200);
        let now_ns = reactor::now().as_nanos();
        sleep(Duration::from_nanos(
            burst.as_nanos() as u64 - now_ns % 200_000,
        ))
        .await;
    }
}

/// A program with everything in it: two cores, a mailbox, a disk, tasks, timers, random numbers.
fn busy(seed: u64, options: WorldOptions) -> World {
    let mut world = World::new(seed, options);
    let disk = DiskOptions {
        len_bytes: 1 << 20,
        ..WorldOptions::swarm(seed).disk
    };
    world.add_disk("disk", disk);
    world.start_with("node", 2, || {
        let (sender, receiver) = reactor::mailbox::channel::<u64>(16);
        let receiver = RefCell::new(Some(receiver));
        let receiver = Rc::new(receiver);
        move |core| {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            async move {
                if core == 0 {
                    for _ in 0..50 {
                        let _ = sender.try_send(reactor::random_u64() % 200);
                        sleep(Duration::from_micros(reactor::random_u64() % 300)).await;
                    }
                    return;
                }
                drop(sender);
                let mut receiver = receiver.borrow_mut().take().expect("one receiver");
                let file = open("disk");
                for task in 0..6u8 {
                    drop(reactor::spawn(reader(file.clone(), task)));
                }
                for n in 0..40u8 {
                    let Some(block) = receiver.recv().await else {
                        break;
                    };
                    reactor::crash_point("test::before_write");
                    let _ = write(&file, block * 4096, n, 4096).await;
                    if n % 8 == 0 {
                        let _ = file.sync().await;
                    }
                }
            }
        }
    });
    world.run_for(Duration::from_secs(20));
    world
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let mut hashes = Vec::new();
    for seed in 0..25 {
        let first = busy(seed, WorldOptions::swarm(seed));
        let second = busy(seed, WorldOptions::swarm(seed));
        assert_eq!(
            first.trace_hash(),
            second.trace_hash(),
            "seed {seed} does not repeat"
        );
        assert_eq!(first.trace_tail(50), second.trace_tail(50));
        assert_eq!(first.fault_log(), second.fault_log());
        hashes.push(first.trace_hash());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 25);
}

#[test]
fn a_world_without_faults_injects_none() {
    for seed in 0..5 {
        assert!(busy(seed, WorldOptions::default()).fault_count(FaultKind::Kill) == 0);
    }
}

#[test]
fn a_lock_is_held_until_the_crash() {
    let mut world = World::new(3, WorldOptions::default());
    world.add_disk("disk", DiskOptions::default());
    let lock = || {
        let options = OpenOptions {
            exclusive_lock: true,
            ..OpenOptions::default()
        };
        File::open(Path::new("disk"), &options)
    };
    world.start("a", 1, move |_| async move {
        let _held = lock().unwrap();
        sleep(100 * SECOND).await;
    });
    world.run_for(SECOND);
    let second = world.run_once("b", SECOND, move || async move { lock().map(drop) });
    assert_eq!(
        second.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    world.crash("a", Crash::Kill);
    let third = world.run_once("b", SECOND, move || async move { lock().map(drop) });
    assert!(third.unwrap().is_ok());
    let fourth = world.run_once("b", SECOND, move || async move { lock().map(drop) });
    assert!(
        fourth.unwrap().is_ok(),
        "dropping the file released the lock"
    );
}

#[test]
fn files_are_found_created_and_refused() {
    let options = WorldOptions {
        create_budget_bytes: 1 << 20,
        ..WorldOptions::default()
    };
    let mut world = World::new(4, options);
    let kinds = world.run_once("node", SECOND, || async {
        let create = |name: &str, len| {
            let options = OpenOptions {
                create_len: Some(len),
                ..OpenOptions::default()
            };
            File::open(Path::new(name), &options)
        };
        let absent = File::open(Path::new("x"), &OpenOptions::default())
            .unwrap_err()
            .kind();
        let made = create("x", 65_536).unwrap();
        assert_eq!(made.info().len_bytes, 65_536);
        write(&made, 61_440, 1, 4096).await.unwrap();
        let read_only = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        let view = File::open(Path::new("x"), &read_only).unwrap();
        assert_eq!(read(&view, 61_440).await.unwrap(), 1);
        assert!(write(&view, 0, 1, 4096).await.is_err());
        let eof = read(&view, 65_536).await.unwrap_err().kind();
        [
            absent,
            create("x", 65_536).unwrap_err().kind(),
            create("y", 1 << 20).unwrap_err().kind(),
            eof,
        ]
    });
    use std::io::ErrorKind::{AlreadyExists, NotFound, StorageFull, UnexpectedEof};
    assert_eq!(
        kinds.unwrap(),
        [NotFound, AlreadyExists, StorageFull, UnexpectedEof]
    );
    assert_eq!(world.disk("x").bytes(61_440..61_441), [1]);
}

struct Witness(Rc<Cell<u32>>);

impl Drop for Witness {
    fn drop(&mut self) {
        assert!(is_tearing_down(), "dropped as if the program had ended");
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_crash_point_ends_the_node_right_there() {
    for crash in [Crash::Kill, Crash::PowerLoss] {
        let mut world = World::new(5, WorldOptions::default());
        let (passed, dropped) = (Rc::new(Cell::new(0u32)), Rc::new(Cell::new(0u32)));
        let (seen, witness) = (passed.clone(), dropped.clone());
        world.start("node", 2, move |_| {
            let (seen, witness) = (seen.clone(), witness.clone());
            async move {
                let _local = Witness(witness.clone());
                drop(reactor::spawn(async move {
                    let _other = Witness(witness);
                    sleep(SECOND).await;
                }));
                loop {
                    sleep(Duration::from_millis(1)).await;
                    reactor::crash_point("test::point");
                    seen.set(seen.get() + 1);
                }
            }
        });
        world.crash_at("node", "test::point", 7, crash);
        world.run_until(SECOND, |world| !world.is_up("node"));
        assert_eq!(passed.get(), 6, "six passed, the seventh crashed");
        assert_eq!(dropped.get(), 4, "both tasks of both cores were dropped");
        assert_eq!(world.crash_points()["test::point"], 7);
        assert_eq!(
            (world.crashes("node"), world.last_crash("node")),
            (1, Some(crash))
        );
        world.run_for(SECOND);
        assert_eq!(passed.get(), 6, "a dead node runs nothing");
        world.restart("node");
        world.run_for(Duration::from_millis(10));
        assert!(passed.get() > 6 && world.is_up("node"));
        world.crash("node", Crash::Kill);
    }
}

/// Tries, when dropped, what only a living program can do.
struct Ghost(File, Rc<Cell<u32>>);

impl Drop for Ghost {
    fn drop(&mut self) {
        let create = OpenOptions {
            create_len: Some(4096),
            ..OpenOptions::default()
        };
        let created = File::open(Path::new("ghost"), &create);
        assert!(created.is_err(), "a dead program created a file");
        let addr = std::net::SocketAddr::from(([0, 0, 0, 0], 1));
        assert!(reactor::net::TcpListener::bind(addr).is_err());
        reactor::crash_point("test::ghost");
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn destructors_of_a_dead_program_reach_nothing() {
    for by_crash_point in [false, true] {
        let mut world = World::new(20, WorldOptions::default());
        world.add_disk("disk", DiskOptions::default());
        let ghosts = Rc::new(Cell::new(0));
        let count = ghosts.clone();
        world.start("node", 1, move |_| {
            let count = count.clone();
            async move {
                let ghost = Ghost(open("disk"), count.clone());
                drop(reactor::spawn(async move {
                    let ghost = Ghost(open("disk"), count);
                    write(&ghost.0, 0, 1, 4096).await.unwrap();
                    sleep_forever().await;
                }));
                sleep(Duration::from_millis(1)).await;
                reactor::crash_point("test::here");
                write(&ghost.0, 4096, 1, 4096).await.unwrap();
                sleep_forever().await;
            }
        });
        if by_crash_point {
            world.crash_at("node", "test::here", 1, Crash::Kill);
        }
        world.run_for(Duration::from_millis(2));
        if !by_crash_point {
            world.crash("node", Crash::Kill);
        }
        assert_eq!((ghosts.get(), world.is_up("node")), (2, false));
        assert!(world.find_disk("ghost").is_none());
        assert!(!world.crash_points().contains_key("test::ghost"));
    }
}

#[test]
fn crash_points_by_chance_crash_and_restart() {
    let mut options = WorldOptions::default();
    options.crash.point_ppm = 20_000;
    options.crash.restart_ns = Some(1_000_000);
    options.crash.crashes_max = 5;
    let mut world = World::new(6, options);
    world.start("node", 1, |_| async {
        loop {
            sleep(Duration::from_millis(1)).await;
            reactor::crash_point("test::point");
        }
    });
    world.run_for(10 * SECOND);
    assert_eq!(world.crashes("node"), 5, "bounded by crashes_max");
    assert!(world.is_up("node"));
    assert!(world.fault_count(FaultKind::Kill) > 0 && world.fault_count(FaultKind::PowerLoss) > 0);
}

#[test]
fn crashes_by_chance_come_at_arbitrary_moments() {
    let mut options = WorldOptions::default();
    options.crash.interval_ns = 5_000_000;
    options.crash.restart_ns = Some(1_000_000);
    options.crash.power_loss_percent = 0;
    let mut world = World::new(7, options);
    world.start("node", 1, |_| sleep_forever());
    world.run_for(SECOND);
    assert_eq!(world.crashes("node"), 20);
    assert_eq!(world.fault_count(FaultKind::PowerLoss), 0);
}

async fn sleep_forever() {
    loop {
        sleep(SECOND).await;
    }
}

/// Writes block n with the byte n+1, in order, and says after each what was promised.
fn writer(world: &mut World, sync: bool) -> (Rc<Cell<u64>>, Rc<Cell<u64>>) {
    let (written, synced) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let told = (written.clone(), synced.clone());
    world.start("node", 1, move |_| {
        let (written, synced) = told.clone();
        async move {
            let file = open("disk");
            for block in 0..200u64 {
                write(&file, block * 16_384, block as u8 + 1, 16_384)
                    .await
                    .unwrap();
                written.set(block + 1);
                if sync && block % 4 == 3 {
                    file.sync().await.unwrap();
                    synced.set(block + 1);
                }
            }
            sleep_forever().await;
        }
    });
    (written, synced)
}

#[test]
fn kill_keeps_every_completed_write_and_power_loss_every_synced_one() {
    let (mut torn, mut unsynced_lost) = (0, 0);
    for seed in 0..60 {
        let crash = if seed % 2 == 0 {
            Crash::Kill
        } else {
            Crash::PowerLoss
        };
        let mut world = World::new(seed, WorldOptions::default());
        let disk = world.add_disk("disk", DiskOptions::default());
        let (written, synced) = writer(&mut world, true);
        world.run_for(Duration::from_micros(1_000 + seed * 137));
        world.crash("node", crash);
        let whole = |block: u64| {
            let bytes = disk.bytes(block * 16_384..(block + 1) * 16_384);
            bytes.iter().all(|b| *b == block as u8 + 1)
        };
        let promised = if crash == Crash::Kill {
            written.get()
        } else {
            synced.get()
        };
        assert!(
            (0..promised).all(whole),
            "seed {seed}: a promised write is missing"
        );
        unsynced_lost += (promised..written.get())
            .filter(|block| !whole(*block))
            .count();
        torn +=
            world.fault_count(FaultKind::UnsyncedTorn) + world.fault_count(FaultKind::InFlightTorn);
        assert!(crash == Crash::Kill || disk.unsynced_writes() == 0);
    }
    assert!(
        torn > 5 && unsynced_lost > 5,
        "torn {torn}, lost {unsynced_lost}"
    );
}

#[test]
fn power_loss_hits_only_the_disks_of_the_node() {
    let mut world = World::new(8, WorldOptions::default());
    let (mine, other) = (DiskOptions::default(), DiskOptions::default());
    let (mine, other) = (world.add_disk("mine", mine), world.add_disk("other", other));
    for (node, disk) in [("a", "mine"), ("b", "other")] {
        world.start(node, 1, move |_| async move {
            let file = open(disk);
            for n in 0..50u64 {
                write(&file, n * 4096, 1, 4096).await.unwrap();
            }
            sleep_forever().await;
        });
    }
    world.run_for(SECOND);
    world.crash("a", Crash::PowerLoss);
    assert_eq!((mine.unsynced_writes(), other.unsynced_writes()), (0, 50));
    assert!(world.is_up("b") && !world.is_up("a"));
    let there = (0..50u64)
        .filter(|n| mine.bytes(n * 4096..n * 4096 + 1) == [1])
        .count();
    assert!(
        (5..45).contains(&there),
        "{there} of 50 un-synced writes survived"
    );
}

#[test]
fn a_disk_can_be_broken_and_restored_by_hand() {
    let mut world = World::new(9, WorldOptions::default());
    let disk = world.add_disk("disk", DiskOptions::default());
    world.run_once("node", SECOND, || async {
        write(&open("disk"), 0, 4, 8192).await.unwrap();
    });
    let image = disk.snapshot();
    disk.flip_bit(100);
    disk.latent_error(4096..4097);
    let results = world.run_once("node", SECOND, || async {
        let file = open("disk");
        let buf = pool().alloc(4096).await;
        let (_, buf) = file.read_at(0, buf).await;
        (
            buf[99],
            buf[100],
            read(&file, 4096).await.map_err(|e| e.raw_os_error()),
        )
    });
    assert_eq!(results.unwrap(), (4, 5, Err(Some(5))));
    disk.restore(image);
    disk.set_gone(true);
    let gone = world.run_once("node", SECOND, || async {
        File::open(Path::new("disk"), &OpenOptions::default())
            .map(drop)
            .map_err(|e| e.raw_os_error())
    });
    assert_eq!(gone, Some(Err(Some(19))));
    disk.heal();
    disk.set_slow(10 * SECOND);
    let before = world.now();
    let byte = world.run_once("node", 20 * SECOND, || async {
        read(&open("disk"), 4096).await.unwrap()
    });
    assert_eq!(byte, Some(4));
    assert!(world.now() - before >= 10 * SECOND);
}

#[test]
fn a_stall_panics_with_a_snapshot_of_the_tasks() {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(10, WorldOptions::default());
        world.start("node", 1, |_| std::future::pending());
        world.run(SECOND);
    });
    let message = *outcome
        .unwrap_err()
        .downcast::<String>()
        .expect("a message");
    assert!(message.contains("core node/0: tasks"), "{message}");
}

#[test]
fn a_livelock_panics() {
    let outcome = std::panic::catch_unwind(|| {
        let options = WorldOptions {
            turns_max: 10_000,
            ..WorldOptions::default()
        };
        let mut world = World::new(11, options);
        world.start("node", 1, |_| async {
            loop {
                reactor::yield_now().await;
            }
        });
        world.run_for(3600 * SECOND);
    });
    assert!(
        outcome
            .unwrap_err()
            .downcast::<String>()
            .unwrap()
            .contains("turns_max")
    );
}

#[test]
fn a_panic_of_the_program_reaches_the_test() {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(12, WorldOptions::default());
        world.run_once("node", SECOND, || async { panic!("a bug in the program") });
    });
    assert_eq!(
        *outcome.unwrap_err().downcast::<&str>().unwrap(),
        "a bug in the program"
    );
}

#[test]
fn mailboxes_wake_cores_of_the_same_process() {
    let mut world = World::new(13, WorldOptions::default());
    let got = Rc::new(Cell::new(0u64));
    let result = got.clone();
    world.start_with("node", 2, move || {
        let (sender, receiver) = reactor::mailbox::channel::<u64>(4);
        let receiver = Rc::new(RefCell::new(Some(receiver)));
        let got = result.clone();
        move |core| {
            let (sender, receiver, got) = (sender.clone(), receiver.clone(), got.clone());
            async move {
                if core == 0 {
                    sleep(Duration::from_millis(5)).await;
                    sender.try_send(41).unwrap();
                } else {
                    drop(sender);
                    let mut receiver = receiver.borrow_mut().take().unwrap();
                    got.set(receiver.recv().await.unwrap() + 1);
                    assert_eq!(reactor::core_id().0, 1);
                }
            }
        }
    });
    world.run_for(Duration::from_millis(6));
    assert_eq!(got.get(), 42);
    assert!(!world.is_up("node"));
}

#[test]
fn the_test_can_speak_to_a_program_by_mailbox() {
    let mut world = World::new(18, WorldOptions::default());
    let (sender, receiver) = reactor::mailbox::channel::<u32>(4);
    let receiver = RefCell::new(Some(receiver));
    let got = Rc::new(Cell::new(0));
    let sum = got.clone();
    world.start("node", 1, move |_| {
        let (receiver, sum) = (receiver.borrow_mut().take(), sum.clone());
        async move {
            let mut receiver = receiver.expect("started once");
            while let Some(number) = receiver.recv().await {
                sum.set(sum.get() + number);
            }
        }
    });
    world.run_for(SECOND);
    sender.try_send(40).unwrap();
    world.run_for(Duration::from_millis(1));
    assert_eq!(got.get(), 40);
    let mut sent = false;
    world.run_until(Duration::from_millis(1), |_| {
        if !std::mem::replace(&mut sent, true) {
            sender.try_send(2).unwrap();
        }
        got.get() == 42
    });
}

#[test]
fn pauses_stop_a_core_for_a_while() {
    let mut options = WorldOptions::default();
    options.cpu.pause_ppm = 1_000_000;
    let mut world = World::new(19, options);
    world.start("node", 1, |_| async {
        for _ in 0..20 {
            reactor::next_turn().await;
        }
    });
    world.run(100 * SECOND);
    assert!(
        world.now() > Duration::from_millis(100),
        "{:?}",
        world.now()
    );
    assert!(
        world
            .fault_log()
            .iter()
            .all(|fault| fault.kind == FaultKind::Pause)
    );
}

#[test]
fn an_idle_core_takes_no_turns() {
    let mut world = World::new(17, WorldOptions::default());
    world.start("node", 2, |_| sleep_forever());
    world.run_for(60 * SECOND);
    let stats = world.core_stats("node");
    assert_eq!(stats.len(), 2);
    for core in stats {
        let turns = core.turns.get();
        assert!(
            (60..300).contains(&turns),
            "{turns} turns in a minute of one timer a second"
        );
    }
}

#[test]
fn the_wall_clock_can_be_wrong() {
    let mut world = World::new(14, WorldOptions::default());
    let right = world
        .run_once("node", SECOND, || async { reactor::wall_clock_ms() })
        .unwrap();
    world.set_wall_clock_skew_ms("node", -3_600_000);
    let wrong = world
        .run_once("node", SECOND, || async { reactor::wall_clock_ms() })
        .unwrap();
    assert!(right - wrong > 3_599_000 && right - wrong <= 3_600_000);
}

#[test]
fn heal_all_ends_faults_by_chance() {
    let mut options = WorldOptions::default();
    options.disk.faults.transient.write_ppm = 500_000;
    let mut world = World::new(15, options.clone());
    world.add_disk("disk", options.disk);
    let errors = || async {
        let file = open("disk");
        let mut errors = 0;
        for n in 0..100 {
            errors += u32::from(write(&file, n * 4096, 1, 4096).await.is_err());
        }
        errors
    };
    assert!(world.run_once("node", 10 * SECOND, errors).unwrap() > 20);
    world.heal_all();
    assert_eq!(world.run_once("node", 10 * SECOND, errors), Some(0));
}

/// Run by `another_process_repeats_the_trace` in processes of their own.
#[test]
fn child_prints_hashes() {
    for seed in 100..106 {
        println!(
            "trace {:016x}",
            busy(seed, WorldOptions::swarm(seed)).trace_hash()
        );
    }
}

/// Addresses and hash seeds differ from process to process: neither may reach the trace.
#[test]
fn another_process_repeats_the_trace() {
    let run = || {
        let program = std::env::current_exe().expect("a path");
        let mut child = std::process::Command::new(program);
        let output = child
            .args(["--exact", "child_prints_hashes", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let hashes = text.split_whitespace().filter(|word| word.len() == 16);
        hashes.map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (run(), run());
    assert_eq!(first.len(), 6, "{first:?}");
    assert_eq!(first, second);
}
