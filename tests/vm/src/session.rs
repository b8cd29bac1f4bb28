//! A target, a VM beside it, and the script that drives one against the other.

use std::fs::{File, create_dir_all};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::target::{Iscsi, Target, Volume};
use crate::time::pause;
use crate::{Disk, Error, Hardware, Result, Vm, paths};

/// Size of every volume: what mkfs.xfs asks for at least is 300 MB.
const VOLUME_BYTES: u64 = 384 << 20;
/// Size of the disk for a target inside the guest: room for three volumes, their journals, and what
/// redirect-on-write keeps a while.
const DISK_BYTES: u64 = 5 * VOLUME_BYTES;
/// How long a target inside the guest may take to be back.
const BACK: Duration = Duration::from_secs(150);

/// Volumes of the test; `guest/lib.sh` tells what each is for.
const VOLUMES: [Volume; 4] = [
    Volume {
        name: "vm4k",
        block_bytes: 4096,
        allow_hosts: &[],
    },
    Volume {
        name: "vm512",
        block_bytes: 512,
        allow_hosts: &[],
    },
    Volume {
        name: "vmclosed",
        block_bytes: 4096,
        allow_hosts: &["nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555"],
    },
    Volume {
        name: "vmcopy",
        block_bytes: 4096,
        allow_hosts: &[],
    },
];

/// The secrets that `guest/iscsi-lib.sh` knows.
const SECRETS: &str = "[[initiator]]\nuser = \"vm\"\nsecret = \"open-sesame-17\"\n\n\
                       [target]\nuser = \"bedplate\"\nsecret = \"sesame-answers-18\"\n";

/// Which target the guest drives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The `bedplate` binary on the machine.
    Bedplate,
    /// The kernel's own target inside the guest: tells a wrong script from a wrong target.
    Nvmet,
    /// The same for scripts about iSCSI: Debian's tgtd inside the guest.
    Tgt,
}

impl Kind {
    /// What `BEDPLATE_VM_TARGET` asks for, `nvmet` or `tgt`; else [`Kind::Bedplate`].
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var("BEDPLATE_VM_TARGET").as_deref() {
            Ok("nvmet") => Self::Nvmet,
            Ok("tgt") => Self::Tgt,
            _ => Self::Bedplate,
        }
    }
}

/// One test run: the VM with its script and the target it talks to.
#[derive(Debug)]
pub struct Session {
    // Before the target, so that the guest goes first when both are dropped.
    vm: Vm,
    /// On this machine; none when the target is in the guest.
    target: Option<Target>,
    /// The disk of a target in the guest.
    disk: Option<PathBuf>,
}

impl Session {
    /// Starts the target and boots the VM on `guest/NAME.sh`; `limit` bounds the script.
    ///
    /// Logs, pool and configuration lie in `target/vm/run/NAME`. `extra` are further arguments of
    /// the script.
    ///
    /// # Errors
    /// When anything the test needs is missing, or the target does not start.
    pub fn start(name: &str, extra: &[String], limit: Duration) -> Result<Self> {
        Self::start_serving(name, extra, limit, &Iscsi::default())
    }

    /// The same with a target that serves iSCSI as well: by two portals, which the script gets
    /// told of.
    ///
    /// # Errors
    /// As [`Session::start`].
    pub fn start_iscsi(name: &str, extra: &[String], limit: Duration, chap: bool) -> Result<Self> {
        let iscsi = Iscsi {
            portals: 2,
            secrets: chap.then_some(SECRETS),
        };
        Self::start_serving(name, extra, limit, &iscsi)
    }

