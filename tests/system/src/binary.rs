//! The binary under test, run to its end.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time that any command other than `serve` may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the binary is.
#[derive(Clone, Debug)]
pub struct Binary {
    path: PathBuf,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The command line, for messages.
    pub line: String,
}

impl Finished {
    /// Panics with everything the command said unless it exited with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Both outputs, one after the other.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
            line,
        } = self;
        write!(
            f,
            "{line}\nexit {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

impl Binary {
    /// BEDPLATE_BIN, else `target/release/bedplate` of this checkout. Panics when it is missing.
    #[must_use]
    pub fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = std::env::var_os("BEDPLATE_BIN")
            .map_or_else(|| root.join("target/release/bedplate"), PathBuf::from);
        assert!(
            path.is_file(),
            "{} is not there: build it with `make build`, or name it in BEDPLATE_BIN",
            path.display()
        );
        Self { path }
    }

    /// A process that dies with the thread that starts it: a test that is killed leaves nothing.
    #[must_use]
    pub fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = mortal(&self.path);
        command.args(arguments);
        command.current_dir(directory);
        command.env_remove("BEDPLATE_SOCKET");
        command
    }

    /// Runs a command in `directory` to its end; kills it and panics when it takes too long.
    #[must_use]
    pub fn run(&self, directory: &Path, arguments: &[&str]) -> Finished {
        let line = format!("bedplate {}", arguments.join(" "));
        run_to_end(self.command(directory, arguments), line, LIMIT)
            .unwrap_or_else(|killed| panic!("killed after {} s: {killed}", LIMIT.as_secs()))
    }
}

/// A program that dies with the thread that starts it, with pipes for its output.
#[must_use]
pub fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, or kills it after `limit`: then what it said until then is the
/// error. `line` names it in messages.
pub fn run_to_end(
    mut command: Command,
    line: String,
    limit: Duration,
) -> Result<Finished, Finished> {
    let mut child = command.spawn().expect("setpriv runs");
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let ended = wait(&mut child, limit);
    let finished = Finished {
        code: ended.and_then(|status| status.code()),
        stdout: stdout.join().expect("reader of stdout"),
        stderr: stderr.join().expect("reader of stderr"),
        line,
    };
    if ended.is_some() {
        Ok(finished)
    } else {
        Err(finished)
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has ended like one that was closed.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Its end; `None` when it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("the child can be killed");
    child.wait().expect("the child can be waited for");
    None
}
