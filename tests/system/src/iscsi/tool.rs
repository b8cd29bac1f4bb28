//! Programs that reach a volume over iSCSI: those of qemu and of libiscsi.

use std::time::Duration;

use crate::binary::{Finished, mortal, run_to_end};

/// Longest time that one of them may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a program; panics when it does not end.
#[must_use]
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> Finished {
    let mut command = mortal(program);
    command.args(arguments);
    let line = format!("{program} {}", arguments.join(" "));
    run_to_end(command, line, LIMIT).unwrap_or_else(|killed| panic!("it did not end: {killed}"))
}

/// Runs a program and gives its standard output; panics unless it succeeds.
#[track_caller]
pub fn output(program: &str, arguments: &[&str]) -> String {
    run(program, arguments).expect_code(0).stdout
}

/// Runs commands of `qemu-io` on an image, a URL or with `--image-opts` whatever they say.
///
/// It exits with 0 although a pattern differs, so its words are looked at too.
#[track_caller]
pub fn qemu_io(image: &[&str], commands: &[&str]) -> String {
    let mut arguments = Vec::new();
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.extend(image);
    let said = run("qemu-io", &arguments).expect_code(0);
    let text = said.text().to_lowercase();
    for word in ["verification failed", "failed:", "error"] {
        assert!(!text.contains(word), "{said}");
    }
    said.stdout
}