    /// Boots the VM on `guest/SCRIPT.sh` with host and target both in the guest, as only its kernel
    /// has RDMA. Logs lie in `target/vm/run/NAME`, what the target says in `inside` there.
    ///
    /// # Errors
    /// When anything the test needs is missing.
    pub fn start_rdma(
        name: &str,
        script: &str,
        extra: &[String],
        limit: Duration,
    ) -> Result<Self> {
        let dir = paths::run_dir(name)?;
        let inside = dir.join("inside");
        create_dir_all(&inside).map_err(Error::io("make", &inside))?;
        let disk = sparse_file(&dir.join("pool.img"), DISK_BYTES)?;
        let hardware = Hardware {
            disks: vec![Disk {
                serial: "pool",
                path: disk.clone(),
                // Only processes die in these tests, never the machine below.
                cache: "unsafe".to_owned(),
            }],
            shared: Some(inside),
            ..Hardware::default()
        };
        let kind = Kind::from_environment();
        let mut arguments = arguments(kind);
        arguments.push("TRANSPORT=rdma".to_owned());
        if kind == Kind::Bedplate {
            arguments.push(format!("BEDPLATE={}", paths::bedplate()?.display()));
        }
        arguments.extend_from_slice(extra);
        let script = format!("{script}.sh");
        Ok(Self {
            vm: Vm::boot_on(&hardware, &dir, &script, &arguments, limit)?,
            target: None,
            disk: Some(disk),
        })
    }

    fn start_serving(name: &str, extra: &[String], limit: Duration, iscsi: &Iscsi) -> Result<Self> {
        let dir = paths::run_dir(name)?;
        let kind = Kind::from_environment();
        let target = match kind {
            Kind::Bedplate => Some(Target::start(&dir, &VOLUMES, VOLUME_BYTES, iscsi)?),
            Kind::Nvmet | Kind::Tgt => None,
        };
        let mut arguments = arguments(kind);
        if let Some(target) = &target {
            arguments.push(format!("PORT={}", target.address().port()));
            for (number, portal) in (1..).zip(target.portals()) {
                arguments.push(format!("PORTAL_{number}={}", portal.port()));
            }
        }
        arguments.extend_from_slice(extra);
        let vm = Vm::boot(&dir, &format!("{name}.sh"), &arguments, limit)?;
        Ok(Self {
            vm,
            target,
            disk: None,
        })
    }

    /// The VM.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// Kills the target, leaves it down for `down`, and starts it again.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash(&mut self, down: Duration) -> Result<()> {
        let Some(target) = &mut self.target else {
            return self.tell(&format!("target-crash {}", down.as_millis()));
        };
        target.kill()?;
        pause(down);
        target.restart()
    }

    /// Stops the target in order, which must give exit code 0, and starts it again.
    ///
    /// # Errors
    /// When it does not stop so, or does not come back.
    pub fn restart(&mut self) -> Result<()> {
        let Some(target) = &mut self.target else {
            return self.tell("target-restart");
        };
        target.stop()?;
        target.restart()
    }

    /// Waits until the script has succeeded; then the target must stop with exit code 0 and leave a
    /// pool in which `bedplate fsck` finds nothing. The pool is removed then, the logs are kept. A
    /// target in the guest is ended and checked by the script.
    ///
    /// # Errors
    /// When any of that is not so.
    pub fn finish(mut self, limit: Duration) -> Result<()> {
        self.vm.finish(limit)?;
        if let Some(disk) = &self.disk {
            std::fs::remove_file(disk).map_err(Error::io("remove", disk))?;
        }
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        target.stop()?;
        target.fsck()?;
        target.remove_pool()
    }

    /// Has the guest end and start the target that it holds.
    fn tell(&mut self, what: &str) -> Result<()> {
        self.vm.send(what)?;
        self.vm.expect_beside("target-back", BACK)
    }
}

/// What every script gets told: the target, and the volumes.
fn arguments(kind: Kind) -> Vec<String> {
    let target = match kind {
        Kind::Bedplate => "bedplate",
        Kind::Nvmet => "nvmet",
        Kind::Tgt => "tgt",
    };
    vec![
        format!("TARGET={target}"),
        format!("VOL_4K={}", VOLUMES[0].name),
        format!("VOL_512={}", VOLUMES[1].name),
        format!("VOL_CLOSED={}", VOLUMES[2].name),
        format!("VOL_COPY={}", VOLUMES[3].name),
        format!("VOL_BYTES={VOLUME_BYTES}"),
    ]
}

/// A file of `bytes` that takes space only where it is written.
fn sparse_file(path: &Path, bytes: u64) -> Result<PathBuf> {
    let file = File::create(path).map_err(Error::io("make", path))?;
    file.set_len(bytes).map_err(Error::io("size", path))?;
    Ok(path.to_path_buf())
}
