//! Buffer pools on a real core: waiting in order, on exhaustion, across threads.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::run;
use reactor::buf::{Buf, BufPool, engine_pool, pool};
use reactor::time::timeout;
use reactor::{spawn, yield_now};

fn drain(pool: &BufPool, len: usize) -> Vec<Buf> {
    std::iter::from_fn(|| pool.try_alloc(len)).collect()
}

#[test]
fn an_empty_pool_serves_waiters_in_order() {
    run(|| async {
        let mut held = drain(&pool(), 1);
        assert_eq!(
            pool().in_use_bytes(),
            pool().capacity_bytes(),
            "small needs may use all"
        );
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..20 {
            let order = order.clone();
            tasks.push(spawn(async move {
                let buf = pool().alloc(4096).await;
                order.borrow_mut().push(number);
                yield_now().await;
                drop(buf);
            }));
        }
        yield_now().await;
        assert!(pool().try_alloc(1).is_none());
        // Three buffers for twenty waiters: each serves one after the other.
        held.truncate(held.len() - 3);
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn nobody_overtakes_a_waiter() {
    run(|| async {
        let mut held = drain(&pool(), 1);
        let waiter = spawn(async { pool().alloc(4096).await });
        yield_now().await;
        held.pop();
        assert!(
            pool().try_alloc(4096).is_none(),
            "the buffer is for the waiter"
        );
        drop(waiter.await);
        assert!(pool().try_alloc(4096).is_some());
    });
}

#[test]
fn a_waiter_that_leaves_passes_its_buffer_on() {
    run(|| async {
        let mut held = drain(&pool(), 1);
        let first = spawn(async { pool().alloc(4096).await.len() });
        let second = spawn(async { pool().alloc(4096).await.len() });
        yield_now().await;
        held.pop();
        first.abort();
        assert_eq!(second.await, 4096);
    });
}

/// Small waiters are served by large buffers, but never at the cost of large waiters.
#[test]
fn small_waiters_do_not_starve_large_ones() {
    run(|| async {
        let mut held = drain(&pool(), 1);
        held.sort_by_key(Buf::capacity);
        let large = spawn(async { pool().alloc(1 << 20).await.capacity() });
        yield_now().await;
        let mut small = Vec::new();
        for _ in 0..4 {
            small.push(spawn(async { pool().alloc(1).await.capacity() }));
        }
        yield_now().await;
        held.pop();
        assert_eq!(large.await, (1 << 20) + 8192);
        for task in small {
            assert_eq!(
                task.await,
                (1 << 20) + 8192,
                "then the large one serves the small"
            );
        }
    });
}

#[test]
fn the_engine_has_buffers_when_hosts_have_none() {
    run(|| async {
        let _held = drain(&pool(), 1);
        assert!(
            timeout(Duration::from_millis(5), pool().alloc(1))
                .await
                .is_err()
        );
        assert!(engine_pool().try_alloc(1 << 20).is_some());
    });
}

#[test]
fn a_buffer_freed_on_another_thread_wakes_this_core() {
    run(|| async {
        let mut held = drain(&pool(), 1);
        let last = held.pop();
        let thread = std::thread::Builder::new()
            .spawn(move || {
                #[expect(clippy::disallowed_methods, reason = "the core shall be parked by now")]
                std::thread::sleep(Duration::from_millis(20));
                drop(last);
            })
            .unwrap();
        pool().alloc(1).await;
        thread.join().unwrap();
    });
}

#[test]
fn threads_share_a_pool_without_losing_buffers() {
    let pool = BufPool::new(4 << 20, "shared").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let pool = pool.clone();
            scope.spawn(move || {
                for round in 0..20_000usize {
                    let Some(mut buf) = pool.try_alloc(1 + round * 7919 % 300_000) else {
                        continue;
                    };
                    let len = buf.len().min(64);
                    buf.as_mut()[..len].fill(thread);
                    let part = buf.slice(..len);
                    drop(buf);
                    assert!(
                        part.iter().all(|&byte| byte == thread),
                        "a buffer has one owner"
                    );
                }
            });
        }
    });
    assert_eq!(pool.in_use_bytes(), 0);
    let all = drain(&pool, 1);
    assert_eq!(
        all.iter().map(Buf::capacity).sum::<usize>(),
        pool.capacity_bytes()
    );
}
