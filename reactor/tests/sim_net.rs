//! The simulated network: streams arrive whole and in order, and each fault does what it says.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use reactor::net::{BoundSocket, TcpListener, TcpStream};
use reactor::sim::{Crash, FaultKind, NetOptions, World, WorldOptions};
use reactor::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 4420;

fn any() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], PORT))
}

async fn send_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_send(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn recv(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.try_recv(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await?,
            other => return other,
        }
    }
}

async fn recv_exact(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match recv(stream, &mut bytes[done..]).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(())
}

/// Echoes until each connection ends; serves many at a time.
fn echo_server(world: &mut World, node: &str) {
    world.start(node, 1, |_| async {
        let listener = TcpListener::bind(any()).unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            drop(reactor::spawn(async move {
                let mut bytes = vec![0; 4096];
                while let Ok(count @ 1..) = recv(&stream, &mut bytes).await {
                    if send_all(&stream, &bytes[..count]).await.is_err() {
                        return;
                    }
                }
            }));
        }
    });
}

type Outcome = Rc<RefCell<Option<io::Result<usize>>>>;

/// Connects, then exchanges 16 bytes every 10 ms, `rounds` times; the slot gets how it ended.
fn client(
    world: &mut World,
    node: &str,
    server: IpAddr,
    rounds: usize,
) -> (Outcome, Rc<Cell<usize>>) {
    let (slot, progress): (Outcome, Rc<Cell<usize>>) = Default::default();
    let shared = (slot.clone(), progress.clone());
    world.start(node, 1, move |_| {
        let (slot, progress) = shared.clone();
        async move {
            let result = exchange(SocketAddr::new(server, PORT), rounds, &progress).await;
            *slot.borrow_mut() = Some(result);
            sleep(100_000 * SECOND).await;
        }
    });
    (slot, progress)
}

async fn exchange(addr: SocketAddr, rounds: usize, progress: &Cell<usize>) -> io::Result<usize> {
    let stream = TcpStream::connect(addr).await?;
    for round in 0..rounds {
        let sent = [round as u8; 16];
        send_all(&stream, &sent).await?;
        let mut got = [0; 16];
        recv_exact(&stream, &mut got).await?;
        assert_eq!(got, sent);
        progress.set(round + 1);
        sleep(Duration::from_millis(10)).await;
    }
    Ok(rounds)
}

fn pair(seed: u64, net: NetOptions, rounds: usize) -> (World, Outcome, Rc<Cell<usize>>) {
    let mut world = World::new(
        seed,
        WorldOptions {
            net,
            ..WorldOptions::default()
        },
    );
    let server = world.node("server");
    echo_server(&mut world, "server");
    world.run_for(Duration::from_millis(1));
    let (outcome, progress) = client(&mut world, "client", server, rounds);
    (world, outcome, progress)
}

fn ended(outcome: &Outcome) -> impl Fn(&World) -> bool + use<> {
    let outcome = outcome.clone();
    move |_| outcome.borrow().is_some()
}

fn error_kind(outcome: &Outcome) -> ErrorKind {
    match outcome.borrow_mut().take() {
        Some(Err(error)) => error.kind(),
        other => panic!("expected an error, got {other:?}"),
    }
}

#[test]
fn echo_works_and_injects_nothing() {
    let quiet = NetOptions {
        spike_ppm: 0,
        ..NetOptions::default()
    };
    let (mut world, outcome, _) = pair(1, quiet, 50);
    world.run_until(10 * SECOND, ended(&outcome));
    assert_eq!(outcome.take().unwrap().unwrap(), 50);
    assert!(world.fault_log().is_empty());
}

