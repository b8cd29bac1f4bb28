//! `kill -9` at random moments under a checking client: nothing acknowledged is ever lost.
//!
//! CRASH_KILLS says how often (default 50), CRASH_SEED repeats a run as far as the kernel's
//! scheduling allows.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process is killed on the real clock"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Host, HostOptions, IoQueue};
use system_tests::checker::{Region, Tally};
use system_tests::{Random, Server, Setup, nqn};

/// I/O queues, and so regions, of each volume.
const QUEUES: u16 = 3;
/// Bytes of one region.
const REGION_BYTES: u64 = 6 << 20;
/// Bytes of one volume: regions lie far apart in it.
const VOLUME_BYTES: u64 = 256 << 20;
const VOLUMES: [(&str, u32); 2] = [("big", 4096), ("small", 512)];

fn setup() -> Setup {
    let mut setup = Setup::new().pool("main", "512MiB");
    for (name, block_bytes) in VOLUMES {
        setup = setup.volume(name, "256MiB", block_bytes);
    }
    setup
}

/// Regions in the order of their queues; the last one of a volume ends with it.
fn regions(seed: u64) -> Vec<Region> {
    let mut regions = Vec::new();
    for (number, (_, block_bytes)) in VOLUMES.iter().enumerate() {
        for queue in 0..u64::from(QUEUES) {
            let room = VOLUME_BYTES - REGION_BYTES;
            let first = (room / u64::from(QUEUES - 1) * queue)
                .next_multiple_of(4096)
                .min(room);
            let block_bytes = u64::from(*block_bytes);
            let blocks = (REGION_BYTES / block_bytes) as usize;
            let seed = seed ^ (number as u64 * 100 + queue + 1).wrapping_mul(0x9e37_79b9);
            let (volume, first_lba) = (number as u64, first / block_bytes);
            regions.push(Region::new(
                volume,
                first_lba,
                blocks,
                block_bytes as usize,
                seed,
            ));
        }
    }
    regions
}

/// One controller a volume, and their I/O queues in the order of the regions. Every second
/// volume's host sends digests; every second cycle's waits for an R2T for each write.
fn connect(server: &Server, cycle: u64) -> (Vec<host::Controller>, Vec<IoQueue>) {
    let (mut controllers, mut queues) = (Vec::new(), Vec::new());
    for (number, (name, _)) in VOLUMES.iter().enumerate() {
        let mut options = HostOptions::default().with_queue_depth(65);
        options.in_capsule = cycle.is_multiple_of(2);
        if number == 1 {
            options = options.with_digests();
        }
        let controller = Host::connect(server.address(), &nqn(name), options);
        let mut controller = controller.expect("the host connects");
        queues.extend(controller.io_queues(QUEUES).expect("I/O queues"));
        controllers.push(controller);
    }
    (controllers, queues)
}

/// Runs `work` on each region and its queue at the same time.
fn on_each<F>(regions: &mut [Region], queues: &mut [IoQueue], work: F) -> Result<Tally, String>
where
    F: Fn(&mut Region, &mut IoQueue) -> Result<Tally, String> + Sync,
{
    std::thread::scope(|scope| {
        let pairs = regions.iter_mut().zip(queues);
        let threads: Vec<_> = pairs
            .map(|(region, queue)| scope.spawn(|| work(region, queue)))
            .collect();
        let mut total = Tally::default();
        let mut problem = Ok(());
        for thread in threads {
            match thread.join().expect("a checker does not panic") {
                Ok(tally) => total.add(&tally),
                Err(what) => problem = Err(what),
            }
        }
        problem.map(|()| total)
    })
}

/// Load until a random moment, then the kill.
fn load_and_kill(
    server: &mut Server,
    regions: &mut [Region],
    queues: &mut [IoQueue],
    random: &mut Random,
) -> Result<Tally, String> {
    let (stop, killed) = (AtomicBool::new(false), AtomicBool::new(false));
    let depth = random.within(1..33) as usize;
    // Mostly short: most code runs once a request. Now and then long enough for the journal to
    // fill and the flusher to publish.
    let long = random.chance(15);
    let limit_ms = if long {
        random.within(300..900)
    } else {
        random.within(5..150)
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            on_each(regions, queues, |region, queue| {
                region.load(queue, depth, &stop, &killed)
            })
        });
        std::thread::sleep(Duration::from_millis(limit_ms));
        killed.store(true, Ordering::SeqCst);
        server.kill();
        load.join().expect("the load does not panic")
    })
}

fn kills() -> u64 {
    match std::env::var("CRASH_KILLS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("CRASH_KILLS={text} is not a number")),
        Err(_) => 50,
    }
}

#[test]
fn kill_loop_loses_nothing_acknowledged() {
    let seed = Random::seed_from("CRASH_SEED");
    println!("CRASH_SEED={seed}");
    let mut random = Random::new(seed);
    let mut regions = regions(seed);
    let mut server = Server::start(setup());
    let (started, mut total) = (Instant::now(), Tally::default());
    for cycle in 0..kills() {
        let (controllers, mut queues) = connect(&server, cycle);
        let broken = |what: String| panic!("kill {cycle} of CRASH_SEED={seed}: {what}");
        let verified = on_each(&mut regions, &mut queues, Region::verify);
        total.add(&verified.unwrap_or_else(broken));
        let loaded = load_and_kill(&mut server, &mut regions, &mut queues, &mut random);
        total.add(&loaded.unwrap_or_else(broken));
        drop(controllers);
        // A crash while recovery runs must be as harmless as the first one.
        if random.chance(20) {
            server.launch_and_kill(Duration::from_millis(random.within(0..60)));
        }
        server.launch();
    }
    let (controllers, mut queues) = connect(&server, 0);
    let verified = on_each(&mut regions, &mut queues, Region::verify);
    total.add(&verified.unwrap_or_else(|what| panic!("at the end, CRASH_SEED={seed}: {what}")));
    drop((controllers, queues));
    server.terminate();
    server
        .binary
        .run(server.setup.directory(), &["fsck", "main.pool"])
        .expect_code(0);
    println!("{} kills in {:.1?}: {total:?}", kills(), started.elapsed());
    assert!(
        total.changes > kills() * 20,
        "hardly anything was acknowledged: {total:?}"
    );
    assert!(
        total.unanswered > kills(),
        "nothing was in flight at the kills: {total:?}"
    );
    assert!(total.compared > 0 && total.flushes > 0, "{total:?}");
}
