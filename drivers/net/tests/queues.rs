//! The output queue over loopback: order, accounting, congestion, and the end.

mod common;

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use common::loopback::{pair, run};
use common::{TestSocket, finish, pattern, recv_exact, send_loop};
use net::{Closed, SendQueue};
use reactor::buf::{Buf, pool};
use reactor::time::{sleep, timeout};
use reactor::{JoinHandle, Spin, next_turn, spawn};

type Sending = JoinHandle<Result<(), Closed<common::Reason>>>;

fn start(queue: &Rc<SendQueue>, socket: &Rc<TestSocket>) -> Sending {
    let (queue, socket) = (queue.clone(), socket.clone());
    spawn(async move { send_loop(&queue, &socket).await })
}

async fn filled(len: usize, byte: u8) -> Buf {
    let mut buf = pool().alloc(len).await;
    buf.as_mut().fill(byte);
    buf
}

#[test]
fn a_queue_sends_in_order_and_gives_buffers_back() {
    run(Spin::For(Duration::from_micros(50)), || async {
        let (client, server) = pair().await;
        let (queue, server) = (Rc::new(SendQueue::new(64)), Rc::new(server));
        let sending = start(&queue, &server);
        let reading = spawn(async move {
            let mut received = Vec::new();
            let mut bytes = vec![0; 64 << 10];
            while let Ok(count) = client.recv(&mut bytes).await {
                received.extend_from_slice(&bytes[..count]);
            }
            received
        });
        let mut expected = Vec::new();
        for number in 0..200usize {
            while queue.is_congested() {
                queue.drained().await;
            }
            let head = pattern(number * 3 % 300, number);
            queue.push_bytes(&head);
            let buf = filled(1 + number * 97 % 16384, number as u8).await;
            expected.extend_from_slice(&head);
            expected.extend_from_slice(&buf);
            queue.push_buf(buf);
            queue.wake();
        }
        finish(&queue, &server);
        sending.await.unwrap();
        assert_eq!(queue.sent_bytes(), expected.len() as u64);
        assert_eq!(queue.payload_bytes(), 0);
        assert_eq!(pool().in_use_bytes(), 0);
        server.shutdown();
        assert!(reading.await == expected);
    });
}

#[test]
fn small_pieces_are_packed_and_leave_in_one_call() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        let queue = SendQueue::new(0);
        for number in 0..8 {
            queue.push_bytes(&[number; 24]);
        }
        queue.push_bytes(&[]);
        assert!(queue.is_congested(), "one segment is more than none");
        queue.push_buf(filled(1000, 8).await);
        queue.push_buf(filled(0, 0).await);
        queue.push_bytes(&[9; 500]);
        assert_eq!(queue.payload_bytes(), 1000);
        assert_eq!(queue.send_once(&server), Ok(true));
        assert!(queue.is_empty());
        assert_eq!(queue.payload_bytes(), 0);
        assert_eq!(queue.sent_bytes(), 8 * 24 + 1000 + 500);
        let mut received = vec![0; 8 * 24 + 1000 + 500];
        recv_exact(&client, &mut received).await.unwrap();
        let mut expected: Vec<u8> = (0..8).flat_map(|number| [number; 24]).collect();
        expected.extend([8; 1000]);
        expected.extend([9; 500]);
        assert_eq!(received, expected);
    });
}

#[test]
fn congestion_counts_segments_not_pieces() {
    run(Spin::For(Duration::ZERO), || async {
        let queue = SendQueue::new(2);
        // Eight of these fill a segment.
        for _ in 0..16 {
            queue.push_bytes(&[1; 24]);
            assert!(!queue.is_congested());
        }
        queue.push_bytes(&[1; 24]);
        assert!(queue.is_congested());
    });
}

