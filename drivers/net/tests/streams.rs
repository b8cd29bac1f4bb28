//! Both gears and the output queue over loopback.

use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use net::{SendError, SendQueue, Stream};
use reactor::buf::pool;
use reactor::cores::{self, CoreConfig};
use reactor::net::{TcpListener, TcpStream};
use reactor::time::{sleep, timeout};
use reactor::{Spin, next_turn, spawn};

fn run<F: Future<Output = ()> + 'static>(spin: Spin, main: impl FnOnce() -> F + 'static) {
    let config = CoreConfig {
        spin,
        io_pool_bytes: 8 << 20,
        ..CoreConfig::default()
    };
    let limited = || async move { timeout(Duration::from_secs(20), main()).await };
    cores::run(config, limited)
        .expect("the core runs")
        .expect("the test ends within 20 s");
}

async fn pair() -> (Stream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = spawn(async move { Stream::connect(addr).await.unwrap() });
    let (server, _) = listener.accept().await.unwrap();
    (client.await, Stream::new(server))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

async fn echo(stream: Stream) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        match stream.recv(&mut bytes).await.unwrap() {
            0 => return,
            count => stream
                .send_all(&mut [IoSlice::new(&bytes[..count])])
                .await
                .unwrap(),
        }
    }
}

async fn ping_pong(rounds: usize, pause: Duration) {
    let (client, server) = pair().await;
    let echo = spawn(echo(server));
    for round in 0..rounds {
        let sent = pattern(100 + round);
        let (head, tail) = sent.split_at(40);
        client
            .send_all(&mut [IoSlice::new(head), IoSlice::new(tail)])
            .await
            .unwrap();
        let mut received = vec![0; sent.len()];
        client.recv_exact(&mut received).await.unwrap();
        assert_eq!(received, sent, "round {round}");
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    client.shutdown().unwrap();
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
    run(Spin::For(Duration::ZERO), || async {
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
fn a_stream_cools_down() {
    run(Spin::For(Duration::from_millis(1)), || async {
        let (client, server) = pair().await;
        server.send_all(&mut [IoSlice::new(b"x")]).await.unwrap();
        client.recv(&mut [0]).await.unwrap();
        assert!(client.is_hot());
        sleep(Duration::from_millis(5)).await;
        assert!(!client.is_hot());
    });
}

#[test]
fn the_end_of_the_stream_is_told() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        drop(server);
        assert_eq!(client.recv(&mut [0; 4]).await.unwrap(), 0);
        let short = client.recv_exact(&mut [0; 4]).await.unwrap_err();
        assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_queue_sends_in_order_and_gives_buffers_back() {
    run(Spin::For(Duration::from_micros(50)), || async {
        let (client, server) = pair().await;
        let queue = SendQueue::new(1 << 20);
        let sender = queue.clone();
        let sending = spawn(async move { sender.run(&server).await });
        let mut expected = Vec::new();
        for number in 0..200usize {
            queue.room().await;
            let head = pattern(number * 3 % 300);
            queue.push_bytes(&head).unwrap();
            let mut buf = pool().alloc(1 + number * 97 % 16384).await;
            buf.as_mut().fill(number as u8);
            expected.extend_from_slice(&head);
            expected.extend_from_slice(&buf);
            queue.push_buf(buf).unwrap();
        }
        queue.close();
        let mut received = vec![0; expected.len()];
        client.recv_exact(&mut received).await.unwrap();
        assert!(received == expected);
        sending.await.unwrap();
        assert_eq!(pool().in_use_bytes(), 0);
        assert_eq!(
            client.recv(&mut [0]).await.unwrap(),
            0,
            "the server's stream is closed"
        );
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_queue() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        let queue = SendQueue::new(64 << 10);
        let sender = queue.clone();
        let sending = spawn(async move { sender.run(&server).await });
        let buf = pool().alloc(16 << 10).await;
        let mut pushed = 0;
        // The kernel's buffers take some megabytes, then the queue fills.
        let full = loop {
            match queue.push_buf(buf.clone()) {
                Ok(()) => pushed += buf.len(),
                Err(SendError::Full { queued_bytes }) => {
                    if timeout(Duration::from_millis(100), queue.room())
                        .await
                        .is_err()
                    {
                        break queued_bytes;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert!((128 << 10..=144 << 10).contains(&full), "{full}");
        let reader = spawn(async move {
            client.recv_exact(&mut vec![0; pushed]).await.unwrap();
            client
        });
        queue.flushed().await;
        assert_eq!(queue.queued_bytes(), 0);
        queue.close();
        sending.await.unwrap();
        reader.await;
    });
}

#[test]
fn a_lost_connection_ends_the_queue() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        drop(client);
        let queue = SendQueue::new(1 << 20);
        let sender = queue.clone();
        let sending = spawn(async move { sender.run(&server).await });
        while queue.push_bytes(&[1; 1000]).is_ok() {
            next_turn().await;
        }
        let error = sending.await.unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ));
        assert_eq!(queue.push_bytes(&[1]), Err(SendError::Closed));
        queue.flushed().await;
        queue.room().await;
    });
}

#[test]
fn a_stream_moves_between_cores() {
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
                echo(Stream::new(TcpStream::attach(detached).unwrap())).await;
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
        give.try_send(server.into_tcp().detach().unwrap()).unwrap();
        client
            .send_all(&mut [IoSlice::new(b"over there")])
            .await
            .unwrap();
        let mut received = [0; 10];
        client.recv_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"over there");
        client.shutdown().unwrap();
    })
    .unwrap();
    other.join().unwrap().unwrap();
}
