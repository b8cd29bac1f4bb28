//! Two paths to one unit, and reservations between iSCSI and NVMe hosts.

use std::time::Duration;

use vm_tests::{Kind, Session};

/// For one step of the script, on a machine that is busy with other tests as well.
const STEP: Duration = Duration::from_secs(240);

#[test]
fn paths_follow_alua_and_reservations_hold_between_all_hosts() {
    let mut session = Session::start_iscsi("iscsi-paths", &[], STEP * 2, false).unwrap();
    if Kind::from_environment() == Kind::Bedplate {
        session.vm().expect("restart", STEP).unwrap();
        session.restart().unwrap();
        session.vm().send("restarted").unwrap();
    }
    session.finish(STEP).unwrap();
}
