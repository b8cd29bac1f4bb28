//! The target dies under a Linux host that uses it over iSCSI; its sessions recover and it misses
//! nothing.

use std::time::Duration;

use vm_tests::Session;

/// What the guest's writers do while the target is killed; see `guest/iscsi-crash.sh`.
const STREAMS: [&str; 2] = ["fsync", "direct"];
/// For one step of the script, on a machine that is busy with other tests as well.
const STEP: Duration = Duration::from_secs(240);
/// Records every stream must get through between two kills.
const BETWEEN_KILLS: u64 = 25;
/// How long the target stays down: so short that the first try to reconnect finds it, and long
/// enough for several to fail.
const DOWN: [Duration; 2] = [Duration::ZERO, Duration::from_millis(2500)];

#[test]
fn sessions_recover_and_nothing_acknowledged_is_lost() {
    let writer = format!("WRITER={}", env!("CARGO_BIN_EXE_vm-writer"));
    let mut session = Session::start_iscsi("iscsi-crash", &[writer], STEP * 3, true).unwrap();
    session.vm().expect("writers-running", STEP).unwrap();
    for down in DOWN {
        every_stream_goes_on(&mut session);
        session.crash(down).unwrap();
    }
    every_stream_goes_on(&mut session);
    session.vm().send("stop").unwrap();
    session.vm().expect("checked", STEP).unwrap();
    for stream in STREAMS {
        let acked = session.vm().acks().newest(stream);
        assert!(
            acked >= BETWEEN_KILLS * (DOWN.len() as u64 + 1),
            "{stream}: {acked}"
        );
        let found = session.vm().found();
        assert!(
            found.iter().any(|found| found == stream),
            "{stream} of {found:?}"
        );
    }
    session.finish(STEP).unwrap();
}

fn every_stream_goes_on(session: &mut Session) {
    for stream in STREAMS {
        session
            .vm()
            .expect_acks(stream, BETWEEN_KILLS, STEP)
            .unwrap();
    }
}
