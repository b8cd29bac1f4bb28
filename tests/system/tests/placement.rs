//! Which core serves a connection: those of a busy volume spread over the cores and come home when
//! it is quiet, unseen by a host that checks every byte.
//!
//! A checking host on the same two CPUs does not make a core busy by itself. Others that want the
//! home core's CPU do: its turns then take longer, as they would with more work.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process is watched on the real clock"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Host, HostOptions, IoQueue};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use system_tests::checker::{Region, Tally};
use system_tests::{Server, Setup, nqn};

const QUEUES: u16 = 4;
const DEPTH: usize = 32;
const VOLUME_BYTES: u64 = 96 << 20;
/// Bytes of one queue's part of the volume.
const REGION_BYTES: u64 = 6 << 20;
/// The home core is looked at 4 times a second, and other work on the machine may hide for a while
/// how busy it is.
const PATIENCE: Duration = Duration::from_secs(60);
const IDLE_WATCH: Duration = Duration::from_secs(4);
/// What an idle server may use of one core.
const IDLE_SHARE: f64 = 0.02;

/// Two CPUs to pin data cores to; none on a machine that has only one.
fn two_cpus() -> Option<[usize; 2]> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("the affinity is known");
    let mut cpus = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false));
    cpus.next().zip(cpus.next()).map(|(a, b)| [a, b])
}

fn setup(cpus: [usize; 2], placement: &str) -> Setup {
    let mut setup = Setup::simple("256MiB", "demo", "96MiB");
    setup.reactor.push(format!("cores = {cpus:?}"));
    setup.nvme_tcp.push(format!("placement = \"{placement}\""));
    setup
}

fn regions(seed: u64) -> Vec<Region> {
    let blocks = (REGION_BYTES / 4096) as usize;
    let step = VOLUME_BYTES / 4096 / u64::from(QUEUES);
    (0..u64::from(QUEUES))
        .map(|queue| Region::new(0, queue * step, blocks, 4096, seed + queue))
        .collect()
}

fn connect(server: &Server, digests: bool) -> (host::Controller, Vec<IoQueue>) {
    let mut options = HostOptions::default().with_queue_depth(65);
    if digests {
        options = options.with_digests();
    }
    let controller = Host::connect(server.address(), &nqn("demo"), options);
    let mut controller = controller.expect("the host connects");
    let queues = controller.io_queues(QUEUES).expect("I/O queues");
    (controller, queues)
}

/// Connections to the volume on its home core and elsewhere, as `bedplate volume show` lists them.
fn placed(server: &Server) -> (u64, u64) {
    let volume = server.cli_json(&["volume", "show", "demo"]);
    let home = volume["core"].as_u64().expect("the home core");
    let all = volume["connections"].as_array().expect("a list");
    let count = |is_home: bool| {
        let here = all.iter().filter(|on| (on["core"] == home) == is_home);
        here.map(|on| on["count"].as_u64().expect("a number")).sum()
    };
    (count(true), count(false))
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < PATIENCE,
            "{what} did not happen in {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Keeps a CPU busy until `stop` is set.
fn crowd(cpu: usize, stop: &AtomicBool) {
    let mut only = CpuSet::new();
    only.set(cpu).expect("a CPU that exists");
    sched_setaffinity(Pid::from_raw(0), &only).expect("a CPU that is ours");
    while !stop.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// Checked load on all queues while `meanwhile` runs; `killed` says that the server was.
fn under_load<T>(
    regions: &mut [Region],
    queues: &mut [IoQueue],
    home_cpu: usize,
    meanwhile: impl FnOnce(&AtomicBool) -> T,
) -> (Tally, T) {
    let (stop, killed) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let pairs = regions.iter_mut().zip(queues);
        let (stop, killed) = (&stop, &killed);
        let threads: Vec<_> = pairs
            .map(|(region, queue)| scope.spawn(|| region.load(queue, DEPTH, stop, killed)))
            .collect();
        scope.spawn(move || crowd(home_cpu, stop));
        let result = meanwhile(killed);
        stop.store(true, Ordering::SeqCst);
        let mut total = Tally::default();
        for thread in threads {
            let loaded = thread.join().expect("a checker does not panic");
            total.add(&loaded.unwrap_or_else(|what| panic!("{what}")));
        }
        (total, result)
    })
}

