//! The `bedplate` binary on a configuration of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::console::{Console, tail_of};
use crate::time::{Deadline, pause};
use crate::{Error, Result, paths};

/// How long a start may take, with recovery, on a machine that runs a VM beside it.
const START: Duration = Duration::from_secs(60);
/// How long a clean stop may take: it finishes requests and writes a checkpoint.
const STOP: Duration = Duration::from_secs(60);
/// Between two looks at whether the process is gone.
const POLL: Duration = Duration::from_millis(20);

/// A volume of the test configuration.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name; its NQN follows from it.
    pub name: &'static str,
    /// Logical block size in bytes.
    pub block_bytes: u32,
    /// Hosts that may use it, by NQN; none means all.
    pub allow_hosts: &'static [&'static str],
}

/// What the target serves beside NVMe/TCP.
#[derive(Clone, Debug, Default)]
pub struct Iscsi {
    /// How many portals, each a target portal group; none means no iSCSI.
    pub portals: usize,
    /// Text of the file with the secrets of CHAP.
    pub secrets: Option<&'static str>,
}

/// A target that can be killed and started again on the same port and pool.
#[derive(Debug)]
pub struct Target {
    binary: PathBuf,
    dir: PathBuf,
    address: SocketAddr,
    portals: Vec<SocketAddr>,
    socket: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    // Keeps reading what the target prints, so that it never waits for a full pipe.
    console: Console,
}

impl Target {
    /// Writes a configuration into `dir` and starts the target on a fresh pool there.
    ///
    /// # Errors
    /// When there is no binary or it does not become ready.
    pub fn start(dir: &Path, volumes: &[Volume], volume_bytes: u64, iscsi: &Iscsi) -> Result<Self> {
        Self::start_binary(paths::bedplate()?, dir, volumes, volume_bytes, iscsi)
    }

    /// The same with the program `binary`.
    ///
    /// # Errors
    /// When it cannot be run or does not become ready.
    pub fn start_binary(
        binary: PathBuf,
        dir: &Path,
        volumes: &[Volume],
        volume_bytes: u64,
        iscsi: &Iscsi,
    ) -> Result<Self> {
        let address = free_address()?;
        let portals = (0..iscsi.portals).map(|_| free_address());
        let portals = portals.collect::<Result<Vec<_>>>()?;
        // Not in `dir`: the path of a Unix socket may only have about a hundred bytes.
        let socket = format!("bedplate-vm-{}-{}.sock", std::process::id(), address.port());
        let socket = std::env::temp_dir().join(socket);
        let config = dir.join("bedplate.toml");
        let mut text = configuration(dir, &socket, address, volumes, volume_bytes);
        if !portals.is_empty() {
            text += &iscsi_section(dir, &portals, iscsi)?;
        }
        std::fs::write(&config, text).map_err(Error::io("write", &config))?;
        let mut target = Self {
            binary,
            dir: dir.to_path_buf(),
            address,
            portals,
            socket,
            running: None,
        };
        target.restart()?;
        Ok(target)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its iSCSI portals.
    #[must_use]
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// Starts it again after [`Target::kill`] or [`Target::stop`]; returns once it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute.
    pub fn restart(&mut self) -> Result<()> {
        let errors = self.dir.join("bedplate.err.log");
        let stderr = File::options().create(true).append(true).open(&errors);
        let mut child = Command::new(&self.binary)
            .arg("serve")
            .arg("--config")
            .arg(self.dir.join("bedplate.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.map_err(Error::io("open", &errors))?)
            .spawn()
            .map_err(Error::io("run", &self.binary))?;
        let output = child.stdout.take().expect("it was asked to be piped");
        let console = Console::watch("bedplate", output, &self.dir.join("bedplate.log"), &errors)?;
        let running = self.running.insert(Running { child, console });
        let address = self.address.to_string();
        let ready = |line: &str| line.starts_with("ready:") && line.contains(&address);
        let line = running
            .console
            .expect(&format!("ready: ... {address}"), START, ready);
        line.map(drop)
    }

    /// Ends it with SIGKILL, as a crash would. Does nothing when it does not run.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let ended = running.child.kill().and_then(|()| running.child.wait());
        ended.map(drop).map_err(Error::io("kill", &self.binary))
    }

    /// Ends it with SIGTERM; it must finish its work and exit with 0.
    ///
    /// # Errors
    /// When it does not, or not in time.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let pid = Pid::from_raw(running.child.id().cast_signed());
        kill(pid, Signal::SIGTERM)
            .map_err(|errno| Error::io("stop", &self.binary)(errno.into()))?;
        let deadline = Deadline::after(STOP);
        loop {
            let status = running
                .child
                .try_wait()
                .map_err(Error::io("wait for", &self.binary))?;
            match status {
                Some(status) => return self.accept("bedplate after SIGTERM", status),
                None if deadline.left().is_zero() => break,
                None => pause(POLL),
            }
        }
        // The process still runs: put it back, so that dropping the target kills it.
        let error = running.console.timeout("its end after SIGTERM", STOP);
        self.running = Some(running);
        Err(error)
    }

    /// Checks the pool with `bedplate fsck`, which must find nothing. Stop the target first.
    ///
    /// # Errors
    /// When it finds damage or cannot run.
    pub fn fsck(&self) -> Result<()> {
        let log = self.dir.join("bedplate.err.log");
        let out = File::options().create(true).append(true).open(&log);
        let out = out.map_err(Error::io("open", &log))?;
        let err = out.try_clone().map_err(Error::io("open", &log))?;
        let status = Command::new(&self.binary)
            .arg("fsck")
            .arg(self.dir.join("main.pool"))
            .stdout(out)
            .stderr(err)
            .status()
            .map_err(Error::io("run", &self.binary))?;
        self.accept("bedplate fsck", status)
    }

    /// Gives the space of the pool back; after a failure it is kept, to be looked at.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove_pool(&self) -> Result<()> {
        let pool = self.dir.join("main.pool");
        std::fs::remove_file(&pool).map_err(Error::io("remove", &pool))
    }