#[test]
fn bytes_arrive_whole_and_in_order_however_they_are_cut() {
    for seed in 0..8 {
        let net = NetOptions {
            buffer_bytes: 1 << (10 + seed),
            partial_send_ppm: 700_000,
            partial_recv_ppm: 700_000,
            spike_ppm: 10_000,
            spike_ns: 3_000_000,
            ..NetOptions::default()
        };
        let mut world = World::new(
            seed,
            WorldOptions {
                net,
                ..WorldOptions::default()
            },
        );
        let server = world.node("server");
        let received = Rc::new(RefCell::new((Vec::new(), 0)));
        let sink = received.clone();
        world.start("server", 1, move |_| {
            let sink = sink.clone();
            async move {
                let listener = TcpListener::bind(any()).unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let mut bytes = [0; 3_000];
                while let count @ 1.. = recv(&stream, &mut bytes).await.unwrap() {
                    let mut sink = sink.borrow_mut();
                    sink.0.extend_from_slice(&bytes[..count]);
                    sink.1 += 1;
                }
            }
        });
        world.start("client", 1, move |_| async move {
            sleep(Duration::from_millis(1)).await;
            let stream = TcpStream::connect(SocketAddr::new(server, PORT))
                .await
                .unwrap();
            let bytes: Vec<u8> = (0..200_000u32).map(|n| (n / 7) as u8).collect();
            send_all(&stream, &bytes).await.unwrap();
        });
        world.run(60 * SECOND);
        let (bytes, pieces) = received.take();
        assert_eq!(bytes.len(), 200_000, "seed {seed}");
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(n, byte)| *byte == (n as u32 / 7) as u8)
        );
        assert!(pieces > 70, "{pieces} pieces: nothing was cut");
    }
}

#[test]
fn a_slow_receiver_stops_the_sender() {
    let net = NetOptions {
        buffer_bytes: 10_000,
        ..NetOptions::default()
    };
    let mut world = World::new(
        3,
        WorldOptions {
            net,
            ..WorldOptions::default()
        },
    );
    let server = world.node("server");
    world.start("server", 1, |_| async {
        let listener = TcpListener::bind(any()).unwrap();
        let _stream = listener.accept().await.unwrap();
        sleep(1_000 * SECOND).await;
    });
    let sent = world.run_once("client", 10 * SECOND, move || async move {
        sleep(Duration::from_millis(1)).await;
        let stream = TcpStream::connect(SocketAddr::new(server, PORT))
            .await
            .unwrap();
        let (chunk, mut sent) = ([0; 1_000], 0);
        for _ in 0..1_000 {
            match stream.try_send(&[IoSlice::new(&chunk)]) {
                Ok(count) => sent += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        let waited = reactor::time::timeout(SECOND, stream.writable()).await;
        assert!(waited.is_err(), "a full socket is not writable");
        sent
    });
    assert_eq!(sent, Some(10_000));
}

#[test]
fn nobody_listening_refuses_and_ports_are_taken_once() {
    let mut world = World::new(4, WorldOptions::default());
    let ip = world.node("server");
    let result = world.run_once("server", SECOND, move || async move {
        let refused = TcpStream::connect(SocketAddr::new(ip, PORT))
            .await
            .unwrap_err()
            .kind();
        let first = TcpListener::bind(any()).unwrap();
        let taken = TcpListener::bind(any()).unwrap_err().kind();
        drop(first);
        let again = TcpListener::bind(any()).is_ok();
        let ephemeral = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        assert_ne!(ephemeral.local_addr().unwrap().port(), 0);
        let foreign = TcpListener::bind(SocketAddr::from(([10, 9, 9, 9], 1)))
            .unwrap_err()
            .kind();
        (refused, taken, again, foreign)
    });
    let (refused, taken, again, foreign) = result.unwrap();
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    assert_eq!((taken, again), (ErrorKind::AddrInUse, true));
    assert_eq!(foreign, ErrorKind::AddrNotAvailable);
}

#[test]
fn a_bound_port_is_taken_and_refuses_until_it_listens() {
    let mut world = World::new(7, WorldOptions::default());
    let ip = world.node("server");
    world.run_once("server", SECOND, move || async move {
        let addr = SocketAddr::new(ip, PORT);
        let bound = BoundSocket::bind(any()).unwrap();
        let taken = BoundSocket::bind(any()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let refused = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        drop(bound);
        let bound = BoundSocket::bind(any()).expect("dropping it gave the port back");
        let listener = bound.listen().unwrap();
        TcpStream::connect(addr).await.expect("it listens now");
        listener.accept().await.unwrap();
    });
}

#[test]
fn addresses_of_both_ends_agree() {
    let mut world = World::new(5, WorldOptions::default());
    world.node("node");
    world.run_once("node", SECOND, || async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let near = TcpStream::connect(addr).await.unwrap();
        let (far, peer) = listener.accept().await.unwrap();
        assert_eq!(near.peer_addr().unwrap(), addr);
        assert_eq!(far.local_addr().unwrap(), addr);
        assert_eq!(near.local_addr().unwrap(), peer);
        assert_eq!(far.peer_addr().unwrap(), peer);
    });
}

#[test]
fn shutdown_is_seen_as_end_of_stream_after_the_bytes() {
    let mut world = World::new(6, WorldOptions::default());
    world.run_once("node", SECOND, || async {
        let listener = TcpListener::bind(any()).unwrap();
        let near = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], PORT)))
            .await
            .unwrap();
        let (far, _) = listener.accept().await.unwrap();
        send_all(&near, b"last words").await.unwrap();
        near.shutdown().unwrap();
        let mut bytes = [0; 10];
        recv_exact(&far, &mut bytes).await.unwrap();
        assert_eq!(&bytes, b"last words");
        assert_eq!(recv(&far, &mut bytes).await.unwrap(), 0);
        assert_eq!(near.try_recv(&mut bytes).unwrap(), 0);
        let closed = near.try_send(&[IoSlice::new(b"x")]).unwrap_err().kind();
        assert_eq!(closed, ErrorKind::BrokenPipe);
        near.readable().await.unwrap();
    });
}

