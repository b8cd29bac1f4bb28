//! The disk and crash models judged by their own contract: a small program writes versions under
//! swarm faults, and after every crash the test compares what is there with what was promised.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use reactor::buf::{BufList, pool};
use reactor::fs::{File, OpenOptions};
use reactor::sim::{Crash, DiskHandle, FaultKind, World, WorldOptions};
use reactor::time::sleep;

const PAGES: u64 = 8;
const PAGE: u64 = 4096;
const TASKS: u64 = 4;

/// Virtual time of one seed.
const LIFE: Duration = Duration::from_millis(200);

/// What the program did to one page; versions only grow.
#[derive(Clone, Copy, Default)]
struct Promise {
    attempted: u8,
    /// Completed and not endangered since.
    written: u8,
    /// Covered by a successful sync.
    synced: u8,
}

#[derive(Default)]
struct Ledger {
    pages: Vec<Promise>,
    reads: u64,
}

type Shared = Rc<RefCell<Ledger>>;

async fn write_version(file: &File, ledger: &Shared, page: u64) {
    let version = {
        let promise = &mut ledger.borrow_mut().pages[page as usize];
        if promise.attempted == u8::MAX {
            return;
        }
        promise.attempted += 1;
        promise.attempted
    };
    let mut buf = pool().alloc(PAGE as usize).await;
    buf.as_mut().fill(version);
    let written = file.write_at(page * PAGE, BufList::from(buf)).await.0;
    if written.is_ok() {
        ledger.borrow_mut().pages[page as usize].written = version;
    }
}

async fn sync(file: &File, ledger: &Shared) {
    let before: Vec<u8> = ledger
        .borrow()
        .pages
        .iter()
        .map(|page| page.written)
        .collect();
    let synced = file.sync().await;
    let mut ledger = ledger.borrow_mut();
    for (promise, version) in ledger.pages.iter_mut().zip(before) {
        if synced.is_ok() {
            promise.synced = promise.synced.max(version);
        } else {
            // What was not synced may be gone; only what is durable is promised now.
            promise.written = promise.written.min(promise.synced);
        }
    }
}

/// The oldest and the newest version on a page; a sector is never a mixture.
fn versions(page: &[u8]) -> (u8, u8) {
    let mut range = (u8::MAX, 0);
    for sector in page.chunks(512) {
        assert!(sector == [sector[0]; 512], "a sector was cut");
        range = (range.0.min(sector[0]), range.1.max(sector[0]));
    }
    range
}

async fn read_back(file: &File, ledger: &Shared, page: u64) {
    let floor = ledger.borrow().pages[page as usize].written;
    let buf = pool().alloc(PAGE as usize).await;
    let (result, buf) = file.read_at(page * PAGE, buf).await;
    if result.is_err() {
        return;
    }
    let mut ledger = ledger.borrow_mut();
    ledger.reads += 1;
    let promise = ledger.pages[page as usize];
    // A sync that failed meanwhile lowers the floor.
    let range = floor.min(promise.written)..=promise.attempted;
    assert!(
        buf.iter().all(|byte| range.contains(byte)),
        "page {page} is not in {range:?}"
    );
}

async fn worker(file: File, ledger: Shared, task: u64) {
    loop {
        let page = reactor::random_u64() % (PAGES / TASKS) * TASKS + task;
        match reactor::random_u64() % 8 {
            0 => sync(&file, &ledger).await,
            1..4 => read_back(&file, &ledger, reactor::random_u64() % PAGES).await,
            _ => write_version(&file, &ledger, page).await,
        }
        reactor::crash_point("swarm::between_operations");
        sleep(Duration::from_micros(reactor::random_u64() % 500)).await;
    }
}

