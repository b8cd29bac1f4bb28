//! Which core serves a connection: those of a busy volume spread over the cores and come home when
//! it is quiet, unseen by hosts that check what they read.
//!
//! The load is mostly Verify: it keeps a core busy and costs the hosts on the same two CPUs nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process is watched on the real clock"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host::{Completion, Host, HostOptions, IoQueue, Op};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use system_tests::{Random, Server, Setup, nqn};

const QUEUES: u16 = 4;
const BLOCK: usize = 4096;
/// Commands in flight on each queue.
const DEPTH: usize = 100;
/// Blocks that are verified over and over, and those of one Verify.
const FILLED: u64 = 16 << 10;
const VERIFIED: u32 = 256;
/// Blocks that each queue writes and reads back; large enough to need an R2T.
const CHECKED: u32 = 8;
/// The home core is looked at 4 times a second, and other work on the machine may hide for a while
/// how busy it is.
const PATIENCE: Duration = Duration::from_secs(45);
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
    let setup = Setup::new().pool_in_memory("ram", "192MiB");
    let mut setup = setup.volume("demo", "128MiB", BLOCK as u32);
    setup.reactor.push(format!("cores = {cpus:?}"));
    setup.nvme_tcp.push(format!("placement = \"{placement}\""));
    setup
}

fn connect(server: &Server, digests: bool) -> (host::Controller, Vec<IoQueue>) {
    let mut options = HostOptions::default();
    if digests {
        options = options.with_digests();
    }
    let controller = Host::connect(server.address(), &nqn("demo"), options);
    let mut controller = controller.expect("the host connects");
    let mut queues = controller.io_queues(QUEUES).expect("I/O queues");
    let piece = Random::new(1).bytes(1 << 20);
    for lba in (0..FILLED).step_by(piece.len() / BLOCK) {
        queues[0].write(lba, &piece, false).expect("a write");
    }
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

/// Verifies what is there, and writes and reads back what is the queue's own. Many commands are in
/// flight, so that the server has work also while this thread waits for a CPU.
fn load(queue: &mut IoQueue, number: u64, stop: &AtomicBool, rounds: &AtomicU64) {
    let mut random = Random::new(number);
    let own = FILLED + number * u64::from(CHECKED);
    while !stop.load(Ordering::Relaxed) {
        let data = random.bytes(CHECKED as usize * BLOCK);
        let write = Op::Write {
            lba: own,
            data: data.clone(),
            fua: false,
        };
        finish(queue, write, &mut random);
        let read = Op::Read {
            lba: own,
            count: CHECKED,
        };
        let read = finish(queue, read, &mut random).into_data("Read");
        let read = read.expect("a read has data");
        assert!(
            read == data,
            "queue {number} reads other data than it wrote"
        );
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    while queue.in_flight() != 0 {
        let done = queue.next_completion().expect("the connection stands");
        done.ok("Verify").expect("it succeeds");
    }
}

/// Runs `op` to its end, and keeps the queue full of Verify meanwhile.
fn finish(queue: &mut IoQueue, op: Op, random: &mut Random) -> Completion {
    let cid = queue.submit(op).expect("a free entry");
    loop {
        while queue.in_flight() < DEPTH {
            let lba = random.within(0..FILLED / u64::from(VERIFIED)) * u64::from(VERIFIED);
            let count = VERIFIED;
            let verify = Op::Verify { lba, count };
            queue.submit(verify).expect("a free entry");
        }
        let done = queue.next_completion().expect("the connection stands");
        let done = done.ok("a command under load").expect("it succeeds");
        if done.cid == cid {
            return done;
        }
    }
}

/// Load on all queues while `meanwhile` runs. Gives how many rounds it took.
fn under_load(queues: &mut [IoQueue], meanwhile: impl FnOnce() + Send) -> u64 {
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (stop, rounds) = (&stop, &rounds);
        for (number, queue) in queues.iter_mut().enumerate() {
            scope.spawn(move || load(queue, number as u64, stop, rounds));
        }
        // A failure there must not leave the load running for ever.
        let watched = scope.spawn(meanwhile).join();
        stop.store(true, Ordering::Relaxed);
        watched.unwrap_or_else(|what| std::panic::resume_unwind(what));
    });
    rounds.into_inner()
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
    let all = u64::from(QUEUES) + 1;
    assert_eq!(placed(&server), (all, 0), "all begin at home");
    let rounds = under_load(&mut queues, || {
        wait_for("spreading", || placed(&server).1 > 0);
        let guests = server.metric("bedplate_core_guest_connections{core=\"1\"}");
        assert!(guests > 0.0, "{guests} guests");
        // Checked data flows on both cores for a while.
        std::thread::sleep(Duration::from_secs(2));
    });
    println!("{rounds} rounds, {} moves", moves(&server));
    wait_for("coming home", || placed(&server) == (all, 0));
    assert!(moves(&server) >= 2.0);
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
    let rounds = under_load(&mut queues, || {
        for _ in 0..20 {
            assert_eq!(placed(&server), (u64::from(QUEUES) + 1, 0));
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert!(rounds > 0);
    assert_eq!(moves(&server), 0.0);
}

#[test]
fn a_server_stops_in_order_with_connections_away() {
    let Some(cpus) = two_cpus() else { return };
    let mut server = Server::start(setup(cpus, "spread"));
    let (controller, mut queues) = connect(&server, false);
    under_load(&mut queues, || {
        wait_for("spreading", || placed(&server).1 > 0)
    });
    server.terminate();
    drop((controller, queues));
}
