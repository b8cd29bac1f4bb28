//! The binary against the appliance's NVMe/RDMA frontend, both on simulated cards: real data, checked.

mod common;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{run, run_json, stderr};
use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target, TargetOptions};
use rdma::soft::Faults;
use rdma::{Card, CardOptions};
use reactor::Spin;
use reactor::cores::CoreConfig;
use reactor::mailbox;

const VOLUME_BYTES: u64 = 64 << 20;

/// A target on a thread of its own, with one memory volume.
struct Served {
    url: String,
    end: Option<mailbox::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(block_bytes: u32) -> Self {
        let (ready, address) = mpsc::channel::<SocketAddr>();
        let (end, mut ended) = mailbox::channel::<()>(1);
        let config = CoreConfig {
            spin: Spin::For(Duration::from_micros(50)),
            io_pool_bytes: 128 << 20,
            engine_pool_bytes: 4 << 20,
            name: "target".to_owned(),
            ..CoreConfig::default()
        };
        let main = move || async move {
            let target = Target::new(TargetOptions::default()).expect("good options");
            let options = CardOptions {
                receive_entries: 256,
                ..CardOptions::default()
            };
            let card = Card::soft(options, Faults::default());
            target.use_card(card.clone());
            let blocks = VOLUME_BYTES / u64::from(block_bytes);
            let volume = volume::testing::memory_volume(blocks, block_bytes);
            let reservations = Reservations::load(volume.clone()).await;
            let added = target.add_volume(volume, reservations, SubsystemOptions::default());
            added.expect("the first of its name");
            let local = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = target.listen_rdma(local).await.expect("a free port");
            ready.send(listener.address()).expect("the test waits");
            ended.recv().await;
            is_left_alone(&card).await;
            target.shutdown().await;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the target has a thread of its own"
        )]
        let thread = std::thread::spawn(move || {
            reactor::cores::run(config, main).expect("the core runs");
        });
        let address = address.recv_timeout(Duration::from_secs(20));
        Self {
            url: format!("rdma://{}", address.expect("the target starts")),
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the target ends without a panic");
        }
    }
}

/// Whoever was connected is gone: nothing of it is left as soon as the target has heard of it.
async fn is_left_alone(card: &Card) {
    for _ in 0..500 {
        if card.stats().queue_pairs == 0 {
            return;
        }
        reactor::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something is left of a host: {:?}", card.stats());
}

#[test]
fn what_is_written_over_rdma_is_read_back() {
    let served = Served::start(4096);
    for (bs, more) in [
        ("4k", &["--qd", "16"][..]),
        ("8k", &["--qd", "16", "--flush-every", "8"]),
        ("64k", &["--qd", "8", "--fua-percent", "20"]),
        ("1M", &["--qd", "2"]),
    ] {
        let mut arguments = vec!["--card", "soft", "--rw", "mix", "--verify", "--bs", bs];
        arguments.extend_from_slice(more);
        let report = run_json(&served.url, &arguments);
        let verified = report["result"]["verified_reads"].as_u64().unwrap();
        assert!(verified > 0, "{arguments:?}: {report}");
        assert_eq!(report["target"]["protocol"], "nvme-rdma");
    }
}

#[test]
fn queues_of_several_threads_share_a_volume_of_small_blocks() {
    let served = Served::start(512);
    let mut arguments = vec!["--card", "soft", "--rw", "mix", "--verify", "--bs", "512"];
    arguments.extend(["--queues", "4", "--threads", "2", "--qd", "8"]);
    let report = run_json(&served.url, &arguments);
    let verified = report["result"]["verified_reads"].as_u64().unwrap();
    assert!(verified > 0, "{report}");
}

#[test]
fn an_unknown_subsystem_is_refused_over_rdma() {
    let served = Served::start(4096);
    let url = format!("{}/nqn.2026-11.io.bedplate:nobody", served.url);
    let output = run(&url, &["--card", "soft"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("CONNECT_INVALID_PARAMETERS"), "{said}");
}
