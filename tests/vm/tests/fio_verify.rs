//! fio writes at many block sizes and depths and checks every block it reads back.

use std::time::Duration;

use vm_tests::Session;

#[test]
fn fio_finds_every_block_as_it_was_written() {
    let session = Session::start("fio-verify", &[], Duration::from_secs(500)).unwrap();
    session.finish(Duration::from_secs(500)).unwrap();
}
