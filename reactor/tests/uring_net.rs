//! Sockets on a real kernel.

mod common;

use std::io::{ErrorKind, IoSlice};
use std::time::Duration;

use common::run;
use reactor::net::{BoundSocket, TcpListener, TcpStream};
use reactor::time::{sleep, timeout};
use reactor::{spawn, yield_now};

fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

#[test]
fn more_connections_than_are_kept_ready() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..300)
            .map(|_| spawn(async move { TcpStream::connect(addr).await.unwrap() }))
            .collect();
        // One accept arms the multishot; the rest arrive with nobody asking.
        let (first, _) = listener.accept().await.unwrap();
        sleep(Duration::from_millis(100)).await;
        let mut servers = vec![first];
        while servers.len() < 300 {
            let (server, peer) = listener.accept().await.unwrap();
            assert_eq!(server.peer_addr().unwrap(), peer);
            servers.push(server);
        }
        for client in clients {
            client.await;
        }
    });
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        for _ in 0..20 {
            assert!(
                timeout(Duration::from_millis(1), listener.accept())
                    .await
                    .is_err()
            );
            let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
            let (_server, _) = listener.accept().await.unwrap();
            client.await;
        }
    });
}

#[test]
fn a_dropped_listener_refuses_and_frees_its_port() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        assert!(
            timeout(Duration::from_millis(5), listener.accept())
                .await
                .is_err()
        );
        drop(listener);
        let refused = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        sleep(Duration::from_millis(20)).await;
        TcpListener::bind(addr).expect("the port is free again");
    });
}

#[test]
fn a_port_in_use_is_refused() {
    run(|| async {
        let listener = local();
        let error = TcpListener::bind(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_bound_port_is_taken_and_refuses_until_it_listens() {
    run(|| async {
        let bound = BoundSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = bound.local_addr();
        let error = BoundSocket::bind(addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let refused = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let listener = bound.listen().unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let (_server, _) = listener.accept().await.unwrap();
        client.await;
    });
}

#[test]
fn a_bound_port_that_is_dropped_is_free_at_once() {
    run(|| async {
        let bound = BoundSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = bound.local_addr();
        drop(bound);
        BoundSocket::bind(addr).expect("the port is free again");
    });
}

#[test]
fn closed_connections_that_linger_do_not_keep_a_server_out() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await;
        // Who closes first lingers in TIME_WAIT; here the server's end.
        drop(server);
        client.readable().await.unwrap();
        assert_eq!(client.try_recv(&mut [0; 1]).unwrap(), 0);
        drop((client, listener));
        sleep(Duration::from_millis(20)).await;
        let again = BoundSocket::bind(addr).expect("lingering connections are no obstacle");
        let again = again.listen().expect("nor for listening");
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        again.accept().await.unwrap();
        client.await;
    });
}

#[test]
fn wildcards_of_both_families_share_a_port() {
    run(|| async {
        let four = TcpListener::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = four.local_addr().unwrap().port();
        match TcpListener::bind(format!("[::]:{port}").parse().unwrap()) {
            Ok(_) => {}
            // A kernel without IPv6.
            Err(error) => assert_eq!(error.raw_os_error(), Some(97), "{error}"),
        }
    });
}

#[test]
fn readable_waits_and_an_abandoned_wait_does_not_linger() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await;
        let mut bytes = [0; 16];
        assert_eq!(
            server.try_recv(&mut bytes).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert!(
            timeout(Duration::from_millis(5), server.readable())
                .await
                .is_err()
        );
        while reactor::stats().ops_in_flight.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let sender = spawn(async move {
            sleep(Duration::from_millis(5)).await;
            client
                .try_send(&[IoSlice::new(b"he"), IoSlice::new(b"llo")])
                .unwrap();
            yield_now().await;
            client
        });
        server.readable().await.unwrap();
        assert_eq!(server.try_recv(&mut bytes).unwrap(), 5);
        assert_eq!(&bytes[..5], b"hello");
        drop(sender.await);
        server.readable().await.unwrap();
        assert_eq!(server.try_recv(&mut bytes).unwrap(), 0);
    });
}

#[test]
fn shutdown_ends_a_pending_wait() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await;
        let server = std::rc::Rc::new(server);
        let waiting = server.clone();
        let wait = spawn(async move { waiting.readable().await });
        sleep(Duration::from_millis(2)).await;
        server.shutdown().unwrap();
        wait.await.unwrap();
        assert_eq!(server.try_recv(&mut [0; 4]).unwrap(), 0);
        client.readable().await.unwrap();
        assert_eq!(client.try_recv(&mut [0; 4]).unwrap(), 0);
    });
}

#[test]
fn writable_waits_for_the_peer_to_read() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await;
        let bytes = vec![7; 1 << 20];
        let mut sent = 0;
        loop {
            match server.try_send(&[IoSlice::new(&bytes)]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            timeout(Duration::from_millis(20), server.writable())
                .await
                .is_err()
        );
        let reader = spawn(async move {
            let mut left = sent;
            let mut bytes = vec![0; 1 << 20];
            while left > 0 {
                client.readable().await.unwrap();
                left -= client.try_recv(&mut bytes).unwrap_or(0);
            }
        });
        server.writable().await.unwrap();
        reader.await;
    });
}

#[test]
fn sending_to_a_closed_peer_is_an_error_not_a_signal() {
    run(|| async {
        let listener = local();
        let addr = listener.local_addr().unwrap();
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        drop(client.await);
        let error = loop {
            if let Err(error) = server.try_send(&[IoSlice::new(b"anyone?")]) {
                break error;
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert!(matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ));
    });
}
