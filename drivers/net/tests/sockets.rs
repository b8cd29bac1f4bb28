//! Both gears and the end of a socket, over loopback.

mod common;

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use common::loopback::{pair, run};
use common::{Reason, TestSocket, pattern, recv_exact};
use net::{Closed, first};
use reactor::cores::{self, CoreConfig};
use reactor::net::TcpStream;
use reactor::sync::Notify;
use reactor::time::{sleep, timeout};
use reactor::{Spin, spawn};

const QUIET: Spin = Spin::For(Duration::ZERO);

async fn echo(socket: TestSocket) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        match socket.recv(&mut bytes).await {
            Ok(count) => socket.send_all(&bytes[..count]).await.unwrap(),
            Err(closed) => return assert_eq!(closed, Closed::ByPeer),
        }
    }
}

async fn ping_pong(rounds: usize, pause: Duration) {
    let (client, server) = pair().await;
    let echo = spawn(echo(server));
    for round in 0..rounds {
        let sent = pattern(100 + round, round);
        let (head, tail) = sent.split_at(40);
        client.send_all(head).await.unwrap();
        client.send_all(tail).await.unwrap();
        let mut received = vec![0; sent.len()];
        recv_exact(&client, &mut received).await.unwrap();
        assert_eq!(received, sent, "round {round}");
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    client.shutdown();
    echo.await;
}

#[test]
fn the_hot_gear_echoes() {
    run(Spin::Always, || async {
        let before = reactor::stats().parks.get();
        ping_pong(200, Duration::ZERO).await;
        assert_eq!(
            reactor::stats().parks.get(),
            before,
            "a core that always spins never parks"
        );
    });
}

#[test]
fn the_quiet_gear_echoes() {
    run(QUIET, || async {
        ping_pong(200, Duration::ZERO).await;
        assert!(
            reactor::stats().parks.get() > 0,
            "a core that never spins parks"
        );
    });
}

#[test]
fn gears_change_on_the_way() {
    run(Spin::For(Duration::from_micros(100)), || async {
        ping_pong(20, Duration::from_millis(2)).await;
    });
}

#[test]
fn the_end_of_the_stream_is_told() {
    run(QUIET, || async {
        let (client, server) = pair().await;
        server.send_all(b"abc").await.unwrap();
        drop(server);
        assert_eq!(
            recv_exact(&client, &mut [0; 4]).await,
            Err(Closed::ByPeer),
            "three bytes, then the end"
        );
        assert_eq!(client.recv(&mut [0; 4]).await, Err(Closed::ByPeer));
    });
}

#[test]
fn no_room_is_not_the_end_of_the_stream() {
    run(QUIET, || async {
        let (client, server) = pair().await;
        server.send_all(b"x").await.unwrap();
        sleep(Duration::from_millis(5)).await;
        assert_eq!(client.recv(&mut []).await, Ok(0));
        assert_eq!(client.recv(&mut [0]).await, Ok(1));
    });
}

async fn is_told_to_end() {
    let (client, server) = pair().await;
    let client = Rc::new(client);
    let reader = client.clone();
    let reading = spawn(async move { reader.recv(&mut [0]).await });
    sleep(Duration::from_millis(5)).await;
    assert!(!reading.is_finished());
    assert_eq!(client.ending(), None);
    client.end(Reason::First);
    client.end(Reason::Second);
    let told = Closed::Ended(Reason::First);
    assert_eq!(reading.await, Err(told), "the first reason stays");
    assert_eq!(client.ending(), Some(Reason::First));
    assert_eq!(client.recv(&mut [0]).await, Err(told), "and reads stop");
    client.send_all(b"bye").await.expect("last words leave");
    let mut received = [0; 3];
    recv_exact(&server, &mut received).await.unwrap();
    assert_eq!(&received, b"bye");
}

#[test]
fn a_hot_socket_can_be_told_to_end() {
    run(Spin::Always, is_told_to_end);
}

#[test]
fn a_quiet_socket_can_be_told_to_end() {
    run(QUIET, is_told_to_end);
}

#[test]
fn other_work_stops_when_the_socket_is_to_end() {
    run(QUIET, || async {
        let (client, _server) = pair().await;
        assert_eq!(client.or_ended(async { 7 }).await, Ok(7));
        let told = Err(Closed::Ended(Reason::Second));
        // The work itself asks for the end and then goes on waiting.
        let stubborn = async {
            client.end(Reason::Second);
            pending::<()>().await;
        };
        let stopped = first(client.or_ended(stubborn), async {}).await;
        assert_eq!(stopped.expect("it waits for nothing more"), told);
        assert_eq!(client.or_ended(async {}).await, told, "nothing begins");
    });
}

#[test]
fn what_was_read_and_what_was_not_is_known() {
    run(QUIET, || async {
        let (client, server) = pair().await;
        let client = Rc::new(client);
        assert!(!client.is_drained(), "nobody looked yet");
        server.send_all(b"xy").await.unwrap();
        assert_eq!(client.recv(&mut [0]).await, Ok(1));
        assert!(!client.is_drained(), "one byte is left");
        assert_eq!(client.recv(&mut [0]).await, Ok(1));
        let reader = client.clone();
        let reading = spawn(async move { reader.recv(&mut [0]).await });
        sleep(Duration::from_millis(5)).await;
        assert!(client.is_drained(), "a read that waits has seen the last");
        server.send_all(b"z").await.unwrap();
        assert_eq!(reading.await, Ok(1));
        assert!(!client.is_drained());
        client.end(Reason::First);
        assert!(client.is_drained(), "nothing more will be read");
    });
}

#[test]
fn discarding_lasts_until_the_peer_closes() {
    run(QUIET, || async {
        let (client, server) = pair().await;
        server.end(Reason::First);
        let writing = spawn(async move {
            client.send_all(&pattern(1 << 20, 0)).await.unwrap();
            sleep(Duration::from_millis(10)).await;
            client.send_all(b"more").await.unwrap();
            client.shutdown();
        });
        let early = timeout(Duration::from_millis(1), server.discard()).await;
        assert!(early.is_err(), "the peer has not closed yet");
        server.discard().await;
        writing.await;
    });
}

#[test]
fn a_connection_that_was_reset_has_failed() {
    run(QUIET, || async {
        let (client, server) = pair().await;
        server.send_all(b"unread").await.unwrap();
        sleep(Duration::from_millis(5)).await;
        // Closing with unread input resets the connection.
        drop(client);
        let closed = server.recv(&mut [0]).await.unwrap_err();
        assert_eq!(closed, Closed::Failed(std::io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn the_first_of_two_decides() {
    run(QUIET, || async {
        let stop = Notify::new();
        assert_eq!(first(async { 1 }, stop.notified()).await, Some(1));
        stop.notify_one();
        assert_eq!(first(pending::<()>(), stop.notified()).await, None);
        stop.notify_one();
        assert_eq!(
            first(async { 2 }, stop.notified()).await,
            Some(2),
            "work that is done counts"
        );
    });
}

#[test]
fn a_socket_moves_between_cores() {
    let (give, mut take) = reactor::mailbox::channel(1);
    let config = |name: &str| CoreConfig {
        io_pool_bytes: 4 << 20,
        engine_pool_bytes: 4 << 20,
        name: name.to_owned(),
        ..CoreConfig::default()
    };
    let other = std::thread::Builder::new()
        .spawn(move || {
            cores::run(config("other"), || async move {
                let detached = take.recv().await.unwrap();
                echo(TestSocket::new(TcpStream::attach(detached).unwrap())).await;
            })
        })
        .unwrap();
    cores::run(config("first"), || async move {
        let (client, server) = pair().await;
        let server = Rc::new(server);
        // An abandoned wait must not hold the connection here.
        let waiting = server.clone();
        let wait = spawn(async move { waiting.recv(&mut [0]).await });
        sleep(Duration::from_millis(5)).await;
        wait.abort();
        let server = Rc::into_inner(server).unwrap();
        give.try_send(server.into_stream().detach().unwrap())
            .unwrap();
        client.send_all(b"over there").await.unwrap();
        let mut received = [0; 10];
        recv_exact(&client, &mut received).await.unwrap();
        assert_eq!(&received, b"over there");
        client.shutdown();
    })
    .unwrap();
    other.join().unwrap().unwrap();
}