#[test]
fn a_detached_connection_lives_on_another_core() {
    let mut world = World::new(7, WorldOptions::default());
    let server = world.node("server");
    world.start_with("server", 2, || {
        let (sender, receiver) = reactor::mailbox::channel(4);
        let receiver = Rc::new(RefCell::new(Some(receiver)));
        move |core| {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            async move {
                if core == 0 {
                    let listener = TcpListener::bind(any()).unwrap();
                    let (stream, _) = listener.accept().await.unwrap();
                    let sent = sender.try_send(stream.detach().unwrap());
                    assert!(sent.is_ok());
                    return sleep(10 * SECOND).await;
                }
                drop(sender);
                let mut receiver = receiver.borrow_mut().take().unwrap();
                let stream = TcpStream::attach(receiver.recv().await.unwrap()).unwrap();
                let mut bytes = [0; 5];
                recv_exact(&stream, &mut bytes).await.unwrap();
                send_all(&stream, &bytes).await.unwrap();
            }
        }
    });
    let echoed = world.run_once("client", 5 * SECOND, move || async move {
        sleep(Duration::from_millis(1)).await;
        let stream = TcpStream::connect(SocketAddr::new(server, PORT))
            .await
            .unwrap();
        send_all(&stream, b"hello").await.unwrap();
        let mut bytes = [0; 5];
        recv_exact(&stream, &mut bytes).await.unwrap();
        let end = recv(&stream, &mut [0; 1]).await.unwrap();
        (bytes, end)
    });
    assert_eq!(echoed, Some((*b"hello", 0)));
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    let mut world = World::new(8, WorldOptions::default());
    world.run_once("node", SECOND, || async {
        let listener = TcpListener::bind(any()).unwrap();
        for _ in 0..50 {
            let connect =
                reactor::spawn(TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], PORT))));
            let mut accepted = None;
            while accepted.is_none() {
                let limit = Duration::from_micros(reactor::random_u64() % 8);
                accepted = reactor::time::timeout(limit, listener.accept()).await.ok();
            }
            let (far, _) = accepted.unwrap().unwrap();
            let near = connect.await.unwrap();
            send_all(&near, b"x").await.unwrap();
            assert_eq!(recv(&far, &mut [0; 1]).await.unwrap(), 1);
        }
    });
}

#[test]
fn delays_happen_and_reorder_nothing() {
    let net = NetOptions {
        spike_ppm: 300_000,
        ..NetOptions::default()
    };
    let (mut world, outcome, _) = pair(20, net, 100);
    world.run_until(60 * SECOND, ended(&outcome));
    assert_eq!(outcome.take().unwrap().unwrap(), 100);
    assert!(world.fault_count(FaultKind::NetDelay) > 30);
    assert!(
        world
            .fault_log()
            .iter()
            .all(|fault| fault.kind == FaultKind::NetDelay)
    );
    assert!(
        world.now() > Duration::from_millis(1_300),
        "{:?}",
        world.now()
    );
}

