//! Memory, CPU time and queues stay within what was promised.
#![expect(
    clippy::disallowed_methods,
    reason = "CPU time is measured on the real clock"
)]

use std::time::{Duration, Instant};

use host::{Controller, Host, HostOptions, IoQueue, Op};
use system_tests::{Process, Random, Server, Setup, nqn};

const MIB: u64 = 1 << 20;
/// What an idle server may use of one core.
const IDLE_SHARE: f64 = 0.02;
/// How long it is watched.
const IDLE_WATCH: Duration = Duration::from_secs(3);

fn connect(server: &Server, volume: &str, options: HostOptions) -> Controller {
    Host::connect(server.address(), &nqn(volume), options).expect("the host connects")
}

/// Writes `count` times 1 MiB with `depth` in flight, one after the other from `first_lba` on.
fn burst(queue: &mut IoQueue, first_lba: u64, count: u64, depth: usize) {
    let data = Random::new(count).bytes(MIB as usize);
    let blocks = MIB / queue.block_bytes() as u64;
    let (mut sent, mut done) = (0, 0);
    while done < count {
        if sent < count && queue.in_flight() < depth {
            let lba = first_lba + sent * blocks;
            queue
                .submit(Op::Write {
                    lba,
                    data: data.clone(),
                    fua: false,
                })
                .expect("submit");
            sent += 1;
        } else {
            queue
                .next_completion()
                .expect("a completion")
                .ok("Write")
                .expect("the write");
            done += 1;
        }
    }
}

/// How much the resident memory grows above its present size while `work` runs.
fn growth(process: Process, work: impl FnOnce()) -> u64 {
    process.reset_peak();
    let before = process.resident_bytes();
    work();
    process.resident_peak_bytes().saturating_sub(before)
}

#[test]
fn memory_bound_of_a_burst_is_its_size() {
    let server = Server::start(Setup::simple("2GiB", "demo", "1GiB"));
    let mut controller = connect(&server, "demo", HostOptions::default());
    let mut queue = controller.io_queues(1).expect("an I/O queue").remove(0);
    burst(&mut queue, 0, 1, 1);
    let process = server.process();
    let of_four = growth(process, || burst(&mut queue, 65536, 4, 4));
    println!("4 MiB in flight: +{} KiB", of_four / 1024);
    assert!(of_four <= 12 * MIB, "4 MiB of writes took {of_four} bytes");
    let of_many = growth(process, || burst(&mut queue, 0, 256, 32));
    println!("32 MiB in flight, 256 MiB in all: +{} KiB", of_many / 1024);
    assert!(of_many <= 96 * MIB, "32 MiB in flight took {of_many} bytes");
    // Not aligned to a cluster nor a page run: through the journal, faster than it is flushed.
    let journaled = growth(process, || burst(&mut queue, 131_073, 256, 32));
    println!("the same, unaligned: +{} KiB", journaled / 1024);
    assert!(
        journaled <= 96 * MIB,
        "unaligned, 32 MiB in flight took {journaled} bytes"
    );
    let again = growth(process, || burst(&mut queue, 0, 256, 32));
    println!("again: +{} KiB", again / 1024);
    assert!(
        again <= 16 * MIB,
        "a second time it still grew by {again} bytes"
    );
}

/// Share of one core that the server uses while nobody asks for anything.
fn idle_share(process: Process) -> f64 {
    let (before, started) = (process.cpu_time(), Instant::now());
    std::thread::sleep(IDLE_WATCH);
    (process.cpu_time() - before).as_secs_f64() / started.elapsed().as_secs_f64()
}

#[test]
fn idle_costs_next_to_nothing() {
    let server = Server::start(Setup::simple("256MiB", "demo", "128MiB"));
    std::thread::sleep(Duration::from_secs(1));
    let share = idle_share(server.process());
    println!("one volume, no host: {:.2} % of a core", share * 100.0);
    assert!(share < IDLE_SHARE, "idle without hosts: {share}");

    let mut controller = connect(&server, "demo", HostOptions::default());
    let mut queues = controller.io_queues(64).expect("64 I/O queues");
    let share = idle_share(server.process());
    println!("64 connected queues: {:.2} % of a core", share * 100.0);
    assert!(share < IDLE_SHARE, "idle with 64 queues: {share}");

    // After work: what is dirty is flushed, then silence again.
    burst(&mut queues[0], 0, 64, 16);
    std::thread::sleep(Duration::from_secs(8));
    let share = idle_share(server.process());
    println!("64 queues, after work: {:.2} % of a core", share * 100.0);
    assert!(share < IDLE_SHARE, "idle after work: {share}");
}

/// Fills the queue with writes of its own part of the volume, then reads all of it back.
fn fill_and_check(queue: &mut IoQueue, number: u64, io_bytes: usize) {
    let capacity = queue.queue().capacity() as u64;
    let blocks = (io_bytes / queue.block_bytes()) as u64;
    let lba = |index: u64| (number * capacity + index) * blocks;
    let data = |index: u64| Random::new(number << 32 | index).bytes(io_bytes);
    for index in 0..capacity {
        let write = Op::Write {
            lba: lba(index),
            data: data(index),
            fua: false,
        };
        queue.submit(write).expect("a free entry");
    }
    assert_eq!(queue.in_flight(), capacity as usize);
    for _ in 0..capacity {
        queue
            .next_completion()
            .expect("a completion")
            .ok("Write")
            .expect("the write");
    }
    for index in 0..capacity {
        let read = queue.read(lba(index), blocks as u32).expect("Read");
        assert!(
            read == data(index),
            "queue {number}, write {index}: other data"
        );
    }
}

fn fill_all_queues(io_bytes: usize) {
    let mut setup = Setup::simple("2GiB", "demo", "1GiB");
    setup.nvme_tcp.push("queue_depth = 128".to_owned());
    let mut server = Server::start(setup);
    let options = HostOptions {
        timeout: Duration::from_secs(60),
        ..HostOptions::default()
    };
    let mut controller = connect(&server, "demo", options);
    let mut queues = controller.io_queues(64).expect("64 I/O queues");
    std::thread::scope(|scope| {
        for (number, queue) in queues.iter_mut().enumerate() {
            scope.spawn(move || fill_and_check(queue, number as u64, io_bytes));
        }
    });
    drop((queues, controller));
    server.terminate();
}

#[test]
fn sixty_four_queues_full_of_small_writes() {
    fill_all_queues(4096);
}

#[test]
fn sixty_four_queues_full_of_writes_that_wait_for_buffers() {
    fill_all_queues(64 << 10);
}

#[test]
fn deeper_queues_than_the_default() {
    let mut setup = Setup::simple("1GiB", "demo", "512MiB");
    setup.nvme_tcp.push("queue_depth = 1024".to_owned());
    let server = Server::start(setup);
    let mut controller = connect(
        &server,
        "demo",
        HostOptions::default().with_queue_depth(1024),
    );
    let mut queue = controller.io_queues(1).expect("an I/O queue").remove(0);
    fill_and_check(&mut queue, 0, 8192);
}