#[test]
fn nothing_to_send_is_not_a_message() {
    run(Spin::For(Duration::ZERO), || async {
        let queue = SendQueue::new(2);
        queue.push_bytes(&[]);
        queue.push_buf(filled(0, 0).await);
        assert!(queue.is_empty());
        assert_eq!(queue.stalled_since(), None);
        queue.flushed().await;
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_queue() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        let (queue, server) = (Rc::new(SendQueue::new(8)), Rc::new(server));
        let sending = start(&queue, &server);
        let buf = filled(16 << 10, 7).await;
        let mut pushed = 0;
        // The kernel's buffers take some megabytes, then the queue fills.
        loop {
            queue.push_buf(buf.clone());
            queue.wake();
            pushed += buf.len();
            if queue.is_congested()
                && timeout(Duration::from_millis(100), queue.drained())
                    .await
                    .is_err()
            {
                break;
            }
        }
        assert!(
            (9 * buf.len()..pushed).contains(&queue.payload_bytes()),
            "{} of {pushed}",
            queue.payload_bytes()
        );
        let stalled = queue.stalled_since().expect("output waits").elapsed();
        assert!(stalled >= Duration::from_millis(100), "{stalled:?}");
        let reader = spawn(async move {
            let mut received = vec![0; pushed];
            recv_exact(&client, &mut received).await.unwrap();
            assert!(received.iter().all(|&byte| byte == 7));
            client
        });
        queue.flushed().await;
        assert_eq!(queue.payload_bytes(), 0);
        assert_eq!(queue.stalled_since(), None);
        finish(&queue, &server);
        sending.await.unwrap();
        reader.await;
    });
}

#[test]
fn a_stall_begins_with_the_output() {
    run(Spin::For(Duration::ZERO), || async {
        let queue = SendQueue::new(8);
        sleep(Duration::from_millis(20)).await;
        let before = reactor::now();
        queue.push_buf(filled(1, 1).await);
        assert!(queue.stalled_since().expect("output waits") >= before);
        let first = queue.stalled_since();
        sleep(Duration::from_millis(5)).await;
        queue.push_bytes(&[1]);
        assert_eq!(queue.stalled_since(), first, "more output is no progress");
    });
}

#[test]
fn a_peer_that_takes_a_little_has_not_stalled() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        let queue = SendQueue::new(8);
        let buf = filled(1 << 20, 1).await;
        for _ in 0..64 {
            queue.push_buf(buf.clone());
        }
        while queue.send_once(&server).unwrap() {}
        sleep(Duration::from_millis(20)).await;
        let before = reactor::now();
        assert!(queue.stalled_since().expect("output waits") < before);
        let mut bytes = vec![0; 1 << 20];
        while !queue.send_once(&server).unwrap() {
            client.recv(&mut bytes).await.unwrap();
            next_turn().await;
        }
        assert!(queue.stalled_since().expect("output waits") >= before);
    });
}

#[test]
fn a_lost_connection_ends_the_queue() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        drop(client);
        let (queue, server) = (Rc::new(SendQueue::new(8)), Rc::new(server));
        let sending = start(&queue, &server);
        while !sending.is_finished() {
            queue.push_bytes(&[1; 1000]);
            queue.push_buf(filled(1000, 2).await);
            queue.wake();
            next_turn().await;
        }
        assert!(matches!(
            sending.await,
            Err(Closed::Failed(
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ))
        ));
        assert!(!queue.is_empty(), "what waits stays until it is cleared");
        let flushed = {
            let queue = queue.clone();
            spawn(async move { queue.flushed().await })
        };
        next_turn().await;
        assert!(!flushed.is_finished());
        queue.clear();
        flushed.await;
        assert_eq!(queue.payload_bytes(), 0);
        assert_eq!(pool().in_use_bytes(), 0);
    });
}

#[test]
fn a_cleared_queue_starts_anew() {
    run(Spin::For(Duration::ZERO), || async {
        let (client, server) = pair().await;
        let queue = SendQueue::new(8);
        let buf = filled(1 << 20, 1).await;
        // Until the kernel has taken a part of a buffer, and no more.
        loop {
            queue.push_buf(buf.clone());
            if !queue.send_once(&server).unwrap() {
                break;
            }
        }
        let sent = queue.sent_bytes();
        assert!(!sent.is_multiple_of(buf.len() as u64), "{sent}");
        queue.clear();
        assert!(queue.is_empty());
        queue.push_bytes(b"whole");
        let mut received = vec![0; sent as usize + 5];
        let reading = spawn(async move {
            recv_exact(&client, &mut received).await.unwrap();
            received
        });
        while !queue.send_once(&server).unwrap() {
            server.writable().await.unwrap();
        }
        assert!(reading.await.ends_with(b"\x01whole"));
    });
}
