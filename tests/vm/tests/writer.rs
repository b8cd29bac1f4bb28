//! The guest's writer, on a file of the machine: it must find every kind of damage.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use vm_tests::acks::Acks;

const RECORD_BYTES: u64 = 4096;
const SLOTS: u64 = 16;

/// A file with the records of one run, and what was acknowledged of them.
struct Written {
    path: PathBuf,
    acks: Acks,
}

fn writer(words: &[&str], path: &Path, run: &str, rest: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vm-writer"));
    command
        .args(words)
        .arg(path)
        .args(["0", &SLOTS.to_string(), &RECORD_BYTES.to_string(), run]);
    command.args(rest);
    command
}

/// Lets the writer run until it has gone round its slots more than once.
fn write(name: &str) -> Written {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let (path, stop) = (dir.join("data"), dir.join("stop"));
    let mut command = writer(
        &["write", "s"],
        &path,
        "9",
        &["fsync", stop.to_str().unwrap()],
    );
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut acks = Acks::default();
    while acks.newest("s") < SLOTS + 5 {
        acks.take(&lines.next().unwrap().unwrap()).unwrap();
    }
    File::create(&stop).unwrap();
    for line in lines {
        acks.take(&line.unwrap()).unwrap();
    }
    assert!(child.wait().unwrap().success());
    Written { path, acks }
}

fn check(written: &Written, run: &str) -> Output {
    writer(&["check", "s"], &written.path, run, &[])
        .output()
        .unwrap()
}

#[test]
fn everything_acknowledged_is_found() {
    let written = write("writer-good");
    let output = check(&written, "9");
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        line.trim_end(),
        format!("FOUND s {}", written.acks.newest("s"))
    );
    assert_eq!(
        written.acks.check_found(line.trim_end()).unwrap(),
        Some("s")
    );
}

#[test]
fn a_flipped_bit_a_zeroed_slot_and_an_old_record_are_found() {
    let written = write("writer-damage");
    let file = File::options()
        .read(true)
        .write(true)
        .open(&written.path)
        .unwrap();
    let mut whole = vec![0; 4096];
    file.read_exact_at(&mut whole, 3 * RECORD_BYTES).unwrap();
    let mut flipped = whole.clone();
    flipped[4000] ^= 0x10;
    let mut other = vec![0; 4096];
    file.read_exact_at(&mut other, 4 * RECORD_BYTES).unwrap();
    for damage in [flipped, vec![0; 4096], other] {
        file.write_all_at(&damage, 3 * RECORD_BYTES).unwrap();
        let output = check(&written, "9");
        assert!(!output.status.success(), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("1 slots of 16 are wrong"), "{errors}");
    }
    file.write_all_at(&whole, 3 * RECORD_BYTES).unwrap();
    assert!(check(&written, "9").status.success());
}

#[test]
fn a_lost_tail_is_below_what_was_acknowledged() {
    let written = write("writer-tail");
    // Another run's records: as if none of this run's writes had stayed.
    let output = check(&written, "10");
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(line.trim_end(), "FOUND s 0");
    assert!(written.acks.check_found(line.trim_end()).is_err());
}
