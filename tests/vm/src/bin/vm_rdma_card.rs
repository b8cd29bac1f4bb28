//! Runs the checks of `drivers/rdma` on a real card: `vm-rdma-card ADDRESS [NAME]...`, ADDRESS of an
//! RDMA device of the machine it runs on, which is the test VM. Prints a line for each; the first that
//! fails ends the program. The name `removal` stands alone: it takes the device away.

#![forbid(unsafe_code)]

#[path = "../../../../drivers/rdma/tests/common/mod.rs"]
mod common;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use common::*;
use rdma::verbs::Registry;
use rdma::{
    Access, Card, Completion, DetachedIncoming, Done, Lost, QueuePair, RdmaError, Remote, WorkError,
};
use reactor::buf::{Buf, pool};
use reactor::cores::{self, CoreConfig};
use reactor::mailbox;

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
    moves_to_another_thread;
    a_wildcard_address_listens;
    requests_take_nothing_from_the_heap;
    receives_wait_for_memory;
    cards_may_go_before_their_pairs;
    hundred_connections;
    endings_leave_nothing_in_the_kernel;
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().expect("ADDRESS");
    let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
    let names: Vec<String> = arguments.collect();
    tracing_to_stderr();
    if names == ["removal"] {
        return run(address, |bench| Box::pin(a_device_is_taken_away(bench)));
    }
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
    // The connection manager's library keeps a protection domain of its own.
    let left = resources();
    let is_left = |(kind, count): &(&str, usize)| *count > usize::from(*kind == "pd");
    assert!(!left.iter().any(is_left), "the core has ended: {left:?}");
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
    let stats = reactor::stats();
    let before = bench.target.stats().armed;
    for round in 0..20 {
        let parks = stats.parks.get();
        reactor::time::sleep(Duration::from_millis(20)).await;
        assert!(stats.parks.get() > parks, "round {round}: the core parks");
        let start = reactor::now();
        post(&ends.host, 1, inline(b"wake up"));
        expect_received(&ends.target).await;
        assert!(start.elapsed() < Duration::from_secs(1), "round {round}");
        expect_sent(&ends.host, 1).await;
    }
    // Without the event of the armed queue nothing would have woken the core.
    assert!(
        bench.target.stats().armed >= before + 19,
        "the queue is armed"
    );
}

async fn move_requests(bench: &Bench) {
    let elsewhere = card(&registry());
    endings::requests_move_between_cards(bench, &elsewhere).await;
}

/// A request comes to this core and is served by another one.
async fn moves_to_another_thread(bench: &Bench) {
    let (requests, arrives) = mailbox::channel::<DetachedIncoming>(1);
    let (says, mut said) = mailbox::channel::<u64>(1);
    let arrives = std::sync::Mutex::new(Some((arrives, says)));
    let other = cores::start(vec![CoreConfig::default()], move |_| {
        let taken = arrives.lock().ok().and_then(|mut place| place.take());
        async move {
            let Some((mut arrives, says)) = taken else {
                return;
            };
            let card = card(&registry());
            let request = within(arrives.recv()).await.expect("a request");
            let request = card.attach(request).expect("attached");
            let pair = within(request.accept(b"", PAIR)).await.expect("accepted");
            let received = expect_received(&pair).await;
            post(&pair, 1, send(filled(1000, 5).await));
            expect_sent(&pair, 1).await;
            assert_eq!(expect_lost(&pair).await, Lost::ByPeer);
            says.try_send(u64::from(received.header[0])).expect("room");
        }
    });
    let other = other.expect("another core");
    let (host_card, address) = (bench.host.clone(), bench.listener.address());
    let host = reactor::spawn(async move { host_card.connect(address, b"move", PAIR).await });
    let incoming = within(bench.listener.accept()).await.expect("a request");
    requests.try_send(incoming.detach()).expect("room");
    let (host, _) = within(host).await.expect("connected");
    post(&host, 1, inline(&[42; 64]));
    let (mut sent, mut answer) = (false, None);
    while !sent || answer.is_none() {
        match next(&host).await.expect("the pair lives") {
            Completion::Received(received) => answer = received.data,
            _ => sent = true,
        }
    }
    assert!(answer.expect("an answer")[..] == pattern(1000, 5)[64..]);
    host.disconnect();
    assert_eq!(within(said.recv()).await, Some(42));
    other.join().expect("the other core ends");
}

