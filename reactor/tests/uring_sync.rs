//! The primitives of one core: order, cancellation, ends.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::run;
use reactor::mailbox::{self, Full};
use reactor::sync::{Credits, Gate, Mutex, Notify, oneshot};
use reactor::time::{sleep, timeout};
use reactor::{next_turn, spawn, yield_now};

async fn settle() {
    for _ in 0..5 {
        yield_now().await;
    }
}

#[test]
fn notify_one_wakes_in_order_and_keeps_one() {
    run(|| async {
        let notify = Rc::new(Notify::new());
        notify.notify_one();
        notify.notify_one();
        notify.notified().await;
        assert!(
            timeout(Duration::from_millis(1), notify.notified())
                .await
                .is_err(),
            "kept once"
        );
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let (notify, order) = (notify.clone(), order.clone());
                spawn(async move {
                    notify.notified().await;
                    order.borrow_mut().push(number);
                })
            })
            .collect();
        settle().await;
        for expected in 1..=3 {
            notify.notify_one();
            settle().await;
            assert_eq!(order.borrow().len(), expected);
        }
        assert_eq!(*order.borrow(), [0, 1, 2]);
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn notify_all_wakes_those_who_wait_and_is_not_kept() {
    run(|| async {
        let notify = Rc::new(Notify::new());
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let notify = notify.clone();
                spawn(async move { notify.notified().await })
            })
            .collect();
        settle().await;
        notify.notify_all();
        for task in tasks {
            task.await;
        }
        assert!(
            timeout(Duration::from_millis(1), notify.notified())
                .await
                .is_err()
        );
    });
}

#[test]
fn a_notification_survives_its_cancelled_waiter() {
    run(|| async {
        let notify = Rc::new(Notify::new());
        let waits = |notify: &Rc<Notify>| {
            let notify = notify.clone();
            spawn(async move { notify.notified().await })
        };
        let (first, second) = (waits(&notify), waits(&notify));
        settle().await;
        notify.notify_one();
        first.abort();
        second.await;
    });
}

#[test]
fn credits_are_handed_out_in_order() {
    run(|| async {
        let credits = Credits::new(10);
        let held = credits.acquire(8).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [5usize, 1, 1]
            .into_iter()
            .map(|units| {
                let (credits, order) = (credits.clone(), order.clone());
                spawn(async move {
                    let guard = credits.acquire(units).await;
                    order.borrow_mut().push(units);
                    guard
                })
            })
            .collect();
        settle().await;
        assert!(
            order.borrow().is_empty(),
            "one unit would do, but five are first in line"
        );
        assert!(credits.try_acquire(1).is_none(), "nobody overtakes");
        drop(held);
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [5, 1, 1]);
        assert_eq!(credits.available(), 10);
    });
}

#[test]
fn a_cancelled_claim_lets_the_next_pass() {
    run(|| async {
        let credits = Credits::new(4);
        let held = credits.acquire(2).await;
        let claim = |units: usize| {
            let credits = credits.clone();
            spawn(async move { drop(credits.acquire(units).await) })
        };
        let (large, small) = (claim(4), claim(1));
        settle().await;
        assert!(!small.is_finished());
        large.abort();
        small.await;
        drop(held);
        assert_eq!(credits.available(), 4);
    });
}

#[test]
fn guards_split_merge_and_release() {
    run(|| async {
        let credits = Credits::new(4);
        let mut all = credits.acquire(4).await;
        let part = all.split(1);
        all.release(1);
        assert_eq!((all.units(), part.units(), credits.available()), (2, 1, 1));
        all.merge(part);
        assert_eq!((all.units(), credits.available()), (3, 1));
        drop(all);
        credits.add(2);
        assert_eq!((credits.available(), credits.total()), (6, 6));
    });
}

#[test]
fn a_mutex_excludes_over_awaits() {
    run(|| async {
        let mutex = Rc::new(Mutex::new(0u32));
        let inside = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let (mutex, inside) = (mutex.clone(), inside.clone());
                spawn(async move {
                    for _ in 0..10 {
                        let mut value = mutex.lock().await;
                        inside.set(inside.get() + 1);
                        assert_eq!(inside.get(), 1, "task {number}");
                        next_turn().await;
                        *value += 1;
                        inside.set(inside.get() - 1);
                    }
                })
            })
            .collect();
        settle().await;
        assert!(mutex.try_lock().is_none());
        for task in tasks {
            task.await;
        }
        assert_eq!(*mutex.try_lock().unwrap(), 100);
    });
}

#[test]
fn a_gate_waits_for_what_is_inside() {
    run(|| async {
        let gate = Gate::new();
        let passes: Vec<_> = (0..3).map(|_| gate.enter().unwrap()).collect();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                spawn(async move { gate.close_and_wait().await })
            })
            .collect();
        settle().await;
        assert!(gate.enter().is_err() && gate.in_flight() == 3);
        for pass in passes {
            assert!(waiting.iter().all(|task| !task.is_finished()));
            drop(pass);
            settle().await;
        }
        for task in waiting {
            task.await;
        }
    });
}

#[test]
fn a_oneshot_delivers_or_tells() {
    run(|| async {
        let (send, receive) = oneshot::channel();
        let waiting = spawn(receive);
        settle().await;
        send.send(5).unwrap();
        assert_eq!(waiting.await, Ok(5));
        let (send, receive) = oneshot::channel::<u32>();
        let waiting = spawn(receive);
        settle().await;
        drop(send);
        assert_eq!(waiting.await, Err(oneshot::Canceled));
        let (send, receive) = oneshot::channel();
        drop(receive);
        assert!(send.is_closed());
        assert_eq!(send.send(6), Err(6));
    });
}

#[test]
fn a_mailbox_ends_with_its_senders() {
    run(|| async {
        let (send, mut receive) = mailbox::channel(4);
        let other = send.clone();
        send.try_send(1).unwrap();
        drop(send);
        let late = spawn(async move {
            sleep(Duration::from_millis(2)).await;
            other.try_send(2).unwrap();
        });
        assert_eq!(receive.recv().await, Some(1));
        assert_eq!(receive.recv().await, Some(2));
        assert_eq!(receive.recv().await, None);
        late.await;
    });
}

/// A message may hold the way back of who sent it, who would wait for ever.
#[test]
fn a_message_that_meets_the_end_of_its_receiver_is_dropped() {
    const ROUNDS: usize = 50_000;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| mailbox::channel(1)).unzip();
    let (message, round) = (Arc::new(()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (index, receiver) in receivers.into_iter().enumerate() {
                while round.load(Ordering::Acquire) <= index {
                    std::hint::spin_loop();
                }
                drop(receiver);
            }
        });
        for sender in &senders {
            round.fetch_add(1, Ordering::AcqRel);
            // Closed or not: both may be.
            let _ = sender.try_send(message.clone());
            while !sender.is_closed() {
                std::hint::spin_loop();
            }
        }
    });
    assert_eq!(Arc::strong_count(&message), 1, "messages were kept");
}

#[test]
fn a_cancelled_receive_loses_nothing() {
    run(|| async {
        let (send, mut receive) = mailbox::channel(1);
        assert!(
            timeout(Duration::from_millis(1), receive.recv())
                .await
                .is_err()
        );
        send.try_send(1).unwrap();
        assert_eq!(send.try_send(2), Err(Full::NoRoom(2)));
        assert_eq!(receive.recv().await, Some(1));
    });
}