fn verify(regions: &mut [Region], queues: &mut [IoQueue]) {
    for (region, queue) in regions.iter_mut().zip(queues) {
        region.verify(queue).unwrap_or_else(|what| panic!("{what}"));
    }
}

fn moves(server: &Server) -> f64 {
    let of = |core: u8| {
        server.metric(&format!(
            "bedplate_connection_moves_total{{core=\"{core}\"}}"
        ))
    };
    of(0) + of(1)
}

#[test]
fn connections_of_a_busy_volume_spread_and_come_home_when_it_is_quiet() {
    let Some(cpus) = two_cpus() else { return };
    let server = Server::start(setup(cpus, "spread"));
    let (_controller, mut queues) = connect(&server, true);
    let mut regions = regions(1);
    assert_eq!(
        placed(&server),
        (u64::from(QUEUES) + 1, 0),
        "all begin at home"
    );
    let (tally, ()) = under_load(&mut regions, &mut queues, cpus[0], |_| {
        wait_for("spreading", || placed(&server).1 > 0);
        let guests = server.metric("bedplate_core_guest_connections{core=\"1\"}");
        assert!(guests > 0.0, "{guests} guests");
        // Checked data flows on both cores for a while.
        std::thread::sleep(Duration::from_secs(2));
    });
    println!("{tally:?}, {} moves", moves(&server));
    assert!(tally.changes > 100 && tally.checked > 0, "{tally:?}");
    wait_for("coming home", || placed(&server).1 == 0);
    verify(&mut regions, &mut queues);
    assert!(moves(&server) >= 2.0);
    std::thread::sleep(Duration::from_secs(6));
    let process = server.process();
    let (before, started) = (process.cpu_time(), Instant::now());
    std::thread::sleep(IDLE_WATCH);
    let used = (process.cpu_time() - before).as_secs_f64() / started.elapsed().as_secs_f64();
    println!("idle on two cores: {:.2} % of a core", used * 100.0);
    assert!(used < IDLE_SHARE, "idle on two cores: {used}");
}

#[test]
fn placement_at_home_moves_nothing() {
    let Some(cpus) = two_cpus() else { return };
    let server = Server::start(setup(cpus, "home"));
    let (_controller, mut queues) = connect(&server, false);
    let (tally, ()) = under_load(&mut regions(2), &mut queues, cpus[0], |_| {
        for _ in 0..20 {
            assert_eq!(placed(&server), (u64::from(QUEUES) + 1, 0));
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert!(tally.changes > 100, "{tally:?}");
    assert_eq!(moves(&server), 0.0);
}

#[test]
fn what_was_acknowledged_away_from_home_survives_kills() {
    let Some(cpus) = two_cpus() else { return };
    let mut server = Server::start(setup(cpus, "spread"));
    let mut regions = regions(3);
    for kill in 0..3 {
        let (controller, mut queues) = connect(&server, kill == 1);
        verify(&mut regions, &mut queues);
        let (tally, ()) = under_load(&mut regions, &mut queues, cpus[0], |killed| {
            wait_for("spreading", || placed(&server).1 > 0);
            std::thread::sleep(Duration::from_millis(300 * kill));
            killed.store(true, Ordering::SeqCst);
            server.kill();
        });
        assert!(tally.unanswered > 0, "nothing was in flight: {tally:?}");
        drop((controller, queues));
        server.launch();
    }
    let (controller, mut queues) = connect(&server, false);
    verify(&mut regions, &mut queues);
    drop((controller, queues));
    server.terminate();
    let directory = server.setup.directory();
    let fsck = server.binary.run(directory, &["fsck", "main.pool"]);
    fsck.expect_code(0);
}