/// A message, a read, a write and an answer, on both ends, after a warm-up. Some rounds begin with
/// the core parked.
async fn requests_take_nothing_from_the_heap(bench: &Bench) {
    let ends = bench.ends().await;
    let exposed = bench.host.expose(filled(8192, 1).await, Access::Read);
    let exposed = exposed.expect("exposed");
    let answering = reactor::spawn(answer(ends.target, exposed.remote()));
    for round in 0..400 {
        request(&ends.host, round).await;
    }
    let before = allocations::on_this_thread();
    for round in 0..200 {
        request(&ends.host, round).await;
        if round % 20 == 0 {
            reactor::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let taken = allocations::on_this_thread() - before;
    assert_eq!(taken, 0, "heap allocations in 200 requests");
    ends.host.disconnect();
    answering.await;
}

async fn request(pair: &QueuePair, round: u64) {
    let mut message = pool().alloc(1000).await;
    message.as_mut().fill(round as u8);
    post(pair, round, send(message));
    let (mut is_sent, mut is_answered) = (false, false);
    while !(is_sent && is_answered) {
        match pair.next().await.expect("the pair lives") {
            Completion::Received(received) => {
                assert_eq!(received.header[0], round as u8);
                is_answered = true;
            }
            Completion::Done { .. } => is_sent = true,
            Completion::Failed { error, .. } => panic!("{error}"),
        }
    }
}

/// Reads from the host's memory, writes to it, and answers, for each message.
async fn answer(pair: QueuePair, remote: Remote) {
    let mut round = 0;
    while let Ok(completion) = pair.next().await {
        match completion {
            Completion::Received(received) => {
                round = received.header[0];
                pair.post(1, read(pool().alloc(4096).await, remote))
                    .expect("room");
            }
            Completion::Done {
                done: Done::Read(buf),
                ..
            } => {
                let second = Remote {
                    address: remote.address + 4096,
                    key: remote.key,
                };
                pair.post(2, write(buf, second)).expect("room");
                pair.post(3, inline(&[round; 16])).expect("room");
            }
            Completion::Done { .. } => {}
            Completion::Failed { error, .. } => assert_eq!(error, WorkError::Flushed),
        }
        pair.kick();
    }
}

/// With the pool empty the receives become fewer, and senders wait; with memory they come back.
async fn receives_wait_for_memory(bench: &Bench) {
    let entries = options().receive_entries as usize;
    let ends = bench.ends().await;
    let message = filled(1000, 1).await;
    let mut taken: Vec<Buf> = Vec::new();
    while let Some(buf) = pool().try_alloc(4096) {
        taken.push(buf);
    }
    let mut kept = Vec::new();
    for tag in 0..entries as u64 {
        post(&ends.host, tag, send(message.clone()));
        kept.push(expect_received(&ends.target).await);
        expect_sent(&ends.host, tag).await;
    }
    post(&ends.host, 99, send(message.clone()));
    reactor::time::sleep(Duration::from_millis(50)).await;
    let stats = bench.target.stats();
    assert_eq!(stats.receives_posted, 0);
    assert!(stats.receives_short >= entries as u64, "{stats:?}");
    assert!(ends.target.try_next().is_none() && ends.host.try_next().is_none());
    kept.clear();
    expect_received(&ends.target).await;
    expect_sent(&ends.host, 99).await;
    drop(taken);
    until("all receives are posted", || {
        bench.target.stats().receives_posted == entries as u64
    })
    .await;
}

/// Pairs outlive the cards that made them, and then nothing is left.
async fn cards_may_go_before_their_pairs(bench: &Bench) {
    let before = resources();
    let registry = registry();
    let mut address = bench.listener.address();
    address.set_port(address.port() + 7);
    let other = Bench::new(card(&registry), card(&registry), address).await;
    let ends = other.ends().await;
    drop((other, registry));
    post(&ends.host, 1, inline(b"still here"));
    expect_received(&ends.target).await;
    expect_sent(&ends.host, 1).await;
    ends.host.disconnect();
    assert_eq!(expect_lost(&ends.target).await, Lost::ByPeer);
    drop(ends);
    until("nothing is left", || resources() == before).await;
}

/// The device is taken away: everything on it ends, and says so.
async fn a_device_is_taken_away(bench: &Bench) {
    let ends = bench.ends().await;
    // It returns when the last user of the device has ended.
    let removal = std::process::Command::new("rdma")
        .args(["link", "delete", "rxe0"])
        .spawn();
    drop(removal.expect("rdma of iproute2"));
    for pair in [&ends.host, &ends.target] {
        // Whichever hears of it second may be disconnected by the first.
        let lost = expect_lost(pair).await;
        let is_right = matches!(lost, Lost::Failed(WorkError::Card) | Lost::ByPeer);
        assert!(is_right, "{lost:?}");
    }
    drop(ends);
    until("the pairs are gone", || {
        bench.host.stats().queue_pairs + bench.target.stats().queue_pairs == 0
    })
    .await;
    let address = bench.listener.address();
    let refused = within(bench.host.connect(address, b"", PAIR)).await;
    assert!(matches!(refused, Err(RdmaError::NoDevice { .. })));
    // What is left of it costs next to nothing.
    let turns = reactor::stats().turns.get();
    reactor::time::sleep(Duration::from_secs(1)).await;
    let turns = reactor::stats().turns.get() - turns;
    println!("  {turns} turns in a second");
    assert!(turns < 2000, "{turns} turns in a second");
}

async fn a_wildcard_address_listens(bench: &Bench) {
    let address = bench.listener.address();
    let anywhere = SocketAddr::from(([0; 4], address.port() + 1));
    let listener = bench.target.listen(anywhere).await.expect("listens");
    assert_eq!(listener.address(), anywhere);
    let taken = bench.target.listen(anywhere).await;
    match taken {
        Err(RdmaError::Setup { error, .. }) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        other => panic!("instead of an address that is taken: {:?}", other.err()),
    }
    // Of nobody; and of the network card that has no RDMA.
    for strange in [[192, 0, 2, 1], [10, 0, 2, 15]] {
        let strange = SocketAddr::from((strange, 4420));
        match bench.target.listen(strange).await {
            Err(RdmaError::NoDevice { address }) => assert_eq!(address, strange),
            other => panic!("instead of no device: {:?}", other.err()),
        }
    }
    let (card, port) = (bench.host.clone(), anywhere.port());
    let to = SocketAddr::new(address.ip(), port);
    let host = reactor::spawn(async move { card.connect(to, b"", PAIR).await });
    let incoming = within(listener.accept()).await.expect("a request");
    assert_eq!(incoming.local(), to);
    let target = within(incoming.accept(b"", PAIR)).await.expect("accepted");
    let (host, _) = within(host).await.expect("connected");
    drop(listener);
    post(&host, 1, inline(b"still here"));
    expect_received(&target).await;
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

/// Work is under way whenever one of a hundred connections ends, in all ways; the kernel's own
/// count of our objects is as before then.
async fn endings_leave_nothing_in_the_kernel(bench: &Bench) {
    let before = resources();
    assert!(
        before
            .iter()
            .any(|(kind, count)| *kind == "srq" && *count == 2),
        "{before:?}"
    );
    let exposed = bench.host.expose(filled(1 << 20, 1).await, Access::Read);
    let exposed = exposed.expect("exposed");
    for round in 0..100 {
        let ends = bench.ends().await;
        for tag in 0..4 {
            post(
                &ends.target,
                tag,
                read(zeroed(1 << 16).await, exposed.remote()),
            );
            post(&ends.target, 10 + tag, send(filled(4000, round).await));
            post(&ends.host, tag, send(filled(64 + 64 * round, round).await));
        }
        match round % 3 {
            0 => ends.host.disconnect(),
            1 => ends.target.disconnect(),
            _ => {}
        }
        if round % 2 == 0 {
            while next(&ends.host).await.is_ok() && round % 3 != 2 {}
        }
    }
    until("all pairs are gone", || {
        bench.host.stats().queue_pairs + bench.target.stats().queue_pairs == 0
    })
    .await;
    assert_eq!(resources(), before);
}

/// How many objects of each kind the kernel counts for this process.
fn resources() -> Vec<(&'static str, usize)> {
    let owner = format!(" pid {} ", std::process::id());
    let count = |kind| {
        let shown = std::process::Command::new("rdma")
            .args(["resource", "show", kind])
            .output()
            .expect("rdma of iproute2");
        let shown = String::from_utf8_lossy(&shown.stdout).replace('\n', " \n");
        (
            kind,
            shown.lines().filter(|line| line.contains(&owner)).count(),
        )
    };
    ["pd", "cq", "mr", "qp", "cm_id", "srq"].map(count).to_vec()
}