    fn accept(&self, what: &str, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let log = self.dir.join("bedplate.err.log");
        Err(Error::Status {
            what: what.to_owned(),
            status,
            tail: tail_of(&log),
            log,
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.kill();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// An address of the machine itself with a port nobody uses now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener
        .and_then(|listener| listener.local_addr())
        .map_err(Error::io("bind", "127.0.0.1:0"))
}

fn configuration(
    dir: &Path,
    socket: &Path,
    address: SocketAddr,
    volumes: &[Volume],
    volume_bytes: u64,
) -> String {
    let dir = dir.display();
    // Room for the volumes, their journals, and what redirect-on-write keeps a while.
    let pool_bytes = (volumes.len() as u64 + 2) * volume_bytes;
    let mut text = format!(
        "[[pool]]\nname = \"main\"\npath = \"{dir}/main.pool\"\nsize = \"{}MiB\"\n\n",
        pool_bytes >> 20
    );
    for volume in volumes {
        let Volume {
            name,
            block_bytes,
            allow_hosts,
        } = volume;
        let size = volume_bytes >> 20;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "[[volume]]\nname = \"{name}\"\npool = \"main\"\nsize = \"{size}MiB\"\n\
             block_size = {block_bytes}"
        );
        if !allow_hosts.is_empty() {
            let _ = writeln!(text, "allow_hosts = {allow_hosts:?}");
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "[nvme_tcp]\nlisten = [\"{address}\"]\n\n[control]\nsocket = \"{}\"\n",
        socket.display()
    );
    text
}

/// The section about iSCSI; writes the secrets into `dir`, readable to their owner alone.
fn iscsi_section(dir: &Path, portals: &[SocketAddr], iscsi: &Iscsi) -> Result<String> {
    let portals: Vec<String> = portals.iter().map(SocketAddr::to_string).collect();
    let mut text = format!("\n[iscsi]\nlisten = {portals:?}\n");
    if let Some(secrets) = iscsi.secrets {
        let path = dir.join("secrets.toml");
        std::fs::write(&path, secrets).map_err(Error::io("write", &path))?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).map_err(Error::io("protect", &path))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "secrets = \"{}\"", path.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_everything_once() {
        let volumes = [
            Volume {
                name: "a",
                block_bytes: 4096,
                allow_hosts: &[],
            },
            Volume {
                name: "b",
                block_bytes: 512,
                allow_hosts: &["nqn.x"],
            },
        ];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4420));
        let text = configuration(
            Path::new("/d"),
            Path::new("/s"),
            address,
            &volumes,
            64 << 20,
        );
        assert_eq!(
            text,
            "[[pool]]\nname = \"main\"\npath = \"/d/main.pool\"\nsize = \"256MiB\"\n\n\
             [[volume]]\nname = \"a\"\npool = \"main\"\nsize = \"64MiB\"\nblock_size = 4096\n\n\
             [[volume]]\nname = \"b\"\npool = \"main\"\nsize = \"64MiB\"\nblock_size = 512\n\
             allow_hosts = [\"nqn.x\"]\n\n\
             [nvme_tcp]\nlisten = [\"127.0.0.1:4420\"]\n\n[control]\nsocket = \"/s\"\n"
        );
    }
}
