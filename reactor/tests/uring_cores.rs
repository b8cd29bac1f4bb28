//! Several real cores, mailboxes between them, and what an idle one costs.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{config, run};
use reactor::cores::{self, ReactorError};
use reactor::mailbox::{self, Full};
use reactor::time::sleep;
use reactor::{Spin, now, spawn};

const MESSAGES: u64 = 100_000;

/// Two cores that count to each other through small mailboxes.
#[test]
fn messages_between_cores_arrive_in_order() {
    let sum = Arc::new(AtomicU64::new(0));
    let (ping_send, ping_recv) = mailbox::channel::<u64>(64);
    let (pong_send, pong_recv) = mailbox::channel::<u64>(64);
    let first = std::sync::Mutex::new(Some((ping_send, pong_recv)));
    let second = std::sync::Mutex::new(Some((pong_send, ping_recv)));
    let total = sum.clone();
    let cores = cores::start(vec![config("first"), config("second")], move |index| {
        let side = if index == 0 { &first } else { &second };
        let (send, mut recv) = side.lock().unwrap().take().unwrap();
        let total = total.clone();
        async move {
            assert_eq!(usize::from(reactor::core_id().0), index);
            if index == 0 {
                let sender = spawn(async move {
                    for number in 0..MESSAGES {
                        let mut message = number;
                        while let Err(full) = send.try_send(message) {
                            assert!(!full.is_closed());
                            message = full.into_inner();
                            reactor::next_turn().await;
                        }
                    }
                });
                for expected in 0..MESSAGES {
                    assert_eq!(recv.recv().await, Some(expected + 1));
                }
                sender.await;
                assert_eq!(recv.recv().await, None, "the other side has ended");
            } else {
                while let Some(number) = recv.recv().await {
                    total.fetch_add(number, Ordering::Relaxed);
                    while send.try_send(number + 1).is_err() {
                        reactor::next_turn().await;
                    }
                }
            }
        }
    })
    .unwrap();
    cores.join().unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), MESSAGES * (MESSAGES - 1) / 2);
}

/// Cores that never spin sleep between any two messages: a wake lost once hangs this test.
#[test]
fn sleeping_cores_hear_every_message() {
    const ROUNDS: u64 = 30_000;
    let (ping_send, ping_recv) = mailbox::channel::<u64>(2);
    let (pong_send, pong_recv) = mailbox::channel::<u64>(2);
    let first = std::sync::Mutex::new(Some((ping_send, pong_recv)));
    let second = std::sync::Mutex::new(Some((pong_send, ping_recv)));
    let sleepy = |name| cores::CoreConfig {
        spin: Spin::For(Duration::ZERO),
        ..config(name)
    };
    let cores = cores::start(vec![sleepy("first"), sleepy("second")], move |index| {
        let side = if index == 0 { &first } else { &second };
        let (send, mut recv) = side.lock().unwrap().take().unwrap();
        async move {
            if index == 0 {
                send.try_send(0).unwrap();
            }
            while let Some(number) = recv.recv().await {
                if number == ROUNDS || send.try_send(number + 1).is_err() {
                    break;
                }
                // Sometimes the core is about to sleep when the answer comes, sometimes not yet.
                if number % 3 == 0 {
                    reactor::yield_now().await;
                }
            }
            assert!(reactor::stats().parks.get() > 100);
        }
    });
    cores.unwrap().join().unwrap();
}

#[test]
fn a_mailbox_is_bounded_and_wakes_a_parked_core() {
    let (send, mut recv) = mailbox::channel::<u32>(2);
    send.try_send(1).unwrap();
    send.try_send(2).unwrap();
    assert_eq!(send.try_send(3), Err(Full::NoRoom(3)));
    let thread = std::thread::Builder::new()
        .spawn(move || {
            cores::run(config("receiver"), || async move {
                assert_eq!(recv.recv().await, Some(1));
                assert_eq!(recv.recv().await, Some(2));
                let late = recv.recv().await;
                assert!(reactor::stats().parks.get() > 0);
                late
            })
        })
        .unwrap();
    pause(Duration::from_millis(50));
    send.try_send(4).unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), Some(4));
    assert_eq!(send.try_send(5), Err(Full::Closed(5)));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the other thread shall be parked by now"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn thread_cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let ns = text
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .expect("nanoseconds on the CPU");
    Duration::from_nanos(ns)
}

