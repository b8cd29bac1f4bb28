//! After warm-up a core allocates nothing from the heap.

mod common;

use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use common::{Folder, run};
use reactor::buf::{BufList, pool};
use reactor::fs::{File, OpenOptions};
use reactor::net::{TcpListener, TcpStream};
use reactor::sync::{Credits, Gate, Mutex, Notify};
use reactor::time::{sleep, timeout};
use reactor::{mailbox, next_turn, spawn, yield_now};

/// Runs the round often, and demands that the later ones allocate nothing.
async fn assert_no_allocation<F: Future<Output = ()>>(mut round: impl FnMut() -> F) {
    for _ in 0..200 {
        round().await;
    }
    let before = allocations::on_this_thread();
    for _ in 0..1000 {
        round().await;
    }
    assert_eq!(
        allocations::on_this_thread() - before,
        0,
        "heap allocations in 1000 rounds"
    );
}

#[test]
fn tasks_and_timers() {
    run(|| async {
        assert_no_allocation(|| async {
            let small = spawn(async {
                yield_now().await;
                7
            });
            let large = spawn(async {
                let bytes = [3u8; 5000];
                next_turn().await;
                bytes[4999]
            });
            spawn(sleep(Duration::from_nanos(1))).detach();
            let late = timeout(Duration::from_secs(100), small);
            assert_eq!((late.await, large.await), (Ok(7), 3));
            assert!(
                timeout(Duration::from_nanos(1), std::future::pending::<()>())
                    .await
                    .is_err()
            );
        })
        .await;
    });
}

#[test]
fn primitives_and_mailboxes() {
    run(|| async {
        let (notify, credits) = (Rc::new(Notify::new()), Credits::new(4));
        let (mutex, gate) = (Rc::new(Mutex::new(0)), Gate::new());
        let (send, recv) = mailbox::channel(8);
        let recv = Rc::new(Mutex::new(recv));
        assert_no_allocation(|| {
            let (notify, credits, mutex) = (notify.clone(), credits.clone(), mutex.clone());
            let (gate, send, recv) = (gate.clone(), send.clone(), recv.clone());
            async move {
                let (waits, takes) = (notify.clone(), credits.clone());
                let pass = gate.enter().unwrap();
                let waiter = spawn(async move {
                    waits.notified().await;
                    let _units = takes.acquire(3).await;
                    *mutex.lock().await += 1;
                    drop(pass);
                    recv.lock().await.recv().await
                });
                let held = credits.acquire(2).await;
                yield_now().await;
                notify.notify_one();
                yield_now().await;
                drop(held);
                gate.drained().await;
                send.try_send(5).unwrap();
                assert_eq!(waiter.await, Some(5));
            }
        })
        .await;
    });
}

#[test]
fn file_operations_and_buffers() {
    let folder = Folder::new("no_allocation");
    let path = folder.file("pool");
    run(move || async move {
        let options = OpenOptions {
            create_len: Some(1 << 20),
            ..OpenOptions::default()
        };
        let file = File::open(&path, &options).unwrap();
        assert_no_allocation(|| {
            let file = file.clone();
            async move {
                let mut list = BufList::new();
                for _ in 0..4 {
                    list.push(pool().alloc(4096).await);
                }
                file.write_at(0, list).await.0.unwrap();
                let reader = file.clone();
                let read = spawn(async move {
                    let buf = pool().alloc(16384).await;
                    reader.read_at(0, buf).await.0.unwrap();
                });
                let abandoned = spawn({
                    let file = file.clone();
                    async move { file.read_at(0, pool().alloc(4096).await).await.0 }
                });
                yield_now().await;
                abandoned.abort();
                read.await;
            }
        })
        .await;
    });
}

#[test]
fn waiting_for_a_buffer() {
    run(|| async {
        let mut held = Vec::new();
        while let Some(buf) = pool().try_alloc(4096) {
            held.push(buf);
        }
        assert_no_allocation(|| {
            let last = held.pop();
            async move {
                let waiter = spawn(async { pool().alloc(4096).await });
                yield_now().await;
                drop(last);
                drop(waiter.await);
                let again = pool().try_alloc(4096);
                assert!(again.is_some());
                drop(again);
            }
        })
        .await;
    });
}

async fn receive(stream: &TcpStream, bytes: &mut [u8], hot: bool) -> usize {
    loop {
        match stream.try_recv(bytes) {
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        if hot {
            next_turn().await;
        } else {
            stream.readable().await.unwrap();
        }
    }
}

#[test]
fn sockets_in_both_gears() {
    run(|| async {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = spawn(async move { TcpStream::connect(addr).await.unwrap() });
        let server = Rc::new(listener.accept().await.unwrap().0);
        let client = Rc::new(client.await);
        let mut hot = false;
        assert_no_allocation(|| {
            let (server, client) = (server.clone(), client.clone());
            hot = !hot;
            let hot = hot;
            async move {
                let echo = spawn(async move {
                    let mut bytes = [0; 64];
                    let count = receive(&server, &mut bytes, hot).await;
                    server.try_send(&[IoSlice::new(&bytes[..count])]).unwrap();
                });
                client.try_send(&[IoSlice::new(b"ping")]).unwrap();
                assert_eq!(receive(&client, &mut [0; 64], hot).await, 4);
                echo.await;
            }
        })
        .await;
    });
}
