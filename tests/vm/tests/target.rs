//! The harness around the target must not hide a target that misbehaves: a stand-in does so here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use vm_tests::{Error, Iscsi, Result, Target, Volume};

const VOLUMES: [Volume; 1] = [Volume {
    name: "a",
    block_bytes: 4096,
    allow_hosts: &[],
}];

/// A shell script in the place of `bedplate`; `body` runs for `serve`, with the address in `$a`.
fn start(name: &str, body: &str, fsck_code: i32) -> Result<Target> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = fsck ] && exit {fsck_code}\n\
         a=$(sed -n 's/^listen = \\[\"\\(.*\\)\"\\]/\\1/p' \"$3\")\n{body}\n"
    );
    let binary: PathBuf = dir.join("bedplate");
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    Target::start_binary(binary, &dir, &VOLUMES, 1 << 20, &Iscsi::default())
}

const LOOP: &str = "while :; do sleep 0.05; done";

#[test]
fn it_is_killed_restarted_and_stopped_on_the_same_address() {
    let body = format!("trap 'exit 0' TERM; echo \"ready: nvme-tcp $a\"; {LOOP}");
    let mut target = start("target-good", &body, 0).unwrap();
    let address = target.address();
    target.kill().unwrap();
    target.restart().unwrap();
    target.stop().unwrap();
    assert_eq!(target.address(), address);
    target.fsck().unwrap();
}

#[test]
fn a_target_that_refuses_to_start_is_shown_with_its_reason() {
    let Err(error) = start("target-refuses", "echo 'the port is in use' >&2; exit 1", 0) else {
        panic!("it cannot have become ready")
    };
    assert!(matches!(error, Error::Ended { .. }));
    assert!(error.to_string().contains("the port is in use"), "{error}");
}

#[test]
fn readiness_of_another_listener_is_not_enough() {
    let body = "echo 'ready: control var/bedplate.sock'; echo 'ready: nvme-tcp 1.2.3.4:5'; exit 0";
    assert!(matches!(
        start("target-other", body, 0),
        Err(Error::Ended { .. })
    ));
}

#[test]
fn a_bad_exit_code_and_findings_of_fsck_are_failures() {
    let body = format!("trap 'exit 3' TERM; echo \"ready: nvme-tcp $a\"; {LOOP}");
    let mut target = start("target-bad-exit", &body, 1).unwrap();
    let Err(Error::Status { what, status, .. }) = target.stop() else {
        panic!("code 3 is bad")
    };
    assert_eq!(
        (what.as_str(), status.code()),
        ("bedplate after SIGTERM", Some(3))
    );
    let Err(Error::Status { status, .. }) = target.fsck() else {
        panic!("findings are bad")
    };
    assert_eq!(status.code(), Some(1));
}
