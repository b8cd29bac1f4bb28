//! What reaches the device for each byte that a host writes.
#![expect(
    clippy::disallowed_methods,
    reason = "the flusher is waited for on the real clock"
)]

use std::time::{Duration, Instant};

use host::{Host, HostOptions, IoQueue, Op};
use system_tests::{Random, Server, Setup, nqn};

const MIB: u64 = 1 << 20;
/// What the host writes, and in which pieces.
const WRITTEN_BYTES: u64 = 256 * MIB;
const PIECE_BYTES: u64 = 128 << 10;
/// Most bytes that may reach the device for each byte of the host.
const RATIO_MAX: f64 = 1.1;
/// The device counts as at rest when no page is dirty and nothing was written for this long; the
/// flusher looks four times a second.
const QUIET: Duration = Duration::from_secs(2);
const REST_LIMIT: Duration = Duration::from_secs(15);

/// Writes the first `WRITTEN_BYTES` in order, 32 pieces in flight.
fn write_in_order(queue: &mut IoQueue) {
    let data = Random::new(1).bytes(PIECE_BYTES as usize);
    let piece_blocks = PIECE_BYTES / queue.block_bytes() as u64;
    let pieces = WRITTEN_BYTES / PIECE_BYTES;
    let (mut sent, mut done) = (0, 0);
    while done < pieces {
        if sent < pieces && queue.in_flight() < 32 {
            let write = Op::Write {
                lba: sent * piece_blocks,
                data: data.clone(),
                fua: false,
            };
            queue.submit(write).expect("submit");
            sent += 1;
        } else {
            let completion = queue.next_completion().expect("a completion");
            completion.ok("Write").expect("the write");
            done += 1;
        }
    }
}

/// Bytes written since the start: by the server's own count, and by the kernel's for its process.
#[derive(Clone, Copy, PartialEq)]
struct Written {
    counted: u64,
    kernel: u64,
}

impl Written {
    fn now(server: &Server) -> Written {
        Written {
            counted: server.metric("bedplate_device_written_bytes_total{pool=\"main\"}") as u64,
            kernel: server.process().written_bytes(),
        }
    }
}

/// Waits until the flusher has nothing left to do; what was written until then.
fn at_rest(server: &Server) -> Written {
    let started = Instant::now();
    let (mut last, mut since) = (Written::now(server), started);
    while since.elapsed() < QUIET {
        assert!(started.elapsed() < REST_LIMIT, "the flusher does not rest");
        std::thread::sleep(Duration::from_millis(100));
        let now = Written::now(server);
        let dirty = server.metric("bedplate_volume_dirty_pages{volume=\"demo\"}") > 0.0;
        if dirty || now.counted != last.counted {
            (last, since) = (now, Instant::now());
        }
    }
    Written::now(server)
}

#[test]
fn large_writes_in_order_reach_the_device_once() {
    let server = Server::start(Setup::simple("1GiB", "demo", "512MiB"));
    let options = HostOptions::default();
    let controller = Host::connect(server.address(), &nqn("demo"), options);
    let mut controller = controller.expect("the host connects");
    let mut queue = controller.io_queues(1).expect("an I/O queue").remove(0);
    for round in ["filled", "replaced"] {
        let before = at_rest(&server);
        write_in_order(&mut queue);
        let after = at_rest(&server);
        let ratio = |after: u64, before: u64| (after - before) as f64 / WRITTEN_BYTES as f64;
        let counted = ratio(after.counted, before.counted);
        let kernel = ratio(after.kernel, before.kernel);
        println!("{round}: {counted:.3} bytes for each; the kernel says {kernel:.3}");
        assert!((1.0..=RATIO_MAX).contains(&counted), "{round}: {counted}");
        // The kernel counts nothing on a file system without a device, such as tmpfs.
        assert!(
            kernel <= RATIO_MAX,
            "{round}: {kernel} by the kernel's count"
        );
    }
}
