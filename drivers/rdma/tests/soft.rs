//! The simulated card does what a card does: over real sockets, and in worlds of many seeds.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use rdma::Card;
use rdma::soft::Faults;
use reactor::cores::{self, CoreConfig};
use reactor::sim::{World, WorldOptions};

const SEEDS: u64 = 20;

async fn bench() -> Bench {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    bench_at(address).await
}

async fn bench_at(address: SocketAddr) -> Bench {
    let card = || Card::soft(options(), Faults::default());
    Bench::new(card(), card(), address).await
}

fn on_loopback<F: Future<Output = ()> + 'static>(check: impl FnOnce() -> F + 'static) {
    let config = CoreConfig {
        io_pool_bytes: 32 << 20,
        ..CoreConfig::default()
    };
    cores::run(config, check).expect("the core runs");
}

fn in_worlds<F: Future<Output = ()> + 'static>(check: impl Fn() -> F + Copy + 'static) {
    for seed in 0..SEEDS {
        let mut options = WorldOptions::default();
        options.net.partial_send_ppm = 200_000;
        options.net.partial_recv_ppm = 200_000;
        options.net.buffer_bytes = 1 << (12 + seed % 8);
        let mut world = World::new(seed, options);
        world.run_once("node", Duration::from_secs(600), check);
    }
}

macro_rules! checks {
    ($($name:ident: $check:expr;)*) => {
        mod loopback {
            use super::*;
            $(#[test] fn $name() {
                on_loopback(|| async { $check(&bench().await).await });
            })*
        }
        mod worlds {
            use super::*;
            $(#[test] fn $name() {
                in_worlds(|| async { $check(&bench().await).await });
            })*
        }
    };
}

checks! {
    messages_arrive_in_order: messages::messages_arrive_in_order;
    both_ends_talk: messages::both_ends_talk;
    the_send_queue_has_an_end: messages::the_send_queue_has_an_end;
    a_message_invalidates_a_key: messages::a_message_invalidates_a_key;
    senders_wait_for_receives: messages::senders_wait_for_receives;
    reads_bring_the_peers_memory: checks::reads_bring_the_peers_memory;
    writes_are_there_before_the_message: checks::writes_are_there_before_the_message;
    completions_keep_their_order: checks::completions_keep_their_order;
    forbidden_access_ends_the_pair: checks::forbidden_access_ends_the_pair;
    too_long_messages_end_the_pair: checks::too_long_messages_end_the_pair;
    private_data_is_carried: endings::private_data_is_carried;
    requests_are_refused: endings::requests_are_refused;
    either_side_disconnects: endings::either_side_disconnects;
    received_messages_were_sent: endings::received_messages_were_sent;
    dropped_pairs_give_everything_back: endings::dropped_pairs_give_everything_back;
    connections_come_and_go: twenty_connections;
    requests_move_between_cards: move_requests;
}

async fn twenty_connections(bench: &Bench) {
    endings::connections_come_and_go(bench, 20).await;
}

async fn move_requests(bench: &Bench) {
    let elsewhere = Card::soft(options(), Faults::default());
    endings::requests_move_between_cards(bench, &elsewhere).await;
}