#[test]
fn resets_hit_both_ends() {
    let (mut world, outcome, progress) = pair(9, NetOptions::default(), 1_000);
    world.run_until(SECOND, |_| progress.get() == 5);
    assert_eq!(world.drop_connection("client", "server"), 1);
    world.run_until(SECOND, ended(&outcome));
    assert_eq!(error_kind(&outcome), ErrorKind::ConnectionReset);
    assert_eq!(world.fault_count(FaultKind::NetReset), 1);
    assert_eq!(world.drop_connection("client", "server"), 0);
}

#[test]
fn resets_by_chance_happen_and_come_from_nothing_else() {
    let net = NetOptions {
        reset_ppm: 20_000,
        spike_ppm: 0,
        ..NetOptions::default()
    };
    let (mut world, outcome, _) = pair(10, net, 10_000);
    world.run_until(200 * SECOND, ended(&outcome));
    assert_eq!(error_kind(&outcome), ErrorKind::ConnectionReset);
    assert!(
        world
            .fault_log()
            .iter()
            .all(|fault| fault.kind == FaultKind::NetReset)
    );
}

#[test]
fn connecting_can_be_refused_and_can_time_out() {
    let net = NetOptions {
        refuse_ppm: 1_000_000,
        ..NetOptions::default()
    };
    let (mut world, outcome, _) = pair(11, net, 1);
    world.run_until(SECOND, ended(&outcome));
    assert_eq!(error_kind(&outcome), ErrorKind::ConnectionRefused);
    assert_eq!(world.fault_count(FaultKind::NetRefused), 1);

    let net = NetOptions {
        connect_timeout_ppm: 1_000_000,
        ..NetOptions::default()
    };
    let (mut world, outcome, _) = pair(12, net, 1);
    world.run_until(60 * SECOND, ended(&outcome));
    assert_eq!(error_kind(&outcome), ErrorKind::TimedOut);
    assert!(world.now() >= 10 * SECOND && world.now() < 11 * SECOND);
    assert_eq!(world.fault_count(FaultKind::NetTimeout), 1);
}

#[test]
fn a_short_partition_delays_and_loses_nothing() {
    let (mut world, outcome, progress) = pair(13, NetOptions::default(), 100);
    world.run_until(SECOND, |_| progress.get() == 5);
    world.partition("client", "server");
    world.run_for(5 * SECOND);
    assert!(progress.get() <= 6);
    world.heal("client", "server");
    world.run_until(30 * SECOND, ended(&outcome));
    assert_eq!(outcome.take().unwrap().unwrap(), 100);
    assert!(world.fault_count(FaultKind::PartitionHold) > 0);
}

#[test]
fn a_long_partition_ends_in_a_timeout() {
    let (mut world, outcome, progress) = pair(14, NetOptions::default(), 100);
    world.run_until(SECOND, |_| progress.get() == 5);
    world.partition("client", "server");
    world.run_until(100 * SECOND, ended(&outcome));
    assert_eq!(error_kind(&outcome), ErrorKind::TimedOut);
    assert!(
        world.now() >= 30 * SECOND && world.now() < 62 * SECOND,
        "{:?}",
        world.now()
    );
}

#[test]
fn a_one_way_partition_stops_one_way_only() {
    for (from, to, requests_arrive) in [("client", "server", false), ("server", "client", true)] {
        let mut world = World::new(15, WorldOptions::default());
        let server = world.node("server");
        let arrived = Rc::new(Cell::new(0));
        let count = arrived.clone();
        world.start("server", 1, move |_| {
            let count = count.clone();
            async move {
                let listener = TcpListener::bind(any()).unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let mut bytes = [0; 64];
                while let Ok(n @ 1..) = recv(&stream, &mut bytes).await {
                    count.set(count.get() + n);
                }
            }
        });
        world.start("client", 1, move |_| async move {
            sleep(Duration::from_millis(1)).await;
            let stream = TcpStream::connect(SocketAddr::new(server, PORT))
                .await
                .unwrap();
            sleep(SECOND).await;
            let _ = send_all(&stream, &[1; 10]).await;
            sleep(1_000 * SECOND).await;
        });
        world.run_for(Duration::from_millis(500));
        world.partition_one_way(from, to);
        world.run_for(5 * SECOND);
        assert_eq!(
            arrived.get() == 10,
            requests_arrive,
            "{from} to {to} is cut"
        );
        world.heal(from, to);
        world.run_for(10 * SECOND);
        assert_eq!(arrived.get(), 10);
    }
}