/// An idle core with a timer of 10 Hz, an armed poll and the default spin.
#[test]
fn an_idle_core_costs_under_two_percent() {
    run(|| async {
        let listener = reactor::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let accepting = spawn(async move { listener.accept().await.map(|_| ()) });
        sleep(Duration::from_millis(100)).await;
        let (cpu, started) = (thread_cpu_time(), now());
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
        }
        let share = (thread_cpu_time() - cpu).as_secs_f64() / started.elapsed().as_secs_f64();
        assert!(share < 0.02, "{:.2} % of a core", share * 100.0);
        accepting.abort();
    });
}

#[test]
fn a_core_that_always_spins_never_parks() {
    let always = cores::CoreConfig {
        spin: Spin::Always,
        ..config("spinning")
    };
    let parks = cores::run(always, || async {
        sleep(Duration::from_millis(20)).await;
        reactor::stats().parks.get()
    });
    assert_eq!(parks.unwrap(), 0);
}

#[test]
fn a_core_that_cannot_start_says_why() {
    let far = cores::CoreConfig {
        cpu: Some(1000),
        ..config("far")
    };
    let error = cores::run(far, || async {}).unwrap_err();
    assert!(
        matches!(error, ReactorError::Pin { cpu: 1000, .. }),
        "{error}"
    );
    let poor = cores::CoreConfig {
        io_pool_bytes: 4096,
        ..config("poor")
    };
    let error = cores::run(poor, || async {}).unwrap_err();
    assert!(
        matches!(
            error,
            ReactorError::Pool {
                len_bytes: 4096,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn no_core_runs_when_one_cannot_start() {
    let ran = Arc::new(AtomicU64::new(0));
    let count = ran.clone();
    let bad = cores::CoreConfig {
        cpu: Some(1000),
        ..config("bad")
    };
    let error = cores::start(vec![config("good"), bad, config("other")], move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    let error = error.err().expect("one core cannot start");
    assert!(
        matches!(&error, ReactorError::Pin { core, .. } if core == "bad"),
        "{error}"
    );
    assert_eq!(ran.load(Ordering::Relaxed), 0);
}

#[test]
fn a_panic_on_one_core_is_reported_by_join() {
    let cores = cores::start(vec![config("good"), config("bad")], |index| async move {
        assert_eq!(index, 0, "this core panics");
    })
    .unwrap();
    let error = cores.join().unwrap_err();
    assert!(
        matches!(&error, ReactorError::Panicked { core } if core == "bad"),
        "{error}"
    );
}

#[test]
fn pinning_holds() {
    let allowed = std::thread::available_parallelism().unwrap().get();
    let cpu = allowed - 1;
    let pinned = cores::CoreConfig {
        cpu: Some(cpu),
        ..config("pinned")
    };
    let list = cores::run(pinned, || async {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list:"));
        line.unwrap().split_whitespace().last().unwrap().to_owned()
    });
    assert_eq!(list.unwrap(), cpu.to_string());
}

#[test]
fn the_kernel_has_what_is_required() {
    let features = cores::probe();
    for name in ["io_uring", "EXT_ARG", "NODROP", "SUBMIT_STABLE"] {
        let feature = features
            .iter()
            .find(|feature| feature.name == name)
            .unwrap();
        assert!(feature.available, "{feature:?}");
    }
}

#[test]
fn the_probe_says_whether_buffers_can_be_registered() {
    let features = cores::probe();
    for name in ["registered buffers", "READV_FIXED, WRITEV_FIXED"] {
        let found = features.iter().find(|feature| feature.name == name);
        let feature = found.expect("the operator is told");
        assert!(!feature.detail.is_empty(), "{feature:?}");
    }
}
