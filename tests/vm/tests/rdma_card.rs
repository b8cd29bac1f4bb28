//! The card of `drivers/rdma`, on soft RoCE: the same checks as its simulated card, and what only a real
//! one can show.

use std::path::Path;
use std::time::Duration;

use vm_tests::Vm;

/// On a machine that is busy with other tests as well.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn a_card_does_what_it_is_to_do() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rdma-card");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let checks = format!("CHECKS={}", env!("CARGO_BIN_EXE_vm-rdma-card"));
    let mut vm = Vm::boot(&dir, "rdma-card.sh", &[checks], LIMIT).unwrap();
    vm.finish(LIMIT).unwrap();
}
