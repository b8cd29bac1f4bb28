//! The kernel's iSCSI initiator uses a volume.

use std::time::Duration;

use vm_tests::Session;

#[test]
fn the_kernels_initiator_uses_a_volume() {
    let limit = Duration::from_secs(400);
    let session = Session::start_iscsi("iscsi", &[], limit, true).unwrap();
    session.finish(limit).unwrap();
}
