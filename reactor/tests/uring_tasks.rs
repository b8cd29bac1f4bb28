//! Tasks, wakers and timers on a real core.

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::run;
use reactor::time::{interval, sleep, timeout};
use reactor::{next_turn, now, precise_now, spawn, yield_now};

#[test]
fn a_task_gives_its_output() {
    let output = run(|| async {
        let text = spawn(async { String::from("forty-two") });
        let number = spawn(async {
            yield_now().await;
            42
        });
        (text.await, number.await)
    });
    assert_eq!(output, (String::from("forty-two"), 42));
}

#[test]
fn a_dropped_handle_detaches() {
    run(|| async {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        drop(spawn(async move {
            sleep(Duration::from_millis(2)).await;
            flag.set(true);
        }));
        sleep(Duration::from_millis(20)).await;
        assert!(done.get());
    });
}

struct SetOnDrop(Rc<Cell<bool>>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn abort_drops_the_future_at_once() {
    run(|| async {
        let dropped = Rc::new(Cell::new(false));
        let guard = SetOnDrop(dropped.clone());
        let task = spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        yield_now().await;
        assert!(!dropped.get());
        task.abort();
        assert!(dropped.get());
    });
}

#[test]
fn a_task_may_abort_itself() {
    run(|| async {
        let dropped = Rc::new(Cell::new(false));
        let guard = SetOnDrop(dropped.clone());
        let handle = Rc::new(RefCell::new(None::<reactor::JoinHandle<()>>));
        let own = handle.clone();
        let watched = dropped.clone();
        let task = spawn(async move {
            let _guard = guard;
            own.borrow_mut()
                .take()
                .expect("the handle is there")
                .abort();
            assert!(!watched.get(), "the future lives until its poll returns");
            std::future::pending::<()>().await;
        });
        *handle.borrow_mut() = Some(task);
        yield_now().await;
        yield_now().await;
        assert!(dropped.get());
    });
}

#[test]
fn an_unread_output_is_dropped_once() {
    run(|| async {
        let dropped = Rc::new(Cell::new(false));
        let guard = SetOnDrop(dropped.clone());
        let task = spawn(async move { guard });
        yield_now().await;
        assert!(task.is_finished());
        assert!(!dropped.get());
        drop(task);
        assert!(dropped.get());
    });
}

#[test]
fn tasks_left_behind_are_dropped_with_the_core() {
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u32>>>, u32);
    impl Drop for Log {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }
    let shared = log.clone();
    run(move || async move {
        for number in 0..10 {
            let entry = Log(shared.clone(), number);
            spawn(async move {
                let _entry = entry;
                sleep(Duration::from_secs(1000)).await;
            })
            .detach();
        }
        yield_now().await;
    });
    assert_eq!(log.lock().unwrap().len(), 10);
}

#[test]
fn another_thread_wakes_a_parked_core() {
    run(|| async {
        let (give, take) = mpsc::channel::<Waker>();
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let waker = take.recv().unwrap();
                #[expect(clippy::disallowed_methods, reason = "the core shall be parked by now")]
                std::thread::sleep(Duration::from_millis(30));
                waker.wake_by_ref();
                waker
            })
            .unwrap();
        let started = now();
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                give.send(cx.waker().clone()).unwrap();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        assert!(
            started.elapsed() >= Duration::from_millis(25),
            "{:?}",
            started.elapsed()
        );
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(reactor::stats().remote_wakes.get() >= 1);
        assert!(reactor::stats().parks.get() >= 1);
        thread.join().unwrap();
    });
}

#[test]
fn a_flood_of_wakes_from_elsewhere_loses_none() {
    run(|| async {
        let mut tasks = Vec::new();
        let (give, take) = mpsc::channel::<Waker>();
        for _ in 0..10_000 {
            let give = give.clone();
            let mut polls = 0;
            tasks.push(spawn(poll_fn(move |cx| {
                polls += 1;
                if polls == 1 {
                    give.send(cx.waker().clone()).unwrap();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })));
        }
        drop(give);
        while reactor::stats().polls.get() < 10_001 {
            next_turn().await;
        }
        // More wakes than the queue holds, while this core does not look.
        std::thread::Builder::new()
            .spawn(move || (0..10_000).for_each(|_| take.recv().unwrap().wake()))
            .unwrap()
            .join()
            .unwrap();
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn a_stale_waker_does_no_harm() {
    run(|| async {
        let kept = Rc::new(RefCell::new(None::<Waker>));
        let keep = kept.clone();
        spawn(poll_fn(move |cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        }))
        .await;
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        let successor = spawn(poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::<()>::Pending
        }));
        yield_now().await;
        kept.borrow_mut().take().unwrap().wake();
        yield_now().await;
        assert_eq!(
            polls.get(),
            1,
            "the slot's next task was not woken by the old waker"
        );
        successor.abort();
    });
}

#[test]
fn timers_fire_in_order_and_not_early() {
    run(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for ms in [15u64, 5, 10, 1, 20] {
            let order = order.clone();
            tasks.push(spawn(async move {
                let started = now();
                sleep(Duration::from_millis(ms)).await;
                assert!(started.elapsed() >= Duration::from_millis(ms));
                order.borrow_mut().push(ms);
            }));
        }
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [1, 5, 10, 15, 20]);
    });
}

#[test]
fn a_timeout_drops_what_it_limits() {
    run(|| async {
        let dropped = Rc::new(Cell::new(false));
        let guard = SetOnDrop(dropped.clone());
        let limited = timeout(Duration::from_millis(5), async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        assert!(limited.await.is_err());
        assert!(dropped.get());
        assert_eq!(timeout(Duration::from_secs(5), async { 3 }).await, Ok(3));
    });
}

#[test]
fn an_interval_skips_what_it_missed() {
    run(|| async {
        let mut ticks = interval(Duration::from_millis(2));
        let first = ticks.tick().await;
        // However late the first one was, more ticks than one pass before the next call.
        while precise_now() < first + Duration::from_millis(30) {
            next_turn().await;
        }
        let late = ticks.tick().await;
        assert!(late > first);
        let returned = now();
        let next = ticks.tick().await;
        assert!(next > returned, "the missed ticks were skipped");
    });
}

#[test]
fn a_busy_pair_of_tasks_does_not_starve_timers() {
    run(|| async {
        for _ in 0..4 {
            spawn(async {
                loop {
                    yield_now().await;
                }
            })
            .detach();
        }
        let started = now();
        sleep(Duration::from_millis(10)).await;
        assert!(
            started.elapsed() < Duration::from_millis(500),
            "{:?}",
            started.elapsed()
        );
    });
}

#[test]
fn outside_of_a_core_a_call_says_what_is_wrong() {
    let error = std::panic::catch_unwind(reactor::now).unwrap_err();
    let text = error.downcast_ref::<&str>().unwrap();
    assert!(text.contains("running executor"), "{text}");
}
