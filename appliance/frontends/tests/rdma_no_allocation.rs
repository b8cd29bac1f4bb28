//! After warm-up a command over NVMe/RDMA allocates nothing from the heap of the target, neither for
//! data in the capsule, nor for data by RDMA READ and WRITE, nor without data.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::rdma_world::{BLOCK_BYTES, connect, host_card};
use common::{VOLUME_BYTES, core_config, quick_options, start};
use frontends::reservation::Reservations;
use frontends::{SubsystemOptions, Target};
use host::rdma::{IoQueue, Options};
use rdma::soft::Faults;
use rdma::{Card, CardOptions};
use reactor::cores::CoreConfig;

fn serve() -> common::Served {
    let main = async move || {
        let target = Target::new(quick_options()).expect("the options are good");
        let options = CardOptions {
            receive_entries: 256,
            ..CardOptions::default()
        };
        target.use_card(Card::soft(options, Faults::default()));
        let blocks = VOLUME_BYTES / BLOCK_BYTES as u64;
        let volume = volume::testing::memory_volume(blocks, BLOCK_BYTES as u32);
        let reservations = Reservations::load(volume.clone()).await;
        target
            .add_volume(volume, reservations, SubsystemOptions::default())
            .expect("the first of its name");
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = target.listen_rdma(local).await.expect("loopback");
        (target, listener.address())
    };
    start(core_config(), main, async |target: Target| {
        target.shutdown().await;
    })
}

async fn reads(io: &mut IoQueue, rounds: u64) {
    for round in 0..rounds {
        let found = io.read(round % 8, 1 + (round % 40) as u32).await;
        assert!(found.is_ok(), "{found:?}");
    }
}

async fn writes(io: &mut IoQueue, rounds: u64, blocks: usize) {
    let data = vec![3; blocks * BLOCK_BYTES];
    for _ in 0..rounds {
        io.write(0, &data, false).await.expect("it writes");
    }
}

async fn flushes(io: &mut IoQueue) {
    for _ in 0..100 {
        io.flush().await.expect("it flushes");
    }
}

/// Allocations of the target while `work` runs on the host's core, the least of three times: a queue
/// of the simulated card that has grown to what the timing of this run needs grows no more.
macro_rules! allocations_of {
    ($served:expr, $work:expr) => {{
        let mut least = u64::MAX;
        for _ in 0..3 {
            let first = $served.allocations();
            let second = $served.allocations();
            let asking = second - first;
            $work.await;
            least = least.min($served.allocations() - second - asking);
        }
        least
    }};
}

#[test]
fn commands_over_rdma_allocate_nothing_after_warm_up() {
    let served = Arc::new(serve());
    let shared = Arc::clone(&served);
    let host = CoreConfig {
        name: "host".to_owned(),
        ..core_config()
    };
    let main = move || async move {
        let served = shared;
        let connected = connect(&host_card(), served.address, 1, Options::default()).await;
        let (_controller, mut io) = connected.expect("it connects");
        reads(&mut io, 300).await;
        writes(&mut io, 100, 1).await;
        writes(&mut io, 100, 40).await;
        flushes(&mut io).await;
        assert_eq!(allocations_of!(served, reads(&mut io, 500)), 0, "reads");
        // The memory volume of these tests keeps each block in a box of its own.
        assert_eq!(
            allocations_of!(served, writes(&mut io, 500, 1)),
            500,
            "writes in the capsule"
        );
        assert_eq!(
            allocations_of!(served, writes(&mut io, 100, 40)),
            4000,
            "writes by RDMA READ"
        );
        assert_eq!(allocations_of!(served, flushes(&mut io)), 0, "flushes");
    };
    reactor::cores::run(host, main).expect("the core runs");
}
