//! A Linux host uses a volume with nvme-cli and two file systems.

use std::time::Duration;

use vm_tests::Session;

#[test]
fn a_host_uses_a_volume_and_finds_it_again() {
    let mut session = Session::start("basics", &[], Duration::from_secs(600)).unwrap();
    session
        .vm()
        .expect("restart", Duration::from_secs(500))
        .unwrap();
    session.restart().unwrap();
    session.vm().send("restarted").unwrap();
    session.finish(Duration::from_secs(300)).unwrap();
}
