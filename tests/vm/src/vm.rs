//! A booted VM and what its guest script says.

use std::fs::{File, create_dir_all};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::acks::Acks;
use crate::console::{Console, ConsoleEvent};
use crate::time::Deadline;
use crate::{Error, Result, paths};

/// Every line of the protocol begins so; see `guest/lib.sh`.
const PREFIX: &str = "BEDPLATE-VM: ";
/// What the guest mounts [`Hardware::shared`] by.
const SHARED_TAG: &str = "results";
/// How long a guest that has said its last word may take to power off.
const POWER_OFF: Duration = Duration::from_secs(60);

/// What a VM is made of, beside the kernel and the view of this machine's files.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Its memory, MiB.
    pub memory_mib: u32,
    /// The processor, as QEMU's `-cpu` takes it.
    pub cpu: String,
    /// Virtio disks.
    pub disks: Vec<Disk>,
    /// Words for the kernel's command line.
    pub kernel: String,
    /// A folder of this machine that the guest may write to.
    pub shared: Option<PathBuf>,
}

/// A virtio disk with blocks of 4096 bytes.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its serial number, by which the guest finds it.
    pub serial: &'static str,
    /// The file behind it, which has to be there.
    pub path: PathBuf,
    /// QEMU's `cache`: `none` honours flushes on this machine's disk, `unsafe` ignores them.
    pub cache: String,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            cpu: "max".to_owned(),
            disks: Vec::new(),
            kernel: String::new(),
            shared: None,
        }
    }
}

/// A running VM. Dropping it kills it; one VM runs at a time on a machine.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    input: ChildStdin,
    console: Console,
    acks: Acks,
    found: Vec<String>,
    /// Marks that came while another was waited for with [`Vm::expect_beside`].
    early: Vec<String>,
    exit: Option<i32>,
    // Two emulated machines on two cores make each other late: held until this one is gone.
    _turn: File,
}

