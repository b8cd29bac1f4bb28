//! Runs the checks of the seam on a real card: `card_checks ADDRESS [NAME]...`, ADDRESS of an RDMA
//! device of this machine. Prints a line for each; the first that fails ends the program.

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use common::*;
use rdma::verbs::Registry;
use rdma::{Access, Card, Lost, WorkError};
use reactor::cores::{self, CoreConfig};

type Check = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! checks {
    ($($check:path;)*) => {
        &[$((stringify!($check), |bench| Box::pin($check(bench)))),*]
    };
}

const CHECKS: &[(&str, Check)] = checks! {
    messages::messages_arrive_in_order;
    messages::both_ends_talk;
    messages::the_send_queue_has_an_end;
    messages::senders_wait_for_receives;
    checks::reads_bring_the_peers_memory;
    checks::writes_are_there_before_the_message;
    checks::completions_keep_their_order;
    too_long_messages_end_the_pair;
    endings::private_data_is_carried;
    endings::requests_are_refused;
    endings::either_side_disconnects;
    endings::dropped_pairs_give_everything_back;
    wrong_keys_end_the_pair;
    shared_memory_is_not_read_into;
    a_parked_core_wakes_up;
    move_requests;
    hundred_connections;
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().expect("ADDRESS");
    let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
    let names: Vec<String> = arguments.collect();
    tracing_to_stderr();
    for (name, check) in CHECKS {
        if names.is_empty() || names.iter().any(|wanted| name.ends_with(wanted.as_str())) {
            println!("check {name}");
            run(address, *check);
        }
    }
    println!("all checks passed");
}

fn run(address: SocketAddr, check: Check) {
    let config = CoreConfig {
        io_pool_bytes: 32 << 20,
        engine_pool_bytes: 8 << 20,
        ..CoreConfig::default()
    };
    let main = move || async move {
        let registry = registry();
        let bench = Bench::new(card(&registry), card(&registry), address).await;
        warm_up(&bench).await;
        check(&bench).await;
        let stats = bench.target.stats();
        println!("  {stats:?}");
    };
    cores::run(config, main).expect("the core runs");
}

/// The first connection takes memory for receives, which stays.
async fn warm_up(bench: &Bench) {
    drop(bench.ends().await);
    until("the first pairs are gone", || {
        bench.host.stats().queue_pairs + bench.target.stats().queue_pairs == 0
    })
    .await;
}

fn registry() -> Registry {
    Registry::new().unwrap_or_else(|error| panic!("{error}"))
}

fn card(registry: &Registry) -> Card {
    Card::verbs(registry.clone(), options()).unwrap_or_else(|error| panic!("{error}"))
}

async fn wrong_keys_end_the_pair(bench: &Bench) {
    let exposed = bench.host.expose(filled(4096, 1).await, Access::Read);
    let exposed = exposed.expect("exposed");
    let mut wrong = exposed.remote();
    wrong.key ^= 0x5a5a_5a00;
    for is_read in [true, false] {
        let ends = bench.ends().await;
        let work = match is_read {
            true => read(zeroed(4096).await, wrong),
            false => write(filled(4096, 9).await, wrong),
        };
        ends.target.post(1, inline(b"before")).expect("room");
        ends.target.post(2, work).expect("room");
        ends.target.post(3, inline(b"after")).expect("room");
        ends.target.kick();
        expect_sent(&ends.target, 1).await;
        let error = expect_failed(&ends.target, 2).await;
        assert_eq!(error, WorkError::RemoteAccess);
        assert_eq!(expect_failed(&ends.target, 3).await, WorkError::Flushed);
        expect_lost(&ends.target).await;
        expect_received(&ends.host).await;
        expect_lost(&ends.host).await;
    }
    assert!(exposed.take()[..] == pattern(4096, 1), "nobody wrote");
}

async fn too_long_messages_end_the_pair(bench: &Bench) {
    let ends = bench.ends().await;
    let longest = 64 + options().receive_data_bytes as usize;
    post(&ends.host, 1, send(filled(longest, 1).await));
    expect_sent(&ends.host, 1).await;
    expect_received(&ends.target).await;
    post(&ends.host, 2, send(filled(longest + 1, 1).await));
    // Cards differ in what they say, on both sides.
    let error = expect_failed(&ends.host, 2).await;
    assert!(
        matches!(error, WorkError::RemoteInvalid | WorkError::RemoteOperation),
        "{error}"
    );
    expect_lost(&ends.host).await;
    let lost = expect_lost(&ends.target).await;
    assert!(matches!(lost, Lost::Failed(_) | Lost::ByPeer), "{lost}");
}

async fn shared_memory_is_not_read_into(bench: &Bench) {
    let exposed = bench.host.expose(filled(4096, 1).await, Access::Read);
    let exposed = exposed.expect("exposed");
    let ends = bench.ends().await;
    let into = zeroed(4096).await;
    let other = into.clone();
    post(&ends.target, 1, read(into, exposed.remote()));
    assert_eq!(expect_failed(&ends.target, 1).await, WorkError::Local);
    expect_lost(&ends.target).await;
    assert!(other.iter().all(|&byte| byte == 0));
}

async fn a_parked_core_wakes_up(bench: &Bench) {
    let ends = bench.ends().await;
    for _ in 0..20 {
        let armed = bench.target.stats().armed;
        reactor::time::sleep(Duration::from_millis(20)).await;
        let parks = reactor::stats().parks.get();
        assert!(parks > 0, "the core parks");
        assert!(
            bench.target.stats().armed > armed || armed > 0,
            "the queue is armed"
        );
        post(&ends.host, 1, inline(b"wake up"));
        expect_received(&ends.target).await;
        expect_sent(&ends.host, 1).await;
    }
}

async fn move_requests(bench: &Bench) {
    let elsewhere = card(&registry());
    endings::requests_move_between_cards(bench, &elsewhere).await;
}

async fn hundred_connections(bench: &Bench) {
    endings::connections_come_and_go(bench, 100).await;
}

fn tracing_to_stderr() {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(std::env::var("LOG").unwrap_or_else(|_| "warn".to_owned()));
    subscriber.init();
}