/// Compares the disk with the promises that this crash leaves standing.
fn check(disk: &DiskHandle, ledger: &Shared, crash: Crash, volatile: bool, seed: u64) {
    let mut ledger = ledger.borrow_mut();
    for (page, promise) in ledger.pages.iter_mut().enumerate() {
        let kept = crash == Crash::Kill || !volatile;
        let floor = if kept {
            promise.written.max(promise.synced)
        } else {
            promise.synced
        };
        let at = page as u64 * PAGE;
        let bytes = disk.bytes(at..at + PAGE);
        let (low, high) = versions(&bytes);
        assert!(
            low >= floor && high <= promise.attempted,
            "seed {seed}: page {page} holds {low} to {high}, promised {floor} to {}",
            promise.attempted
        );
        promise.written = low;
        if !volatile || crash == Crash::PowerLoss {
            promise.synced = low;
        }
    }
}

/// One seed; returns the faults it met, the crashes and the checked reads.
fn run(seed: u64) -> (BTreeMap<FaultKind, u64>, u32, u64) {
    let mut options = WorldOptions::swarm(seed);
    // Many short lives: a stall of seconds or a long pause between crashes teaches nothing here.
    options.crash.restart_ns = Some(1_000_000);
    options.crash.interval_ns = options.crash.interval_ns.min(40_000_000);
    options.disk.faults.stall.stall_ns = 20_000_000;
    options.disk.faults.stall.ppm *= 20;
    options.disk.faults.transient.sync_ppm *= 20;
    options.disk.faults.early_visible.ppm *= 20;
    options.cpu.pause_ppm *= 20;
    let volatile = options.disk.volatile_cache;
    let mut world = World::new(seed, options.clone());
    let disk = world.add_disk("disk", options.disk);
    let ledger = Shared::default();
    ledger.borrow_mut().pages = vec![Promise::default(); PAGES as usize];
    let shared = ledger.clone();
    world.start("target", 1, move |_| {
        let ledger = shared.clone();
        async move {
            let lock = OpenOptions {
                exclusive_lock: true,
                ..OpenOptions::default()
            };
            let file = File::open(Path::new("disk"), &lock).expect("the lock died with its owner");
            for task in 1..TASKS {
                drop(reactor::spawn(worker(file.clone(), ledger.clone(), task)));
            }
            worker(file, ledger, 0).await;
        }
    });
    let mut crashes = 0;
    while world.now() < LIFE {
        let left = LIFE - world.now();
        if world.try_run_until(left, |world| world.crashes("target") != crashes) {
            crashes = world.crashes("target");
            let crash = world.last_crash("target").expect("it crashed");
            check(&disk, &ledger, crash, volatile, seed);
        }
    }
    if world.is_up("target") {
        world.crash("target", Crash::PowerLoss);
        check(&disk, &ledger, Crash::PowerLoss, volatile, seed);
        crashes += 1;
    }
    let mut faults = BTreeMap::new();
    for fault in world.fault_log() {
        *faults.entry(fault.kind).or_insert(0) += 1;
    }
    (faults, crashes, ledger.borrow().reads)
}

#[test]
fn what_was_promised_is_there_after_every_crash() {
    let (mut all, mut crashes, mut reads) = (BTreeMap::new(), 0, 0);
    for seed in 0..40 {
        let (faults, crashed, checked) = run(seed);
        crashes += crashed;
        reads += checked;
        for (kind, count) in faults {
            *all.entry(kind).or_insert(0u64) += count;
        }
    }
    assert!(
        crashes > 100 && reads > 3_000,
        "{crashes} crashes, {reads} reads"
    );
    for kind in [
        FaultKind::UnsyncedLost,
        FaultKind::InFlightApplied,
        FaultKind::InFlightLost,
        FaultKind::TransientError,
        FaultKind::SyncDropped,
        FaultKind::EarlyVisible,
        FaultKind::ShortIo,
        FaultKind::Stall,
        FaultKind::Kill,
        FaultKind::PowerLoss,
        FaultKind::Pause,
    ] {
        assert!(all.contains_key(&kind), "{kind:?} never happened: {all:?}");
    }
    for kind in [
        FaultKind::BitRot,
        FaultKind::LostWrite,
        FaultKind::MisdirectedWrite,
    ] {
        assert!(!all.contains_key(&kind), "{kind:?} without an atlas");
    }
}
