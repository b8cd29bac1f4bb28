//! The VM itself: boots, hears the machine, and reports how a script ended.

use std::time::Duration;

use vm_tests::{Error, Vm};

const LIMIT: Duration = Duration::from_secs(60);

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn the_exit_code_of_the_script_arrives() {
    let dir = scratch("boot-code");
    let mut vm = Vm::boot(&dir, "boot.sh", &["CODE=7".to_owned()], LIMIT).unwrap();
    vm.expect("ready", LIMIT).unwrap();
    vm.send("go").unwrap();
    assert_eq!(vm.exit_code(LIMIT).unwrap(), 7);
}

#[test]
fn a_script_that_gives_up_is_a_failure_with_its_reason() {
    // Nobody sends "go": the script must not wait for ever, and its words must come through.
    let dir = scratch("boot-fail");
    let wait = ["WAIT=1".to_owned()];
    let mut vm = Vm::boot(&dir, "boot.sh", &wait, LIMIT).unwrap();
    vm.expect("ready", LIMIT).unwrap();
    let failed = vm.finish(LIMIT);
    let Err(Error::GuestFailed { reason, tail, .. }) = failed else {
        panic!("{failed:?}")
    };
    assert!(reason.contains("did not send 'go'"), "{reason}");
    assert!(tail.contains("BEDPLATE-VM: exit 1"), "{tail}");
}