#[test]
fn a_sender_that_hears_no_acknowledgement_gives_up() {
    let (mut world, outcome, progress) = pair(21, NetOptions::default(), 1_000);
    world.run_until(SECOND, |_| progress.get() == 5);
    world.partition_one_way("server", "client");
    let before = world.now();
    world.run_until(45 * SECOND, ended(&outcome));
    assert!(world.now() - before > 29 * SECOND);
    assert_eq!(error_kind(&outcome), ErrorKind::TimedOut);
}

#[test]
fn a_killed_peer_says_goodbye_and_a_powerless_one_does_not() {
    let (mut world, outcome, progress) = pair(16, NetOptions::default(), 1_000);
    world.run_until(SECOND, |_| progress.get() == 5);
    world.crash("server", Crash::Kill);
    let before = world.now();
    world.run_until(SECOND, ended(&outcome));
    assert!(world.now() - before < Duration::from_millis(100));
    assert!(matches!(
        error_kind(&outcome),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
    ));
    assert_eq!(world.fault_count(FaultKind::HalfOpen), 0);

    let (mut world, outcome, progress) = pair(17, NetOptions::default(), 1_000);
    world.run_until(SECOND, |_| progress.get() == 5);
    world.crash("server", Crash::PowerLoss);
    let before = world.now();
    world.run_until(100 * SECOND, ended(&outcome));
    assert!(
        world.now() - before > 29 * SECOND,
        "{:?}",
        world.now() - before
    );
    assert_eq!(error_kind(&outcome), ErrorKind::TimedOut);
    assert_eq!(world.fault_count(FaultKind::HalfOpen), 1);
}

#[test]
fn a_restarted_peer_answers_old_connections_with_reset() {
    let (mut world, outcome, progress) = pair(18, NetOptions::default(), 1_000);
    world.run_until(SECOND, |_| progress.get() == 5);
    world.crash("server", Crash::PowerLoss);
    world.run_for(SECOND);
    assert!(outcome.borrow().is_none());
    world.restart("server");
    world.run_until(6 * SECOND, ended(&outcome));
    assert_eq!(error_kind(&outcome), ErrorKind::ConnectionReset);
}

#[test]
fn an_idle_half_open_connection_ends_by_keepalive() {
    let mut world = World::new(19, WorldOptions::default());
    let server = world.node("server");
    echo_server(&mut world, "server");
    let ended_with = Rc::new(Cell::new(None));
    let slot = ended_with.clone();
    world.start("client", 1, move |_| {
        let slot = slot.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            let stream = TcpStream::connect(SocketAddr::new(server, PORT))
                .await
                .unwrap();
            let error = recv(&stream, &mut [0; 1]).await.unwrap_err();
            slot.set(Some(error.kind()));
            sleep(1_000 * SECOND).await;
        }
    });
    world.run_for(SECOND);
    world.crash("server", Crash::PowerLoss);
    world.run_for(50 * SECOND);
    assert_eq!(ended_with.get(), None);
    world.run_for(20 * SECOND);
    assert_eq!(ended_with.get(), Some(ErrorKind::TimedOut));
}

#[test]
fn the_same_seed_repeats_under_network_faults() {
    let run = |seed| {
        let net = WorldOptions::swarm(seed).net;
        let (mut world, _, progress) = pair(seed, net, 300);
        world.run_for(SECOND);
        world.partition("client", "server");
        world.run_for(SECOND);
        world.heal("client", "server");
        world.run_for(20 * SECOND);
        (world.trace_hash(), progress.get())
    };
    let results: Vec<_> = (0..12).map(run).collect();
    for (seed, result) in results.iter().enumerate() {
        assert_eq!(run(seed as u64), *result, "seed {seed} does not repeat");
    }
    assert!(results.iter().any(|(_, progress)| *progress == 300));
    assert!(results.windows(2).all(|w| w[0].0 != w[1].0));
}
