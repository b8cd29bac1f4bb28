//! The target dies under a Linux host, which reconnects by itself and misses nothing.

use std::time::Duration;

use vm_tests::Session;

/// What the guest's writers do while the target is killed; see `guest/crash.sh`.
const STREAMS: [&str; 4] = ["fsync-a", "fsync-b", "direct-cold", "direct-hot"];
/// For the whole script.
const LIMIT: Duration = Duration::from_secs(700);
/// For one step of it, on a machine that is busy with other tests as well.
const STEP: Duration = Duration::from_secs(240);
/// Records every stream must get through between two kills.
const BETWEEN_KILLS: u64 = 25;

/// How long the target stays down: so short that the first reconnect finds it, and long enough for
/// several to fail.
const DOWN: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(2500),
    Duration::from_millis(300),
];

#[test]
fn nothing_acknowledged_is_lost_over_kills_of_the_target() {
    let session = Session::start("crash", &[writer()], LIMIT).unwrap();
    survive_kills(session);
}

#[test]
fn nothing_acknowledged_by_rdma_is_lost_either() {
    let extra = [writer(), "CORES=0,1".to_owned()];
    let session = Session::start_rdma("rdma-crash", "crash", &extra, LIMIT).unwrap();
    survive_kills(session);
}

fn writer() -> String {
    format!("WRITER={}", env!("CARGO_BIN_EXE_vm-writer"))
}

fn survive_kills(mut session: Session) {
    kill_under_fio(&mut session);
    kill_under_writers(&mut session);
    session.vm().send("stop").unwrap();
    session.vm().expect("checked", STEP).unwrap();
    for stream in STREAMS {
        let acked = session.vm().acks().newest(stream);
        assert!(
            acked >= BETWEEN_KILLS * (DOWN.len() as u64 + 1),
            "{stream}: {acked}"
        );
        assert!(
            session.vm().found().iter().any(|found| found == stream),
            "{stream}"
        );
    }
    session.finish(STEP).unwrap();
}

fn kill_under_fio(session: &mut Session) {
    session.vm().expect("fio-running", STEP).unwrap();
    for down in DOWN {
        session.vm().expect("live", STEP).unwrap();
        session.crash(down).unwrap();
    }
    session.vm().expect("live", STEP).unwrap();
    session.vm().send("fio-kills-done").unwrap();
    session.vm().expect("fio-verified", STEP).unwrap();
}

fn kill_under_writers(session: &mut Session) {
    session.vm().expect("writers-running", STEP).unwrap();
    for down in DOWN {
        for stream in STREAMS {
            session
                .vm()
                .expect_acks(stream, BETWEEN_KILLS, STEP)
                .unwrap();
        }
        session.crash(down).unwrap();
    }
    for stream in STREAMS {
        session
            .vm()
            .expect_acks(stream, BETWEEN_KILLS, STEP)
            .unwrap();
    }
}