/// What a line of the guest means.
#[derive(Debug, Eq, PartialEq)]
enum Said<'a> {
    Mark(&'a str),
    Fail(&'a str),
    Exit(i32),
    Other,
}

impl Vm {
    /// Boots and runs `guest/SCRIPT` with `arguments` (words of the form `NAME=VALUE` without
    /// blanks). The guest powers itself off after `limit`, whatever happens to the test.
    ///
    /// The script's output goes to `console.log` in `dir`, the kernel's to `kernel.log`.
    /// Waits while another VM runs. Booting takes about 10 s, once per kernel some seconds more.
    ///
    /// # Errors
    /// When the kernel or QEMU cannot be had, with what to install.
    pub fn boot(dir: &Path, script: &str, arguments: &[String], limit: Duration) -> Result<Self> {
        Self::boot_on(&Hardware::default(), dir, script, arguments, limit)
    }

    /// The same on other hardware.
    ///
    /// # Errors
    /// As [`Vm::boot`].
    pub fn boot_on(
        hardware: &Hardware,
        dir: &Path,
        script: &str,
        arguments: &[String],
        limit: Duration,
    ) -> Result<Self> {
        let kernel = prepare(&[])?;
        let turn = take_turn()?;
        let script = paths::repository().join("tests/vm/guest").join(script);
        let mut command = qemu(&kernel, dir);
        plug_in(&mut command, hardware);
        // A kernel that stumbles ends at once instead of hanging until the limit.
        // Words after "--" become the arguments of init.
        let append = format!(
            "console=ttyS1 oops=panic panic=-1 {} -- {} {} {}",
            hardware.kernel,
            limit.as_secs(),
            script.display(),
            arguments.join(" ")
        );
        command.args(["-append", &append]);
        let errors = dir.join("qemu.log");
        command.stderr(File::create(&errors).map_err(Error::io("make", &errors))?);
        let mut child = command.spawn().map_err(|_| Error::Missing {
            what: "qemu-system-x86_64".to_owned(),
            remedy: "apt-get install qemu-system-x86".to_owned(),
        })?;
        let piped = child.stdin.take().zip(child.stdout.take());
        let (input, output) = piped.expect("both were asked to be piped");
        Ok(Self {
            console: Console::watch(
                "the guest",
                output,
                &dir.join("console.log"),
                &dir.join("kernel.log"),
            )?,
            child,
            input,
            acks: Acks::default(),
            found: Vec::new(),
            early: Vec::new(),
            exit: None,
            _turn: turn,
        })
    }

    /// Waits until the guest says `mark NAME`, taking in what it says before that.
    ///
    /// # Errors
    /// When the script fails or ends first, or nothing happens for `limit` altogether.
    pub fn expect(&mut self, mark: &str, limit: Duration) -> Result<()> {
        if let Some(at) = self.early.iter().position(|early| early == mark) {
            self.early.remove(at);
            return Ok(());
        }
        let deadline = Deadline::after(limit);
        while self.listen(mark, limit, deadline)? != Some(mark.to_owned()) {}
        Ok(())
    }

    /// The same for a mark that another part of the guest gives beside the script: marks of the
    /// script that come first are kept for [`Vm::expect`].
    ///
    /// # Errors
    /// As [`Vm::expect`].
    pub fn expect_beside(&mut self, mark: &str, limit: Duration) -> Result<()> {
        let deadline = Deadline::after(limit);
        loop {
            match self.listen(mark, limit, deadline)? {
                Some(said) if said == mark => return Ok(()),
                Some(said) => self.early.push(said),
                None => {}
            }
        }
    }

    /// Waits until `more` records of `stream` have been acknowledged from now on.
    ///
    /// # Errors
    /// As [`Vm::expect`].
    pub fn expect_acks(&mut self, stream: &str, more: u64, limit: Duration) -> Result<()> {
        let goal = self.acks.newest(stream) + more;
        let deadline = Deadline::after(limit);
        while self.acks.newest(stream) < goal {
            self.listen(&format!("ACK {stream} {goal}"), limit, deadline)?;
        }
        Ok(())
    }

    /// Sends a line to the guest: `NAME` ends an `await_host NAME` of the script.
    ///
    /// # Errors
    /// When the VM is gone.
    pub fn send(&mut self, line: &str) -> Result<()> {
        let sent = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        sent.map_err(Error::io(
            "write to the console of the VM that logs to",
            self.console.log(),
        ))
    }

    /// Waits for the end of the script and of the VM, and gives the script's exit code.
    ///
    /// # Errors
    /// When neither ends within `limit`.
    pub fn exit_code(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Deadline::after(limit);
        loop {
            match self.console.next(deadline.left()) {
                ConsoleEvent::Line(line) => self.take(&line)?,
                ConsoleEvent::Ended => break,
                ConsoleEvent::Late => return Err(self.console.timeout("exit", limit)),
            }
        }
        self.exit.ok_or_else(|| self.console.ended("exit"))
    }

    /// Waits for the end of the script, which must have succeeded.
    ///
    /// # Errors
    /// When it fails or does not end within `limit`.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        let deadline = Deadline::after(limit);
        while self.exit.is_none() {
            self.listen("exit 0", limit, deadline)?;
        }
        self.exit_code(POWER_OFF).map(drop)
    }

    /// What has been acknowledged so far.
    #[must_use]
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Streams whose records the guest has looked for, each found to be complete.
    #[must_use]
    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// One line: `Some(NAME)` when it is a mark.
    fn listen(
        &mut self,
        wanted: &str,
        limit: Duration,
        deadline: Deadline,
    ) -> Result<Option<String>> {
        let line = match self.console.next(deadline.left()) {
            ConsoleEvent::Line(line) => line,
            ConsoleEvent::Ended => return Err(self.console.ended(wanted)),
            ConsoleEvent::Late => return Err(self.console.timeout(wanted, limit)),
        };
        self.take(&line)?;
        match said(&line) {
            Said::Mark(name) => Ok(Some(name.to_owned())),
            Said::Fail(reason) => Err(self.failed(reason)),
            Said::Exit(0) | Said::Other => Ok(None),
            Said::Exit(code) => Err(self.failed(&format!("it ended with {code}"))),
        }
    }

    /// Remembers what `line` says for later questions.
    fn take(&mut self, line: &str) -> Result<()> {
        if !self.acks.take(line)?
            && let Some(stream) = self.acks.check_found(line)?
        {
            self.found.push(stream.to_owned());
        }
        if let Said::Exit(code) = said(line) {
            self.exit = Some(code);
        }
        Ok(())
    }

    /// The failure `reason`, after the details that follow it on the console.
    fn failed(&mut self, reason: &str) -> Error {
        let _ = self.exit_code(POWER_OFF);
        Error::GuestFailed {
            reason: reason.to_owned(),
            log: self.console.log().to_path_buf(),
            tail: self.console.tail(),
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(line: &str) -> Said<'_> {
    let Some(words) = line.strip_prefix(PREFIX) else {
        return Said::Other;
    };
    match words.split_once(' ') {
        Some(("mark", name)) => Said::Mark(name),
        Some(("fail", reason)) => Said::Fail(reason),
        Some(("exit", code)) => code.parse().map_or(Said::Other, Said::Exit),
        _ => Said::Other,
    }
}

/// Where the packages of `python.txt` are, for the guest's PYTHONPATH.
///
/// # Errors
/// When they cannot be had.
pub fn python_packages() -> Result<PathBuf> {
    prepare(&["python"])
}

/// Runs `prepare.sh`, and gives the folder it names: without `arguments` the one with `vmlinuz` and
/// `initrd`.
fn prepare(arguments: &[&str]) -> Result<PathBuf> {
    let script = paths::repository().join("tests/vm/prepare.sh");
    let mut command = Command::new(&script);
    command.env("CARGO_TARGET_DIR", paths::target_dir());
    command.args(arguments);
    let output = command.output().map_err(Error::io("run", &script))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Prepare {
            status: output.status,
            stderr,
        });
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// Waits until no other test of this target folder runs a VM.
fn take_turn() -> Result<File> {
    let dir = paths::target_dir().join("vm");
    create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    let path = dir.join("turn.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(file)
}

fn qemu(kernel: &Path, dir: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    // Software emulation: what looks like KVM on a build machine may hang stock kernels.
    command.args(["-accel", "tcg,thread=multi", "-smp", "2"]);
    command.args(["-display", "none", "-monitor", "none", "-no-reboot"]);
    command.args([
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ]);
    command
        .arg("-serial")
        .arg(format!("file:{}", dir.join("kernel.log").display()));
    command.arg("-kernel").arg(kernel.join("vmlinuz"));
    command.arg("-initrd").arg(kernel.join("initrd"));
    command.args([
        "-fsdev",
        "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device",
        "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-netdev",
        "user,id=net",
        "-device",
        "virtio-net-pci,netdev=net",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Adds `hardware` to the command line.
fn plug_in(command: &mut Command, hardware: &Hardware) {
    command.args(["-cpu", &hardware.cpu]);
    command.args(["-m", &format!("{}m", hardware.memory_mib)]);
    for Disk {
        serial,
        path,
        cache,
    } in &hardware.disks
    {
        let path = path.display();
        let drive =
            format!("file={path},if=none,id={serial},format=raw,cache={cache},aio=io_uring");
        let device = format!(
            "virtio-blk-pci,drive={serial},serial={serial},\
             logical_block_size=4096,physical_block_size=4096"
        );
        command.args(["-drive", &drive, "-device", &device]);
    }
    if let Some(shared) = &hardware.shared {
        let folder = format!(
            "local,id=shared,path={},security_model=none",
            shared.display()
        );
        let device = format!("virtio-9p-pci,fsdev=shared,mount_tag={SHARED_TAG}");
        command.args(["-fsdev", &folder, "-device", &device]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_protocol_are_told_from_others() {
        assert_eq!(said("BEDPLATE-VM: mark kill"), Said::Mark("kill"));
        assert_eq!(said("BEDPLATE-VM: fail no luck"), Said::Fail("no luck"));
        assert_eq!(said("BEDPLATE-VM: exit 3"), Said::Exit(3));
        for line in [
            "BEDPLATE-VM: exit x",
            "BEDPLATE-VM: step a b",
            "mark kill",
            "",
            "ACK a 1",
        ] {
            assert_eq!(said(line), Said::Other, "{line}");
        }
    }
}
